# A plan's stages as one call: programs, and the plan that is a single one.

cdef class Program:
    """Stages that run one after another, in one call without the GIL."""
    DONE, NON_FINITE, REFUSED, STOPPED = PROGRAM_DONE, PROGRAM_NON_FINITE, PROGRAM_REFUSED, PROGRAM_STOPPED
    cdef program p
    cdef list kept, held
    cdef set watched
    cdef int64_t inputs, targets  # that its stages read
    cdef int input_type, target_type

    def __cinit__(self):
        self.kept, self.held, self.watched = [], [], set()
        self.p.loss = NAN
        self.p.updates_from = -1

    def __dealloc__(self):
        free(self.p.stage)

    def add(self, Stage stage, bint backward=False):
        cdef program_stage *stages = <program_stage *> realloc(self.p.stage, (self.p.stages + 1) * sizeof(program_stage))
        if stages == NULL:
            raise MemoryError("no memory for a program")
        self.p.stage = stages
        self.kept.append(stage)
        for held in stage.held:
            self.hold([(<Held> held).array])
        if stage.inputs:
            self.inputs, self.input_type = stage.inputs, stage.input_type
        if stage.targets:
            self.targets, self.target_type = stage.targets, stage.target_type
        if stage.updates and (backward or isinstance(stage, UpdateStage)) and self.p.updates_from < 0:
            self.p.updates_from = self.p.stages
        stages[self.p.stages].function = stage.backward_function if backward else stage.forward_function
        stages[self.p.stages].arguments = stage.arguments
        stages[self.p.stages].gradients = backward and not isinstance(stage, (OperatorStage, LossStage))
        stages[self.p.stages].seconds = 0
        self.p.stages += 1

    def hold(self, arrays):
        """Look at these before each run, too: others have hands on them, and stages use their memory."""
        for array in arrays:
            if id(array) not in self.watched:
                self.watched.add(id(array))
                self.held.append(Held(None, array))

    @property
    def reached(self):
        """The number of the stage at which the last run ended."""
        return self.p.reached

    @property
    def loss(self):
        return self.p.loss

    @property
    def seconds(self):
        """That the last run spent in each stage."""
        return [self.p.stage[i].seconds for i in range(self.p.stages)]

    cpdef int run(self, cnp.ndarray x, cnp.ndarray target) except -2:
        """Status: 0, or why it stopped before its end. StateError where an array has changed under its hands."""
        cdef Held held
        for held in self.held:
            if not held.stands():
                raise StateError(f"an array that a compiled plan is running on was resized, reshaped, cast in place, or made "
                                 f"read-only meanwhile: it is now {described(held.array)}")
        return self.start(x, target)

    cdef int start(self, cnp.ndarray x, cnp.ndarray target) except -2:
        """A run on arrays that were just looked at."""
        cdef int status
        self.p.input, self.p.target = NULL, NULL
        if self.inputs:
            self.p.input = data_of(x, self.input_type, self.inputs, False)
        if self.targets:
            self.p.target = data_of(target, self.target_type, self.targets, False)
        with nogil:
            status = fastnn_run(&self.p)
        check(status == PROGRAM_NO_MEMORY)
        return status


cdef cnp.ndarray like(cnp.ndarray array):
    """An array of its shape and type that does not keep it."""
    return np.broadcast_to(np.zeros((), array.dtype), (<object> array).shape)


cdef bint fits(array, cnp.ndarray like, bint written):
    """Whether it is a contiguous array of that shape and type."""
    cdef cnp.ndarray a
    if type(array) is not cnp.ndarray:
        return False
    a = <cnp.ndarray> array
    return (cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(like) and cnp.PyArray_SAMESHAPE(a, like)
            and (cnp.PyArray_ISCARRAY(a) if written else cnp.PyArray_ISCARRAY_RO(a)))


cdef class Batch:
    """The shapes and types of a batch's two arrays, and the instruction set: what a training step was made for."""
    cdef cnp.ndarray x, y
    cdef const char *isa

    def __init__(self, cnp.ndarray x not None, cnp.ndarray y not None):
        self.x, self.y, self.isa = like(x), like(y), fastnn_kernels.isa

    cpdef bint fits(self, x, y):
        """Whether these two are such arrays, to be read where they lie."""
        return fits(x, self.x, False) and fits(y, self.y, False) and self.isa == fastnn_kernels.isa


cdef class Call:
    """A plan that is one program, from inputs of one shape to outputs, as one call that looks at what it relies on first.

    `relied_on` are all arrays of the model, `tabled` those that tables were made of.
    """
    cdef Program program
    cdef cnp.ndarray inputs, outputs
    cdef Watch relied_on
    cdef list tabled, copies
    cdef const char *isa

    def __init__(self, Program program, cnp.ndarray inputs, cnp.ndarray outputs, Watch relied_on not None, list tabled):
        self.program, self.outputs, self.relied_on = program, outputs, relied_on
        self.inputs = like(inputs)
        self.tabled, self.copies = tabled, [array.copy() for array in tabled]
        self.isa = fastnn_kernels.isa

    cpdef bint stands(self):
        """Whether arrays, tables and instruction set are what they were."""
        cdef cnp.ndarray array, copy
        if not self.relied_on.stands():
            return False
        for i in range(len(self.tabled)):
            array, copy = self.tabled[i], self.copies[i]
            if memcmp(cnp.PyArray_DATA(array), cnp.PyArray_DATA(copy), cnp.PyArray_NBYTES(copy)):
                return False
        return self.isa == fastnn_kernels.isa

    cdef object run(self, x, out):
        """The outputs, in `out` unless it is None; None, and nothing is done, where this call does not suit."""
        cdef cnp.ndarray to
        if not fits(x, self.inputs, False) or not self.stands():
            return None
        if out is None:
            to = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(self.outputs), cnp.PyArray_DIMS(self.outputs), cnp.NPY_FLOAT32, 0)
        elif fits(out, self.outputs, True):
            to = out
        else:
            return None
        self.program.start(x, None)
        memcpy(cnp.PyArray_DATA(to), cnp.PyArray_DATA(self.outputs), cnp.PyArray_NBYTES(to))
        return to


cdef class Repeat:
    """A predictor's next call if it is like its last one, while `lock` is held. In C, where no signal's handler runs.

    Each call first asks whether the model's structure has `changed` (None: it cannot), then the predictor the `questions`. Where
    an answer is yes, the call has to be made in another way.
    """
    cdef Call call
    cdef object is_owned, acquire, release, changed
    cdef tuple questions
    cdef public bint is_over

    def __init__(self, Call call not None, lock, tuple questions not None, changed):
        self.call, self.questions, self.changed, self.is_over = call, questions, changed, False
        self.is_owned, self.acquire, self.release = lock._is_owned, lock.acquire, lock.release

    def __call__(self, predictor, x, out):
        """The outputs, in `out` unless it is None; None, and nothing is done, where this call is another."""
        if self.is_owned():
            return None
        self.acquire()
        try:
            if self.is_over:
                return None
            if self.changed is not None and self.changed():
                predictor._forget_structure()
                return None
            for question in self.questions:
                if question(predictor):
                    return None
            return self.call.run(x, out)
        finally:
            self.release()
