"""Philox4x32-10: random numbers as a function of a counter and a key, so that any element can be drawn by itself.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
https://doi.org/10.1145/2063384.2063405; tested against the known answers of their library, Random123.
"""

from __future__ import annotations

import numpy as np

from fastnn.backends.shapes import Array

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the two halves of the key after each round
_MASK = 0xFFFFFFFF


def philox4x32(counter: Array, key: tuple[int, int]) -> Array:
    """The four 32-bit words of every block: counter (blocks, 4) of 32-bit words as uint64 -> (blocks, 4) as uint64.

    >>> [f"{word:08x}" for word in philox4x32(np.zeros((1, 4), np.uint64), (0, 0))[0]]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = counter.T
    k0, k1 = key
    low, shift = np.uint64(_MASK), np.uint64(32)
    for _ in range(_ROUNDS):
        product0 = c0 * np.uint64(_MULTIPLIERS[0])
        product1 = c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (product1 >> shift) ^ c1 ^ np.uint64(k0),
            product1 & low,
            (product0 >> shift) ^ c3 ^ np.uint64(k1),
            product0 & low,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return np.stack([c0, c1, c2, c3], axis=1)


def uniform24(count: int, seed: int, stream: int) -> Array:
    """`count` numbers in [0, 1), multiples of 2^-24, float64: element i is word i % 4 of block i // 4.

    The key is the seed, low word first; the counter is the block number and the stream, low words first.

    >>> uniform24(3, seed=0, stream=0) * 2**24
    array([ 6694888., 14772677., 12343212.])
    """
    block = np.arange(-(-count // 4), dtype=np.uint64)
    counter = np.empty((len(block), 4), np.uint64)
    counter[:, 0] = block & np.uint64(_MASK)
    counter[:, 1] = block >> np.uint64(32)
    counter[:, 2] = stream & _MASK
    counter[:, 3] = stream >> 32
    words = philox4x32(counter, (seed & _MASK, seed >> 32)).reshape(-1)[:count]
    return (words >> np.uint64(8)) * 2.0**-24
