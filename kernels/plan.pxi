from cpython.dict cimport PyDict_GetItem, PyDict_Next
from cpython.object cimport PyObject
from libc.math cimport NAN, sqrt
from libc.string cimport memcmp, memcpy, memset

MOST_CHAIN_LAYERS = CHAIN_MOST_LAYERS

# What a compiled plan holds: stages with their arguments, and programs that run them. fastnn.plan finds out which arrays fit,
# and says so in the user's words; here no address is taken of an array that has not the size, type and layout that the kernel
# will touch, and none is used after the array has changed.


def sum_of_squares(cnp.ndarray x):
    """Of all entries of a float32 array, in double precision chunk by chunk: the same for any number of threads."""
    cdef double total
    cdef int64_t count = cnp.PyArray_SIZE(x)
    cdef float *data = f32(x, count)
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


cdef int check_states(list states) except -1:
    if len(states) > UPDATE_STATES:
        raise ValueError(f"a parameter has at most {UPDATE_STATES} arrays of state")
    return 0


def update_array(cnp.ndarray param, cnp.ndarray grad, list states, Numbers numbers not None):
    """One step in place; states as kernels/ops/update.h has them, None where the optimiser keeps none."""
    cdef int64_t count = cnp.PyArray_SIZE(param)
    cdef float *pp = f32_out(param, count)
    cdef float *pg = f32(grad, count)
    cdef float *ps[UPDATE_STATES]
    cdef int k
    check_states(states)
    for k in range(UPDATE_STATES):
        ps[k] = NULL if k >= len(states) or states[k] is None else f32_out(states[k], count)
    with nogil:
        fastnn_kernels.update(&numbers.o, count, pp, pg, ps)


cdef class Held:
    """An array, and what it was when somebody came to rely on it; the tensor whose data it is, or None."""
    cdef object tensor
    cdef cnp.ndarray array
    cdef object dtype
    cdef bytes sizes
    cdef const void *data
    cdef int flags

    def __init__(self, tensor, cnp.ndarray array not None):
        self.tensor, self.array, self.dtype = tensor, array, (<object> array).dtype
        self.sizes = (<const char *> cnp.PyArray_DIMS(array))[:array.ndim * sizeof(cnp.npy_intp)]
        self.data, self.flags = cnp.PyArray_DATA(array), cnp.PyArray_FLAGS(array)

    cdef bint stands(self):
        return (cnp.PyArray_DATA(self.array) == self.data and cnp.PyArray_FLAGS(self.array) == self.flags
                and <void *> cnp.PyArray_DESCR(self.array) == <void *> self.dtype
                and self.array.ndim * sizeof(cnp.npy_intp) == <size_t> len(self.sizes)
                and (not self.array.ndim or not memcmp(cnp.PyArray_DIMS(self.array), <const char *> self.sizes, len(self.sizes)))
                and (self.tensor is None or self.tensor._data is self.array))


cdef class Watch:
    """Arrays that a plan relies on, as pairs (whose data it is or None, the array)."""
    cdef list held

    def __init__(self, pairs):
        self.held = [Held(tensor, array) for tensor, array in pairs]

    cpdef bint stands(self):
        """Whether each is the array that it was: its memory, shape, type and flags; and still its tensor's data."""
        cdef Held one
        for one in self.held:
            if not one.stands():
                return False
        return True


cdef class Entries:
    """Objects that dicts hold, as triples (dict, key, object), and dicts that hold equal numbers under one key."""
    cdef list triples, dicts
    cdef object key

    def __init__(self, list triples, list dicts, key):
        self.triples, self.dicts, self.key = triples, dicts, key

    cpdef bint stand(self):
        """Whether they still do."""
        cdef PyObject *found
        cdef PyObject *first
        for owner, key, held in self.triples:
            if PyDict_GetItem(owner, key) != <PyObject *> held:
                return False
        first = PyDict_GetItem(self.dicts[0], self.key)
        for owner in self.dicts:
            found = PyDict_GetItem(owner, self.key)
            if found != first and (found == NULL or first == NULL or <object> found != <object> first):
                return False
        return True


cdef class Groups:
    """The groups of an optimiser: dicts with a list "params", and with numbers, which do not change by themselves."""
    cdef list groups, params, values
    cdef bint plain

    def __init__(self, groups):
        self.groups, self.params = list(groups), [list(group["params"]) for group in groups]
        self.values = [list(group.values()) for group in groups]
        self.plain = all(isinstance(value, (bool, int, float, str, tuple, type(None)))
                         for group in groups for name, value in group.items() if name != "params")

    cpdef bint stand(self, groups):
        """Whether these are the same groups, of the same parameters, in which nothing was set since."""
        cdef PyObject *key
        cdef PyObject *value
        cdef Py_ssize_t at, k
        cdef list then
        if not self.plain or not same(groups, self.groups):
            return False
        for i in range(len(self.groups)):
            group, then, at, k = self.groups[i], self.values[i], 0, 0
            if len(group) != len(then):
                return False
            while PyDict_Next(group, &at, &key, &value):
                if value != <PyObject *> then[k]:
                    return False
                k += 1
            if not same(group["params"], self.params[i]):
                return False
        return True


cdef bint same(now, list then):
    """Whether it is a list of the same objects."""
    cdef Py_ssize_t k
    if type(now) is not list or len(<list> now) != len(then):
        return False
    for k in range(len(then)):
        if (<list> now)[k] is not then[k]:
            return False
    return True


cdef class Stage:
    """A stage's arguments. What it points to is kept alive as long as it is."""
    cdef list kept, held
    cdef const void *arguments
    cdef stage_function forward_function, backward_function
    cdef readonly str kernels
    cdef int64_t inputs, targets  # entries of the program's input and target; 0: it does not read them
    cdef int input_type, target_type
    cdef bint updates  # parameters: a dense stage in backward, an update in any case

    def __cinit__(self, *args, **kwargs):
        self.kept, self.held = [], []

    cdef float *own(self, array, int64_t count) except? NULL:
        """The address of an array of the plan's own, with so many float32 to be read and written; NULL for None."""
        if array is None:
            return NULL
        self.kept.append(array)
        return f32_out(array, count)

    cdef float *hold(self, array, int64_t count, bint written=False) except? NULL:
        """The same of an array that others have hands on, too: the program looks at it before each run."""
        if array is None:
            return NULL
        self.held.append(Held(None, array))
        return f32_out(array, count) if written else f32(array, count)

    cdef int hold_states(self, float **to, list states, int64_t count) except -1:
        cdef int k
        check_states(states)
        for k in range(UPDATE_STATES):
            to[k] = self.hold(states[k], count, written=True) if k < len(states) else NULL
        return 0

    cdef int read_input(self, int64_t count, bint table) except -1:
        self.inputs, self.input_type = count, cnp.NPY_UINT8 if table else cnp.NPY_FLOAT32
        return 0

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
        cdef chain_layer *to = &self.c.layer[0]
        cdef int64_t weights, inputs, outputs
        if not layers or len(layers) > CHAIN_MOST_LAYERS:
            raise ValueError(f"a chain has 1 to {CHAIN_MOST_LAYERS} layers")
        self.c.N, self.c.layers, self.c.training, self.c.exact, self.c.dense = N, len(layers), training, exact, dense
        for i, layer in enumerate(layers):
            to = &self.c.layer[i]
            to.C, to.H, to.W = layer["input"]
            to.O, to.kh, to.kw = layer["kernel"]
            to.pad_h, to.pad_w = layer["padding"]
            to.OH, to.OW = to.H + 2 * to.pad_h - to.kh + 1, to.W + 2 * to.pad_w - to.kw + 1
            to.activation, to.parameter = layer["activation"], layer["parameter"]
            to.pool_kind, to.pool_first, to.pool_counts_padding = layer["pool_kind"], layer["pool_first"], layer["counts_padding"]
            to.pool_h, to.pool_w, to.pool_stride_h, to.pool_stride_w, to.pool_pad_h, to.pool_pad_w = layer["window"]
            to.PH = (to.OH + 2 * to.pool_pad_h - to.pool_h) // to.pool_stride_h + 1
            to.PW = (to.OW + 2 * to.pool_pad_w - to.pool_w) // to.pool_stride_w + 1
            plain = to.pool_h == to.pool_w == to.pool_stride_h == to.pool_stride_w and to.pool_pad_h == to.pool_pad_w == 0
            to.pool = to.pool_h if to.pool_kind == POOL_MAX and plain else 1
            if to.pool_kind == POOL_GLOBAL_AVERAGE:
                to.PH = to.PW = 1
            weights = to.O * to.C * to.kh * to.kw
            to.weight, to.bias = self.hold(layer["weight"], weights), self.hold(layer["bias"], to.O)
            to.grad_weight, to.grad_bias = self.own(layer["grad_weight"], weights), self.own(layer["grad_bias"], to.O)
            to.norm = layer["norm"]
            if to.norm:
                to.eps, to.momentum = layer["eps"], layer["momentum"]
                to.gamma, to.beta = self.hold(layer["gamma"], to.O), self.hold(layer["beta"], to.O)
                to.running_mean = self.hold(layer["running_mean"], to.O, written=training)
                to.running_var = self.hold(layer["running_var"], to.O, written=training)
                to.grad_gamma, to.grad_beta = self.own(layer["grad_gamma"], to.O), self.own(layer["grad_beta"], to.O)
        inputs, outputs = N * self.c.layer[0].C * self.c.layer[0].H * self.c.layer[0].W, N * to.O * to.PH * to.PW
        self.c.x, self.c.table = self.own(x, inputs), self.own(table, self.c.layer[0].C * 256)
        self.c.y, self.c.grad_y, self.c.grad_x = self.own(y, outputs), self.own(grad_y, outputs), self.own(grad_x, inputs)
        if x is None:
            self.read_input(inputs, table is not None)
        self.arguments = &self.c
        self.forward_function, self.backward_function = fastnn_kernels.chain_forward, fastnn_kernels.chain_backward
        self.kernels = "chain " + fastnn_kernels.chain_name(&self.c).decode()

    def supported(self):
        """Whether a kernel for such a chain exists."""
        return fastnn_kernels.chain_supports(&self.c) != 0

    def fast(self):
        """Whether it is no slower than the same layers as a region."""
        return fastnn_kernels.chain_is_fast(&self.c) != 0

    def reserve(self):
        """Take the memory that it needs between its calls."""
        self.bytes = fastnn_kernels.chain_state_bytes(&self.c)
        self.c.state = self.memory(self.bytes)


cdef class DenseStage(Stage):
    """A dense layer with its activation: struct dense. With `numbers` the parameters are updated in backward."""
    cdef dense d
    cdef readonly int64_t bytes

    def __init__(self, int64_t N, weight, bias, *, int64_t activation, double parameter, x, table, int64_t channels, y, grad_y, grad_x, grad_weight, grad_bias,
                 Numbers numbers, Numbers bias_numbers, list weight_states, list bias_states, bint frozen):
        cdef bint updated = numbers is not None
        cdef int64_t O, I
        O, I = weight.shape
        if table is not None and (channels < 1 or I % channels):
            raise ShapeError(f"a dense stage of {I} inputs was given a table for {channels} channels")
        self.d.frozen = frozen
        self.d.N, self.d.O, self.d.I = N, O, I
        self.d.activation, self.d.parameter, self.d.channels = activation, parameter, channels
        self.d.weight, self.d.bias = self.hold(weight, O * I, updated), self.hold(bias, O, updated)
        self.d.x, self.d.table = self.own(x, N * I), self.own(table, channels * 256)
        self.d.y, self.d.grad_y, self.d.grad_x = self.own(y, N * O), self.own(grad_y, N * O), self.own(grad_x, N * I)
        self.d.grad_weight, self.d.grad_bias = self.own(grad_weight, O * I), self.own(grad_bias, O)
        if x is None:
            self.read_input(N * I, table is not None)
        if updated:
            self.updates = True
            self.kept.append(numbers)
            self.d.optimizer = &numbers.o
            self.hold_states(self.d.weight_state, weight_states, O * I)
            if bias is not None:
                self.kept.append(bias_numbers)
                self.d.bias_optimizer = &bias_numbers.o
                self.hold_states(self.d.bias_state, bias_states, O)
        self.arguments = &self.d
        self.forward_function, self.backward_function = fastnn_kernels.dense_forward, fastnn_kernels.dense_backward
        self.kernels = fastnn_kernels.dense_name(&self.d).decode() + ("" if numbers is None else ", update")

    def reserve(self):
        """Take its working memory; a layer of a RowsStage has none."""
        self.bytes = fastnn_kernels.dense_work_bytes(&self.d)
        self.d.work = self.memory(self.bytes)


LOSSES = {"cross_entropy": LOSS_CROSS_ENTROPY, "soft_cross_entropy": LOSS_SOFT_CROSS_ENTROPY, "nll": LOSS_NLL, "bce": LOSS_BCE,
          "bce_with_logits": LOSS_BCE_WITH_LOGITS, "mse": LOSS_MSE, "huber": LOSS_HUBER, "smooth_l1": LOSS_SMOOTH_L1}


cdef class LossStage(Stage):
    """A loss by the program's target, labels or floats: struct loss. x and grad (N, C); x None: what stands before it in a stage."""
    cdef loss l

    def __init__(self, str kind, int64_t N, int64_t C, x, grad, *, double parameter, bint mean):
        cdef bint labels = kind in ("cross_entropy", "nll")
        cdef int64_t terms = N if labels or kind == "soft_cross_entropy" else N * C
        self.l.kind, self.l.N, self.l.C = LOSSES[kind], N, C
        self.targets, self.target_type = (N, cnp.NPY_INT64) if labels else (N * C, cnp.NPY_FLOAT32)
        self.l.x, self.l.grad = self.own(x, N * C), self.own(grad, N * C)
        self.l.losses = self.own(np.empty(terms, np.float32), terms)
        self.l.parameter, self.l.mean = parameter, mean
        self.arguments = &self.l
        self.forward_function = fastnn_kernels.loss_stage
        self.kernels = kind


cdef class RowsStage(Stage):
    """A small dense network: struct dense_rows, of the arguments of these stages; `loss` may be None."""
    cdef dense_rows r
    cdef readonly int64_t bytes

    def __init__(self, list layers, LossStage loss):
        cdef DenseStage layer
        if not 1 <= len(layers) <= ROWS_MOST_LAYERS:
            raise ValueError(f"a small dense network has 1 to {ROWS_MOST_LAYERS} layers")
        self.r.layers = len(layers)
        for i, layer in enumerate(layers):
            if i and (layer.d.I != self.r.layer[i - 1].O or layer.d.N != self.r.layer[0].N):
                raise ShapeError(f"layer {i} of a small dense network does not take what the one before gives")
            self.r.layer[i] = layer.d
            self.held += layer.held
            self.updates |= layer.updates
        if loss is not None:
            if (loss.l.N, loss.l.C) != (layer.d.N, layer.d.O):
                raise ShapeError("the loss of a small dense network does not take what its last layer gives")
            self.r.loss = loss.l
            self.targets, self.target_type = loss.targets, loss.target_type
        self.kept += [layers, loss]
        layer = layers[0]
        self.inputs, self.input_type = layer.inputs, layer.input_type
        self.arguments = &self.r
        self.forward_function, self.backward_function = fastnn_kernels.rows_forward, fastnn_kernels.rows_backward
        self.kernels = "rows" + (f", {loss.kernels}" if loss is not None else "") + (", update" if self.updates else "")

    def reserve(self):
        """Take its working memory."""
        self.bytes = fastnn_kernels.rows_work_bytes(&self.r)
        self.r.work = self.memory(self.bytes)


def rows_support(list shapes, int64_t N, *, bint training, bint frozen):
    """Whether one RowsStage is the way for N rows through layers whose weights have these shapes."""
    cdef dense_rows r
    if len(shapes) > ROWS_MOST_LAYERS:
        return False
    r.layers = len(shapes)
    r.layer[0].N, r.layer[0].frozen = N, frozen
    for i, (O, I) in enumerate(shapes):
        r.layer[i].O, r.layer[i].I = O, I
    return fastnn_kernels.rows_supports(&r, training) != 0


cdef class UpdateStage(Stage):
    """One parameter's step from its gradient: struct update. With `factors` (K,) it is the weighted sum of a list of K arrays."""
    cdef update u

    def __init__(self, param, grad, list states, Numbers numbers not None, factors=None):
        self.updates = True
        self.u.count = param.size
        self.u.param = self.hold(param, self.u.count, written=True)
        if factors is None:
            self.u.grad = self.own(grad, self.u.count)
        else:
            self.u.shares, self.u.factor = len(grad), self.own(factors, len(grad))
            self.u.share = <const float **> self.memory(len(grad) * sizeof(float *))
            for k, share in enumerate(grad):
                self.u.share[k] = self.own(share, self.u.count)
        self.hold_states(self.u.state, states, self.u.count)
        self.kept.append(numbers)
        self.u.optimizer = &numbers.o
        self.arguments = &self.u
        self.forward_function = fastnn_kernels.update_stage
        self.kernels = "update"
