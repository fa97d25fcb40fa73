# Arrays as kernels take them: the checks before an address is taken, and memory that is used again.

cdef str described(cnp.ndarray array):
    flags = array.flags
    layout = "" if flags.c_contiguous and flags.aligned else ", not C-contiguous or not aligned"
    return f"{(<object> array).dtype} {(<object> array).shape}{layout}{'' if flags.writeable else ', read-only'}"


cdef void *data_of(cnp.ndarray array, int type_number, int64_t count, bint written) except? NULL:
    """The address of `count` entries of that type, to be read, and with `written` to be written, too."""
    if array is None:
        raise DTypeError("a kernel was given None for an array")
    if not cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(array), type_number) or not cnp.PyArray_ISNOTSWAPPED(array):
        raise DTypeError(f"a kernel was given an array of another type: {described(array)}")
    if cnp.PyArray_SIZE(array) != count:
        raise ShapeError(f"a kernel was given an array of another size than {count}: {described(array)}")
    if not (cnp.PyArray_ISCARRAY(array) if written else cnp.PyArray_ISCARRAY_RO(array)):
        raise ShapeError(f"a kernel was given an array that it cannot use in place: {described(array)}")
    return cnp.PyArray_DATA(array)

cdef inline float *f32(cnp.ndarray array, int64_t count) except? NULL:
    return <float *> data_of(array, cnp.NPY_FLOAT32, count, False)

cdef inline float *f32_out(cnp.ndarray array, int64_t count) except? NULL:
    return <float *> data_of(array, cnp.NPY_FLOAT32, count, True)

cdef inline float *f32_or_null(array, int64_t count) except? NULL:
    return NULL if array is None else f32(array, count)


cdef class Memory:
    """What holds a large array; it is given back when nothing refers to the array any more."""
    cdef object __weakref__
    cdef void *data
    cdef size_t bytes

    def __dealloc__(self):
        if self.data != NULL:
            fastnn_give_memory(self.data, self.bytes)


cdef class Block:
    """What holds an array in memory of its own."""
    cdef object __weakref__
    cdef void *data

    def __dealloc__(self):
        free(self.data)


cdef array_in(memory, void *data, tuple shape, cnp.dtype dtype):
    cdef cnp.npy_intp sizes[64]
    cdef int i = 0
    for n in shape:
        sizes[i] = n
        i += 1
    array = cnp.PyArray_SimpleNewFromData(i, sizes, dtype.type_num, data)
    cnp.set_array_base(array, memory)
    return array


cdef class Loan:
    """What a lent array and all views of it hold; it holds whose memory that is."""
    cdef object __weakref__
    cdef object owner


def lent(cnp.ndarray array not None):
    """The memory of a contiguous array as another one, from which nothing leads back to it but its base: who has a weak reference to
    that knows whether anybody holds the memory, a view of it included."""
    cdef Loan loan = Loan()
    if not cnp.PyArray_ISCARRAY(array):
        raise ShapeError(f"expected an array to lend that can be written in place, got {described(array)}")
    loan.owner = array
    return array_in(loan, cnp.PyArray_DATA(array), (<object> array).shape, array.dtype)


def aligned(tuple shape, cnp.dtype dtype not None, size_t size, size_t alignment, size_t offset):
    """np.empty of `size` bytes in all, for types without Python objects, `offset` bytes after a multiple of `alignment`."""
    cdef Block block = Block()
    if len(shape) <= 64 and size + offset >= size:
        block.data = fastnn_new_memory(alignment, size + offset + 1)
    if block.data == NULL:
        raise MemoryError(f"no memory for an array of shape {shape}")
    return array_in(block, <char *> block.data + offset, shape, dtype)


def empty(tuple shape, cnp.dtype dtype not None):
    """np.empty, for types without Python objects; what is large lies in memory that is used again (base/memory.c)."""
    cdef double size = dtype.itemsize
    for n in shape:
        size *= n
    if not FASTNN_LARGE <= size < 1e15 or len(shape) > 64:
        return np.empty(shape, dtype)
    cdef Memory memory = Memory()
    memory.bytes = <size_t> size
    memory.data = fastnn_take_memory(&memory.bytes)
    if memory.data == NULL:
        raise MemoryError(f"no memory for an array of shape {shape}")
    return array_in(memory, memory.data, shape, dtype)


def dtype_of_all(tuple arrays not None):
    """The type object that all arrays share; None where one has another, or is no array. An absent one (None) has any."""
    cdef void *found = NULL
    for each in arrays:
        if each is None:
            continue
        if not cnp.PyArray_Check(each) or found not in (NULL, <void *> cnp.PyArray_DESCR(each)):
            return None
        found = <void *> cnp.PyArray_DESCR(each)
    return None if found == NULL else <object> found


def in_place(*arrays):
    """Whether all are arrays of one type object and one shape that a kernel can write to."""
    cdef cnp.ndarray first = None, array
    for each in arrays:
        if not cnp.PyArray_Check(each):
            return False
        array = each
        if first is None:
            first = array
        if (<void *> cnp.PyArray_DESCR(array) != <void *> cnp.PyArray_DESCR(first) or not cnp.PyArray_ISCARRAY(array)
                or not cnp.PyArray_SAMESHAPE(array, first)):
            return False
    return True


def contiguous(x):
    """x where it is an array that is C-contiguous and aligned, else a copy that is (np.ascontiguousarray does not see to the
    latter); NumPy's sum of two arrays without dimensions is a number, and no array."""
    if cnp.PyArray_Check(x) and cnp.PyArray_IS_C_CONTIGUOUS(x) and cnp.PyArray_ISALIGNED(x):
        return x
    copy = empty(x.shape, x.dtype)
    copy[...] = x
    return copy


def one_or_contiguous(x):
    """The one number that all entries of x are, (), where its strides say so, as those of a sum's gradient do; else `contiguous`."""
    cdef cnp.ndarray array
    cdef int d
    if cnp.PyArray_Check(x):
        array = x
        for d in range(array.ndim):
            if array.strides[d] != 0:
                return contiguous(x)
        if array.ndim and cnp.PyArray_SIZE(array) > 1 and cnp.PyArray_ISALIGNED(array):
            return x[(0,) * array.ndim + (Ellipsis,)]
    return contiguous(x)


cdef bint is_matrix(cnp.ndarray a):
    """Whether it is one of float32 in this CPU's byte order, aligned, with strides that are multiples of the item."""
    return (cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32 and cnp.PyArray_ISNOTSWAPPED(a) and cnp.PyArray_ISALIGNED(a)
            and a.ndim == 2 and a.strides[0] % 4 == 0 and a.strides[1] % 4 == 0)


cdef int check_ndim(cnp.ndarray array, int ndim) except -1:
    if array is None or array.ndim != ndim:
        raise ShapeError(f"a kernel was given an array of another number of dimensions than {ndim}")
    return 0


cdef int check_windows(int64_t size, int64_t window, int64_t outputs, int64_t stride, int64_t padding, int64_t dilation) except -1:
    """Whether so many windows lie within the padded size; in floats, which do not overflow."""
    if stride < 1 or padding < 0 or dilation < 1 or (
            <double> stride * (outputs - 1) + <double> dilation * (window - 1) + 1 > size + 2.0 * padding):
        raise ShapeError(f"a kernel was given {outputs} windows of {window} on {size} values, which hold fewer")
    return 0


cdef inline int check(int status) except -1:
    if status:
        raise MemoryError("no memory for a kernel's working buffer")
    return 0
