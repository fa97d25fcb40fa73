from libc.math cimport NAN, sqrt
from libc.string cimport memcmp, memcpy

MOST_CHAIN_LAYERS = CHAIN_MOST_LAYERS

# What a compiled plan holds: stages with their arguments, and programs that run them. Shapes are checked by fastnn.plan.

def sum_of_squares(cnp.ndarray x):
    """Of all entries of a float32 array, in double precision chunk by chunk: the same for any number of threads."""
    cdef double total
    cdef float *data = f32(x)
    cdef int64_t count = x.size
    cdef int status
    with nogil:
        status = fastnn_kernels.sum_of_squares(count, data, &total)
    check(status)
    return total


cdef class Numbers:
    """One optimiser's numbers (struct optimizer), rewritten before each step: methods and arguments are those of the updates in
    fastnn.backends.reference, without their arrays. What is the same for all entries is computed here, in double precision."""
    cdef optimizer o

    def __cinit__(self):
        self.o.scale = self.o.shrink = 1

    def sgd(self, *, double lr, double momentum=0, double dampening=0, double weight_decay=0, bint nesterov=False):
        self.o.kind, self.o.lr, self.o.weight_decay = OPTIMIZER_SGD, lr, weight_decay
        self.o.momentum, self.o.take, self.o.nesterov = momentum, 1 - dampening, nesterov

    def rprop(self, *, double eta_minus=0.5, double eta_plus=1.2, double step_size_min=1e-6, double step_size_max=50):
        self.o.kind, self.o.weight_decay = OPTIMIZER_RPROP, 0
        self.o.eta_minus, self.o.eta_plus = eta_minus, eta_plus
        self.o.least_step, self.o.most_step = step_size_min, step_size_max

    def adagrad(self, *, int64_t step, double lr, double lr_decay=0, double eps=1e-10, double weight_decay=0):
        self.o.kind, self.o.weight_decay = OPTIMIZER_ADAGRAD, weight_decay
        self.o.lr, self.o.eps = lr / (1 + (step - 1) * lr_decay), eps

    def rmsprop(self, *, double lr, double alpha=0.99, double eps=1e-8, double weight_decay=0, double momentum=0):
        self.o.kind, self.o.lr, self.o.weight_decay = OPTIMIZER_RMSPROP, lr, weight_decay
        self.o.beta2, self.o.eps, self.o.momentum = alpha, eps, momentum

    def adam(self, *, int64_t step, double lr, double beta1=0.9, double beta2=0.999, double eps=1e-8, double weight_decay=0):
        self.o.kind, self.o.weight_decay = OPTIMIZER_ADAM, weight_decay
        self.o.beta1, self.o.beta2, self.o.eps = beta1, beta2, eps
        self.o.step_size, self.o.correction = lr / (1 - beta1 ** step), sqrt(1 - beta2 ** step)

    def adamw(self, *, int64_t step, double lr, double beta1=0.9, double beta2=0.999, double eps=1e-8, double weight_decay=0):
        self.adam(step=step, lr=lr, beta1=beta1, beta2=beta2, eps=eps)
        self.o.shrink = 1 - lr * weight_decay

    def penalty(self, double l1, double l2):
        """Add the gradient of l1 * sum(|param|) + l2 * sum(param^2); after the optimiser's own numbers."""
        self.o.l1 = l1
        self.o.weight_decay += 2 * l2

    def scale(self, double factor):
        """Multiply every gradient by this first."""
        self.o.scale = factor


cdef int fill_states(float **to, list states) except -1:
    cdef int k
    if len(states) > UPDATE_STATES:
        raise ValueError(f"a parameter has at most {UPDATE_STATES} arrays of state")
    for k in range(UPDATE_STATES):
        to[k] = f32_or_null(states[k]) if k < len(states) else NULL
    return 0


def update_array(cnp.ndarray param, cnp.ndarray grad, list states, Numbers numbers):
    """One step in place; states as kernels/ops/update.h has them, None where the optimiser keeps none."""
    cdef int64_t count = cnp.PyArray_SIZE(param)
    cdef float *pp = f32(param)
    cdef float *pg = f32(grad)
    cdef float *ps[UPDATE_STATES]
    fill_states(ps, states)
    with nogil:
        fastnn_kernels.update(&numbers.o, count, pp, pg, ps)


cdef class Stage:
    """A stage's arguments. What it points to is kept alive as long as it is."""
    cdef list kept
    cdef const void *arguments
    cdef stage_function forward_function, backward_function
    cdef readonly str kernels
    cdef bint updates  # parameters: a dense stage in backward, an update in any case

    def __cinit__(self, *args, **kwargs):
        self.kept = []

    cdef float *hold(self, array) except? NULL:
        """The address of a float32 array that stays alive with the stage; NULL for None."""
        if array is None:
            return NULL
        self.kept.append(array)
        return f32(array)

    cdef void *memory(self, int64_t size) except? NULL:
        """Working memory of the stage's own, zero at first, on a cache line's boundary."""
        cdef cnp.ndarray block
        if size <= 0:
            return NULL
        block = np.zeros(size + 64, np.uint8)
        self.kept.append(block)
        return <void *> ((<size_t> cnp.PyArray_DATA(block) + 63) // 64 * 64)


cdef class ChainStage(Stage):
    """A run of convolutions with what follows each: struct chain. `layers` are dicts of its fields."""
    cdef chain c
    cdef readonly int64_t bytes

    def __init__(self, int64_t N, list layers, *, bint training, bint exact, bint dense, x, table, y, grad_y, grad_x):
        cdef chain_layer *to
        if not layers or len(layers) > CHAIN_MOST_LAYERS:
            raise ValueError(f"a chain has 1 to {CHAIN_MOST_LAYERS} layers")
        self.c.N, self.c.layers, self.c.training, self.c.exact, self.c.dense = N, len(layers), training, exact, dense
        for i, layer in enumerate(layers):
            to = &self.c.layer[i]
            to.C, to.H, to.W = layer["input"]
            to.O, to.kh, to.kw = layer["kernel"]
            to.pad_h, to.pad_w = layer["padding"]
            to.OH, to.OW = to.H + 2 * to.pad_h - to.kh + 1, to.W + 2 * to.pad_w - to.kw + 1
            to.pool, to.relu, to.global_average = layer["pool"], layer["relu"], layer["global_average"]
            to.PH, to.PW = to.OH // to.pool, to.OW // to.pool
            if to.global_average:
                to.PH = to.PW = 1
            to.weight, to.bias = self.hold(layer["weight"]), self.hold(layer["bias"])
            to.grad_weight, to.grad_bias = self.hold(layer["grad_weight"]), self.hold(layer["grad_bias"])
            to.norm = layer["norm"]
            if to.norm:
                to.eps, to.momentum = layer["eps"], layer["momentum"]
                to.gamma, to.beta = self.hold(layer["gamma"]), self.hold(layer["beta"])
                to.running_mean, to.running_var = self.hold(layer["running_mean"]), self.hold(layer["running_var"])
                to.grad_gamma, to.grad_beta = self.hold(layer["grad_gamma"]), self.hold(layer["grad_beta"])
        self.c.x, self.c.table, self.c.y = self.hold(x), self.hold(table), self.hold(y)
        self.c.grad_y, self.c.grad_x = self.hold(grad_y), self.hold(grad_x)
        self.arguments = &self.c
        self.forward_function, self.backward_function = fastnn_kernels.chain_forward, fastnn_kernels.chain_backward
        self.kernels = "chain " + fastnn_kernels.chain_name(&self.c).decode()

    def supported(self):
        """Whether a kernel for such a chain exists."""
        return fastnn_kernels.chain_supports(&self.c) != 0

    def reserve(self):
        """Take the memory that it needs between its calls."""
        self.bytes = fastnn_kernels.chain_state_bytes(&self.c)
        self.c.state = self.memory(self.bytes)


cdef class DenseStage(Stage):
    """A dense layer with its activation: struct dense. With `numbers` the parameters are updated in backward."""
    cdef dense d
    cdef readonly int64_t bytes

    def __init__(self, int64_t N, weight, bias, *, bint relu, x, table, int64_t channels, y, grad_y, grad_x, grad_weight, grad_bias,
                 Numbers numbers, Numbers bias_numbers, list weight_states, list bias_states, bint frozen):
        self.d.frozen = frozen
        self.d.N, self.d.O, self.d.I = N, weight.shape[0], weight.shape[1]
        self.d.activation, self.d.channels = relu, channels
        self.d.weight, self.d.bias, self.d.x, self.d.table = self.hold(weight), self.hold(bias), self.hold(x), self.hold(table)
        self.d.y, self.d.grad_y, self.d.grad_x = self.hold(y), self.hold(grad_y), self.hold(grad_x)
        self.d.grad_weight, self.d.grad_bias = self.hold(grad_weight), self.hold(grad_bias)
        if numbers is not None:
            self.updates = True
            self.kept += [numbers, weight_states]
            self.d.optimizer = &numbers.o
            fill_states(self.d.weight_state, weight_states)
            if bias is not None:
                self.kept += [bias_numbers, bias_states]
                self.d.bias_optimizer = &bias_numbers.o
                fill_states(self.d.bias_state, bias_states)
        self.bytes = fastnn_kernels.dense_work_bytes(&self.d)
        self.d.work = self.memory(self.bytes)
        self.arguments = &self.d
        self.forward_function, self.backward_function = fastnn_kernels.dense_forward, fastnn_kernels.dense_backward
        self.kernels = fastnn_kernels.dense_name(&self.d).decode() + ("" if numbers is None else ", update")


cdef class CrossEntropyStage(Stage):
    """Softmax-cross-entropy of the program's labels: struct cross_entropy."""
    cdef cross_entropy c

    def __init__(self, logits, grad, *, double label_smoothing, bint mean):
        self.c.N, self.c.C = logits.shape[0], logits.shape[1]
        self.c.logits, self.c.grad = self.hold(logits), self.hold(grad)
        self.c.losses = self.hold(np.empty(len(logits), np.float32))
        self.c.label_smoothing, self.c.mean = label_smoothing, mean
        self.arguments = &self.c
        self.forward_function = fastnn_kernels.cross_entropy_stage
        self.kernels = "cross_entropy"


cdef class UpdateStage(Stage):
    """One parameter's step from its gradient: struct update."""
    cdef update u

    def __init__(self, param, grad, list states, Numbers numbers):
        self.updates = True
        self.u.count = param.size
        self.u.param, self.u.grad = self.hold(param), self.hold(grad)
        fill_states(self.u.state, states)
        self.kept += [numbers, states]
        self.u.optimizer = &numbers.o
        self.arguments = &self.u
        self.forward_function = fastnn_kernels.update_stage
        self.kernels = "update"


cdef class Program:
    """Stages that run one after another, in one call without the GIL."""
    DONE, NON_FINITE, BAD_LABEL, STOPPED = PROGRAM_DONE, PROGRAM_NON_FINITE, PROGRAM_BAD_LABEL, PROGRAM_STOPPED
    cdef program p
    cdef list kept

    def __cinit__(self):
        self.kept = []
        self.p.loss = NAN
        self.p.updates_from = PROGRAM_MOST_STAGES

    def add(self, Stage stage, bint backward=False):
        if self.p.stages == PROGRAM_MOST_STAGES:
            raise ValueError(f"a program has at most {PROGRAM_MOST_STAGES} stages")
        self.kept.append(stage)
        if stage.updates and (backward or isinstance(stage, UpdateStage)) and self.p.updates_from == PROGRAM_MOST_STAGES:
            self.p.updates_from = self.p.stages
        self.p.function[self.p.stages] = stage.backward_function if backward else stage.forward_function
        self.p.arguments[self.p.stages] = stage.arguments
        self.p.stages += 1

    @property
    def full(self):
        return self.p.stages == PROGRAM_MOST_STAGES

    @property
    def loss(self):
        return self.p.loss

    @property
    def seconds(self):
        """That the last run spent in each stage."""
        return [self.p.seconds[i] for i in range(self.p.stages)]

    cpdef int run(self, cnp.ndarray x, cnp.ndarray labels) except -2:
        """Status: 0, or why it stopped before its end."""
        cdef int status
        self.p.input = cnp.PyArray_DATA(x)
        self.p.labels = NULL if labels is None else <int64_t *> cnp.PyArray_DATA(labels)
        with nogil:
            status = fastnn_run(&self.p)
        check(status == PROGRAM_NO_MEMORY)
        return status


cdef class Call:
    """A plan that is one program, from inputs of one shape to outputs, as one call that looks at what it relies on first.

    `bound` are pairs (tensor, its array); `watched` are arrays that tables were made of.
    """
    cdef Program program
    cdef cnp.ndarray inputs, outputs
    cdef list bound, watched, copies
    cdef const char *isa

    def __init__(self, Program program, cnp.ndarray inputs, cnp.ndarray outputs, list bound, list watched):
        self.program, self.outputs, self.bound = program, outputs, bound
        self.inputs = np.broadcast_to(np.zeros((), inputs.dtype), (<object> inputs).shape)  # their shape and type, not they
        self.watched, self.copies = watched, [array.copy() for array in watched]
        self.isa = fastnn_kernels.isa

    cdef bint fits(self, array, cnp.ndarray like, bint written):
        """Whether it is a contiguous array of that shape and type."""
        cdef cnp.ndarray a
        if type(array) is not cnp.ndarray:
            return False
        a = <cnp.ndarray> array
        return (cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(like) and cnp.PyArray_SAMESHAPE(a, like)
                and (cnp.PyArray_ISCARRAY(a) if written else cnp.PyArray_ISCARRAY_RO(a)))

    cpdef bint stands(self):
        """Whether arrays, tables and instruction set are what they were."""
        cdef cnp.ndarray array, copy
        cdef tuple pair
        for pair in self.bound:
            if pair[0]._data is not pair[1]:
                return False
        for i in range(len(self.watched)):
            array, copy = self.watched[i], self.copies[i]
            if memcmp(cnp.PyArray_DATA(array), cnp.PyArray_DATA(copy), cnp.PyArray_NBYTES(copy)):
                return False
        return self.isa == fastnn_kernels.isa

    def __call__(self, x, out):
        """The outputs, in `out` unless it is None; None, and nothing is done, where this call does not suit."""
        cdef cnp.ndarray to
        if not self.fits(x, self.inputs, False) or not self.stands():
            return None
        if out is None:
            to = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(self.outputs), cnp.PyArray_DIMS(self.outputs), cnp.NPY_FLOAT32, 0)
        elif self.fits(out, self.outputs, True):
            to = out
        else:
            return None
        self.program.run(x, None)
        memcpy(cnp.PyArray_DATA(to), cnp.PyArray_DATA(self.outputs), cnp.PyArray_NBYTES(to))
        return to
