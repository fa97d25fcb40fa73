"""One reader for all image files: load, read_image and fastnn predict see the same pixels, the right ones, or none."""

from __future__ import annotations

import os
import socket
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn import data
from fastnn.data.picture import pixels_of, read_picture
from fastnn.data.prepare import Preparation
from fastnn.errors import DataError

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")
RNG = np.random.default_rng(5)
SIDE = 12


def drawing(n: int) -> np.ndarray:
    """The opacity of one stroke: (H, W) uint8, 0 or 255."""
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    alpha[2 + n % 3 : 9, 3 + n % 4 : 7 + n % 4] = 255
    return alpha


def gray_of(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601-2."""
    return rgb @ [0.299, 0.587, 0.114]


def over_white(ink: int, alpha: np.ndarray) -> np.ndarray:
    a = alpha / 255
    return 255 * (1 - a) + ink * a


def save_rgba(path: Path, ink: int, alpha: np.ndarray) -> None:
    Image.fromarray(np.stack([np.full_like(alpha, ink)] * 3 + [alpha], -1)).save(path)


def save_la(path: Path, ink: int, alpha: np.ndarray) -> None:
    Image.merge("LA", [Image.fromarray(np.full_like(alpha, ink)), Image.fromarray(alpha)]).save(path)


def save_palette(path: Path, ink: int, alpha: np.ndarray) -> None:
    """Both entries have the ink's colour, and 0 is transparent."""
    image = Image.fromarray((alpha > 0).astype(np.uint8))
    image.putpalette([ink] * 768)
    image.save(path, transparency=0)


def save_palette_of_opacities(path: Path, ink: int, alpha: np.ndarray) -> None:
    image = Image.fromarray((alpha > 0).astype(np.uint8))
    image.putpalette([ink] * 768)
    image.save(path, transparency=bytes([0, 255]))


def save_key(path: Path, ink: int, alpha: np.ndarray) -> None:
    """RGB with one transparent colour, which is hardly another than the ink."""
    ground = ink + 1 if ink < 128 else ink - 1
    pixels = np.where(alpha[..., None] > 0, ink, ground).astype(np.uint8).repeat(3, -1)
    Image.fromarray(pixels).save(path, transparency=(ground,) * 3)


def save_gray_key(path: Path, ink: int, alpha: np.ndarray) -> None:
    ground = ink + 1 if ink < 128 else ink - 1
    Image.fromarray(np.where(alpha > 0, ink, ground).astype(np.uint8)).save(path, transparency=ground)


TRANSPARENT: dict[str, Callable[[Path, int, np.ndarray], None]] = {
    "RGBA": save_rgba, "LA": save_la, "P": save_palette, "P, opacities": save_palette_of_opacities,
    "RGB, a colour": save_key, "L, a gray": save_gray_key,
}  # fmt: skip


def in_classes(folder: Path, save: Callable[[Path, int], Any], suffix: str = ".png") -> list[Path]:
    """Ten files, in two classes."""
    files = [folder / "ab"[n % 2] / f"{n}{suffix}" for n in range(10)]
    for n, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        save(file, n)
    return files


def everywhere(folder: Path, files: list[Path], **options: Any) -> list[np.ndarray]:
    """The images (C, H, W) of the folder; checks that single reads of its files give the same bytes."""
    parts = [data.load(folder, split=split, **options) for split in ("train", "test")]
    loaded = {image.tobytes() for part in parts for image in part.images}
    shape: Any = parts[0].image_shape
    singles = [data.read_image(file, shape) for file in files]
    assert loaded == {image.tobytes() for image in singles}
    for file, image in zip(files, singles, strict=True):
        read, changes = Preparation(shape).described(file)
        np.testing.assert_array_equal(read, image)
        assert changes in ("", "the first of several pictures")
    return singles


@pytest.mark.parametrize("kind", TRANSPARENT)
@pytest.mark.parametrize("ink", [0, 90, 255])
def test_drawings_on_nothing_are_seen(tmp_path: Path, kind: str, ink: int) -> None:
    """On white; a white one on black."""
    files = in_classes(tmp_path, lambda file, n: TRANSPARENT[kind](file, ink, drawing(n)))
    for n, image in enumerate(everywhere(tmp_path, files)):
        expected = drawing(n) if ink == 255 else over_white(ink, drawing(n))
        assert np.abs(image - expected).max() <= 1
        assert int(image.max()) - int(image.min()) > 128


def test_soft_edges_are_mixed_with_the_ground(tmp_path: Path) -> None:
    alpha = RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    save_rgba(tmp_path / "x.png", 40, alpha)
    assert np.abs(data.read_image(tmp_path / "x.png", (1, SIDE, SIDE)) - over_white(40, alpha)).max() <= 1


def test_nothing_visible_is_white(tmp_path: Path) -> None:
    save_rgba(tmp_path / "x.png", 0, np.zeros((SIDE, SIDE), np.uint8))
    assert (data.read_image(tmp_path / "x.png", (1, SIDE, SIDE)) == 255).all()


COLOURS = RNG.integers(0, 256, (10, SIDE, SIDE, 3), dtype=np.uint8)
OPAQUE: dict[str, tuple[str, Callable[[np.ndarray], Any], int]] = {
    "RGB": (".png", Image.fromarray, 0),
    "bmp": (".BMP", Image.fromarray, 0),
    "palette": (".png", lambda x: Image.fromarray(x).quantize(256, kmeans=4), 90),
    "CMYK": (".tif", lambda x: Image.fromarray(x).convert("CMYK"), 1),
    "YCbCr": (".tiff", lambda x: Image.fromarray(x).convert("YCbCr"), 3),
    "RGBA, opaque": (".webp", lambda x: Image.fromarray(x).convert("RGBA"), 0),
}


@pytest.mark.parametrize("kind", OPAQUE)
def test_colours_are_read(tmp_path: Path, kind: str) -> None:
    if kind == "YCbCr" and Image.__version__.startswith("12."):
        pytest.skip("Pillow 12 does not read the TIFF files of this kind that it writes")
    suffix, make, apart = OPAQUE[kind]
    options = {"lossless": True} if suffix == ".webp" else {}
    files = in_classes(tmp_path, lambda file, n: make(COLOURS[n]).save(file, **options), suffix)
    for n, image in enumerate(everywhere(tmp_path, files)):
        assert np.abs(image.astype(int) - np.moveaxis(COLOURS[n], -1, 0)).max() <= apart
    for n, image in enumerate(everywhere(tmp_path, files, gray=True)):
        assert np.abs(image[0].astype(int) - gray_of(COLOURS[n])).max() <= apart + 1


def test_bilevel_pictures_are_black_and_white(tmp_path: Path) -> None:
    files = in_classes(tmp_path, lambda file, n: Image.fromarray(drawing(n)).convert("1").save(file))
    for n, image in enumerate(everywhere(tmp_path, files)):
        np.testing.assert_array_equal(image[0], drawing(n))


def png_of_16_bits(path: Path, pixels: np.ndarray) -> None:
    """By hand: pixels (H, W, 3) or (H, W) uint16."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 16, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_16_bits_are_scaled_and_other_ranges_refused(tmp_path: Path) -> None:
    """Of numbers below 4096 nobody knows the range, as 12-bit pictures are kept in 16 bits, too."""
    values = RNG.integers(0, 65536, (SIDE, SIDE, 3))
    values[0, 0] = 65535
    png_of_16_bits(tmp_path / "colour.png", values)
    found = data.read_image(tmp_path / "colour.png", (3, SIDE, SIDE))
    assert np.abs(np.moveaxis(values, -1, 0) / 257 - found).max() <= 1
    gray = values[..., 0]
    png_of_16_bits(tmp_path / "a.png", gray)
    Image.fromarray(gray.astype(np.uint16)).save(tmp_path / "b.tif")
    (tmp_path / "c.pgm").write_bytes(b"P5\n%d %d\n65535\n" % (SIDE, SIDE) + gray.astype(">u2").tobytes())
    for name in ("a.png", "b.tif", "c.pgm"):
        for read in (lambda path: data.read_image(path, (1, SIDE, SIDE)), lambda path: read_picture(path).pixels[None]):
            np.testing.assert_array_equal(read(tmp_path / name)[0], np.rint(gray / 257))
    np.testing.assert_array_equal(pixels_of(Image.open(tmp_path / "a.png")), np.rint(gray / 257))
    (tmp_path / "d.pgm").write_bytes(b"P5\n2 1\n4095\n" + b"\x0f\xff\0\0")  # says its range
    np.testing.assert_array_equal(read_picture(tmp_path / "d.pgm").pixels, [[255, 0]])
    png_of_16_bits(tmp_path / "black.png", np.zeros((2, 2), int))
    assert not read_picture(tmp_path / "black.png").pixels.any()


def test_numbers_of_unknown_range_are_refused(tmp_path: Path) -> None:
    gray = RNG.integers(0, 4096, (SIDE, SIDE))
    Image.fromarray(gray.astype(np.int32)).save(tmp_path / "c.tif")
    Image.fromarray(np.float32(gray)).save(tmp_path / "d.tif")
    png_of_16_bits(tmp_path / "e.png", gray)
    for name in ("c.tif", "d.tif", "e.png"):
        for read in (
            lambda path: data.read_image(path, (1, SIDE, SIDE)),
            lambda path: Preparation((1, SIDE, SIDE)).described(path),
            lambda path: pixels_of(Image.open(path)),
        ):
            with pytest.raises(DataError, match=r"expected an? (image of 8 or 16 bits|16-bit image).*convert it first"):
                read(tmp_path / name)


def test_arrays_of_integers_are_pixels_and_floats_are_shares(tmp_path: Path) -> None:
    pixels = drawing(0) // 2 + np.arange(SIDE, dtype=np.uint8)
    for kind, values in (("i8", pixels), ("u2", pixels), ("u1", pixels), ("f4", pixels / np.float32(255))):
        np.save(tmp_path / "x.npy", values.astype(kind))
        found, _ = Preparation((1, SIDE, SIDE)).described(tmp_path / "x.npy")
        np.testing.assert_array_equal(found[0], pixels)
    for kind, wrong in (("i8", -1), ("u2", 256), ("f4", 2.0), ("f8", np.nan), ("?", 1), ("c8", 1)):
        np.save(tmp_path / "x.npy", np.full((SIDE, SIDE), wrong).astype(kind))
        with pytest.raises(DataError, match=r"x\.npy: expected"):
            Preparation((1, SIDE, SIDE)).described(tmp_path / "x.npy")


def test_animations_give_their_first_picture_and_say_so(tmp_path: Path) -> None:
    def save(file: Path, n: int) -> None:
        first, *rest = (Image.fromarray(np.roll(drawing(n), shift)) for shift in (0, 1, 2))
        first.save(file, save_all=True, append_images=rest)

    for suffix in (".gif", ".png", ".tif"):
        folder = tmp_path / suffix[1:]
        files = in_classes(folder, save, suffix)
        with pytest.warns(UserWarning, match=r"files with several pictures, of which the first is taken \(8: "):
            found = everywhere(folder, files)
        for n, image in enumerate(found):
            np.testing.assert_array_equal(image[0], drawing(n))
        assert Preparation((1, SIDE, SIDE)).described(files[0])[1] == ("the first of several pictures")


def test_a_run_on_resized_images_is_asked_with_images_resized_alike(tmp_path: Path) -> None:
    files = in_classes(tmp_path, lambda file, n: Image.fromarray(COLOURS[n][: 6 + n]).save(file))
    for gray in (True, False):
        part = data.load(tmp_path, size=(8, 9), gray=gray)
        loaded = {image.tobytes() for image in np.concatenate([part.images, data.load(
            tmp_path, size=(8, 9), gray=gray, split="test").images])}  # fmt: skip
        for file in files:
            image, changes = Preparation(part.image_shape).described(file)
            assert image.tobytes() in loaded
            assert changes.startswith("resized from ")


# ---- what makes a folder ---------------------------------------------------------------------------------------------


def counted(folder: Path) -> tuple[int, int]:
    """Images of both parts, and channels."""
    parts = [data.load(folder, split=split) for split in ("train", "test")]
    return sum(map(len, parts)), parts[0].image_shape[0]


@pytest.mark.parametrize("place", ["a/0.png", "b/9.png"])
def test_one_image_in_colour_makes_three_channels(tmp_path: Path, place: str) -> None:
    in_classes(tmp_path, lambda file, n: Image.fromarray(drawing(n)).save(file))
    assert counted(tmp_path) == (10, 1)
    Image.fromarray(COLOURS[0]).save(tmp_path / place)
    assert counted(tmp_path) == (10, 3)


def test_colour_in_one_part_counts_for_both(tmp_path: Path) -> None:
    for part in ("train", "test"):
        in_classes(tmp_path / part, lambda file, n: Image.fromarray(drawing(n)).save(file))
    for part in ("test", "train"):
        Image.fromarray(COLOURS[0]).save(tmp_path / part / "a" / "0.png")
        assert [data.load(tmp_path, split=split).image_shape[0] for split in ("train", "test")] == [3, 3]
        Image.fromarray(drawing(0)).save(tmp_path / part / "a" / "0.png")


def test_images_in_folders_below_a_class_are_of_that_class(tmp_path: Path) -> None:
    in_classes(tmp_path, lambda file, n: Image.fromarray(drawing(n)).save(file))
    for n in range(5):
        deep = tmp_path / "b" / "more" / f"d{n}"
        deep.mkdir(parents=True)
        Image.fromarray(drawing(n)).save(deep / "x.JPG")
    os.symlink(tmp_path / "b", tmp_path / "b" / "more" / "again")
    os.symlink("round", tmp_path / "b" / "round")
    os.symlink(tmp_path, tmp_path / "a" / "all")  # not all classes' images: as of class a
    os.symlink(tmp_path.parent, tmp_path / "a" / "beyond")
    with pytest.warns(UserWarning, match=r"links to folders that were read already \(3: all, beyond, again\)"):
        train = data.load(tmp_path)
    test = data.load(tmp_path, split="test")
    assert np.bincount(np.concatenate([train.labels, test.labels])).tolist() == [5, 10]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_and_sockets_are_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_classes(tmp_path, lambda file, n: Image.fromarray(drawing(n)).save(file))
    os.mkfifo(tmp_path / "a" / "pipe.png")
    os.symlink("/dev/zero", tmp_path / "a" / "zero.png")
    os.symlink("nowhere", tmp_path / "a" / "lost.png")
    monkeypatch.chdir(tmp_path / "b")  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        with pytest.warns(UserWarning, match=r"pipes, devices and links that lead nowhere \(4: ") as said:
            assert counted(tmp_path) == (10, 1)
        assert "(4: lost.png, pipe.png, zero.png, ...)" in str(said[0].message)
        for name in ("a/pipe.png", "a/zero.png", "b/socket.png", "a", "a/lost.png"):
            with pytest.raises(DataError, match=r"expected an image, found"):
                data.read_image(tmp_path / name, (1, 8, 8))
            with pytest.raises(DataError, match=r"expected an image, found"):
                Preparation((1, 8, 8)).described(tmp_path / name)


def test_junk_is_passed_over_and_the_rest_is_said_once(tmp_path: Path) -> None:
    in_classes(tmp_path, lambda file, n: Image.fromarray(drawing(n)).save(file))
    for name in ("a/Thumbs.db", "a/.hidden.png", "a/._0.png", "a/desktop.ini", "__MACOSX/a/0.png", ".git/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert counted(tmp_path) == (10, 1)
    (tmp_path / "a" / "labels.csv").write_text("x")
    (tmp_path / "b" / "x.svg").write_text("x")
    Image.fromarray(drawing(0)).save(tmp_path / "cover.png")
    with pytest.warns(UserWarning, match="not everything is used") as said:
        assert len(data.load(tmp_path)) == 8
    assert [str(warning.message) for warning in said] == [
        f"{tmp_path}: not everything is used: files that are no images by their names (2: labels.csv, x.svg); "
        "images outside the classes' folders (1: cover.png)"
    ]


def test_folders_beside_the_parts_are_said(tmp_path: Path) -> None:
    for part in ("train", "test"):
        in_classes(tmp_path / part, lambda file, n: Image.fromarray(drawing(n)).save(file))
    in_classes(tmp_path / "more", lambda file, n: Image.fromarray(drawing(n)).save(file))
    with pytest.warns(UserWarning, match=r"folders beside train and test \(1: more\)"):
        assert counted(tmp_path) == (20, 1)


# ---- what is no picture ----------------------------------------------------------------------------------------------


def broken_gif() -> bytes:
    return b"GIF89a" + b"\xff" * 40


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"\x89PNG\r\n\x1a\n", b"BM" + b"\0" * 60, b"II*\0" + b"\xff" * 40, b"RIFF\xff\xff\xff\xffWEBPVP8 ",
     b"\xff\xd8\xff\xe0" + b"\0" * 20, broken_gif(), b"P5\n-1 99999999999\n255\n", b"P6\n0 0\n255\n"],
    ids=["empty", "x", "png", "bmp", "tif", "webp", "jpg", "gif", "pgm", "ppm"],
)  # fmt: skip
def test_damaged_files_are_one_error(tmp_path: Path, content: bytes, request: pytest.FixtureRequest) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=r"x: expected an image, found"):
        read_picture(tmp_path / "x")


def test_cut_and_flipped_files_are_one_error_or_an_image(tmp_path: Path) -> None:
    path, seen = tmp_path / "x", 0
    for suffix in ("png", "gif", "jpeg", "webp", "tiff", "bmp"):
        Image.fromarray(COLOURS[0]).save(tmp_path / f"w.{suffix}")
        whole = (tmp_path / f"w.{suffix}").read_bytes()
        for _ in range(25):
            damaged = bytearray(whole[: RNG.integers(1, len(whole) + 1)])
            damaged[RNG.integers(len(damaged))] ^= 1 << int(RNG.integers(8))
            path.write_bytes(damaged)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    assert read_picture(path).pixels.dtype == np.uint8
            except DataError:
                seen += 1
    assert seen > 50


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x.bmp").write_bytes(
        b"BM"
        + struct.pack("<IHHI", 60, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 10_000, 10_000, 1, 8, 0, 0, 0, 0, 0, 0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match="expected an image of at most 89,478,485 pixels, found 10000x10000"):
            read_picture(tmp_path / "x.bmp")
