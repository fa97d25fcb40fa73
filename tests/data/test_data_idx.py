"""The IDX reader: every type and shape back as written, and one clear error for every way a file can be wrong."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fastnn.data import read_idx
from fastnn.data.idx import parse_idx, read_content
from fastnn.errors import DataError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    """The format written down once more, for the reader to be held against."""
    code = CODES[array.dtype.str[1:]]
    return (
        struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


@given(
    array=st.sampled_from(sorted(CODES)).flatmap(
        lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
    )
)
def test_reads_back_every_type_and_shape(array):
    read = parse_idx(idx_bytes(array), "file")
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_file_plain_or_gzipped_whatever_its_name(tmp_path, pack, name):
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / name).write_bytes(pack(idx_bytes(images)))
    np.testing.assert_array_equal(read_idx(tmp_path / name), images)


IMAGES = idx_bytes(np.zeros((2, 3, 3), np.uint8))  # 16 bytes of header, 18 of pixels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got 0 bytes"),
        (b"\0\0\x08", "got 3 bytes"),
        (b"\1" + IMAGES[1:], "found 01 00 08 03"),
        (b"\0\1" + IMAGES[2:], "found 00 01 08 03"),
        (b"\0\0\x0a" + IMAGES[3:], "found 00 00 0a 03"),
        (b"\0\0\x08\0", "found 00 00 08 00"),
        (IMAGES[:15], "3 dimensions in a header of 16 bytes, found 15"),
        (IMAGES[:-1], r"truncated: expected 34 bytes for dimensions \(2, 3, 3\), found 33"),
        (IMAGES[:16], r"truncated: expected 34 bytes for dimensions \(2, 3, 3\), found 16"),
        (IMAGES + b"\0", "too long: expected 34 bytes .*, found 35"),
        (
            struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**32 - 1] * 3),
            "truncated: expected 79228162458924105385300197391 bytes",
        ),
    ],
)
def test_wrong_content_is_refused_with_what_was_expected_and_found(tmp_path, content, message):
    path = tmp_path / "some-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*absent: No such file"):
        read_idx(tmp_path / "absent")


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-9],
        lambda packed: packed[:12],
        lambda packed: packed[:20] + bytes([packed[20] ^ 0xFF]) + packed[21:],
        lambda packed: packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:],
        lambda packed: packed[:2] + b"\x07" + packed[3:],
    ],
    ids=["cut short", "only a header", "flipped bits", "wrong checksum", "unknown method"],
)
def test_broken_gzip_is_refused(tmp_path, damage):
    content = idx_bytes(np.random.default_rng(0).integers(0, 256, (4, 9, 9), dtype=np.uint8))
    path = tmp_path / "images.gz"
    path.write_bytes(damage(gzip.compress(content)))
    with pytest.raises(DataError, match="truncated or corrupt: expected a whole gzip stream"):
        read_idx(path)


def test_a_gzip_bomb_is_unpacked_no_further_than_asked(tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    assert len(read_content(path, limit=1000)) == 1001
