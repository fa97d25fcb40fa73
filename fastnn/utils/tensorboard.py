"""PyTorch's torch.utils.tensorboard: a writer that programs hand their own numbers to. See `fnn.train.TensorBoard`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastnn.errors import needs
from fastnn.habits import no_such_name
from fastnn.tensors import Tensor

__all__ = ["SummaryWriter", "writer_class"]


def writer_class() -> Any:
    """The class of tensorboardX or, where that is not installed, of PyTorch. MissingExtraError without either."""
    with needs("tensorboardX", "tensorboard"):
        try:
            return import_module("tensorboardX").SummaryWriter
        except ImportError:
            return import_module("torch.utils.tensorboard").SummaryWriter


class SummaryWriter:
    """Writes scalars, histograms, images and text for TensorBoard: the methods of PyTorch's class of this name.

    Args:
        log_dir: the folder; None makes one of date and host below ``runs``.
        options: further ones of the package that writes.

    Tensors among a method's arguments are handed on as arrays. Raises MissingExtraError where neither tensorboardX nor
    PyTorch is installed.
    """

    def __init__(self, log_dir: Any = None, comment: str = "", **options: Any) -> None:
        self._writer = writer_class()(log_dir, comment, **options)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__dict__.get("_writer"), name)
        if not callable(found):
            return found

        def called(*args: Any, **kwargs: Any) -> Any:
            return found(*map(_arrays, args), **{key: _arrays(value) for key, value in kwargs.items()})

        return called

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


def _arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().numpy()
    if isinstance(value, dict):
        return {key: _arrays(each) for key, each in value.items()}
    return [*map(_arrays, value)] if isinstance(value, list) else value


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.utils.tensorboard", name)
