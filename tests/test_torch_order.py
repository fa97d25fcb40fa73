"""The order of arguments: whatever has PyTorch's name takes them as PyTorch does, or refuses them in a sentence.

torch_order.txt keeps PyTorch's signatures, so that this runs without it. Where PyTorch is installed the file is
compared with it; ``python tests/test_torch_order.py`` writes the file anew.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.errors import ArgumentError, FastnnError, ShapeError
from fastnn.hooks import Hookable
from fastnn.nn.hooks import Hooked
from fastnn.nn.members import Members
from fastnn.ops.names import having

KEPT = Path(__file__).parent / "torch_order.txt"
WRITTEN_IN_C = """
    The signatures below are those of the documentation: PyTorch's functions in C do not tell theirs.
"""
# What functions in C say in the documentation; overloads by what comes first.
IN_C = """
Tensor.abs()
Tensor.argmax(dim=None, keepdim=False)
Tensor.backward(gradient=None, retain_graph=None, create_graph=False, inputs=None)
Tensor.clamp(min=None, max=None)
Tensor.dim()
Tensor.exp()
Tensor.flatten(start_dim=0, end_dim=-1)
Tensor.item()
Tensor.log()
Tensor.matmul(other)
Tensor.max(dim=None, keepdim=False)
Tensor.mean(dim=None, keepdim=False)
Tensor.min(dim=None, keepdim=False)
Tensor.permute(*dims)
Tensor.pow(exponent)
Tensor.relu()
Tensor.requires_grad_(requires_grad=True)
Tensor.reshape(*shape)
Tensor.sigmoid()
Tensor.size(dim=None)
Tensor.sqrt()
Tensor.squeeze(dim=None)
Tensor.std(dim=None, unbiased=True, keepdim=False)
Tensor.sum(dim=None, keepdim=False)
Tensor.t()
Tensor.tanh()
Tensor.tolist()
Tensor.transpose(dim0, dim1)
Tensor.unsqueeze(dim)
Tensor.var(dim=None, unbiased=True, keepdim=False)
Tensor.view(*shape)
cat(tensors, dim=0)
stack(tensors, dim=0)
where(condition, input=None, other=None)
F.adaptive_avg_pool1d(input, output_size)
F.avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True)
F.avg_pool2d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None)
F.conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1)
F.conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1)
F.conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1)
F.conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1)
flatten(input, start_dim=0, end_dim=-1)
F.gelu(input, approximate='none')
F.linear(input, weight, bias=None)
matmul(input, other)
F.max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False)
F.sigmoid(input)
F.tanh(input)
"""
LEFT_OUT = {"_stacklevel", "dtype", "epoch", "out"}  # at the end: not for users, deprecated, or never given by position
OTHER_DEFAULTS = {"dim"}  # of softmax: PyTorch's None is deprecated, because it depends on the number of dimensions
NOT_PYTORCHS = {"Tensor.split"}  # the sizes have the function's name: a method is its function


def offered() -> Iterator[tuple[str, Any]]:
    """What fastnn has where PyTorch may have something of that name."""
    for name in having("f"):
        yield name, getattr(fnn, name)
    for name in F.__all__:
        yield f"F.{name}", getattr(F, name)
    for name in nn.__all__:
        if isinstance(getattr(nn, name), type):
            yield f"nn.{name}", getattr(nn, name)
    for name in fnn.init.__all__:
        yield f"nn.init.{name}", getattr(fnn.init, name)
    for module, path in ((optim, "optim"), (optim.lr_scheduler, "optim.lr_scheduler")):
        for name in module.__all__:
            if isinstance(getattr(module, name), type):
                yield f"{path}.{name}", getattr(module, name)
    owners = (("Tensor", fnn.Tensor), ("Tensor", Hookable), ("nn.Module", nn.Module), ("nn.Module", Members),
        ("nn.Module", Hooked), ("nn.ModuleList", nn.ModuleList),
        ("nn.Sequential", nn.Sequential), ("optim.Optimizer", optim.Optimizer),
        ("optim.lr_scheduler.LRScheduler", optim.lr_scheduler.LRScheduler),
        ("optim.lr_scheduler.ReduceLROnPlateau", optim.lr_scheduler.ReduceLROnPlateau))  # fmt: skip
    for path, owner in owners:
        for name in [*vars(owner)]:
            value = getattr(owner, name)
            if inspect.isfunction(value) and not name.startswith("_"):
                yield f"{path}.{name}", value


def positions(signature: inspect.Signature) -> list[str]:
    """Parameters that may be given by position, `name` or `name=default`; `*name` for any number."""
    shown = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            shown.append(f"*{parameter.name}")
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            value = getattr(parameter.default, "__name__", parameter.default)  # of a function its name
            default = "" if parameter.default is parameter.empty else f"={value!r}"
            shown.append(parameter.name + default)
    return shown


def kept() -> dict[str, list[str]]:
    """PyTorch's positions by name."""
    found = {}
    for line in KEPT.read_text().splitlines():
        if line.endswith(")"):
            name, _, rest = line[:-1].partition("(")
            arguments = ast.parse(f"def f({rest}): pass").body[0].args  # type: ignore[attr-defined]
            defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
            pairs = zip(arguments.args, defaults, strict=True)
            found[name] = [arg.arg + ("" if default is None else f"={ast.unparse(default)}") for arg, default in pairs]
            found[name] += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    return found


def is_same(mine: str, torchs: str) -> bool:
    """Of one name, and with one default, where 0 is 0.0, or none."""
    (name, _, default), (theirs, _, other) = mine.partition("="), torchs.partition("=")
    if name != theirs or (default and not other):
        return False
    return not default or name in OTHER_DEFAULTS or ast.literal_eval(default) == ast.literal_eval(other)


@pytest.mark.parametrize("name", sorted(kept().keys() & dict(offered()).keys() - NOT_PYTORCHS))
def test_arguments_stand_where_pytorch_has_them(name: str) -> None:
    mine, torchs = positions(inspect.signature(dict(offered())[name])), kept()[name]
    if name.startswith("Tensor.") or mine[:1] == ["self"]:
        mine = mine[1:]
    if mine == ["*_"]:  # takes and refuses anything
        return
    assert {parameter.partition("=")[0] for parameter in torchs[len(mine) :]} <= LEFT_OUT
    for own, other in zip(mine, torchs, strict=False):
        assert is_same(own, other), f"{name}: {mine} is not {torchs}"


def test_nothing_that_pytorch_has_is_left_out_of_the_file() -> None:
    torch = pytest.importorskip("torch")
    assert written(torch).splitlines() == KEPT.read_text().splitlines()


def written(torch: Any) -> str:
    """The file's text: the signatures that PyTorch tells, and those that it does not."""
    lines = []
    in_c = {line.partition("(")[0] for line in IN_C.split("\n")}
    for name, _ in offered():
        theirs: Any = torch.nn.functional if name.startswith("F.") else torch
        try:
            for part in name.removeprefix("F.").split("."):
                theirs = getattr(theirs, part)
            found = positions(inspect.signature(theirs))
        except (AttributeError, ValueError, TypeError):
            continue
        if name not in in_c and not any(parameter.startswith("*") for parameter in found):
            lines.append(f"{name}({', '.join(found[1:] if found[:1] == ['self'] else found)})")
    return "\n".join([*sorted(lines), WRITTEN_IN_C, *IN_C.strip().splitlines()]) + "\n"


# ---- what stands there does ------------------------------------------------------------------------------------------

x = np.random.default_rng(0).normal(2, 3, (4, 3)).astype(np.float32)


def test_batch_norm_as_pytorch_calls_it() -> None:
    """Training by the sixth argument, momentum by the seventh; the running statistics follow, by hand."""
    weight, bias = fnn.Tensor(np.float32([1, 2, 3])), fnn.Tensor(np.float32([0, 1, 0]))
    mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
    exact = x.astype(np.float64)
    result = F.batch_norm(x, mean, var, weight, bias, True, 0.5, 1e-3)
    expected = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-3) * weight.data + bias.data
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mean, 0.5 * exact.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, 0.5 + 0.5 * exact.var(0, ddof=1), rtol=1e-5)
    result = F.batch_norm(x, fnn.Tensor(mean), fnn.Tensor(var), weight, bias, False, 0.5, 1e-3)
    np.testing.assert_allclose(
        result.numpy(), (exact - mean) / np.sqrt(var + 1e-3) * weight.data + bias.data, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(F.batch_norm(x, None, None, training=True).numpy().std(0), 1, rtol=1e-4)
    for wrong in (1e-5, 0.1, 1):
        with pytest.raises(ArgumentError, match="training=True or False as sixth argument"):
            F.batch_norm(x, mean, var, weight, bias, wrong)
    with pytest.raises(ArgumentError, match="or training=True, got None"):
        F.batch_norm(x, None, None)
    with pytest.raises(ShapeError, match="more than one value per channel"):
        F.batch_norm(x[:1], None, None, training=True)


def test_var_and_std_as_pytorch_calls_them() -> None:
    t, exact = fnn.Tensor(x), x.astype(np.float64)
    for name in ("var", "std"):
        mine, numpys = getattr(t, name), getattr(exact, name)
        for result, expected in (
            (mine(False), numpys()),
            (mine(True), numpys(ddof=1)),
            (mine(unbiased=False), numpys()),
            (mine(0, False), numpys(0)),
            (mine(1, True, True), numpys(1, ddof=1, keepdims=True)),
            (mine((0, 1), False), numpys()),
            (mine([0], correction=2), numpys(0, ddof=2)),
            (mine(), numpys(ddof=1)),
        ):
            assert result.shape == np.shape(expected)
            np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5)
        for wrong in (lambda mine=mine: mine(0, 0), lambda mine=mine: mine(0, 1.0)):
            with pytest.raises(ArgumentError, match="correction= is given by name"):
                wrong()


def test_dimensions_are_integers_or_several_of_them() -> None:
    t = fnn.Tensor(x)
    assert t.sum(dim=[0, 1]).shape == t.sum(()).shape == t.mean([1, 0]).shape == ()
    assert t.sum(np.int64(0)).shape == t.sum(-2).shape == (3,)
    assert fnn.Tensor(x[None, :, None]).squeeze((0, 2)).shape == (4, 3)
    for wrong in (True, 1.0, "0", [0.5], (True,)):
        with pytest.raises(ArgumentError, match="sum: expected a dimension as an integer, got"):
            t.sum(wrong)
    with pytest.raises(ArgumentError, match="a dimension as an integer"):
        F.softmax(t, True)
    with pytest.raises(ShapeError, match="every dimension once"):
        t.sum((0, -2))
    for call in (lambda: t.reshape(2.0, 6), lambda: t.reshape((2.5, -1)), lambda: t.view(np.float32)):
        with pytest.raises(ArgumentError, match="reshape: expected integers"):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.Linear(1, 1, True, "cuda"), "device=None"),
        (lambda: nn.BatchNorm1d(3, bias=False), "bias=True"),
        (lambda: optim.lr_scheduler.StepLR(optim.SGD([nn.Parameter([1.0])]), 3, 0.1, 5), "StepLR: expected initial_lr"),
        (lambda: nn.init.normal_(np.zeros(3), 0.0, 1.0, 3), "expected generator=fnn.Generator"),
    ],
)
def test_what_fastnn_lacks_is_refused_where_it_stands(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(FastnnError, match=message):
        call()


def test_pytorchs_defaults_are_taken() -> None:
    labels, images = np.array([0, 2, 1, 1]), np.ones((1, 1, 4, 4), np.float32)
    assert F.cross_entropy(x, labels, None, None, -100, None, "sum", 0.1).shape == ()
    assert F.nll_loss(x, labels, None, None, -100, None, "none").shape == (4,)
    assert F.mse_loss(x, x, None, None, "none").shape == (4, 3)
    assert F.max_pool2d(images, 2, 1, 1, 1, False, False).shape == (1, 1, 5, 5)
    assert F.avg_pool2d(images, 2, 2, 0, False, True, None).shape == (1, 1, 2, 2)
    assert F.dropout(x, 0.5, False, True).tolist() == x.tolist()
    assert F.relu(x, True).numpy().min() >= 0
    assert nn.CrossEntropyLoss(None, None, -100, None, "none")(x, labels).shape == (4,)
    assert repr(nn.Conv2d(1, 1, 1, 1, 0, 1, 1, True, "zeros", "cpu", np.float32)) == repr(nn.Conv2d(1, 1, 1))
    assert nn.Identity(54, unused=True)(x).numpy() is x
    optim.Adam([nn.Parameter([1.0])], 0.1, (0.9, 0.99), 1e-8, 0.0, False, foreach=True, maximize=False, fused=None)
    optim.RMSprop([nn.Parameter([1.0])], 0.1, 0.9, 1e-8, 0, 0, False, False, None, False, False)
    optim.lr_scheduler.CosineAnnealingLR(optim.SGD([nn.Parameter([1.0])]), 3, 0.0, -1)


def test_unknown_options_name_the_optimiser() -> None:
    with pytest.raises(TypeError, match=r"^Adam\(\) got an unexpected keyword argument 'learning_rate'"):
        optim.Adam([nn.Parameter([1.0])], learning_rate=0.1)


if __name__ == "__main__":
    import torch

    KEPT.write_text(written(torch))
