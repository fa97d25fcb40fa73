"""Folders of images by class, and single images."""

import sys

import numpy as np
import pytest

from fastnn import data
from fastnn.errors import DataError, MissingExtraError

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")
RNG = np.random.default_rng(0)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def gray(h=6, w=5):
    return RNG.integers(0, 256, (h, w), dtype=np.uint8)


def colour(h=6, w=5):
    return RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.fixture
def pets(tmp_path):
    """Two classes of ten gray images; the pixels by class and number."""
    return tmp_path / "pets", {
        (name, i): save(tmp_path / "pets" / name / f"{i}.png", gray()) for name in ("dog", "cat") for i in range(10)
    }


def test_classes_in_alphabetical_order_and_a_fifth_for_the_test(pets):
    folder, pixels = pets
    (folder / ".hidden").mkdir()
    (folder / "cat" / "notes.txt").write_text("no image")
    parts = [data.load(folder, split=split) for split in ("train", "test")]
    assert parts[0].classes == parts[1].classes == ("cat", "dog")
    assert [part.images.shape for part in parts] == [(16, 1, 6, 5), (4, 1, 6, 5)]
    assert [np.bincount(part.labels).tolist() for part in parts] == [[8, 8], [2, 2]]
    assert parts[0].name == "pets"
    seen = {
        (part.classes[label], image.tobytes())
        for part in parts
        for image, label in zip(part.images, part.labels, strict=True)
    }
    assert seen == {(name, image.tobytes()) for (name, _), image in pixels.items()}


def test_train_and_test_subfolders_are_the_parts(tmp_path):
    for part, n in (("train", 3), ("test", 2)):
        for i in range(n):
            save(tmp_path / part / "a" / f"{i}.png", gray())
    save(tmp_path / "train" / "b" / "0.png", gray())
    train, test = (data.load(str(tmp_path), split=split) for split in ("train", "test"))
    assert train.labels.tolist() == [0, 0, 0, 1]
    assert test.labels.tolist() == [0, 0]
    assert train.classes == test.classes == ("a", "b")


def test_colour_by_the_first_image_or_as_asked(tmp_path):
    folder = tmp_path / "f"
    pixels = {name: save(folder / "train" / name / "0.png", colour()) for name in "ab"}
    save(folder / "test" / "b" / "0.png", gray())
    train = data.load(folder)
    assert train.images.shape == (2, 3, 6, 5)
    np.testing.assert_array_equal(train.images[1], np.moveaxis(pixels["b"], -1, 0))
    assert data.load(folder, split="test").images.shape == (1, 3, 6, 5)
    luminance = data.load(folder, gray=True).images[1, 0]
    expected = pixels["b"] @ [0.299, 0.587, 0.114]  # ITU-R 601-2, which Pillow names
    assert np.abs(luminance - expected).max() <= 1


def test_images_are_resized_when_a_size_is_named(tmp_path):
    save(tmp_path / "a" / "0.png", np.full((4, 8), 10, np.uint8))
    save(tmp_path / "a" / "1.png", np.full((3, 3), 20, np.uint8))
    for i in range(3):
        save(tmp_path / "a" / f"{i + 2}.png", np.full((2, 2), 30, np.uint8))
    with pytest.raises(DataError, match=r"1\.png: expected an image of 4x8 like .*0\.png, found 3x3: have all"):
        data.load(tmp_path)
    resized = data.load(tmp_path, size=(5, 7))
    assert resized.images.shape == (4, 1, 5, 7)
    assert {int(image.min()) for image in resized.images} <= {10, 20, 30}


def test_one_image_as_a_network_takes_it(tmp_path):
    pixels = save(tmp_path / "x.png", colour(28, 28))
    np.testing.assert_array_equal(data.read_image(tmp_path / "x.png", (3, 28, 28)), np.moveaxis(pixels, -1, 0))
    assert data.read_image(tmp_path / "x.png", (1, 14, 20)).shape == (1, 14, 20)


def test_images_are_turned_upright(tmp_path):
    pixels = gray(4, 7)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    save(tmp_path / "x.png", pixels, exif=exif)
    np.testing.assert_array_equal(data.read_image(tmp_path / "x.png", (1, 7, 4))[0], np.rot90(pixels, -1))


def test_palette_and_bilevel_images_are_read(tmp_path):
    Image.fromarray(colour()).quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(gray()).convert("1").save(tmp_path / "bilevel.png")
    assert data.read_image(tmp_path / "palette.png", (3, 6, 5)).shape == (3, 6, 5)
    assert set(data.read_image(tmp_path / "bilevel.png", (1, 6, 5)).flat) == {0, 255}


def broken_image(folder):
    save(folder / "a" / "0.png", gray())
    whole = (folder / "a" / "0.png").read_bytes()
    (folder / "a" / "1.png").write_bytes(whole[:50])


@pytest.mark.parametrize(
    ("prepare", "split", "message"),
    [
        (lambda folder: None, "train", "one subfolder of images for each class, found no subfolder"),
        (lambda folder: (folder / "a").mkdir(), "train", "expected images of the class 'a', found none"),
        (broken_image, "train", r"1\.png: expected an image, found: "),
        (
            lambda folder: save(folder / "a" / "0.png", gray().astype(np.uint16)),
            "train",
            r"8 bits a channel, found .*I;16",
        ),
        (
            lambda folder: [save(folder / part / "0.png", gray()) for part in ("train/a", "test/a", "test/z")],
            "test",
            "expected only classes that .*train has, found z",
        ),
    ],
    ids=["empty", "empty class", "cut short", "16 bits", "another class"],
)
def test_folders_that_make_no_data_set_are_refused(tmp_path, prepare, split, message):
    prepare(tmp_path)
    with pytest.raises(DataError, match=message):
        data.load(tmp_path, split=split)


def test_images_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"absent\.png: expected an image, found: .*No such file"):
        data.read_image(tmp_path / "absent.png", (1, 8, 8))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png: expected an image, found: cannot identify"):
        data.read_image(tmp_path / "text.png", (1, 8, 8))
    with pytest.raises(DataError, match="gray or RGB images, got one for 2 channels"):
        data.read_image(tmp_path / "text.png", (2, 8, 8))


def test_without_pillow_the_extra_is_named(pets, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r'Pillow is needed .* pip install "fastnn-cpu\[images\]"'):
        data.load(pets[0])
