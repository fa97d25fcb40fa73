# Operators as stages of a plan (kernels/plan/operator.h); part of plan.pxi.

OPERATORS = {}  # their numbers by name
cdef int _number = 0
while fastnn_operator_names[_number] != NULL:
    OPERATORS[fastnn_operator_names[_number].decode()] = _number
    _number += 1

cdef dict ELEMENTS = {cnp.NPY_FLOAT32: ELEMENT_FLOAT, cnp.NPY_FLOAT64: ELEMENT_DOUBLE, cnp.NPY_INT32: ELEMENT_INT32,
                      cnp.NPY_UINT8: ELEMENT_BYTE, cnp.NPY_BOOL: ELEMENT_BYTE}


cdef int64_t element_of(cnp.ndarray array) except -1:
    """The number of its type; DTypeError for types and byte orders that no operator reads."""
    if cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(array), cnp.NPY_INT64) and cnp.PyArray_ISNOTSWAPPED(array):
        return ELEMENT_INT64
    if cnp.PyArray_TYPE(array) not in ELEMENTS or not cnp.PyArray_ISNOTSWAPPED(array) or not cnp.PyArray_ISALIGNED(array):
        raise DTypeError(f"an operator was given an array of another type: {described(array)}")
    return ELEMENTS[cnp.PyArray_TYPE(array)]


cdef class OperatorStage(Stage):
    """One operator's kernel with its arrays, None where there is none: struct operator_call, n and p as kernels/plan/operator.h has them.

    With `shape`, arrays have any strides: the output of a map and its inputs all have this shape; a sum's input has it, and its
    output the first `kept` dimensions of it; before a matmul's matrices come these dimensions. `input` and `target` stand for
    what a run brings: arrays that lie in their memory are looked for in the run's.
    """
    cdef operator_call o

    def __init__(self, str kind, tuple arrays, tuple n, tuple p, *, tuple shape, int kept, input, target):
        cdef int64_t counts[12]  # OPERATOR_ARRAYS
        cdef cnp.ndarray array
        if len(arrays) > OPERATOR_ARRAYS or len(n) > OPERATOR_SIZES or len(p) > 2:
            raise ValueError(f"{kind}: too many arrays or numbers for an operator")
        self.o.kind, self.o.operands = OPERATORS[kind], len(arrays)
        for k, size in enumerate(n):
            self.o.n[k] = size
        for k, number in enumerate(p):
            self.o.p[k] = number
        fastnn_operator_counts(&self.o, counts)
        for k, each in enumerate(arrays):
            if each is None:
                continue
            array = each
            if shape is None:
                if array.size != counts[k] or not cnp.PyArray_ISCARRAY_RO(array) or element_of(array) != fastnn_operator_element(&self.o, k):
                    raise ShapeError(f"{kind} was given for array {k} of {counts[k]} entries {described(array)}")
            self.o.operand[k].element = element_of(array)
            self.locate(&self.o.operand[k], array, input, target)
        self.kept.append(arrays)
        if shape is not None:
            self.lay_out(arrays, shape, kept)
        if kind == "own" and self.o.operand[0].element == ELEMENT_DOUBLE:
            for each in arrays:
                array = each
                if (<object> array).shape != shape or not cnp.PyArray_ISCARRAY_RO(array) or element_of(array) != ELEMENT_DOUBLE:
                    raise ShapeError(f"an operator of float64 {shape} was given {described(array)}")
        if kind in ("pick", "spread", "put"):
            self.check_places(kind, arrays[:4], self.kept.pop()[4])
            self.kept.append(arrays)
            self.o.operands = 4 if arrays[3] is not None else 3
        self.arguments = &self.o
        self.forward_function = fastnn_kernels.operator_stage
        self.kernels = kind

    cdef int once(self, int written) except -1:
        """Run it by itself, outside of plans; its first `written` arrays are written. How the program of it ended."""
        cdef program alone
        cdef int status
        for array in self.kept[0][:written]:
            if not cnp.PyArray_ISWRITEABLE(array):
                raise ShapeError(f"{self.kernels} was given an array that it cannot write: {described(array)}")
        memset(&alone, 0, sizeof(alone))
        with nogil:
            status = fastnn_kernels.operator_stage(&self.o, &alone)
        check(status == PROGRAM_NO_MEMORY)
        return status

    cdef int check_places(self, str kind, tuple arrays, whole) except -1:
        """ShapeError unless every place that the indices can name lies within `whole`, the array that is moved in."""
        moved = arrays[1 if kind == "pick" else 0]
        first, last = moved.ctypes.data - whole.ctypes.data, moved.ctypes.data - whole.ctypes.data + whole.itemsize
        steps = (self.o.n[0], self.o.n[2]), (self.o.n[1] or 1, self.o.n[3])
        for size, step in (*zip(moved.shape, moved.strides), *steps):
            if size < 1:
                raise ShapeError(f"{kind} was given no places")
            first, last = first + min(0, (size - 1) * step), last + max(0, (size - 1) * step)
        types = [whole.dtype if kind == "spread" else np.float32, np.float32, np.int64, np.int64]
        fits = True
        for each, type in zip(arrays, types):
            fits = fits and (each is None or each.dtype == type)
        fits = fits and whole.dtype in (np.float32, np.float64)
        if not fits or not whole.flags.c_contiguous or first < 0 or last > whole.nbytes:
            raise ShapeError(f"{kind} was given {described(moved)} and places beyond {described(whole)}")
        return 0

    cdef int locate(self, operand *to, cnp.ndarray array, input, target) except -1:
        """Its address; within the program's input or target the distance from the beginning."""
        cdef char *data = <char *> cnp.PyArray_DATA(array)
        cdef cnp.ndarray whole
        to.place, to.data = OPERAND_FIXED, data
        for place, each in ((OPERAND_INPUT, input), (OPERAND_TARGET, target)):
            if each is None:
                continue
            whole = each
            if <char *> cnp.PyArray_DATA(whole) <= data < <char *> cnp.PyArray_DATA(whole) + cnp.PyArray_NBYTES(whole):
                to.place, to.data = place, <char *> <size_t> (data - <char *> cnp.PyArray_DATA(whole))
                if place == OPERAND_INPUT:
                    self.inputs, self.input_type = whole.size, cnp.PyArray_TYPE(whole)
                else:
                    self.targets, self.target_type = whole.size, cnp.PyArray_TYPE(whole)
        return 0

    cdef int lay_out(self, tuple arrays, tuple shape, int kept) except -1:
        """Sizes and strides, with as few dimensions as will do."""
        cdef bint matmul = self.o.kind == OPERATORS["matmul"], summed = self.o.kind == OPERATORS["sum"]
        cdef list strided = [1, 2] if matmul else [1] if summed else [k for k, each in enumerate(arrays if self.o.kind == OPERATORS["own"] else arrays[:4]) if each is not None]
        cdef list sizes = [], strides = []
        cdef int last = -1  # the dimension that sizes ends with
        for k in strided:
            if arrays[k].shape[:len(shape)] != shape:
                raise ShapeError(f"an operator of shape {shape} was given {described(arrays[k])}")
        for d in range(len(shape)):
            steps = [arrays[k].strides[d] for k in strided]
            if shape[d] == 1 and not matmul and d < len(shape) - 1:
                continue
            if (sizes and not matmul and (d < kept) == (last < kept)
                    and all(before == step * shape[d] for before, step in zip(strides[-1], steps))):
                sizes[-1] *= shape[d]
                strides[-1] = steps
            else:
                sizes.append(shape[d])
                strides.append(steps)
                self.o.kept += d < kept
            last = d
        if len(sizes) > OPERATOR_DIMS:
            raise ShapeError(f"an operator was given more than {OPERATOR_DIMS} dimensions of strides of their own: {shape}")
        self.o.dims = len(sizes)
        for d in range(len(sizes)):
            self.o.size[d] = sizes[d]
            for k, step in zip(strided, strides[d]):
                self.o.operand[k].stride[d] = step
        return 0


def operate(str kind, tuple arrays, tuple n=(), tuple p=(), *, tuple shape=None, int kept=0, int written=1):
    """Run an operator's kernel on its arrays, of which it writes the first ones: False where it refuses them."""
    cdef OperatorStage stage = OperatorStage(kind, arrays, n, p, shape=shape, kept=kept, input=None, target=None)
    return stage.once(written) == PROGRAM_DONE
