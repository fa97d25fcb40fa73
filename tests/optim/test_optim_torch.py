"""Optimisers beside PyTorch's, over 100 steps in float64; compiled steps beside eager ones; L-BFGS."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, StateError

RNG = np.random.default_rng(3)
START = [RNG.normal(size=(3, 2)), RNG.normal(size=4)]

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd-maximize": ("SGD", {"lr": 0.01, "momentum": 0.9, "maximize": True, "weight_decay": 0.1}),
    "rmsprop-maximize": ("RMSprop", {"lr": 0.01, "maximize": True, "momentum": 0.5}),
    "rprop-maximize": ("Rprop", {"lr": 0.01, "maximize": True}),
    "adagrad-maximize": ("Adagrad", {"lr": 0.01, "maximize": True, "lr_decay": 0.1}),
    "adam-maximize": ("Adam", {"lr": 0.01, "maximize": True, "weight_decay": 0.1}),
    "adam-amsgrad": ("Adam", {"lr": 0.05, "amsgrad": True, "weight_decay": 0.1}),
    "adamw-amsgrad": ("AdamW", {"lr": 0.05, "amsgrad": True, "betas": (0.8, 0.9), "fused": True}),
    "nadam": ("NAdam", {"lr": 0.05}),
    "nadam-decay": ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "momentum_decay": 0.01, "foreach": False}),
    "nadam-decoupled": ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "radam": ("RAdam", {"lr": 0.05, "betas": (0.9, 0.95)}),
    "radam-decay": ("RAdam", {"lr": 0.05, "weight_decay": 0.1, "betas": (0.9, 0.7)}),
    "radam-decoupled": ("RAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "adamax": ("Adamax", {"lr": 0.05, "weight_decay": 0.1, "maximize": True}),
    "adadelta": ("Adadelta", {"weight_decay": 0.1, "rho": 0.8}),
    "asgd": ("ASGD", {"lr": 0.05, "t0": 20, "lambd": 0.01, "weight_decay": 0.1}),
}


def _gradient(value: Any, step: int) -> Any:
    """Of a valley that shakes from step to step."""
    return 2 * value + 0.5 * np.cos(3 * value + step)


def _run(opt: Any, params: list[Any], steps: range) -> None:
    for step in steps:
        for p in params:
            p.grad = _gradient(p.data, step)
        opt.step()


@pytest.mark.parametrize("name", CASES)
def test_a_hundred_steps_are_torchs(name: str, request: pytest.FixtureRequest) -> None:
    """And a copy goes on from the state after 60 of them; in the meantime its rate was halved."""
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)  # which it keeps numbers such as the product of NAdam's µ in
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    kind, options = CASES[name]
    ours, theirs = [fnn.Tensor(x.copy(), True) for x in START], [torch.nn.Parameter(torch.tensor(x)) for x in START]
    opt, twin = getattr(optim, kind)(ours, **options), getattr(torch.optim, kind)(theirs, **options)
    _run(opt, ours, range(60))
    opt.param_groups[0]["lr"] *= 0.5
    resumed = [fnn.Tensor(p.data.copy(), True) for p in ours]
    other = getattr(optim, kind)(resumed, **{**options, "lr": 1.0, "maximize": False})
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    _run(other, resumed, range(60, 100))
    for step in range(100):
        if step == 60:
            twin.param_groups[0]["lr"] *= 0.5
        for p in theirs:
            p.grad = torch.tensor(_gradient(p.detach().numpy(), step))
        twin.step()
    for mine, torchs in zip(resumed, theirs, strict=True):
        np.testing.assert_allclose(mine.data, torchs.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_first_steps_by_hand() -> None:
    """Adam's relatives move by about lr at first; Adadelta by sqrt(eps / (eps + (1 - rho)g²))·g."""
    for kind in (optim.Adamax, optim.RAdam):
        w = fnn.Tensor(np.array([1.0]), True)
        w.grad = np.array([0.5])
        kind([w], lr=0.1).step()
        assert w.item() == pytest.approx(0.9 if kind is optim.Adamax else 1 - 0.1 * 0.5)
    w.grad = np.array([0.5])
    w.data[...] = 1
    optim.Adadelta([w], rho=0.5, eps=1e-4).step()
    assert w.item() == pytest.approx(1 - 0.5 * np.sqrt(1e-4 / (1e-4 + 0.125)))
    w.grad = np.array([0.5])
    w.data[...] = 1
    optim.SGD([w], lr=0.1, maximize=True, l2=1.0, penalize_bias=True).step()
    assert w.item() == pytest.approx(1 + 0.1 * 0.5 - 0.1 * 2)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", CASES)
def test_compiled_steps_are_eager_ones(name: str, clip: float | None) -> None:
    """With clipping too, where all parameters are updated at the end; by kernels, or between programs."""
    kind, options = CASES[name]
    x, y = RNG.normal(size=(8, 3)).astype(np.float32), RNG.normal(size=(8, 2)).astype(np.float32)
    models = []
    for _ in range(2):
        fnn.manual_seed(5)
        models.append(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    opts = [getattr(optim, kind)(model.parameters(), **{**options, "lr": 1e-3}) for model in models]
    step = fnn.compile(models[0], nn.MSELoss(), opts[0], clip_norm=clip)
    for _ in range(6):
        step(x, y)
        opts[1].zero_grad()
        nn.MSELoss()(models[1](x), y).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(models[1].parameters(), clip)
        opts[1].step()
    for (path, p), q in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=2e-4, atol=2e-5, err_msg=path)


# ---- L-BFGS ----------------------------------------------------------------------------------------------------------


def _rosenbrock(w: Any) -> Any:
    return (100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum()


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.5},
        {"lr": 1e-3, "history_size": 2},
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "history_size": 3, "max_iter": 7},
        {"line_search_fn": "strong_wolfe", "max_eval": 4},
        {
            "line_search_fn": "strong_wolfe",
            "history_size": 1,
            "lr": 30.0,
            "max_iter": 4,
        },  # whose first bracket ends in a point near an end
        {"line_search_fn": "strong_wolfe", "history_size": 1, "lr": 3.0, "max_iter": 6},
    ],
    ids=str,
)
def test_lbfgs_is_torchs(options: dict[str, Any]) -> None:
    """On Rosenbrock's valley, or on a bowl without line search: the same points after each of 5 steps."""
    torch = pytest.importorskip("torch")
    start = np.array([-1.2, 1.0, 0.4, -0.3])
    scales = np.array([1.0, 5.0, 0.2, 2.0])
    searched = "line_search_fn" in options
    w, v = fnn.Tensor(start.copy(), True), torch.nn.Parameter(torch.tensor(start))
    opt, twin = optim.LBFGS([w], **options), torch.optim.LBFGS([v], **options)
    calls = [0, 0]

    def closure() -> Any:
        calls[0] += 1
        opt.zero_grad()
        loss = _rosenbrock(w) if searched else (scales * (w - 1) ** 2).sum()
        loss.backward()
        return loss

    def other() -> Any:
        calls[1] += 1
        twin.zero_grad()
        loss = _rosenbrock(v) if searched else (torch.tensor(scales) * (v - 1) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(5):
        assert opt.step(closure).item() == pytest.approx(twin.step(other).item(), rel=1e-7, abs=1e-18)
        np.testing.assert_allclose(w.data, v.detach().numpy(), rtol=1e-7, atol=1e-9)
    assert calls[0] == calls[1]


def test_lbfgs_finds_rosenbrocks_minimum_and_goes_on_from_a_state() -> None:
    w = fnn.Tensor(np.array([-1.2, 1.0]), True)
    options = {"max_iter": 5, "tolerance_change": 1e-16, "line_search_fn": "strong_wolfe"}
    opt = optim.LBFGS([w], **options)

    def closure_of(p: Any, o: Any) -> Any:
        def closure() -> Any:
            o.zero_grad()
            loss = _rosenbrock(p)
            loss.backward()
            return loss

        return closure

    for _ in range(3):
        opt.step(closure_of(w, opt))
    twin = fnn.Tensor(w.data.copy(), True)
    other = optim.LBFGS([twin], **options)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for _ in range(9):
        opt.step(closure_of(w, opt))
        other.step(closure_of(twin, other))
        np.testing.assert_array_equal(w.data, twin.data)
    np.testing.assert_allclose(w.data, 1, atol=1e-6)


def test_lbfgs_maximizes_with_a_penalty() -> None:
    """-(w - 1)² - w²: at 1/2; the penalty counts as it does in the loss that falls."""
    w = fnn.Tensor(np.array([[3.0]]), True)
    opt = optim.LBFGS([w], l2=1.0, maximize=True, line_search_fn="strong_wolfe")

    def closure() -> Any:
        opt.zero_grad()
        gain = -((w - 1) ** 2).sum()
        gain.backward()
        return gain

    opt.step(closure)
    assert w.item() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w: optim.LBFGS([w]).step(), ArgumentError, "expected a closure"),
        (
            lambda w: optim.LBFGS([w], line_search_fn="armijo"),
            ArgumentError,
            "'strong_wolfe', got 'armijo'",
        ),
        (lambda w: optim.LBFGS([w], max_iter=0), ArgumentError, "max_iter to be a positive integer, got 0"),
        (lambda w: optim.LBFGS([w]).add_param_group({"params": []}), ArgumentError, "one group"),
        (lambda w: optim.LBFGS([w]).load_state_dict({"lr": 1}), StateError, "expected what state_dict"),
        (
            lambda w: fnn.compile(nn.Linear(1, 1), nn.MSELoss(), optim.LBFGS([w])),
            ArgumentError,
            "by the gradient alone",
        ),
        (lambda w: optim.GradientDescent([w], maximize=True), ArgumentError, "negative loss"),
        (lambda w: optim.Adadelta([w], rho=2), ArgumentError, "rho from 0 to 1, got 2"),
        (lambda w: optim.NAdam([w], betas=(1, 0.9)), ArgumentError, "two betas"),
        (lambda w: optim.Adam([w], differentiable=True), ArgumentError, "differentiable=False"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(nn.Parameter([1.0]))


def test_groups_keep_what_else_they_are_given() -> None:
    """A name, a factor, and the names of parameters: in state dicts and through schedules, as PyTorch has them."""
    torch = pytest.importorskip("torch")
    kept = {}
    for library in (torch, fnn):
        layer = library.nn.Linear(2, 1)
        rates = [{"params": [layer.weight], "lr_mult": 0.5, "name": "body"}, {"params": [layer.bias], "name": "head"}]
        opt = library.optim.SGD(rates, lr=0.1)
        library.optim.lr_scheduler.StepLR(opt, 1, 0.5)
        opt.load_state_dict(opt.state_dict())
        named = library.optim.Adam(layer.named_parameters(), lr=0.1)
        named.add_param_group({"params": [("extra", library.nn.Parameter(library.zeros(1)))]})
        with pytest.raises((ValueError, fnn.errors.ArgumentError), match="names"):
            named.add_param_group({"params": [library.nn.Parameter(library.zeros(1))]})
        groups = [*opt.state_dict()["param_groups"], *named.state_dict()["param_groups"]]
        kept[library] = [
            {k: g.get(k) for k in ("name", "lr_mult", "initial_lr", "param_names", "params")} for g in groups
        ]
    assert kept[torch] == kept[fnn]


def test_parameters_that_do_not_lie_row_by_row() -> None:
    """A parameter made of a transposed or expanded tensor, a slice that asks for a gradient, and .data = x.t()."""
    torch = pytest.importorskip("torch")

    matrix = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    for name in ("SGD", "Adam", "Adadelta", "Rprop"):
        found = []
        for lib in (fnn, torch):
            x = lib.from_numpy(matrix.copy())
            p, q, r = (
                lib.nn.Parameter(x.t().exp()),
                x.clone()[:, ::2].requires_grad_(),
                lib.nn.Parameter(lib.zeros(2, 3)),
            )
            r.data = x.t()
            s = lib.nn.Parameter(lib.arange(1.0, 4.0).repeat(2, 1).log())
            optimizer = getattr(lib.optim, name)([p, q, r, s], lr=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                ((p * p * s).sum() + (q**3).sum() + (r * p).sum()).backward()
                optimizer.step()
            found.append([each.detach().numpy() for each in (p, q, r, s, x)])
        for mine, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_parameter_is_its_own_row_by_row() -> None:
    p = fnn.nn.Parameter(fnn.ones(1, 2).expand(3, 2))
    assert p.data.flags.carray
    assert fnn.arange(2).repeat(3, 1).is_contiguous()
