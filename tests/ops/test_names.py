"""The table of operators: every form that it promises exists, and nothing else claims to be an operator's."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import ops
from fastnn.dtypes import TYPES
from fastnn.errors import ArgumentError, DTypeError, GraphError, ShapeError
from fastnn.ops import names


@pytest.mark.parametrize("name", sorted(names.FORMS))
def test_every_form_is_there(name: str) -> None:
    file, forms = names.FORMS[name]
    function = names.find(name)
    assert callable(function)
    assert ("f" in forms) == (name in set(fnn.__all__) - set(TYPES))
    assert ("F" in forms) == (name in F.__all__)
    for form, owner in (("f", fnn), ("F", F), ("m", fnn.Tensor)):
        if form in forms:
            assert getattr(owner, name) is (names.function(name) if form == "f" else function)
        if form in forms and "i" in forms:
            assert getattr(owner, f"{name}_").__name__ == f"{names.ALIASES.get(name, name)}_" or name in names.ALIASES
    assert set(forms) <= set("fFmio")
    assert set(forms) & set("fFm") or "i" not in forms
    assert "f" in forms or "o" not in forms
    assert file in names.TABLE


def test_names_stand_once_and_in_order() -> None:
    listed = [name for rows in names.TABLE.values() for line in rows.values() for name in line.split()]
    assert len(listed) == len(set(listed))
    assert set(names.ALIASES) & set(listed) == set()
    assert list(names.TABLE) == sorted(names.TABLE)
    for rows in names.TABLE.values():
        for line in rows.values():
            assert line.split() == sorted(line.split())


@pytest.mark.parametrize("file", sorted(names.TABLE))
def test_public_functions_of_a_file_stand_in_the_table(file: str) -> None:
    module = import_module(f"fastnn.ops.{file}")
    public = getattr(module, "__all__", None)
    if public is not None:
        assert set(public) == {name for row in names.TABLE[file].values() for name in row.split()}


def test_stubs_of_tensor_are_methods() -> None:
    """What type checkers are told of tensors is what the table has, with its arguments."""
    source = ast.parse(Path(inspect.getfile(fnn.Tensor)).read_text())
    tensor = next(node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "Tensor")
    block = next(node for node in tensor.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    stubs = {node.name: node.args for node in block.body if isinstance(node, ast.FunctionDef)}
    assert set(stubs) - {"__getattr__"} <= {*names.methods(), *ops._SPECIAL}
    for name, arguments in stubs.items():
        if name in names.FORMS and arguments.vararg is None:
            own = list(inspect.signature(names.find(name)).parameters)[1:]
            assert [each.arg for each in arguments.args[1:]] == own[: len(arguments.args) - 1], name


# ---- in place --------------------------------------------------------------------------------------------------------


def test_operators_named_as_pythons_own_functions_leave_these_alone() -> None:
    for name in dir(fnn.ops):
        getattr(fnn.ops, name)
    with pytest.raises(AttributeError, match=r"'Tensor' object has no attribute 'nonsense'$"):
        fnn.ones(1).nonsense  # noqa: B018


def test_in_place_methods_write_into_the_tensor() -> None:
    x = fnn.Tensor([0.0, 1.0])
    array = x.numpy()
    assert x.exp_() is x
    assert x.numpy() is array
    np.testing.assert_allclose(array, [1, np.e], rtol=1e-6)
    assert x.clamp_(max=2).add_(1).tolist() == [2, 3]
    assert x.exp_.__name__ == "exp_"


def test_in_place_methods_of_leaves_are_off_the_tape() -> None:
    x = fnn.Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GraphError, match=r"exp_: a tensor that requires a gradient is changed in place under"):
        x.exp_()
    (x * 1).mul_(3).sum().backward()
    assert x.grad.tolist() == [3, 3]
    y = x * x
    with fnn.no_grad():
        x.mul_(2)
    assert x.tolist() == [2, 4]
    with pytest.raises(GraphError, match="modified in place"):
        y.sum().backward()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: fnn.Tensor([1.0]).add_(fnn.Tensor([1.0, 2.0])), ShapeError),
        (lambda: fnn.Tensor([1, 2]).exp_(), DTypeError),
        (lambda: fnn.Tensor(np.broadcast_to(np.float32(1), (2,))).exp_(), ArgumentError),
    ],
)
def test_in_place_methods_refuse_what_does_not_fit(call: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        call()


def test_in_place_in_a_compiled_model() -> None:
    class Writes(fnn.nn.Module):
        def forward(self, x: Any) -> Any:
            return (x * 2).exp_()

    found = fnn.compile(Writes())(np.ones((2, 2), np.float32))
    np.testing.assert_allclose(found, np.exp(np.full((2, 2), 2.0)), rtol=1e-6)
