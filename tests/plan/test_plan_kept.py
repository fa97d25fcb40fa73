"""Tensors that forward and the loss leave in attributes, dicts and lists: each call's own numbers.

What is right is the same training without a plan, from the same seeds. Inputs, and thus all that is kept, are others at
each call, and batches of another size lie among them.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kept_models import MSE, Net, batches, compare, plain

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn
from fastnn.errors import GraphError, NonFiniteError


def features(m: Any, x: Any) -> Any:
    m.features = m.a(x).relu()
    return m.b(m.features)


def twice(m: Any, x: Any) -> Any:
    m.features = m.a(x)
    m.features = m.features.relu()
    m.input = x
    return m.b(m.features)


def gaussian(m: Any, x: Any) -> Any:
    m.mu, m.logvar = m.a(x).chunk(2, 1)
    return m.b(fnn.cat([m.mu, m.logvar.exp()], 1))


def distribution(m: Any, x: Any) -> Any:
    m.posterior = fnn.distributions.Normal(m.a(x), 1.5)
    return m.b(m.posterior.mean)


def activations(m: Any, x: Any) -> Any:
    m.activations = []
    for layer in (m.a, m.b):
        x = layer(x).tanh()
        m.activations.append(x)
    return x


def divergence(m: Any, x: Any) -> Any:
    m.kl = 0.0
    for layer in (m.a, m.b):
        x = layer(x)
        m.kl = m.kl + x.square().mean()
    return x


def attention(m: Any, x: Any) -> Any:
    m.attention = F.softmax(m.a(x) @ m.b(x).t(), -1)
    m.most = m.attention.detach().argmax(-1)
    return m.attention @ x


def in_a_dict(m: Any, x: Any) -> Any:
    m.dict["h"] = m.a(x)
    m.dict["twice"] = (m.dict["h"].detach() * 2, {"x": x})
    return m.b(m.dict["h"])


def in_slots(m: Any, x: Any) -> Any:
    m.slots[0] = m.a(x)
    m.slots[1] = m.b(m.slots[0])
    return m.slots[1]


def in_training(m: Any, x: Any) -> Any:
    h = m.a(x)
    if m.training:
        m.auxiliary = h.mean()
    return m.b(h)


OUTPUTS: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "features": (features, plain, lambda m: [m.features]),
    "set twice, and the input": (twice, plain, lambda m: [m.features, m.input]),
    "mu, logvar in the loss": (
        gaussian,
        lambda m: lambda o, y: MSE(o, y) - 0.5 * (1 + m.logvar - m.mu.square() - m.logvar.exp()).mean(),
        lambda m: [m.mu, m.logvar],
    ),
    "distribution": (
        distribution,
        lambda m: lambda o, y: MSE(o, y) - m.posterior.log_prob(y).mean(),
        lambda m: [m.posterior.loc],
    ),
    "activations in a new list": (
        activations,
        lambda m: lambda o, y: MSE(o, y) + sum(h.abs().mean() for h in m.activations),
        lambda m: m.activations,
    ),
    "a sum": (divergence, lambda m: lambda o, y: MSE(o, y) + m.kl, lambda m: [m.kl]),
    "attention": (attention, plain, lambda m: [m.attention, m.most]),
    "in a dict": (in_a_dict, plain, lambda m: [m.dict["h"], m.dict["twice"][0], m.dict["twice"][1]["x"]]),
    "in a list's slots": (in_slots, plain, lambda m: m.slots),
    "in training alone": (in_training, plain, lambda m: [m.auxiliary]),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_forward_leaves_in_attributes(kind: str) -> None:
    do, loss_of, kept = OUTPUTS[kind]
    step = compare(lambda: Net(do), loss_of, kept)
    assert len(step._executions) == 2, "a plan for each size of batch, and no other"


def test_feature_maps_of_a_convolutional_net() -> None:
    """Inside of what would be one region."""

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.norm, self.d = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
            self.out = nn.Linear(4, 6)

        def forward(self, x: Any) -> Any:
            self.first = self.norm(self.c(x.reshape(-1, 1, 2, 3).repeat(1, 1, 3, 2))).relu()
            self.second = self.d(F.max_pool2d(self.first, 2, 1)).relu()
            return self.out(self.second.mean((2, 3)))

    def loss_of(m: Any) -> Any:
        return lambda o, y: MSE(o, y) + m.first.mean() * m.second.square().mean()

    step = compare(Maps, loss_of, lambda m: [m.first, m.second])
    assert "Python" not in step.describe()


def test_what_the_loss_leaves_in_its_own_attributes() -> None:
    class Logging:
        def __init__(self, model: Any) -> None:
            self.model, self.log = model, {}
            model.loss = self

        def __call__(self, outputs: Any, y: Any) -> Any:
            loss = MSE(outputs, y)
            self.value = loss.detach()
            self.log["total"], self.log["twice"] = loss, loss.detach() * 2
            return loss

    compare(Net, Logging, lambda m: [m.loss.value, m.loss.log["total"], m.loss.log["twice"]])


def test_views_of_parameters_are_refused() -> None:
    """Whose numbers the optimiser changes, right behind the call."""
    model, (x, y) = Net(lambda m, x: (setattr(m, "weight", m.b.weight.t()), x @ m.weight)[1]), batches()[0]
    with pytest.raises(GraphError, match=r"keeps a tensor .* in Net\.weight"):
        fnn.compile(model, MSE)(x, y)


def test_masks_and_flags() -> None:
    def masked(m: Any, x: Any) -> Any:
        h = m.a(x)
        m.mask, m.count = h > 0, (h > 0).sum()
        return m.b(h * m.mask)

    compare(lambda: Net(masked), plain, lambda m: [m.mask, m.count])


def test_exports_leave_nothing_of_their_traces(tmp_path: Any) -> None:
    pytest.importorskip("onnx")
    model = Net(features)
    fnn.onnx.export(model, tmp_path / "net.onnx", (6,))
    assert not hasattr(model, "features")


def test_lists_that_are_cleared_between_calls() -> None:
    def append(m: Any, x: Any) -> Any:
        h = m.a(x)
        m.list.append(h)
        m.list.append(h * 2)
        return m.b(h)

    step = compare(lambda: Net(append), plain, lambda m: m.list, lambda m, i: m.list.clear())
    assert len(step._executions) == 2

    def append_by_name(m: Any, x: Any) -> Any:
        m.dict["a"].append(m.a(x))
        return m.b(m.dict["a"][-1])

    def anew(m: Any, i: int) -> None:
        m.dict = defaultdict(list)

    compare(lambda: Net(append_by_name), plain, lambda m: m.dict["a"], anew)


def test_lists_that_grow_are_refused_and_left_as_they_were() -> None:
    def append(m: Any, x: Any) -> Any:
        m.list.append(m.a(x))
        return m.b(m.list[-1])

    model, (x, y) = Net(append), batches()[0]
    step = fnn.compile(model, MSE)
    step(x, y)
    assert len(model.list) == 1
    with pytest.raises(GraphError, match=r"adds Net.list\[1\] to a list that grows .* clear it before each call"):
        step(x, y)
    assert len(model.list) == 1
    fnn.fit(model, (x, y), loss=MSE, epochs=1, verbose=False, compile=False)
    assert len(model.list) == 2


def test_copies_and_state_dicts_of_models_that_keep_tensors() -> None:
    model, (x, y) = Net(features), batches()[0]
    fnn.compile(model, MSE)(x, y)
    twin = copy.deepcopy(model)
    np.testing.assert_array_equal(twin.features.numpy(), model.features.numpy())
    assert list(model.state_dict()) == list(Net().state_dict())


def test_inference_keeps_what_it_computes_of_all_images_at_once() -> None:
    model, x = Net(features), np.random.default_rng(1).standard_normal((700, 6)).astype(np.float32)
    predict = fnn.compile(model)
    for images in (x, x[:4], x):
        outputs = predict(images)
        kept = model.features
        np.testing.assert_allclose(outputs, model(images).detach().numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(kept.numpy(), model.features.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_in_float64() -> None:
    compare(lambda: Net(gaussian).double(), *OUTPUTS["mu, logvar in the loss"][1:])


def test_a_failed_step_leaves_the_attributes_of_the_one_before() -> None:
    model, (x, y) = Net(features), batches()[0]
    step = fnn.compile(model, MSE)
    step(x, y)
    before = model.features
    with pytest.raises(NonFiniteError):
        step(np.full_like(x, np.inf), y)
    assert model.features is before
