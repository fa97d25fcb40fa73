"""Every exception that fastnn raises on purpose is a FastnnError and of the built-in kind that fits."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastnn import errors

PACKAGE = Path(errors.__file__).parent
# What Python itself waits for: in these a bare one is meant, and no mistake of the caller's reaches it.
PROTOCOL = {"NotImplementedError", "KeyboardInterrupt", "AttributeError"}
# Where a built-in is raised to be caught within fastnn, which makes a FastnnError of it that names the file; or as
# Python does.
INSIDE = {
    "backends/native/entries.py": {"IndexError", "ValueError"},  # kernels' own limits, which operators check first
    "data/about.py": {"ValueError"},  # of a file's line
    "data/download.py": {"OSError"},  # by a mirror, so that the next one is tried
    "files.py": {"FileNotFoundError", "IsADirectoryError", "OSError", "PermissionError"},  # as open() raises
    "formats.py": {"ValueError"},  # by readers of files, as those of the standard library
    "insight/landscape/result.py": {"ValueError"},
    "interop/onnx/file.py": {"ValueError"},
    "interop/torch/operators.py": {"LookupError"},
    "ops/creation.py": {"TypeError"},  # an unexpected keyword argument, as Python raises
    "ops/shaping.py": {"TypeError"},
    "ops/keys.py": {"IndexError"},  # as NumPy raises, of which operators make their own
    "optim/optimizer.py": {"TypeError"},
    "plan/execute.py": {"AssertionError"},  # a fault of fastnn's
    "random.py": {"ValueError"},
    "saving.py": {"ValueError"},
    "train/history.py": {"ValueError"},
    "train/packing.py": {"ValueError"},
    "weights.py": {"ValueError"},
}


def raised(source: str) -> Iterator[tuple[str, int]]:
    """Names of built-in exceptions in ``raise`` statements, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            name = ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
            if isinstance(getattr(builtins, name, None), type):
                yield name, node.lineno


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_raised_is_fastnns_own(path: Path) -> None:
    inside = path.relative_to(PACKAGE).as_posix()
    found = [(name, line) for name, line in raised(path.read_text()) if name not in PROTOCOL]
    assert [(name, line) for name, line in found if name not in INSIDE.get(inside, ())] == []
    assert INSIDE.get(inside, set()) <= {name for name, _ in found}, "no longer raised: take it off the list"


def test_a_built_in_is_found() -> None:
    source = "def f(x):\n    if x: raise ValueError('x')\n    raise RuntimeError\n    raise ArgumentError('x')"
    assert sorted(raised(source)) == [("RuntimeError", 3), ("ValueError", 2)]


def test_errors_are_of_the_built_in_kind_that_fits() -> None:
    own = [error for _, error in inspect.getmembers(errors, inspect.isclass) if issubclass(error, errors.FastnnError)]
    kinds = {
        error.__name__: [base.__name__ for base in error.__bases__ if base is not errors.FastnnError] for error in own
    }
    assert kinds == {
        "FastnnError": ["Exception"],
        "ArgumentError": ["ValueError"],
        "BackendError": ["RuntimeError"],
        "DTypeError": ["TypeError"],
        "DataError": ["ValueError"],
        "GraphError": ["RuntimeError"],
        "LabelError": ["ValueError"],
        "LinAlgError": ["LinAlgError", "RuntimeError"],
        "MissingExtraError": ["ImportError"],
        "NonFiniteError": ["ArithmeticError"],
        "OutOfRangeError": ["IndexError"],
        "ShapeError": ["ValueError"],
        "StateError": ["KeyError", "RuntimeError"],
    }
