"""Folders of images by class, and single images."""

import sys
import warnings

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


@pytest.mark.parametrize(
    ("sizes", "expected", "told"),
    [
        ([(4, 8), (3, 3), (2, 2)], (3, 3), "2×2 to 4×8 pixels are all resized to 3×3, their median: size="),
        ([(90, 400), (100, 200), (100, 200)], (32, 64), "90×400 pixels are all resized to 32×64, their median within"),
        ([(400, 200)] * 3, (64, 32), "400×200 to 400×200 pixels are all resized to 64×32, their median within"),
        ([(9, 5), (9, 5), (9, 5)], (9, 5), ""),
        ([(9, 500), (9, 500), (9, 500)], (9, 500), ""),
    ],
)
def test_sizes_that_differ_become_their_median_of_64_pixels_at_most(tmp_path, sizes, expected, told):
    for part in ("train", "test"):
        for name in "ab":
            for i, (h, w) in enumerate(sizes if part == "train" else [(20, 20)]):
                save(tmp_path / part / name / f"{i}.png", np.full((h, w), 10 * i, np.uint8))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train = data.load(tmp_path)
    assert train.image_shape == (1, *expected)
    assert [train.images[i].min() for i in range(3)] == [0, 10, 20]
    assert [told in str(warning.message) for warning in said] == [True] * bool(told)
    assert data.load(tmp_path, split="test").image_shape == (1, *expected)
    assert data.load(tmp_path, size=(5, 7)).image_shape == (1, 5, 7)


def test_turned_pictures_of_one_size_keep_it(tmp_path):
    """The header's height is the width."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("jpg", "png", "tiff", "webp"):
        folder = tmp_path / suffix
        for n in range(4):
            save(folder / "ab"[n % 2] / f"{n}.{suffix}", gray(4, 7), exif=exif)
        save(folder / "a" / "upright.png", gray(7, 4))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert data.load(folder).image_shape[1:] == (7, 4)


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


def test_what_cannot_be_read_is_left_out_and_counted(pets):
    folder, pixels = pets
    broken_image(folder)
    save(folder / "cat" / "deep.png", gray().astype(np.uint16) // 16 + 1)  # 12 bits of 16
    (folder / "fish").mkdir()
    (folder / "fish" / "notes.txt").touch()
    with pytest.warns(UserWarning, match="not everything is used") as said:
        whole = data.load(folder, split="all")
    assert (len(whole), whole.classes) == (20, ("cat", "dog"))
    assert {image.tobytes() for image in whole.images} == {image.tobytes() for image in pixels.values()}
    assert [str(warning.message) for warning in said] == [
        f"{folder}: not everything is used: files that are no images by their names (1: notes.txt); folders without "
        "images (1: fish); images that cannot be read (2: cat/deep.png, dog/broken.png)"
    ]


def test_a_class_whose_folder_is_empty_is_named(pets):
    folder, _ = pets
    (folder / "zebra").mkdir()
    with pytest.raises(DataError, match="found zebra empty"):
        data.load(folder)


def broken_image(folder):
    save(folder / "dog" / "broken.png", gray())
    whole = (folder / "dog" / "broken.png").read_bytes()
    (folder / "dog" / "broken.png").write_bytes(whole[:50])


@pytest.mark.parametrize(
    ("names", "split", "message"),
    [
        ([], "train", "one subfolder of images for each class, found no subfolder"),
        (["a/notes.txt"], "train", "one subfolder of images for each class, found none in them"),
        (["a/0.png", "a/1.png", "a/2.png"], "train", "two classes or more, found only a$"),
        (["pets/a/0.png", "pets/b/0.png"], "train", "found only pets: name .*pets if the classes are the folders in"),
        (["a/0.png", "b/0.png"], "train", "at least 3, or parts train and test, found 2"),
        (["train/a/0.png", "train/b/0.png", "test/a/0.png", "test/z/0.png"], "test", "of the classes a, b, found z"),
        (["train/a/0.png", "Train/b/0.png", "test/a/0.png"], "train", "one folder for train, found Train and train"),
        (["train/a/0.png", "b/0.png"], "train", "or train and test with the classes in them; found train with"),
        (["a/0.png", "a/1.png", "b/0.png"], "val", "expected a part val, found none"),
        (["train/a/0.png", "train/b/0.png", "test/a/0.png"], "val", "a part val, found train and test"),
    ],
)  # fmt: skip
def test_folders_that_make_no_data_set_are_refused(tmp_path, names, split, message):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        save(tmp_path / name, gray()) if name.endswith("png") else (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=message):
        data.load(tmp_path, split=split)


def test_where_nothing_can_be_read_the_error_says_why(tmp_path):
    for n in range(6):
        (tmp_path / "ab"[n % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[n % 2] / f"{n}.png").write_text("no image")
    for size in (None, (8, 8)):
        with pytest.raises(DataError, match=r"\.png: expected an image, found: cannot identify"):
            data.load(tmp_path, size=size)


def shades(folder, **files):
    """Images of one gray each, by its class's folder."""
    for name, values in files.items():
        for value in values:
            save(folder / name / f"{value}.PNG", np.full((3, 3), value, np.uint8))


def seen(dataset):
    pairs = zip(dataset.images, dataset.labels, strict=True)
    return {(dataset.classes[label], int(image.max())) for image, label in pairs}


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "VALID", "Testing")])
def test_parts_by_their_names(tmp_path, names):
    """A class may lack in val and test."""
    for part, files in zip(names, ({"a": [1, 2], "b": [3]}, {"b": [4]}, {"a": [5]}), strict=True):
        shades(tmp_path / part, **files)
    expected = {"train": {("a", 1), ("a", 2), ("b", 3)}, "val": {("b", 4)}, "test": {("a", 5)}}
    expected["all"] = set.union(*expected.values())
    for split, wanted in expected.items():
        for named in (tmp_path, tmp_path / names[0]):  # the training part stands for the whole that it is of
            found = data.load(named, split=split)
            assert (seen(found), found.classes, found.name) == (wanted, ("a", "b"), tmp_path.name)


def test_without_test_val_is_measured_and_with_train_alone_a_fifth(tmp_path):
    shades(tmp_path / "train", a=range(10, 15), b=range(20, 25))
    parts = [seen(data.load(tmp_path, split=split)) for split in ("train", "test")]
    assert [len(part) for part in parts] == [8, 2]
    assert not parts[0] & parts[1]
    shades(tmp_path / "val", a=[1], b=[2])
    assert len(data.load(tmp_path)) == 10
    with pytest.warns(UserWarning, match="there is no part test: val is taken for it"):
        assert seen(data.load(tmp_path, split="test")) == {("a", 1), ("b", 2)} == seen(data.load(tmp_path, split="val"))


def test_tests_without_labels_are_no_part(tmp_path):
    shades(tmp_path / "train", a=range(10, 15), b=range(20, 25))
    shades(tmp_path, test=[1, 2])
    with pytest.warns(UserWarning, match=r"folders beside train \(1: test\)"):
        assert len(data.load(tmp_path)) == 8


def test_numbers_as_classes_are_in_their_order(tmp_path):
    shades(tmp_path, **{str(n): [n] for n in range(12)})
    whole = data.load(tmp_path, split="all")
    assert whole.classes == tuple(map(str, range(12)))
    np.testing.assert_array_equal(whole.labels, whole.images[:, 0, 0, 0])


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
