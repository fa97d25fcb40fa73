"""Runs the programs of tests/programs under PyTorch and under fastnn, with only their import lines changed.

A program is a file written for PyTorch, with one function ``run(fill, draw)``, which returns ten losses or more.
``fill(model)`` puts the same numbers into the parameters of both packages' models and returns the model;
``draw.normal(8, 3)``, ``.uniform``, ``.labels(classes, 8)``, ``.bytes`` and ``.permutation`` give NumPy arrays.
Where the program trains one model with one loss, its function ``build(fill, draw)`` returns (model, criterion,
optimizer, batches of inputs and targets): ``fastnn.compile`` is then run on the same. `CLIP_NORM` in it is compile's.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent.parent / "programs"
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem != "conftest" and not p.stem.startswith("test_"))
STEPS = 10


class Draw:
    """Numbers from one seed, of the type that the program runs in."""

    def __init__(self, name: str, dtype: str) -> None:
        self.rng, self.dtype = np.random.default_rng(zlib.crc32(name.encode())), np.dtype(dtype)
        self.double = dtype == "float64"

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(self.dtype)

    def uniform(self, *shape: int) -> np.ndarray:
        return self.rng.random(shape).astype(self.dtype)

    def labels(self, classes: int, *shape: int) -> np.ndarray:
        return self.rng.integers(0, classes, shape)

    def bytes(self, *shape: int) -> np.ndarray:
        return self.rng.integers(0, 256, shape, np.uint8)

    def permutation(self, count: int) -> np.ndarray:
        return self.rng.permutation(count)


def fast(source: str) -> str:
    """The program with its import lines changed.

    >>> fast("import torch")
    'import fastnn as torch'
    >>> fast("from torch.utils.data import DataLoader")
    'from fastnn.utils.data import DataLoader'
    """
    source = re.sub(r"^import torch$", "import fastnn as torch", source, flags=re.MULTILINE)
    return re.sub(r"^(import|from) torch\b", r"\1 fastnn", source, flags=re.MULTILINE)


def load(name: str, package: str) -> dict[str, Any]:
    """What the program defines under "torch" or "fastnn"."""
    path = FOLDER / f"{name}.py"
    source = path.read_text()
    space: dict[str, Any] = {"__name__": f"{package}_{name}"}
    exec(compile(source if package == "torch" else fast(source), str(path), "exec"), space)
    return space


def filler(name: str, dtype: str, package: str) -> Callable[[Any], Any]:
    """`fill` of a program: every parameter gets numbers that its name, its shape and the order of calls decide."""
    calls = 0

    def fill(model: Any) -> Any:
        nonlocal calls
        calls += 1
        if dtype == "float64":
            model.double()
        for path, parameter in model.named_parameters():
            shape = tuple(parameter.shape)
            rng = np.random.default_rng(zlib.crc32(f"{name} {calls} {path} {shape}".encode()))
            values = np.asarray(rng.uniform(-1, 1, shape))
            if len(shape) > 1:
                values *= (3 / np.prod(shape[1:])) ** 0.5
            else:
                values = np.asarray(0.1 * values + (1 if path.endswith("weight") else 0))
            if package == "torch":
                import torch

                parameter.data.copy_(torch.from_numpy(values))
            else:
                parameter.data[...] = values
        return model

    return fill


@contextmanager
def defaults(package: str, dtype: str) -> Iterator[None]:
    """Within it new tensors are of that type, and PyTorch computes with one thread."""
    library = import_module(package)
    set_default = getattr(library, "set_default_dtype", lambda _: None)
    threads = library.get_num_threads()
    set_default(getattr(library, dtype, dtype))
    if package == "torch":
        library.set_num_threads(1)
    try:
        yield
    finally:
        set_default(getattr(library, "float32", None))
        library.set_num_threads(threads)


def run(name: str, package: str, dtype: str, compiled: bool = False) -> list[float]:
    """The losses of the program; with `compiled`, each model that is filled is compiled, and called as before."""
    fill = filler(name, dtype, package)
    with defaults(package, dtype):
        given = (lambda model: import_module(package).compile(fill(model))) if compiled else fill
        return [float(loss) for loss in load(name, package)["run"](given, Draw(name, dtype))]


def can_be_compiled(name: str) -> bool:
    return "\ndef build(" in (FOLDER / f"{name}.py").read_text()


def run_compiled(name: str, dtype: str) -> tuple[list[float], str]:
    """The losses of fastnn.compile's steps on what the program builds, and the plan's description."""
    import fastnn as fnn

    with defaults("fastnn", dtype):
        program = load(name, "fastnn")
        model, criterion, optimizer, batches = program["build"](filler(name, dtype, "fastnn"), Draw(name, dtype))
        step = fnn.compile(model.train(), criterion, optimizer, clip_norm=program.get("CLIP_NORM"))
        return [step(inputs, targets) for inputs, targets in batches], step.describe()
