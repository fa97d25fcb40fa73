"""Averaged weights beside PyTorch's, batch norm's statistics for them; clipping and vectors of nn.utils."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, NonFiniteError, ShapeError
from fastnn.nn.utils import clip_grad_norm_
from fastnn.optim import swa_utils
from fastnn.optim.swa_utils import AveragedModel

RNG = np.random.default_rng(2)


def _model(n: Any) -> Any:
    return n.Sequential(n.Linear(3, 4), n.BatchNorm1d(4), n.ReLU(), n.Linear(4, 2))


AVERAGES: dict[str, Any] = {
    "mean": lambda s: {},
    "ema": lambda s: {"multi_avg_fn": s.get_ema_multi_avg_fn(0.9)},
    "ema-each": lambda s: {"avg_fn": s.get_ema_avg_fn(0.5)},
    "swa-multi": lambda s: {"multi_avg_fn": s.get_swa_multi_avg_fn()},
    "own": lambda s: {"avg_fn": lambda average, value, count: average + value * count, "use_buffers": True},
}


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_are_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = _model(nn), _model(torch.nn)
    mean, twin = (
        AveragedModel(ours, **AVERAGES[name](swa_utils)),
        torch.optim.swa_utils.AveragedModel(theirs, **AVERAGES[name](torch.optim.swa_utils)),
    )
    for _ in range(5):
        values = {key: RNG.normal(size=x.shape).astype(x.dtype) for key, x in ours.state_dict().items()}
        ours.load_state_dict(values)
        theirs.load_state_dict({key: torch.as_tensor(x) for key, x in values.items()})
        mean.update_parameters(ours)
        twin.update_parameters(theirs)
    assert list(mean.state_dict()) == list(twin.state_dict())
    for key, x in twin.state_dict().items():
        np.testing.assert_allclose(mean.state_dict()[key], x.numpy(), rtol=1e-5, atol=1e-6, err_msg=key)


def test_update_bn_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = _model(nn), _model(torch.nn)
    theirs.load_state_dict({key: torch.as_tensor(x) for key, x in ours.state_dict().items()})
    batches = [RNG.normal(size=(n, 3)).astype(np.float32) for n in (8, 8, 5)]
    swa_utils.update_bn([(x, None) for x in batches], ours.eval())
    torch.optim.swa_utils.update_bn([torch.from_numpy(x) for x in batches], theirs)
    for key, x in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key], x.numpy(), rtol=1e-5, atol=1e-6, err_msg=key)
    assert not ours.training
    assert ours[1].momentum == 0.1


def test_an_average_predicts_compiled_and_is_apart() -> None:
    model = nn.Linear(2, 2)
    mean = AveragedModel(model)
    before = copy.deepcopy(mean.module.weight.data)
    model.weight.data += 1
    np.testing.assert_array_equal(mean.module.weight.data, before)
    mean.update_parameters(model)
    x = np.ones((3, 2), np.float32)
    np.testing.assert_allclose(fnn.compile(mean)(x), model(x).numpy(), rtol=1e-6)
    with pytest.raises(ArgumentError, match="got both"):
        AveragedModel(model, avg_fn=swa_utils.get_swa_avg_fn(), multi_avg_fn=swa_utils.get_swa_multi_avg_fn())
    with pytest.raises(AttributeError, match="has no attribute 'swa'"):
        _ = swa_utils.swa


# ---- nn.utils --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("limit", [0.1, 100.0])
def test_clipping_the_norm_is_torchs(kind: float, limit: float) -> None:
    torch = pytest.importorskip("torch")
    grads = [RNG.normal(size=(3, 2)), RNG.normal(size=4)]
    ours = [fnn.Tensor(np.zeros_like(g), True) for g in grads] + [fnn.Tensor(np.zeros(2), True)]
    theirs = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in grads]
    for p, q, g in zip(ours, theirs, grads, strict=False):
        p.grad, q.grad = g.copy(), torch.from_numpy(g.copy())
    norm = clip_grad_norm_(iter(ours), limit, kind)
    assert norm.item() == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, limit, kind).item(), rel=1e-12)
    for p, q in zip(ours, theirs, strict=False):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-6)  # PyTorch's factor is a float32
    assert ours[2].grad is None


def test_clipping_by_hand() -> None:
    w = fnn.Tensor(np.zeros(2), True)
    w.grad = np.array([3.0, -4.0])
    nn.utils.clip_grad_value_(w, 3.5)
    assert np.asarray(w.grad).tolist() == [3, -3.5]
    w.grad = np.array([np.inf, 1.0])
    with pytest.raises(NonFiniteError, match="inf"):
        clip_grad_norm_(w, 1.0, error_if_nonfinite=True)
    assert clip_grad_norm_([], 1.0).item() == 0
    assert nn.utils.get_total_norm([np.array([3.0]), fnn.Tensor([4.0])]).item() == 5
    assert nn.utils.get_total_norm([np.array([np.inf])]).item() == np.inf


def test_parameters_as_a_vector() -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(model.parameters())
    assert vector.tolist() == [*model.weight.data.ravel(), *model.bias.data]
    vector.sum().backward()
    assert np.asarray(model.weight.grad).tolist() == [[1.0] * 3] * 2
    nn.utils.vector_to_parameters(vector, other.parameters())
    np.testing.assert_array_equal(other.weight.data, model.weight.data)
    np.testing.assert_array_equal(other.bias.data, model.bias.data)
    with pytest.raises(ShapeError, match=r"a vector of 8 entries, got shape \(7,\)"):
        nn.utils.vector_to_parameters(vector[:7], other.parameters())


def test_what_utils_lacks_has_a_hint() -> None:
    with pytest.raises(AttributeError, match="folds batch norm"):
        _ = nn.utils.fuse_conv_bn_eval
    with pytest.raises(AttributeError, match="LBFGS"):
        _ = optim.SparseAdam
