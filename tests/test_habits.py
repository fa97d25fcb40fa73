"""What PyTorch users type: it works, or one sentence says what to write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.errors import ArgumentError, DTypeError, GraphError, ShapeError, StateError

# ---- in place --------------------------------------------------------------------------------------------------------


def test_a_step_by_hand() -> None:
    p = nn.Parameter([1.0, 2.0])
    same, array = p, p.numpy()
    (p * p).sum().backward()
    with fnn.no_grad():
        p -= 0.5 * p.grad
        p += [1.0, 1.0]
        p *= 3
        p /= fnn.Tensor([2.0, 1.0])
    assert p is same
    assert p.numpy() is array
    assert p.is_leaf
    assert p.requires_grad
    assert p.tolist() == [1.5, 3.0]


def test_in_place_off_the_tape() -> None:
    x = fnn.Tensor([1, 2])
    x += 1
    assert x.tolist() == [2, 3]
    assert x.dtype == np.int64


def test_in_place_on_the_tape() -> None:
    p, total = nn.Parameter([3.0]), fnn.Tensor([1.0])
    constant = total
    with pytest.raises(GraphError, match=r"-=: .* under fnn.no_grad\(\) only"):
        p -= 1
    y = p * p
    kept = y
    y += p  # a residual connection
    total += y
    total.backward()
    assert (total.item(), y.item(), kept.item(), constant.item()) == (13, 12, 12, 13)
    assert p.grad is not None
    assert p.grad.item() == 7  # 2p + 1


def test_in_place_with_what_does_not_fit() -> None:
    x, whole = fnn.Tensor([1.0, 2.0]), fnn.Tensor([1, 2])
    with pytest.raises(ShapeError, match=r"\+=: expected a shape that broadcasts to \(2,\), got \(3,\)"):
        x += np.ones(3)
    with pytest.raises(DTypeError, match="does not fit into a tensor of int64"):
        whole /= 2
    frozen = np.ones(2, np.float32)
    frozen.flags.writeable = False
    x = fnn.Tensor(frozen)
    with pytest.raises(ArgumentError, match="read-only"):
        x += 1


# ---- data and grad ---------------------------------------------------------------------------------------------------


def test_assigned_data_and_gradients_are_cast() -> None:
    p = nn.Parameter(np.ones(3))
    assert p.dtype == np.float32
    assert nn.Parameter(fnn.Tensor(np.ones(3))).dtype == np.float64
    array = np.zeros(3, np.float32)
    p.data = array
    assert p.numpy() is array
    for name in ("data", "grad"):
        for value in (np.full(3, 2.0), fnn.Tensor([2.0, 2.0, 2.0]), [2, 2, 2]):
            setattr(p, name, value)
            assert isinstance(getattr(p, name), np.ndarray)
            assert getattr(p, name).dtype == np.float32
            assert getattr(p, name).tolist() == [2, 2, 2]
        with pytest.raises(ShapeError, match=rf"\.{name}: expected shape \(3,\), got \(2,\)"):
            setattr(p, name, np.zeros(2))
    p.grad = None
    assert p.grad is None
    whole = fnn.Tensor([1])
    with pytest.raises(DTypeError, match=r"\.data: expected int64, got float32"):
        whole.data = [0.5]


def test_format_and_device() -> None:
    assert f"{fnn.Tensor(0.12345):.3f}" == "0.123"
    assert f"{fnn.Tensor([1.0, 2.0])}" == "tensor([1., 2.])"
    with pytest.raises(ShapeError, match="one entry"):
        f"{fnn.Tensor([1.0, 2.0]):.3f}"
    assert fnn.Tensor(1.0).device == "cpu"


def test_new_methods_refuse() -> None:
    x = fnn.Tensor(np.zeros((2, 3, 1)))
    for call, message in (
        (x.t, "vector or a matrix"),
        (lambda: x.squeeze(3), "expected a dimension"),
        (lambda: x.unsqueeze(4), "expected a dimension"),
        (x.clamp, "expected min or max"),
        (lambda: fnn.Tensor([]).min(), "min: expected at least one entry"),
    ):
        with pytest.raises((ShapeError, ArgumentError), match=message):
            call()
    assert x.squeeze(-1).shape == (2, 3)
    assert fnn.Tensor([[3, 1, 1]]).min(1)[1].tolist() == [1]


# ---- options and calls -----------------------------------------------------------------------------------------------


def test_functional_and_init() -> None:
    assert F.relu is nn.functional.relu is fnn.ops.relu is fnn.relu
    assert nn.init.xavier_uniform_ is fnn.init.xavier_uniform_


def test_options_without_effect_are_taken() -> None:
    assert isinstance(nn.ReLU(True)([1.0]), fnn.Tensor)
    nn.Linear(1, 1, device="cpu", dtype=np.float32)
    nn.Conv2d(1, 1, 1, padding_mode="zeros", device=None)
    nn.MaxPool2d(2, dilation=1, ceil_mode=False)
    nn.CrossEntropyLoss(weight=None, ignore_index=-100)
    model = nn.Linear(1, 1)
    assert model.to(device="cpu", dtype="float64").weight.dtype == np.float64
    assert fnn.Tensor(1.0).to(dtype=np.float64).dtype == np.float64
    model.weight.grad = [[1.0]]
    model.zero_grad(set_to_none=False)
    assert model.weight.grad.tolist() == [[0.0]]
    model.zero_grad(set_to_none=True)
    assert model.weight.grad is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(1, 1, device="cuda"), "Linear: expected device=None"),
        (lambda: nn.Conv2d(1, 1, 1, dtype=np.float64), "expected dtype=None"),
        (lambda: nn.RMSNorm(1, device="cuda"), "RMSNorm: expected device=None"),
        (lambda: nn.BatchNorm2d(1, device="cuda"), "BatchNorm2d: expected device=None"),
        (lambda: nn.Linear(1, 1).half(), "not in float16"),
        (lambda: fnn.Tensor(1.0).half(), "not in float16"),
        (lambda: optim.lr_scheduler.LambdaLR(optim.SGD([nn.Parameter([0.0])]), 0.5), "expected a function"),
        (lambda: optim.SGD([nn.Parameter([0.0])]).load_state_dict("file"), "state_dict.. returned, got str"),
        (lambda: nn.Linear(1, 1).load_state_dict("file"), "got str: a file is read by fnn.weights.load"),
        (lambda: fnn.init.constant_(nn.Linear(1, 1), 1), "init: expected a parameter, such as layer.weight, got L"),
        (lambda: fnn.gradcheck(3, np.ones(2)), "gradcheck: expected a model or a function of tensors, got int"),
    ],
)
def test_one_sentence(make: Any, message: str) -> None:
    with pytest.raises((ArgumentError, DTypeError, StateError), match=message):
        make()


def test_unknown_options_stay_pythons_error() -> None:
    with pytest.raises(TypeError, match=r"MaxPool.* got an unexpected keyword argument 'kernel'"):
        nn.MaxPool2d(2, kernel=2)


def test_forward_without_return() -> None:
    class Forgetful(nn.Module):
        def forward(self, x: Any) -> None:
            x + 1

    with pytest.raises(ArgumentError, match=r"Sequential > 1: Forgetful\(\): forward returned None"):
        nn.Sequential(nn.ReLU(), Forgetful())([1.0])


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "hint"),
    [
        (fnn, "nonsense", "no attribute 'nonsense'$"),
        (nn, "Nonsense", "no attribute 'Nonsense'$"),
    ],
)
def test_absent_names(module: Any, name: str, hint: str) -> None:
    with pytest.raises(AttributeError, match=hint):
        getattr(module, name)


def test_dir_shows_public_names() -> None:
    assert set(dir(fnn)) == {*fnn.__all__, "__version__"}
    assert set(dir(optim)) == set(optim.__all__)
    assert set(dir(nn)) == set(nn.__all__)


def test_reprs() -> None:
    assert repr(nn.Normalize([0.1, 0.25], [0.3, 1])) == "Normalize(mean=[0.1, 0.25], std=[0.3, 1])"
    opt = optim.SGD([nn.Parameter([0.0])], lr=0.1)
    assert repr(optim.lr_scheduler.StepLR(opt, 3)) == "StepLR(last_epoch=0, lr=[0.1])"
    assert repr(optim.lr_scheduler.ReduceLROnPlateau(opt)) == "ReduceLROnPlateau(last_epoch=0, lr=[0.1])"
