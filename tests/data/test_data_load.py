"""The digits that come with fastnn, and what ``load`` takes and refuses."""

from pathlib import Path

import numpy as np
import pytest

from fastnn import data
from fastnn.data.digits import enlarge
from fastnn.data.sources import SOURCES
from fastnn.errors import ArgumentError, DataError

# --- digits ---


def test_digits_come_with_fastnn_whatever_the_environment(monkeypatch):
    monkeypatch.setenv("FASTNN_DATA_DIR", "/nowhere")
    train, test = data.load("digits"), data.load("digits", split="test")
    assert (train.images.shape, train.images.dtype) == ((1437, 1, 28, 28), np.uint8)
    assert (test.images.shape, test.labels.dtype) == ((360, 1, 28, 28), np.int64)
    assert np.bincount(np.concatenate([train.labels, test.labels])).tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]
    assert all(35 <= n <= 37 for n in np.bincount(test.labels))
    assert not any(array.flags.writeable for array in (train.images, train.labels))


def test_digits_are_those_of_scikit_learn_and_the_halves_share_none():
    load_digits = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn").load_digits
    raw = [data.load("digits", split=split, raw=True) for split in ("train", "test")]
    images = np.concatenate([part.images for part in raw])[:, 0]
    ours = sorted(zip(map(bytes, images), np.concatenate([part.labels for part in raw]), strict=True))
    published = load_digits()
    theirs = sorted(zip(map(bytes, published.images.astype(np.uint8)), published.target, strict=True))
    assert ours == theirs


def test_digits_enlarged_by_hand():
    image = np.zeros((1, 8, 8), np.uint8)
    image[0, 0, 0], image[0, 3, 4] = 16, 8
    big = enlarge(image)[0]
    assert big[:2].max() == big[:, :2].max() == big[26:].max() == big[:, 26:].max() == 0
    # A pixel's weight falls by thirds from its centre; at the edge it is repeated. 127.5 and 42.5 are rounded up.
    assert big[2:7, 2].tolist() == [255, 255, 170, 85, 0]
    assert big[12, 13:18].tolist() == [43, 85, 128, 85, 43]
    assert big[11:14, 14].tolist() == [57, 85, 57]


def test_digits_enlarged_as_pytorch_interpolates():
    torch = pytest.importorskip("torch", reason="needs torch")
    raw = data.load("digits", raw=True).images
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(raw.astype(np.float64)), scale_factor=3, mode="bilinear", align_corners=False
    )
    theirs = np.pad(theirs.numpy() * 255 / 16, ((0, 0), (0, 0), (2, 2), (2, 2)))
    assert np.abs(data.load("digits").images - theirs).max() <= 0.5 + 1e-9


# --- what load takes ---


def test_load_takes_arrays_and_datasets_as_they_are():
    images = np.zeros((4, 1, 2, 2), np.uint8)
    loaded = data.load((images, [0, 1, 2, 0]), split="test")
    assert loaded.images is images
    assert data.load(loaded) is loaded


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("mnits", {}, DataError, "no data set, folder or file 'mnits': did you mean 'mnist'"),
        ("imagenet", {}, DataError, "there are digits, mnist, fashion-mnist, cifar10"),
        ("digits", {"split": "val"}, ArgumentError, "got 'val'"),
        ("mnist", {"raw": True}, ArgumentError, "raw=True is for the digits alone"),
        ("digits", {"size": (8, 8)}, ArgumentError, "size, gray and classes are for image files"),
        (np.zeros((3, 3)), {}, ArgumentError, "got ndarray"),
        ((1, 2, 3), {}, ArgumentError, "got tuple"),
        (7, {}, ArgumentError, "got int"),
        (Path("/nowhere"), {}, DataError, "found no /nowhere"),
    ],
)
def test_load_refuses(source, options, error, message):
    with pytest.raises(error, match=message):
        data.load(source, **options)


def test_a_misspelt_folder_brings_its_neighbour_to_mind(tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "labels.csv").touch()
    monkeypatch.chdir(tmp_path)
    for name, meant in (("pictrues", "pictures"), ("labels.cvs", "labels.csv"), (f"{tmp_path}/picture", "pictures")):
        with pytest.raises(DataError, match=f"did you mean '.*{meant}'"):
            data.load(name)
    with pytest.raises(DataError, match="'elsewhere/pictrues': there are"):
        data.load("elsewhere/pictrues")


def test_verify_and_fetch_refuse_unknown_names():
    for function in (data.verify, data.fetch):
        with pytest.raises(DataError, match="no data set, folder or file 'minst'"):
            function("minst")


@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
def test_sources_are_described_consistently(source):
    assert len(source.classes) == 10
    assert all(len(file.sha256) == 64 and int(file.sha256, 16) for file in source.files)
    assert all(mirror.endswith("/") for mirror in source.mirrors)
    assert len({file.sha256 for file in source.files}) == len(source.files)
