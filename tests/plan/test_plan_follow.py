"""What forward and losses read besides tensors may change between steps: a plan follows attributes, closures, globals.

The right losses are those of the same training operator by operator, from the same seeds.
"""

from __future__ import annotations

import functools
import threading
import weakref
from argparse import Namespace
from array import array
from collections import ChainMap, UserDict
from collections.abc import Callable
from contextvars import ContextVar
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from steady_models import CROSS_ENTROPY, Change, Do, Helper, Model, X, trained

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import GraphError

WEIGHT = 0.0
CONFIG = {"weight": 0.0}


def set_weight(name: str) -> Change:
    return lambda model, loss, weight: exec(f"model.{name} = weight", {"model": model, "weight": weight})


OUTSIDE: dict[str, tuple[Do, str]] = {
    "attribute": (lambda m, x, h: h * (1 + m.weight), "weight"),
    "list": (lambda m, x, h: h * (1 + m.list[0]), "list[0]"),
    "dict": (lambda m, x, h: h * (1 + m.dict["n"]), "dict['n']"),
    "namespace": (lambda m, x, h: h * (1 + m.options.weight), "options.weight"),
    "helper": (lambda m, x, h: m.helper.weighted(h), "helper.weight"),
    "slots": (lambda m, x, h: h * (1 + m.slotted.weight), "slotted.weight"),
    "getattr": (lambda m, x, h: h * (1 + getattr(m.helper, "weight")), "helper.weight"),  # noqa: B009
    "rate of an optimiser": (lambda m, x, h: h * m.optimizer.param_groups[0]["lr"], "optimizer.param_groups[0]['lr']"),
    "number in an array": (lambda m, x, h: h * (1 + float(m.number)), "number[...]"),
    "array of another type": (lambda m, x, h: h * (1 + m.number), "number[...]"),
    "array": (lambda m, x, h: h * m.live + h, "live[...]"),
    "large array": (lambda m, x, h: h + (h @ m.large[:2, :2]), "large[...]"),
    "tensor": (lambda m, x, h: h * m.tensor + h, "tensor.data[...]"),
    "tensor's value": (lambda m, x, h: h * (1 + m.tensor.data[0]), "tensor.data[...]"),
    "buffer": (lambda m, x, h: h * m.buffer + h, "buffer[...]"),
    "class": (lambda m, x, h: h * (1 + m.per_class), "__class__.per_class"),
}


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("kind", OUTSIDE)
def test_what_is_changed_between_steps_counts(kind: str, every: int) -> None:
    do, name = OUTSIDE[kind]
    losses, said, _ = trained(lambda: Model(do), True, change=set_weight(name), every=every)
    expected, _, _ = trained(lambda: Model(do), False, change=set_weight(name), every=every)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert not said


def in_a_cell() -> tuple[Any, Change]:
    weight = 0.0

    def change(model: Any, loss: Any, to: float) -> None:
        nonlocal weight
        weight = to

    return lambda outputs, y: CROSS_ENTROPY(outputs, y) * (1 + weight), change


def in_a_global() -> tuple[Any, Change]:
    def change(model: Any, loss: Any, to: float) -> None:
        global WEIGHT
        WEIGHT = to

    return lambda outputs, y: CROSS_ENTROPY(outputs, y) * (1 + WEIGHT), change


def as_a_default() -> tuple[Any, Change]:
    weights = [0.0]
    return (
        lambda outputs, y, weights=weights: CROSS_ENTROPY(outputs, y) * (1 + weights[0]),
        lambda model, loss, to: weights.__setitem__(0, to),
    )


def as_an_attribute_of_the_function() -> tuple[Any, Change]:
    def loss(outputs: Any, y: Any) -> Any:
        return CROSS_ENTROPY(outputs, y) * (1 + loss.weight)

    loss.weight = 0.0
    return loss, lambda model, loss, to: setattr(loss, "weight", to)


def in_a_partial() -> tuple[Any, Change]:
    def weighted(outputs: Any, y: Any, weight: float) -> Any:
        return CROSS_ENTROPY(outputs, y) * (1 + weight)

    return functools.partial(weighted, weight=0.0), lambda model, loss, to: loss.keywords.update(weight=to)


LOSSES: dict[str, Callable[[], tuple[Any, Change]]] = {
    "closure": in_a_cell,
    "global": in_a_global,
    "global dict": lambda: (
        lambda outputs, y: CROSS_ENTROPY(outputs, y) * (1 + CONFIG["weight"]),
        lambda model, loss, to: CONFIG.update(weight=to),
    ),
    "default argument": as_a_default,
    "attribute of a function": as_an_attribute_of_the_function,
    "partial": in_a_partial,
    "callable": lambda: (Helper(), lambda model, loss, to: setattr(loss, "weight", to)),
    "bound method": lambda: (Helper().loss, lambda model, loss, to: setattr(loss.__self__, "weight", to)),
}


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("kind", LOSSES)
def test_what_a_plain_loss_reads_is_followed(kind: str, every: int) -> None:
    global WEIGHT
    found = []
    for compile in (True, False):
        WEIGHT = CONFIG["weight"] = 0.0
        loss, change = LOSSES[kind]()
        losses, said, _ = trained(lambda: Model(lambda m, x, h: h), compile, loss, change, every)
        assert not said
        found.append(losses)
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_compiled_prediction_follows_what_is_changed() -> None:
    model = Model(lambda m, x, h: h * (1 + m.list[0]))
    predict = fnn.compile(model)
    first = predict(X)
    model.list[0] = 1.0
    np.testing.assert_allclose(predict(X), 2 * first, rtol=1e-6)
    model.do = lambda m, x, h: h * float(m.linear.bias.data[0])
    model.linear.weight.data[...] = np.abs(model.linear.weight.data)  # nothing cancels: sums round by their order
    model.linear.bias.data[...] = 1
    predict, x = fnn.compile(model), np.abs(X)
    predict(x)
    model.linear.bias.data[0] = 2
    with pytest.raises(GraphError, match="Mul in Model"):
        predict(x)
    np.testing.assert_allclose(predict(x), model.eval()(x).data, rtol=1e-6)


class Protocol:
    """Holds a number, which code reads by no name of this class's methods."""

    def __init__(self, number: float = 1.0) -> None:
        self.kept = [number]

    def set(self, number: float) -> None:
        self.kept[0] = number

    def __getattr__(self, name: str) -> float:
        if name != "number":
            raise AttributeError(name)
        return self.kept[0]

    def __getitem__(self, key: str) -> float:
        return self.kept[0]

    def __iter__(self) -> Any:
        return iter(self.kept)

    def __len__(self) -> int:
        return int(self.kept[0])

    def __contains__(self, number: float) -> bool:
        return number in self.kept

    def __bool__(self) -> bool:
        return self.kept[0] > 2

    def __float__(self) -> float:
        return self.kept[0]

    def __eq__(self, other: object) -> bool:
        return self.kept[0] == other

    def __mul__(self, other: float) -> float:
        return self.kept[0] * other


def _set_or_take_away(options: Any, number: float) -> None:
    options.__dict__.pop("rate", None)
    if number != 1:
        options.rate = number


Read = tuple[Callable[[Any], float], Any, Callable[[Any, float], Any]]  # what is read from an object, and how it is set
DICT: dict[str, float] = {"n": 1.0}
IMPLICIT: dict[str, Read] = {
    "attribute": (lambda p: p.number, Protocol(), Protocol.set),
    "item": (lambda p: p["n"], Protocol(), Protocol.set),
    "for": (lambda p: sum(p), Protocol(), Protocol.set),
    "len": (lambda p: len(p), Protocol(), Protocol.set),
    "in": (lambda p: 1.0 if 3.0 in p else 2.0, Protocol(), Protocol.set),
    "if": (lambda p: 1.0 if p else 2.0, Protocol(), Protocol.set),
    "float": (lambda p: float(p), Protocol(), Protocol.set),
    "equal": (lambda p: 1.0 if p == 3.0 else 2.0, Protocol(), Protocol.set),
    "operator": (lambda p: p * 2.0, Protocol(), Protocol.set),
    "vars": (lambda p: vars(p)["kept"][0], Protocol(), Protocol.set),
    "getattr": (lambda p: getattr(p, "rate", 1.0), SimpleNamespace(), lambda p, n: _set_or_take_away(p, n)),
    "hasattr": (lambda p: p.rate if hasattr(p, "rate") else 1.0, Namespace(), lambda p, n: _set_or_take_away(p, n)),
    "UserDict": (lambda p: p["n"], UserDict(n=1.0), lambda p, n: p.update(n=n)),
    "ChainMap": (lambda p: p["n"], ChainMap({"n": 1.0}, {}), lambda p, n: p.update(n=n)),
    "view of a dict": (lambda p: p["n"], MappingProxyType(DICT), lambda p, n: DICT.update(n=n)),
    "ContextVar": (lambda p: p.get(), ContextVar("number", default=1.0), lambda p, n: p.set(n)),
    "local": (lambda p: p.number, threading.local(), lambda p, n: setattr(p, "number", n)),
    "weak reference": (lambda p: p().number, weakref.ref(KEPT := Helper()), lambda p, n: setattr(p(), "number", n)),
    "array": (lambda p: p[0], array("f", [1.0]), lambda p, n: p.__setitem__(0, n)),
    "bytearray": (lambda p: p[0], bytearray([1]), lambda p, n: p.__setitem__(0, int(n))),
    "rate of a schedule": (
        lambda p: p.get_last_lr()[0],
        optim.lr_scheduler.LambdaLR(optim.SGD([nn.Parameter(np.ones(1))], 1.0), lambda epoch: 3.0**epoch),
        lambda p, n: p.step() if n == 3 else None,
    ),
}


@pytest.mark.parametrize("kind", IMPLICIT)
def test_what_code_reads_without_its_name_is_followed(kind: str) -> None:
    """It stood as it was at the first call, for up to nine tenths of all steps, without a word."""
    read, kept, put = IMPLICIT[kind]
    put(kept, 1.0)

    class Reads(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * self.weight * read(kept)

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(np.ones(1, np.float32))

    model = Reads()
    step = fnn.compile(model, lambda y, _: y.sum(), optim.SGD(model.parameters(), 0.0))
    predict, x = fnn.compile(model), np.ones((1, 2), np.float32)
    calls = [lambda: float(step(x, x)), lambda: float(predict(x).sum()), lambda: float(model(x).sum())]
    for number in (1.0, 3.0):
        put(kept, number)
        for _ in range(2):
            found = [call() for call in calls]
            assert found == [2 * read(kept)] * 3


@pytest.mark.parametrize("when", ["before the first step", "afterwards"])
def test_a_step_put_on_the_optimizer_counts(when: str) -> None:
    """As users clip or mask gradients: optimizer.step = mine. Compiled steps and fit made the class's."""

    def put(optimizer: Any) -> None:
        made = optimizer.step
        optimizer.step = lambda *args: ([p.grad.fill(0) for p in optimizer.param_groups[0]["params"]], made(*args))

    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    step, x, y = fnn.compile(model, nn.CrossEntropyLoss(), optimizer), np.ones((4, 3), np.float32), np.arange(4) % 2
    if when == "afterwards":
        step(x, y)
    put(optimizer)
    kept = model.weight.data.copy()
    step(x, y)
    fnn.fit(model, (x, y), optimizer=optimizer, epochs=1, verbose=False)
    np.testing.assert_array_equal(model.weight.data, kept)


def test_what_is_written_on_a_compiled_model_reaches_the_model() -> None:
    """`compiled.scale = 3.0` stayed on the wrapper, where forward does not look."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self._shift = 2.0, 0.0

        def forward(self, x: Any) -> Any:
            return x * self.scale + self._shift

    model, x = Scaled(), np.ones((2, 3), np.float32)
    compiled = fnn.compile(model)
    assert compiled(x).tolist() == [[2.0] * 3] * 2
    compiled.scale, compiled._shift, compiled.note = 3.0, 1.0, "new"
    assert (model.scale, model._shift, model.note) == (3.0, 1.0, "new")
    assert compiled(x).tolist() == [[4.0] * 3] * 2
