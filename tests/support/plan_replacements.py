"""Random replacements of the arrays that plans hold: parameters, buffers, optimisers' state, inputs and outputs.

python tests/support/plan_replacements.py 500     tries so many; AddressSanitizer (.ci/sanitize) sees stray reads, too

One model is compiled, its twin is not; both suffer the same change after a first step. The next call has to raise a
FastnnError or to agree with the twin, nothing outside the arrays may have been written to, and with the old arrays put
back the plan has to work again.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import FastnnError

CLASSES, LOSS = 5, nn.CrossEntropyLoss()
FENCE, MARK = 16, 77  # entries on either side of an array, and what they are
Array = np.ndarray
Change = Callable[[Array, np.random.Generator], Any]

# ---- networks, optimisers, plans -------------------------------------------------------------------------------------


def normed() -> nn.Module:
    return nn.Sequential(
        nn.Normalize([0.5, 0.4], [0.3, 0.2]), nn.Conv2d(2, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, CLASSES),
    )  # fmt: skip


def wide() -> nn.Module:
    return nn.Sequential(
        nn.Normalize(0.5, 0.25), nn.Conv2d(2, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES),
    )  # fmt: skip


def strided() -> nn.Module:
    return nn.Sequential(
        nn.Normalize(0.5, 0.25), nn.Conv2d(2, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6, momentum=None), nn.Tanh(),
        nn.Flatten(), nn.Linear(54, CLASSES),
    )  # fmt: skip


def dense() -> nn.Module:
    return nn.Sequential(
        nn.Normalize(0.5, 0.25), nn.Flatten(), nn.Linear(128, 24), nn.ReLU(), nn.Linear(24, 16, bias=False),
        nn.BatchNorm1d(16), nn.Linear(16, CLASSES),
    )  # fmt: skip


NETWORKS = (normed, wide, strided, dense)
OPTIMIZERS: tuple[Callable[[Any], Any], ...] = (
    lambda p: optim.SGD(p, lr=0.1),
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    lambda p: optim.Adam(p, lr=0.01, eps=0.01),
    lambda p: optim.AdamW(p, lr=0.01, eps=0.01),
    lambda p: optim.Adagrad(p, lr=0.01, initial_accumulator_value=0.1),
    lambda p: optim.RMSprop(p, lr=0.001, eps=0.1, momentum=0.5, centered=True),
    lambda p: optim.Rprop(p, lr=0.001),
)
PLANS = ("step", "step", "clip", "accumulate", "gradients", "epoch", "predict", "predict", "frozen")


def fenced(values: Array) -> Array:
    """The same numbers between two fences of one buffer, which `fences_stand` finds by the array's base."""
    buffer = np.full(values.size + 2 * FENCE, MARK, values.dtype)
    inner = buffer[FENCE : FENCE + values.size].reshape(values.shape)
    inner[...] = values
    return inner


class Twin:
    """A model with its optimiser, and what it does in one call: compiled, or operator by operator."""

    def __init__(self, network: Callable[[], nn.Module], optimizer: Callable[[Any], Any], plan: str) -> None:
        fnn.manual_seed(3)
        self.model, self.plan = network(), plan
        for place in self.places():
            self.put(place, fenced(self.get(place)))
        self.optimizer = optimizer(self.model.parameters())
        self.call: Callable[..., Any] | None = None
        self.collected = 0

    def compile(self) -> None:
        if self.plan in ("predict", "frozen"):
            self.call = fnn.compile(self.model, frozen=self.plan == "frozen")
            return
        options = {"clip": {"clip_norm": 0.5}, "accumulate": {"accumulate": 2}}.get(self.plan, {})
        step = fnn.compile(self.model, LOSS, None if self.plan == "gradients" else self.optimizer, **options)
        self.call = step
        if self.plan == "epoch":
            self.call = lambda x, y: step.run_epoch(x, y, batch_size=max(len(x), 1), progress=False)

    def run(self, x: Any, y: Any, out: Any = None) -> Any:
        if self.call is not None:
            return self.call(x, out) if self.plan in ("predict", "frozen") else self.call(x, y)
        if self.plan in ("predict", "frozen"):
            self.model.eval()
            with fnn.no_grad():
                outputs = self.model(x).numpy()
            if out is not None:
                out[...] = outputs
            return outputs
        loss = LOSS(self.model(x), y)
        loss.backward()
        self.collected += 1
        if self.plan == "gradients" or (self.plan == "accumulate" and self.collected % 2):
            return loss.item()
        gradients = [p.grad for p in self.model.parameters()]
        factor = 0.5 if self.plan == "accumulate" else 1.0
        if self.plan == "clip":
            norm = float(np.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients)))
            factor = min(1.0, 0.5 / (norm + 1e-6))
        for grad in gradients:
            grad *= np.float32(factor)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    # A place is where an array of the model or the optimiser can be found: ("data", 3), ("buffer", layer, name), ...

    def places(self) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = [("data", i) for i in range(len(list(self.model.parameters())))]
        for i, layer in enumerate(self.model):
            found += [("buffer", i, name) for name in layer._buffers]
        return found

    def states(self) -> list[tuple[Any, ...]]:
        params = list(self.model.parameters())
        return [
            ("state", i, name)
            for i, p in enumerate(params)
            for name, value in sorted(self.optimizer.state.get(p, {}).items())
            if isinstance(value, np.ndarray)
        ]

    def get(self, place: tuple[Any, ...]) -> Any:
        if place[0] == "buffer":
            return getattr(self.model[place[1]], place[2])
        p = list(self.model.parameters())[place[1]]
        return p._data if place[0] == "data" else self.optimizer.state[p][place[2]]

    def put(self, place: tuple[Any, ...], value: Any) -> None:
        if place[0] == "buffer":
            setattr(self.model[place[1]], place[2], value)
            return
        p = list(self.model.parameters())[place[1]]
        if place[0] == "data":
            p._data = value
        else:
            self.optimizer.state[p][place[2]] = value


# ---- changes ---------------------------------------------------------------------------------------------------------


def strided_view(a: Array) -> Array:
    room = np.full((*a.shape[:-1], 2 * a.shape[-1]), MARK - 1, a.dtype) if a.ndim else np.zeros(2, a.dtype)
    view = room[..., ::2] if a.ndim else room[:1].reshape(())
    view[...] = a
    return view


def unaligned(a: Array) -> Array:
    view = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def read_only(a: Array) -> Array:
    copied = fenced(a)
    copied.flags.writeable = False
    return copied


def resized(a: Array, size: int) -> Array:
    """An array of its own memory that has already been handed out, and then becomes another in place."""
    a.resize((size,), refcheck=False)
    return a


REPLACE: dict[str, Change] = {
    "equal": lambda a, r: fenced(a),
    "other numbers": lambda a, r: fenced((a * 1.5).astype(a.dtype)),
    "smaller": lambda a, r: fenced(a.reshape(-1)[: max(a.size // 2, 1)]),
    "much smaller": lambda a, r: fenced(np.ones(1, a.dtype)),
    "empty": lambda a, r: np.zeros(0, a.dtype),
    "larger": lambda a, r: fenced(np.ones((*a.shape, 2), a.dtype)),
    "flat": lambda a, r: fenced(a.reshape(-1)),
    "one more axis": lambda a, r: fenced(a[None]),
    "reversed axes": lambda a, r: fenced(a.T),
    "float64": lambda a, r: a.astype(np.float64),
    "float16": lambda a, r: a.astype(np.float16),
    "integers": lambda a, r: a.astype(np.int32),
    "swapped bytes": lambda a, r: a.astype(a.dtype.newbyteorder()),
    "strided": lambda a, r: strided_view(a),
    "Fortran order": lambda a, r: np.asfortranarray(a),
    "backwards": lambda a, r: np.flip(np.flip(a).copy()) if a.ndim else a.copy(),
    "unaligned": lambda a, r: unaligned(a),
    "read-only": lambda a, r: read_only(a),
    "broadcast": lambda a, r: np.broadcast_to(a.reshape(-1)[:1].reshape((1,) * a.ndim), a.shape),
    "subclass": lambda a, r: a.copy().view(np.memmap),
    "masked": lambda a, r: np.ma.masked_less(a, 0.1),
    "list": lambda a, r: a.tolist(),
    "number": lambda a, r: a.dtype.type(1),
    "nothing": lambda a, r: None,
}


def _set(name: str, value: Callable[[Array], Any]) -> Callable[[Array], None]:
    return lambda a: setattr(a, name, value(a))


IN_PLACE: dict[str, Callable[[Array], Any]] = {
    "shape": _set("shape", lambda a: (a.size,)),
    "transposed shape": _set("shape", lambda a: a.shape[::-1]),
    "write": lambda a: a.setflags(write=False),
    "dtype": _set("dtype", lambda a: np.int32),
    "swapped dtype": _set("dtype", lambda a: a.dtype.newbyteorder()),
    "halved dtype": _set("dtype", lambda a: np.float16),
    "resized to one": lambda a: resized(a, 1),
    "resized to half": lambda a: resized(a, max(a.size // 2, 1)),
    "resized to twice": lambda a: resized(a, 2 * a.size),
    "numbers": lambda a: np.multiply(a, 1.5, out=a, casting="unsafe"),
}


def fences_stand(arrays: list[Any]) -> bool:
    """Of the arrays that `fenced` made, whatever became of their shapes."""
    for a in arrays:
        base = getattr(a, "base", None)
        if isinstance(base, np.ndarray) and base.ndim == 1 and base.size > 2 * FENCE and MARK in (base[0], base[-1]):
            fences = base[:FENCE], base[-FENCE:]
            if not all((fence == MARK).all() for fence in fences):
                return False
    return True


# ---- one try ---------------------------------------------------------------------------------------------------------


def batch(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    return rng.integers(0, 256, (n, 2, 8, 8)).astype(np.uint8), rng.integers(0, CLASSES, n)


def all_arrays(twin: Twin) -> dict[str, Array]:
    found = {str(place): twin.get(place) for place in (*twin.places(), *twin.states())}
    found |= {f"grad {i}": p.grad for i, p in enumerate(twin.model.parameters()) if p.grad is not None}
    return {name: a for name, a in found.items() if isinstance(a, np.ndarray)}


def assert_close(found: Any, expected: Any, what: str, by_sign: bool) -> None:
    """`by_sign`: an optimiser goes by the signs of sums, which nearly vanish for some entries, and then are chance."""
    found, expected = (np.asarray(x, np.float64) for x in (found, expected))
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, uncompiled {expected.shape}"
    bound = (0.05 if by_sign else 1e-3) * max(1.0, float(np.abs(expected).max(initial=0)))
    far = np.abs(found - expected) > bound
    assert far.sum() <= (0.2 * far.size if by_sign else 0), f"{what}: other numbers than uncompiled"


def attempt(twin: Twin, *arguments: Any) -> tuple[Any, FastnnError | None]:
    try:
        with np.errstate(all="ignore"):
            return twin.run(*arguments), None
    except FastnnError as error:
        return None, error


def change(twins: list[Twin], rng: np.random.Generator) -> str:
    """Makes the same random change to arrays of all, and says which."""
    places = twins[0].places() + 2 * twins[0].states() + 2 * [p for p in twins[0].places() if p[0] == "buffer"]
    place = places[rng.integers(len(places))]
    kind = str(rng.choice(["replace", "replace", "in place", "share"]))
    if kind == "share":
        same = [p for p in places if p != place and twins[0].get(p).dtype == twins[0].get(place).dtype]
        same = [p for p in same if twins[0].get(p).shape == twins[0].get(place).shape]
        if same:
            other = same[rng.integers(len(same))]
            for twin in twins:
                twin.put(place, twin.get(other))
            return f"{place} shares memory with {other}"
        kind = "replace"
    name = str(rng.choice(list(REPLACE if kind == "replace" else IN_PLACE)))
    if place[0] == "data" and name in ("list", "number", "nothing", "masked"):
        name = "smaller"  # a tensor's data are an array
    if place[0] == "buffer" and name in ("list", "number"):
        name = "smaller"  # modules refuse what is no array
    for twin in twins:
        old = twin.get(place)
        if kind == "replace":
            twin.put(place, REPLACE[name](old, rng))
            continue
        if name.startswith("resized"):  # needs memory of its own, and a plan that has met it
            old = old.copy()
            twin.put(place, old)
            twin.run(*batch(np.random.default_rng(5), 6))
            twin.run(*batch(np.random.default_rng(6), 6))
        try:
            IN_PLACE[name](old)
        except (ValueError, TypeError):
            return f"{place} refused {name}"
    return f"{place}: {kind}: {name}"


def inputs(rng: np.random.Generator, predicting: bool) -> tuple[str, tuple[Any, ...]]:
    """Images, labels and an array for the outputs, sometimes of an unusual kind."""
    n = int(rng.choice([6, 6, 6, 6, 1, 0, 7, 300]))
    x, y = batch(rng, n)
    out = None
    layouts = ("strided", "unaligned", "subclass", "backwards", "read-only")
    how = str(rng.choice([*["plain"] * 6, *layouts, "float", "labels"]))
    if how in layouts and n:
        x = REPLACE[how](x, rng)
    elif how == "float":
        x = (x / 255).astype(rng.choice(["f4", "f8", ">f4"]))
    elif how == "labels":
        y = y.astype(rng.choice(["u1", "i4", ">i8", "u8"]))
    if predicting and rng.random() < 0.5 and n:
        room = fenced(np.zeros((n, CLASSES), np.float32))
        out = {"strided": strided_view(room), "read-only": read_only(room)}.get(how, room)
    return f"{n} images, {how}, out {'given' if out is not None else 'not given'}", (x, y, out)


def one_try(seed: int) -> str:
    """Raises AssertionError, or whatever a plan should not raise; returns what was done, and how it ended."""
    rng = np.random.default_rng(seed)
    network, plan = NETWORKS[rng.integers(len(NETWORKS))], str(rng.choice(PLANS))
    which = int(rng.integers(len(OPTIMIZERS)))
    by_sign = which == len(OPTIMIZERS) - 1
    twins = [Twin(network, OPTIMIZERS[which], plan) for _ in range(2)]
    twins[0].compile()
    for _ in range(int(rng.integers(1, 3)) * 2):
        x, y = batch(rng, 6)
        for twin in twins:
            twin.run(x, y)
    before = [{place: twin.get(place) for place in (*twin.places(), *twin.states())} for twin in twins]
    kept = [copy.deepcopy(arrays) for arrays in before]
    done = "frozen" if plan == "frozen" else change(twins, rng)
    how, arguments = inputs(rng, plan in ("predict", "frozen"))
    said = f"seed {seed}: {network.__name__}, optimiser {which}, {plan}; {done}; {how}"
    arrays = [a for each in before for a in each.values()]
    arrays += [a for twin in twins for a in all_arrays(twin).values()]
    (found, error), (expected, refused) = (attempt(twin, *copy.deepcopy(arguments)) for twin in twins)
    assert fences_stand(arrays), f"{said}: written outside of an array"
    if error is None:
        assert refused is None, f"{said}: went on, where uncompiled: {refused}"
    if error is None and "dtype" not in done:  # which turns last bits, in which the twins differ, into first ones
        assert_close(found, expected, f"{said}: result", by_sign)
        theirs = all_arrays(twins[1])
        for name, array in all_arrays(twins[0]).items():
            if not name.startswith("grad") or name in theirs:
                assert_close(array, theirs[name], f"{said}: {name}", by_sign)
    twins[0].optimizer.state.clear()
    for place, array in kept[0].items():
        if place[0] != "state":
            twins[0].put(place, array)
    again = twins[0].run(*batch(rng, 6))
    assert np.isfinite(again).all(), f"{said}: not as before with the old arrays"
    return f"{said}: {'as uncompiled' if error is None else repr(error)}"


def tries(count: int, first: int = 0) -> Iterator[str]:
    return (one_try(seed) for seed in range(first, first + count))


if __name__ == "__main__":
    for line in tries(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0):
        print(line, flush=True)
