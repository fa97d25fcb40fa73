"""Optimisers: first steps by hand, groups, state, what is refused. Long runs are in test_against_torch_training."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, ShapeError, StateError
from fastnn.tensors import Tensor


def parameter(*values: float, grad: list[float] | None = None, dtype: type = np.float32) -> nn.Parameter:
    p = nn.Parameter(Tensor(np.array(values, dtype)))
    p.grad = None if grad is None else np.array(grad, dtype)
    return p


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_sgd_by_hand() -> None:
    """θ = 1, g = 0.5, λ = γ = 0.1, µ = 0.9: g' = 0.6, v = 0.6, θ = 0.94; then g' = 0.594, v = 1.134, θ = 0.8266."""
    w = parameter(1.0, grad=[0.5], dtype=np.float64)
    opt = optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.1)
    opt.step()
    assert w.item() == pytest.approx(0.94, rel=1e-14)
    opt.step()
    assert w.item() == pytest.approx(0.8266, rel=1e-14)


def test_nesterov_by_hand() -> None:
    """θ = 1, g = 0.5, µ = 0.9, γ = 0.1: v = 0.5, θ = 1 - 0.1 (0.5 + 0.45)."""
    w = parameter(1.0, grad=[0.5], dtype=np.float64)
    optim.SGD([w], lr=0.1, momentum=0.9, nesterov=True).step()
    assert w.item() == pytest.approx(0.905, rel=1e-14)


@pytest.mark.parametrize(("kind", "decayed"), [(optim.Adam, 1.0), (optim.AdamW, 1 - 0.01 * 0.1)])
def test_adams_first_step_is_the_sign(kind: Any, decayed: float) -> None:
    """m̂ = g and v̂ = g² after one step, so that θ moves by γ whatever the size of g; AdamW shrinks θ besides."""
    w = parameter(1.0, 1.0, grad=[3.0, -0.002], dtype=np.float64)
    kind([w], lr=0.01, weight_decay=0.1 if kind is optim.AdamW else 0, eps=0.0).step()
    assert w.tolist() == pytest.approx([decayed - 0.01, decayed + 0.01], rel=1e-12)


def test_training_goes_down() -> None:
    """The loop of the lectures, on a plane: all find the coefficients."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3))
    y = x @ [[1.0], [-2.0], [0.5]] + 3
    for kind, options in (
        (optim.SGD, {"momentum": 0.9}), (optim.Rprop, {}), (optim.Adagrad, {"lr": 1.0}), (optim.RMSprop, {"lr": 0.01}),
        (optim.Adam, {}), (optim.AdamW, {}),
    ):  # fmt: skip
        model, loss_fn = nn.Linear(3, 1), nn.MSELoss()
        opt = kind(model.parameters(), **{"lr": 0.1, **options})
        for _ in range(500):
            loss = loss_fn(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        assert loss.item() < 1e-3
        assert model.bias is not None
        assert model.bias.item() == pytest.approx(3, abs=0.05)


# ---- steps -----------------------------------------------------------------------------------------------------------


def test_step_writes_in_place_and_skips_what_has_no_gradient() -> None:
    w, still = parameter(1.0, grad=[1.0]), parameter(1.0)
    kept = w.numpy()
    opt = optim.SGD([w, still], lr=0.5, momentum=0.9)
    opt.step()
    assert w.numpy() is kept
    assert (w.item(), still.item()) == (0.5, 1.0)
    assert list(opt.state_dict()["state"]) == [0]


def test_closure() -> None:
    w = parameter(2.0)

    def closure() -> float:
        w.grad = np.ones(1, np.float32)
        return 1.25

    assert optim.SGD([w], lr=0.5).step(closure) == 1.25
    assert w.item() == 1.5
    assert optim.SGD([w], lr=0.5).step() is None


def test_gradients_may_have_any_strides() -> None:
    w = nn.Parameter(np.zeros((2, 3), np.float32))
    w.grad = np.arange(6, dtype=np.float32).reshape(3, 2).T
    optim.Adam([w], lr=1.0).step()
    assert w.tolist() == [[0, -1, -1], [-1, -1, -1]] or np.allclose(w.data, -np.sign(w.grad))


def test_zero_grad() -> None:
    w, fresh = parameter(1.0, grad=[1.0]), parameter(1.0)
    opt = optim.SGD([w, fresh], lr=0.5)
    kept = w.grad
    opt.zero_grad(set_to_none=False)
    assert np.shares_memory(w.grad, kept)
    assert w.grad == [0]
    assert fresh.grad is None
    opt.zero_grad()
    assert w.grad is None


def test_gradient_of_another_shape() -> None:
    w = SimpleNamespace(data=np.zeros(1, np.float32), grad=np.zeros(2, np.float32))  # a Parameter refuses such a .grad
    with pytest.raises(ShapeError, match=r"SGD: expected .grad of shape \(1,\), got \(2,\)"):
        optim.SGD([w], lr=0.5).step()


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_groups_have_their_own_options() -> None:
    a, b, c = parameter(1.0, grad=[1.0]), parameter(1.0, grad=[1.0]), parameter(1.0, grad=[1.0])
    opt = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    opt.add_param_group({"params": [c], "weight_decay": 1.0})
    opt.param_groups[0]["lr"] = 0.2
    opt.step()
    assert [a.item(), b.item(), c.item()] == pytest.approx([0.8, 0.5, 0.8])
    assert [group["lr"] for group in opt.param_groups] == [0.2, 0.5, 0.1]


def test_generators_are_taken() -> None:
    model = nn.Linear(2, 1)
    assert len(optim.Adam(model.parameters()).param_groups[0]["params"]) == 2
    assert len(optim.Adam([{"params": model.parameters()}]).param_groups[0]["params"]) == 2


def test_defaults_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    for kind in ("SGD", "Rprop", "Adagrad", "RMSprop", "Adam", "AdamW"):
        own = getattr(optim, kind)([parameter(1.0)]).param_groups[0]
        other = getattr(torch.optim, kind)([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
        own = {key: value for key, value in own.items() if key not in ("params", "l1", "l2", "penalize_bias")}
        assert own.items() <= other.items()


def test_repr() -> None:
    text = repr(optim.SGD([parameter(1.0)], lr=0.1, momentum=0.9))
    assert text.startswith("SGD(\n  (0) 1 parameters: lr=0.1, momentum=0.9")


W = parameter(1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.SGD([]), "at least one parameter, got none: .*ModuleList"),
        (lambda: optim.SGD(W), r"expected parameters in a list, got one parameter: write \[parameter\]"),
        (lambda: optim.SGD([W, W]), r"a parameter of shape \(1,\) is given twice"),
        (lambda: optim.SGD([{"params": [W]}, {"params": [W]}]), "given twice"),
        (lambda: optim.SGD([W * 0.1]), r"got a tensor \(1,\) that Mul computed: its steps would not reach"),
        (lambda: optim.SGD([np.zeros(1)]), "expected parameters, got ndarray"),
        (lambda: optim.SGD(["0.weight"]), "expected parameters, got str"),
        (lambda: optim.SGD([{"parameters": [W]}]), r'expected a group \{"params"'),
        (
            lambda: optim.SGD([{"params": [W], "momentums": 1}]),
            r"expected options among .* got 'momentums': momentum\?",
        ),
        (lambda: optim.SGD([W], lr=-0.1), "SGD: expected lr of at least 0, got -0.1"),
        (lambda: optim.SGD([W], lr="0.1"), "expected lr of at least 0, got '0.1'"),
        (lambda: optim.SGD(nn.Linear(1, 1)), r"expected parameters, got Linear: pass .parameters\(\)"),
        (lambda: optim.SGD([W], lr=float("nan")), "expected lr of at least 0, got nan"),
        (lambda: optim.SGD([W], momentum=-1), "expected momentum of at least 0"),
        (lambda: optim.SGD([W], weight_decay=-1), "expected weight_decay of at least 0"),
        (lambda: optim.SGD([W], nesterov=True), "a momentum above 0 and no dampening"),
        (lambda: optim.Adam([W], betas=(0.9, 1.0)), r"betas of at least 0 and below 1, got \(0.9, 1.0\)"),
        (lambda: optim.Adam([W], betas=0.9), "Adam: expected two betas of at least 0 and below 1, got 0.9"),
        (lambda: optim.AdamW([W], betas=(0.9,)), "AdamW: expected two betas of at least 0 and below 1, got"),
        (lambda: optim.Rprop([W], etas=0.5), "Rprop: expected etas around 1, .*, got 0.5"),
        (lambda: optim.Rprop([W], step_sizes=(1, "2")), "Rprop: expected step_sizes .*, got"),
        (lambda: optim.AdamW([W], eps=-1), "expected eps of at least 0"),
        (lambda: optim.Rprop([W], etas=(1.2, 0.5)), r"Rprop: expected etas around 1, .*, got \(1.2, 0.5\)"),
        (lambda: optim.Rprop([W], step_sizes=(1, 0.1)), r"Rprop: expected step_sizes \(least, most\), got \(1, 0.1\)"),
        (lambda: optim.RMSprop([W], alpha=-1), "RMSprop: expected alpha of at least 0, got -1"),
        (lambda: optim.Adagrad([W], lr_decay=-1), "Adagrad: expected lr_decay of at least 0"),
        (lambda: optim.Adagrad([W], initial_accumulator_value=-1), "expected initial_accumulator_value of at least 0"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_centred_rmsprop_of_a_constant_gradient_stays_finite() -> None:
    """The variance is 0 then, and rounding may make it negative."""
    w = parameter(*np.linspace(-2, 2, 99), grad=list(np.geomspace(1e-3, 1e3, 99)))
    opt = optim.RMSprop([w], lr=1e-3, alpha=0.5, centered=True)
    for _ in range(200):
        opt.step()
    assert np.isfinite(w.data).all()


def test_rprop_of_a_gradient_that_is_no_number_says_so() -> None:
    """It must not be taken for a zero."""
    w = parameter(1.0, 1.0, grad=[np.nan, 1.0])
    optim.Rprop([w], lr=0.5).step()
    assert np.isnan(w.data).tolist() == [True, False]


def test_adagrad_of_a_model_made_double_since() -> None:
    w = parameter(1.0)
    opt = optim.Adagrad([w], lr=0.5)
    w.data = w.data.astype(np.float64)
    w.grad = np.array([2.0])
    opt.step()
    assert w.item() == pytest.approx(0.5, rel=1e-9)


# ---- state -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [optim.SGD, optim.Rprop, optim.Adagrad, optim.RMSprop, optim.Adam, optim.AdamW])
def test_state_dict_resumes_bit_for_bit(kind: Any) -> None:
    def make() -> tuple[nn.Parameter, optim.Optimizer]:
        w = parameter(1.0, -2.0, 3.0)
        return w, kind([w], **({"lr": 0.1, "momentum": 0.9} if kind is optim.SGD else {"lr": 0.1}))

    def step(w: nn.Parameter, opt: optim.Optimizer) -> None:
        w.grad = np.cos(w.data)
        opt.step()

    w, opt = make()
    for _ in range(3):
        step(w, opt)
    opt.param_groups[0]["lr"] = 0.05
    other, resumed = make()
    other.data[...] = w.data
    resumed.load_state_dict(copy.deepcopy(opt.state_dict()))
    for _ in range(3):
        step(w, opt)
        step(other, resumed)
    np.testing.assert_array_equal(other.data, w.data)
    assert resumed.param_groups[0]["lr"] == 0.05


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["deepcopy", "pickle"]
)
def test_model_and_optimiser_are_copied_together(copied: Any) -> None:
    """The copy's optimiser goes on with the copy's parameters and their state."""
    w = parameter(1.0, grad=[1.0])
    opt = optim.SGD([w], lr=0.1, momentum=0.9)
    opt.step()
    twin, resumed = copied((w, opt))
    resumed.step()
    assert twin.item() == pytest.approx(1 - 0.1 - 0.19)
    assert w.item() == pytest.approx(1 - 0.1)


def test_loaded_state_is_a_copy() -> None:
    w = parameter(1.0, grad=[1.0])
    opt = optim.SGD([w], lr=0.1, momentum=0.9)
    opt.step()
    state = opt.state_dict()
    twin = optim.SGD([parameter(1.0, grad=[1.0])], lr=0.1, momentum=0.9)
    twin.load_state_dict(state)
    twin.step()
    assert state["state"][0]["momentum_buffer"] == [1.0]


def test_state_that_does_not_fit() -> None:
    w = parameter(1.0, grad=[1.0])
    opt = optim.SGD([w], lr=0.1, momentum=0.9)
    opt.step()
    before = copy.deepcopy(opt.state_dict())
    two = optim.SGD([parameter(1.0), parameter(2.0)], lr=0.3)
    with pytest.raises(StateError, match=r"groups of \[1\] parameters, got \[2\]"):
        opt.load_state_dict(two.state_dict())
    wide = copy.deepcopy(before)
    wide["state"][0]["momentum_buffer"] = np.zeros(5)
    wide["param_groups"][0]["lr"] = 9
    with pytest.raises(StateError, match=r"momentum_buffer of parameter 0 of shape \(1,\), got \(5,\)"):
        opt.load_state_dict(wide)
    with pytest.raises(StateError, match="expected what state_dict"):
        opt.load_state_dict({"lr": 1})
    assert opt.state_dict() == before


def test_an_optimiser_of_ones_own_takes_its_state_back() -> None:
    """Tensors of any shape, numbers and lists, as tensors again, which its step goes on to write into."""

    class Own(optim.Optimizer):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, {"lr": lr})

        def step(self, closure: Any = None) -> None:
            with fnn.no_grad():
                for p in self.param_groups[0]["params"]:
                    state = self.state[p]
                    if not state:
                        state.update(
                            factor=fnn.eye(p.shape[0]), norm=fnn.tensor(0.0), mean=fnn.zeros_like(p), seen=[], step=0
                        )
                    state["step"] += 1
                    state["mean"].lerp_(p.grad, 0.1)
                    state["factor"].add_(fnn.outer(state["mean"], state["mean"]))
                    state["norm"].copy_(state["factor"].norm())
                    state["seen"].append(round(state["norm"].item(), 6))
                    p.sub_(self.param_groups[0]["lr"] * (state["factor"] @ state["mean"]))

    def steps(p: nn.Parameter, optimizer: optim.Optimizer) -> list[float]:
        for _ in range(3):
            optimizer.zero_grad()
            (p * p).sum().backward()
            optimizer.step()
        return p.tolist()

    first = nn.Parameter([1.0, -2.0, 3.0])
    optimizer = Own([first])
    steps(first, optimizer)
    second = nn.Parameter(first.data.copy())
    resumed = Own([second], lr=9.0)
    resumed.load_state_dict(optimizer.state_dict())
    kept = resumed.state[second]
    assert isinstance(kept["factor"], fnn.Tensor)
    assert kept["seen"] == optimizer.state[first]["seen"]
    assert steps(first, optimizer) == steps(second, resumed)
    assert kept["step"] == 6


KINDS = ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "Rprop", "ASGD"]


@pytest.mark.parametrize("own", KINDS)
def test_the_state_of_another_optimiser_is_refused(own: str) -> None:
    """It would be stepped with, or lie about unused, without a word. Adam and AdamW have the same options and state."""
    for other in KINDS:
        kept, given = parameter(1.0), parameter(1.0, grad=[0.5])
        taker, giver = getattr(optim, own)([kept], lr=0.25), getattr(optim, other)([given], lr=0.125)
        giver.step()
        before, state = dict(taker.param_groups[0]), str(taker.state)
        if own == other or {own, other} == {"Adam", "AdamW"}:
            taker.load_state_dict(giver.state_dict())
            assert taker.param_groups[0]["lr"] == 0.125
            continue
        with pytest.raises(StateError, match=f"{own}: expected a state of its own, got another optimiser's"):
            taker.load_state_dict(giver.state_dict())
        assert taker.param_groups[0] == before
        assert str(taker.state) == state


@pytest.mark.parametrize("kind", ["SGD", "Adam", "NAdam"])
@pytest.mark.parametrize(
    ("option", "value"), [("lr", np.nan), ("lr", np.inf), ("lr", None), ("lr", [0.1]), ("weight_decay", "0.1")]
)
@pytest.mark.parametrize("compiled", [False, True])
def test_an_option_that_is_changed_for_nonsense(kind: str, option: str, value: Any, compiled: bool) -> None:
    """A rate of NaN made all weights NaN; others were bare TypeErrors. Whatever it is, it moves nothing."""
    layer, x, y = nn.Linear(2, 1), np.ones((3, 2), np.float32), np.ones((3, 1), np.float32)
    opt = getattr(optim, kind)(layer.parameters(), lr=0.1)
    step = fnn.compile(layer, nn.MSELoss(), opt)
    step(x, y)
    nn.MSELoss()(layer(x), y).backward()
    before = layer.weight.data.copy()
    opt.param_groups[0][option] = value
    with pytest.raises(ArgumentError, match=f"{kind}: expected {option}"):
        step(x, y) if compiled else opt.step()
    np.testing.assert_array_equal(layer.weight.data, before)
    opt.param_groups[0][option] = 0.05
    step(x, y)
    assert not np.array_equal(layer.weight.data, before)


@pytest.mark.parametrize(("kind", "option"), [("SGD", "nesterov"), ("Adam", "amsgrad"), ("RMSprop", "centered")])
def test_text_is_no_switch(kind: str, option: str) -> None:
    with pytest.raises(ArgumentError, match=f"{kind}: expected {option} to be True or False, got 'no'"):
        getattr(optim, kind)([parameter(1.0)], lr=0.1, **{option: "no"})


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_weight_tied_to_its_transpose_gets_both_gradients(kind: str, compiled: bool) -> None:
    """The tied autoencoder; PyTorch's steps, one parameter after the other."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((2, 3)).astype(np.float32), rng.standard_normal((5, 3)).astype(np.float32)

    def tied(layers: Any, tensor: Any) -> Any:
        e, d = layers.Linear(3, 2, bias=False), layers.Linear(2, 3, bias=False)
        e.weight.data = tensor(w.copy())
        d.weight.data = e.weight.data.T
        return layers.Sequential(e, d)

    model, other = tied(nn, fnn.tensor), tied(torch.nn, torch.tensor)
    opt, reference = (
        getattr(optim, kind)(model.parameters(), lr=0.1),
        getattr(torch.optim, kind)(other.parameters(), lr=0.1, foreach=False),
    )
    step = fnn.compile(model, nn.MSELoss(), opt)
    for _ in range(3):
        reference.zero_grad()
        torch.nn.functional.mse_loss(other(torch.tensor(x)), torch.tensor(x)).backward()
        reference.step()
        if compiled:
            step(x, x)
        else:
            opt.zero_grad()
            nn.MSELoss()(model(fnn.tensor(x)), fnn.tensor(x)).backward()
            opt.step()
    np.testing.assert_allclose(model[0].weight.data, other[0].weight.detach().numpy(), rtol=1e-5)
    np.testing.assert_array_equal(model[0].weight.data.T, model[1].weight.data)


@pytest.mark.parametrize("kind", KINDS)
def test_pytorchs_states_are_taken(kind: str) -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(2, 2)
    other = getattr(torch.optim, kind)(layer.parameters(), lr=0.25)
    layer(torch.ones(1, 2)).sum().backward()
    other.step()
    own = getattr(optim, kind)(nn.Linear(2, 2).parameters(), lr=0.1)
    own.load_state_dict(other.state_dict())
    assert own.param_groups[0]["lr"] == 0.25


def test_an_optimiser_of_ones_own_may_have_three_betas() -> None:
    """As Adan has; fastnn's own have two, below 1."""

    class Adan(optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.1, "betas": (0.98, 0.92, 0.99)})

        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                group["params"][0].data.sub_(sum(group["betas"]))

    p = parameter(3.0, grad=[1.0])
    Adan([p]).step()
    assert p.tolist() == pytest.approx([3 - 2.89])
    for kind in (optim.Adam, optim.NAdam):
        with pytest.raises(ArgumentError, match="two betas"):
            kind([p], betas=(0.98, 0.92, 0.99))  # type: ignore[arg-type]
