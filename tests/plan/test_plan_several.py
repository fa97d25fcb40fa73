"""Models and losses of several arrays: plans against the operators, and against PyTorch."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, GraphError, ShapeError

RNG = np.random.default_rng(5)


class TwoIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(3, 8), nn.Linear(5, 8), nn.Linear(8, 2)

    def forward(self, left: Any, right: Any) -> Any:
        return self.out((self.a(left) + self.b(right)).relu())


class OneTuple(TwoIn):
    def forward(self, both: Any) -> Any:  # type: ignore[override]
        left, right = both
        return super().forward(left, right)


class OneDict(TwoIn):
    def forward(self, given: Any) -> Any:  # type: ignore[override]
        return super().forward(given["left"], given["right"])


class Heads(nn.Module):
    """Policy and value, as a tuple, a list, a dict or a named tuple."""

    def __init__(self, kind: Any = tuple) -> None:
        super().__init__()
        self.body, self.policy, self.value, self.kind = nn.Linear(4, 16), nn.Linear(16, 3), nn.Linear(16, 1), kind

    def forward(self, x: Any) -> Any:
        h = self.body(x).relu()
        policy, value = self.policy(h), self.value(h)
        if self.kind is dict:
            return {"policy": policy, "value": value}
        return PolicyValue(policy, value) if self.kind is PolicyValue else self.kind((policy, value))


class PolicyValue(NamedTuple):
    policy: Any
    value: Any


def two_losses(outputs: Any, targets: Any) -> Any:
    policy, value = outputs.values() if isinstance(outputs, dict) else outputs
    label, score = targets.values() if isinstance(targets, dict) else targets
    return nn.CrossEntropyLoss()(policy, label) + nn.MSELoss()(value, score)


def pair(n: int = 12) -> tuple[Any, Any, Any]:
    return RNG.random((n, 3), np.float32), RNG.random((n, 5), np.float32), RNG.integers(0, 2, n)


def heads_batch(n: int = 12) -> tuple[Any, Any, Any]:
    return RNG.random((n, 4), np.float32), RNG.integers(0, 3, n), RNG.random((n, 1), np.float32)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (TwoIn, lambda a, b: (a, b)),
        (TwoIn, lambda a, b: {"right": b, "left": a}),
        (OneTuple, lambda a, b: (a, b)),
        (OneTuple, lambda a, b: [a, b]),
        (OneDict, lambda a, b: {"left": a, "right": b}),
    ],
)
def test_steps_and_predictions_of_models_of_two_inputs(kind: Any, given: Any) -> None:
    fnn.manual_seed(0)
    model, twin = kind(), TwoIn()
    twin.load_state_dict(model.state_dict())
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01))
    optimizer = optim.Adam(twin.parameters(), lr=0.01)
    for n in (12, 12, 7):
        a, b, y = pair(n)
        loss = nn.CrossEntropyLoss()(twin(a, b), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert step(given(a, b), y) == pytest.approx(loss.item(), rel=1e-5)
    a, b, _ = pair(600)  # of which 256 are predicted at a time
    x = given(a, b)
    predict = fnn.compile(model)
    found = predict(**x) if kind is TwoIn and isinstance(x, dict) else predict(*x) if kind is TwoIn else predict(x)
    np.testing.assert_allclose(found, twin(a, b).data, rtol=1e-4, atol=1e-5)


def test_gradients_of_two_inputs_are_pytorch_s() -> None:
    torch = pytest.importorskip("torch")
    model = TwoIn()
    a, b, y = pair()
    fnn.compile(model, nn.CrossEntropyLoss())((a, b), y)
    weights = {
        name: torch.tensor(p.data.astype(np.float64), requires_grad=True) for name, p in model.named_parameters()
    }
    left, right = torch.tensor(a.astype(np.float64)), torch.tensor(b.astype(np.float64))
    hidden = left @ weights["a.weight"].T + weights["a.bias"] + right @ weights["b.weight"].T + weights["b.bias"]
    logits = hidden.relu() @ weights["out.weight"].T + weights["out.bias"]
    torch.nn.functional.cross_entropy(logits, torch.tensor(y)).backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad, weights[name].grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [tuple, list, dict, PolicyValue])
@pytest.mark.parametrize("targets", [tuple, dict])
def test_models_of_two_outputs_and_losses_of_two_targets(kind: Any, targets: Any) -> None:
    fnn.manual_seed(1)
    model, twin = Heads(kind), Heads(tuple)
    twin.load_state_dict(model.state_dict())
    step = fnn.compile(model, two_losses, optim.SGD(model.parameters(), lr=0.1))
    optimizer = optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(3):
        x, label, score = heads_batch()
        outputs = twin(x)
        loss = two_losses(outputs, (fnn.Tensor(label), fnn.Tensor(score)))
        optimizer.zero_grad()
        loss.backward()
        y = {"label": label, "score": score} if targets is dict else (label, score)
        assert step(x, y) == pytest.approx(loss.item(), rel=1e-5)
        assert type(step.outputs) is kind
        values = list(step.outputs.values()) if kind is dict else step.outputs
        for found, expected in zip(values, outputs, strict=True):
            np.testing.assert_allclose(found, expected.data, rtol=1e-5, atol=1e-6)
        optimizer.step()
    found = fnn.compile(model)(heads_batch(300)[0])
    assert type(found) is kind
    assert [v.shape for v in (found.values() if kind is dict else found)] == [(300, 3), (300, 1)]


class Beside(nn.Module):
    """Logits beside a parameter, a constant, None, and lists of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.scale = nn.Linear(4, 3), nn.Parameter(np.full(3, 0.5, np.float32))

    def forward(self, x: Any) -> Any:
        return {"logits": self.out(x), "scale": self.scale, "one": fnn.ones(2), "none": None, "empty": ([], (None,))}


def scaled_loss(outputs: Any, y: Any) -> Any:
    assert outputs["none"] is None
    return nn.functional.cross_entropy(outputs["logits"] * outputs["scale"], y) * outputs["one"].mean()


def test_outputs_that_do_not_depend_on_the_input() -> None:
    fnn.manual_seed(2)
    model, twin = Beside(), Beside()
    twin.load_state_dict(model.state_dict())
    x, y, _ = heads_batch()
    histories = []
    for one, compiled in ((model, True), (twin, False)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            how = {"loss": scaled_loss, "optimizer": optim.SGD(one.parameters(), lr=0.1), "compile": compiled}
            histories.append(fnn.fit(one, x, y, batch_size=5, epochs=2, seed=0, verbose=False, **how))
    np.testing.assert_allclose(histories[0]["train_loss"], histories[1]["train_loss"], rtol=1e-5)
    np.testing.assert_allclose(model.scale.data, twin.scale.data, rtol=1e-5)
    for found in (fnn.compile(model)(x), fnn.compile(model)(fnn.Tensor(x))):
        assert found["none"] is None
        assert found["empty"] == ([], (None,))
        for name in ("logits", "scale", "one"):
            np.testing.assert_allclose(fnn.as_tensor(found[name]).detach(), twin(x)[name].detach(), rtol=1e-4)


def test_predictions_of_several_outputs_are_copies() -> None:
    predict = fnn.compile(Heads(dict))
    x, y = heads_batch(4)[0], heads_batch(4)[0]
    first = predict(x)
    kept = {name: value.copy() for name, value in first.items()}
    predict(y)
    for name in kept:
        np.testing.assert_array_equal(first[name], kept[name])


def test_an_epoch_of_several_arrays_is_its_steps() -> None:
    fnn.manual_seed(2)
    model, twin = TwoIn(), TwoIn()
    twin.load_state_dict(model.state_dict())
    a, b, y = pair(20)
    order = np.random.default_rng(0).permutation(20)
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    single = fnn.compile(twin, nn.CrossEntropyLoss(), optim.SGD(twin.parameters(), lr=0.1))
    mean = step.run_epoch((a, b), y, order, batch_size=8, progress=False)
    parts = [order[:8], order[8:16], order[16:]]
    losses = [single((a[i], b[i]), y[i]) * len(i) for i in parts]
    assert mean == pytest.approx(sum(losses) / 20, rel=1e-6)
    np.testing.assert_array_equal(model.a.weight.data, twin.a.weight.data)


def test_what_does_not_fit_is_said() -> None:
    a, b, y = pair()
    step = fnn.compile(TwoIn(), nn.CrossEntropyLoss())
    with pytest.raises(ShapeError, match=r"\(N, ...\)"):
        step.run_epoch((a, b[:-1]), y, progress=False)
    with pytest.raises(ArgumentError, match="no out"):
        fnn.compile(Heads())(heads_batch()[0], out=np.empty((12, 3), np.float32))
    with pytest.raises(GraphError, match="expected the model to return a tensor"):
        fnn.compile(Heads(lambda pair: (pair[0], 3.0)))(heads_batch()[0])  # type: ignore[arg-type]


def test_lists_of_arrays_stay_one_array_for_fastnn_s_own_layers() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    rows = [RNG.random(3, np.float32) for _ in range(4)]
    expected = np.stack(rows) @ model[0].weight.data.T + model[0].bias.data
    np.testing.assert_allclose(fnn.compile(model)(rows), expected, rtol=1e-5)
    np.testing.assert_allclose(model(rows).data, expected, rtol=1e-5)
    targets = [row[:2] for row in rows]
    mean = np.mean((expected - np.stack(targets)) ** 2)
    assert fnn.compile(model, nn.MSELoss())(rows, targets) == pytest.approx(mean, rel=1e-5)


def test_a_model_that_takes_labels_may_be_given_some_that_do_not_count() -> None:
    """As a loss may: -100, which cross-entropy leaves out."""

    class Labelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: Any, y: Any) -> Any:
            return nn.functional.cross_entropy(self.linear(x), y)

    model, x = Labelled(), np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    step = fnn.compile(model, lambda outputs, y: outputs)
    for y in (np.array([0, 1, 2, 0, 1, 2]), np.array([0, -100, 2, 0, -100, 2])):
        assert step((x, y), np.zeros(1)) == pytest.approx(model(x, y).item(), rel=1e-5)
