"""The data sets that fastnn knows by name: their files, where these come from, and what they must hold."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fastnn.checks import text
from fastnn.errors import DataError


@dataclass(frozen=True)
class File:
    """One file of a data set, known by its content without compression.

    Content is what is verified: the same file compressed again, or kept uncompressed, is as good as the published one.
    """

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """A data set that can be loaded by name.

    Attributes:
        name, title: what the user types, and what it is called in full.
        classes: one name a class, in the order of the labels.
        image_shape: (C, H, W) of one image.
        train, test: the files of each half; images first, then labels, where these have a file of their own.
        folders: where the files may lie below a data folder, the first being where fastnn itself puts them.
        mirrors: addresses to which a file's name is appended, tried in turn; none where the files come with fastnn.
        archive: name of the one tar archive that holds all files; None where each file is served by itself, gzipped.
        licence, citation, homepage: for the user to know and to cite.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train: tuple[File, ...]
    test: tuple[File, ...]
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    archive: str | None
    licence: str
    citation: str
    homepage: str

    @property
    def files(self) -> tuple[File, ...]:
        """All files, each once."""
        return tuple(dict.fromkeys(self.train + self.test))


_DIGITS_FILE = File("digits.npz", 45394, "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e")
_DIGITS = Source(
    name="digits",
    title="Optical Recognition of Handwritten Digits (UCI), enlarged to 28x28",
    classes=tuple("0123456789"),
    image_shape=(1, 28, 28),
    train=(_DIGITS_FILE,),
    test=(_DIGITS_FILE,),
    folders=(".",),
    mirrors=(),
    archive=None,
    licence="CC BY 4.0",
    citation="E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998",
    homepage="https://doi.org/10.24432/C50P49",
)

_MNIST = Source(
    name="mnist",
    title="MNIST handwritten digits",
    classes=tuple("0123456789"),
    image_shape=(1, 28, 28),
    train=(
        File("train-images-idx3-ubyte", 47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        File("train-labels-idx1-ubyte", 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ),
    test=(
        File("t10k-images-idx3-ubyte", 7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        File("t10k-labels-idx1-ubyte", 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
    folders=("mnist", "MNIST/raw", "."),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    archive=None,
    licence="commonly given as CC BY-SA 3.0",
    citation="Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits, 1998",
    homepage="http://yann.lecun.com/exdb/mnist/",
)

_FASHION_MNIST = Source(
    name="fashion-mnist",
    title="Fashion-MNIST articles of clothing",
    classes=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    image_shape=(1, 28, 28),
    train=(
        File("train-images-idx3-ubyte", 47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        File("train-labels-idx1-ubyte", 60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    ),
    test=(
        File("t10k-images-idx3-ubyte", 7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        File("t10k-labels-idx1-ubyte", 10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    ),
    folders=("fashion-mnist", "FashionMNIST/raw", "."),
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    archive=None,
    licence="MIT",
    citation="H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning "
    "algorithms, arXiv:1708.07747, 2017",
    homepage="https://github.com/zalandoresearch/fashion-mnist",
)

_CIFAR10 = Source(
    name="cifar10",
    title="CIFAR-10 colour images",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    image_shape=(3, 32, 32),
    # The binary version: the Python version is a pickle, and reading a pickle runs whatever code is in it.
    train=(
        File("data_batch_1.bin", 30730000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        File("data_batch_2.bin", 30730000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        File("data_batch_3.bin", 30730000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        File("data_batch_4.bin", 30730000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        File("data_batch_5.bin", 30730000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ),
    test=(File("test_batch.bin", 30730000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),),
    folders=("cifar10", "cifar10/cifar-10-batches-bin", "cifar-10-batches-bin", "."),
    mirrors=(
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
        "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/cifar10/",
    ),
    archive="cifar-10-binary.tar.gz",
    licence="none stated; the authors ask for the citation",
    citation="A. Krizhevsky, Learning multiple layers of features from tiny images, 2009",
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
)

SOURCES: dict[str, Source] = {source.name: source for source in (_DIGITS, _MNIST, _FASHION_MNIST, _CIFAR10)}
"""Every data set that :func:`load`, :func:`fetch` and :func:`verify` know by name."""


def find_source(name: str) -> Source:
    """The data set of that name.

    >>> find_source("fashion_mnist")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    fastnn.errors.DataError: no data set, folder or file 'fashion_mnist': did you mean 'fashion-mnist'? There are ...
    """
    if text("load", "the name of a data set", name) in SOURCES:
        return SOURCES[name]
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), SOURCES, n=1) or _near_path(name)
    hint = f"did you mean {near[0]!r}? There are " if near else "there are "
    raise DataError(f"no data set, folder or file {name!r}: {hint}{', '.join(SOURCES)}")


def _near_path(path: str) -> list[str]:
    """The folder or list, if any, whose name resembles that of the path, where it would lie."""
    from difflib import get_close_matches

    above, name = os.path.split(path)
    try:
        with os.scandir(above or ".") as entries:
            names = [e.name for e in entries if e.is_dir() or e.name.lower().endswith((".csv", ".tsv"))]
    except OSError:
        return []
    return [os.path.join(above, near) for near in get_close_matches(name, names, n=1)]
