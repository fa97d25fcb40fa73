# Regions: graphs of convolutions and joins (plan/region/region.h). Part of _kernels.pyx.

MOST_REGION_NODES, MOST_REGION_SOURCES = REGION_MOST_NODES, REGION_MOST_SOURCES


cdef int64_t windows(int64_t size, int64_t window, int64_t stride, int64_t padding, int64_t dilation) except -1:
    """How many windows lie in the padded size; ShapeError for none."""
    if window < 1 or stride < 1:
        raise ShapeError(f"a region was given windows of {window} with stride {stride}")
    check_windows(size, window, 1, stride, padding, dilation)
    return (size + 2 * padding - dilation * (window - 1) - 1) // stride + 1


cdef class RegionStage(Stage):
    """struct region. `nodes` are dicts in an order in which they can run, each with its `kind` ("input", "conv", "join", "concat"),
    the numbers of its `sources`, and the fields of its kind; sizes follow from the inputs' `shape`. What has `y` is an output."""
    cdef region r
    cdef readonly int64_t bytes
    cdef list shapes  # of the values, but for N

    def __init__(self, int64_t N, list nodes, *, bint training, bint exact, bint dense, bint frozen, bint naive):
        cdef region_node *to
        cdef int64_t count
        if not nodes or len(nodes) > REGION_MOST_NODES:
            raise ValueError(f"a region has 1 to {REGION_MOST_NODES} nodes")
        self.r.N, self.r.nodes, self.r.training, self.r.exact, self.r.dense = N, len(nodes), training, exact, dense
        self.r.frozen, self.r.naive = frozen, naive
        self.r.node = <region_node *> self.memory(len(nodes) * sizeof(region_node))
        for i, node in enumerate(nodes):
            to = &self.r.node[i]
            to.sources = len(node["sources"])
            if to.sources > REGION_MOST_SOURCES or not all(0 <= source < i for source in node["sources"]):
                raise ValueError(f"a region's node reads up to {REGION_MOST_SOURCES} nodes before it, got {node['sources']}")
            for k, source in enumerate(node["sources"]):
                to.source[k] = source
            {"input": self.add_input, "conv": self.add_conv, "join": self.add_join, "concat": self.add_concat}[node["kind"]](i, node)
            count = N * to.C * to.H * to.W
            to.y, to.grad_y = self.own(node["y"], count), self.own(node["grad_y"], count)
        self.arguments = &self.r
        self.forward_function, self.backward_function = fastnn_kernels.region_forward, fastnn_kernels.region_backward
        self.kernels = "region " + fastnn_kernels.region_name(&self.r).decode()

    def add_input(self, int64_t i, node):
        """shape (C, H, W); x: None for the program's input; table, grad_x."""
        cdef region_node *to = &self.r.node[i]
        cdef int64_t count
        to.kind = REGION_INPUT
        to.C, to.H, to.W = node["shape"]
        count = self.r.N * to.C * to.H * to.W
        to.x, to.table, to.grad_x = self.own(node["x"], count), self.own(node["table"], to.C * 256), self.own(node["grad_x"], count)
        if node["x"] is None:
            self.read_input(count, node["table"] is not None)

    def add_conv(self, int64_t i, node):
        """kernel (C, kh, kw), stride, padding, dilation, groups; weight, bias, grad_weight, grad_bias."""
        cdef region_node *to = &self.r.node[i]
        cdef region_node *x = self.source(i, 0)
        cdef int64_t weights
        to.kind, to.groups = REGION_CONV, node["groups"]
        to.C, to.kh, to.kw = node["kernel"]
        to.stride_h, to.stride_w = node["stride"]
        to.pad_h, to.pad_w = node["padding"]
        to.dilation_h, to.dilation_w = node["dilation"]
        if to.groups < 1 or x.C % to.groups or to.C % to.groups:
            raise ShapeError(f"a region was given a convolution of {x.C} to {to.C} channels in {to.groups} groups")
        to.H = windows(x.H, to.kh, to.stride_h, to.pad_h, to.dilation_h)
        to.W = windows(x.W, to.kw, to.stride_w, to.pad_w, to.dilation_w)
        weights = to.C * (x.C // to.groups) * to.kh * to.kw
        to.weight, to.bias = self.hold(node["weight"], weights), self.hold(node["bias"], to.C)
        to.grad_weight, to.grad_bias = self.own(node["grad_weight"], weights), self.own(node["grad_bias"], to.C)

    def add_join(self, int64_t i, node):
        """norms: for each source None or a dict of a norm's fields; activation, parameter; pool None or a dict of a pooling's."""
        cdef region_node *to = &self.r.node[i]
        cdef region_node *x = self.source(i, 0)
        to.kind, to.C, to.inner_H, to.inner_W = REGION_JOIN, x.C, x.H, x.W
        to.activation, to.parameter = node["activation"], node["parameter"]
        if len(node["norms"]) != to.sources:
            raise ValueError("a region's join names a norm, or None, for each of its sources")
        for k, norm in enumerate(node["norms"]):
            x = self.source(i, k)
            if (x.C, x.H, x.W) != (to.C, to.inner_H, to.inner_W):
                raise ShapeError(f"a region was given a sum of {to.C, to.inner_H, to.inner_W} and {x.C, x.H, x.W}")
            if norm is not None:
                self.add_norm(&to.norm[k], to.C, norm)
        to.H, to.W = to.inner_H, to.inner_W
        pool = node["pool"]
        if pool is None:
            return
        to.pool = {"max": POOL_MAX, "average": POOL_AVERAGE, "global": POOL_GLOBAL_AVERAGE}[pool["kind"]]
        if to.pool == POOL_GLOBAL_AVERAGE:
            to.H = to.W = 1
            return
        to.pool_h, to.pool_w = pool["kernel_size"]
        to.pool_stride_h, to.pool_stride_w = pool["stride"]
        to.pool_pad_h, to.pool_pad_w = pool["padding"]
        to.pool_counts_padding = pool.get("count_include_pad", False)
        if 2 * to.pool_pad_h > to.pool_h or 2 * to.pool_pad_w > to.pool_w:
            raise ShapeError("a region was given a pooling with windows that lie in the padding alone")
        to.H = windows(to.inner_H, to.pool_h, to.pool_stride_h, to.pool_pad_h, 1)
        to.W = windows(to.inner_W, to.pool_w, to.pool_stride_w, to.pool_pad_w, 1)

    cdef int add_norm(self, region_norm *to, int64_t C, dict norm) except -1:
        cdef bint training = self.r.training
        to.used, to.eps, to.momentum = True, norm["eps"], norm["momentum"]
        to.gamma, to.beta = self.hold(norm["gamma"], C), self.hold(norm["beta"], C)
        to.running_mean = self.hold(norm["running_mean"], C, written=training)
        to.running_var = self.hold(norm["running_var"], C, written=training)
        to.grad_gamma, to.grad_beta = self.own(norm["grad_gamma"], C), self.own(norm["grad_beta"], C)
        return 0

    def add_concat(self, int64_t i, node):
        cdef region_node *to = &self.r.node[i]
        cdef region_node *x = self.source(i, 0)
        to.kind, to.H, to.W = REGION_CONCAT, x.H, x.W
        for k in range(to.sources):
            x = self.source(i, k)
            if (x.H, x.W) != (to.H, to.W):
                raise ShapeError(f"a region was given images of {x.H, x.W} beside ones of {to.H, to.W}")
            to.C += x.C

    cdef region_node *source(self, int64_t i, int64_t k) except NULL:
        if k >= self.r.node[i].sources:
            raise ValueError("a region's node has too few sources")
        return &self.r.node[self.r.node[i].source[k]]

    def supported(self):
        """Whether an engine runs such a region."""
        return fastnn_kernels.region_supports(&self.r) != 0

    def reserve(self):
        """Take the memory that it needs between its calls."""
        self.bytes = fastnn_kernels.region_state_bytes(&self.r)
        check(self.bytes < 0)
        self.r.state = self.memory(self.bytes)
