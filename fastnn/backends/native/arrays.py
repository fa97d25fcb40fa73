"""How arrays are handed to the compiled kernels."""

from __future__ import annotations

from fastnn.backends.checks import Array, copied


def contiguous(x: Array) -> Array:
    """x where it is C-contiguous and aligned, else a copy that is (np.ascontiguousarray does not see to the second)."""
    flags = x.flags
    return x if flags.c_contiguous and flags.aligned else copied(x)
