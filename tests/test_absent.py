"""Names of PyTorch that fastnn does not have: each says what to do instead, by attribute and by import."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.absent import hint_of, lists
from fastnn.habits import HINTS

ROOT = Path(__file__).parent.parent
MODULES = {
    "torch": fnn, "torch.linalg": fnn.linalg, "torch.nn": nn, "torch.nn.functional": F, "torch.optim": optim,
    "torch.special": fnn.special,
}  # fmt: skip


@pytest.mark.parametrize("place", MODULES)
def test_every_absent_name_has_a_hint(place: str) -> None:
    module = MODULES[place]
    absent = [name for name in sorted(lists()[1][place]) if not hasattr(module, name)]
    for name in absent:
        with pytest.raises(AttributeError, match=rf"^module '{module.__name__}' has no attribute '{name}': \S+ \S+"):
            getattr(module, name)
        with pytest.raises(ImportError, match=rf"^cannot import name '{name}' from '{module.__name__}': \S+ \S+"):
            exec(f"from {module.__name__} import {name}")


def test_every_absent_method_has_a_hint() -> None:
    x = fnn.ones(2, 2)
    absent = [name for name in sorted(lists()[1]["torch.Tensor"]) if not hasattr(x, name)]
    for name in absent:
        with pytest.raises(AttributeError, match=rf"^'Tensor' object has no attribute '{name}': \S+ \S+"):
            getattr(x, name)
    with pytest.raises(AttributeError, match=r"^'Parameter' object has no attribute 'to_sparse': .* dense"):
        nn.Parameter([1.0]).to_sparse()


def test_no_hint_is_left_for_what_is_there() -> None:
    for path, hints in HINTS.items():
        module = importlib.import_module(path)
        assert [name for name in hints if hasattr(module, name)] == []


@pytest.mark.parametrize(
    ("module", "name", "hint"),
    [
        ("fastnn", "sparse_coo_tensor", "dense"),
        ("fastnn", "view_as_complex", "complex"),
        ("fastnn", "lobpcg", "np.linalg"),
        ("fastnn.linalg", "vander", "a function, of fastnn itself"),
        ("fastnn", "nextafter", "NumPy's function of this name"),
        ("fastnn", "binary_cross_entropy_with_logits", "a function of fastnn.nn.functional"),
        ("fastnn", "view", None),
        ("fastnn", "nonsense", None),
        ("fastnn.nn", "LazyBatchNorm3d", "number of inputs"),
        ("fastnn.nn.functional", "matmul", None),
        ("fastnn.Tensor", "silu", None),
    ],
)
def test_hints(module: str, name: str, hint: str | None) -> None:
    found = hint_of(module, name)
    assert found is None if hint is None else hint in (found or "")


def test_an_unknown_name_stays_pythons_error() -> None:
    with pytest.raises(ImportError, match="cannot import name 'nonsense' from 'fastnn'"):
        exec("from fastnn import nonsense")
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        fnn.nonsense  # noqa: B018
    with pytest.raises(AttributeError, match=r"'Tensor' object has no attribute 'nonsense'$"):
        fnn.ones(1).nonsense  # noqa: B018


def _written() -> Any:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        return importlib.import_module("from_pytorch")
    finally:
        sys.path.pop(0)


def test_the_document_is_up_to_date() -> None:
    """python docs/from_pytorch.py"""
    script = _written()
    assert script.DOCUMENT.read_text() == script.document()


def test_every_difference_is_of_a_name_that_is_there() -> None:
    script = _written()
    for path in script.DIFFERENCES:
        place, _, name = path.rpartition(".")
        assert name in lists()[1][place], path


def test_the_lists_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    version, found = lists()
    if torch.__version__.partition("+")[0] == version:
        assert _written().names(torch) == _written().NAMES.read_text()
    for place in ("torch", "torch.nn", "torch.nn.functional"):
        module = importlib.import_module(place)
        assert sum(hasattr(module, name) for name in found[place]) > 0.9 * len(found[place])
