"""What a first step does that later ones do not, in counts: a time would depend on who else is busy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import NonFiniteError
from fastnn.plan import execute, memory, step

pytestmark = pytest.mark.skipif(fnn.backends.name() != "native", reason="only native plans update within backward")

STATISTICS = (), (16,)
X, Y = np.random.default_rng(0).standard_normal((8, 3, 6, 6), np.float32), np.arange(8) % 5


class Network(nn.Module):
    """With code of its own: it is traced twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)
        self.hidden, self.out = nn.Linear(256, 32), nn.Linear(32, 5)

    def forward(self, x: Any) -> Any:
        return self.out(self.hidden(self.norm(self.conv(x)).relu().flatten(1)).relu())


def made(model: nn.Module, **options: Any) -> tuple[Any, Any]:
    optimizer = optim.Adam(model.parameters(), lr=0.01, **options)
    return fnn.compile(model, nn.CrossEntropyLoss(), optimizer), optimizer


def test_only_what_backward_updates_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions have their step at the end, where nothing can fail any more."""
    copied: list[list[Any]] = []
    keep = memory.Kept.keep

    def noted(self: Any) -> None:
        copied.append(self._pairs)
        keep(self)

    monkeypatch.setattr(memory.Kept, "keep", noted)
    model = Network()
    compiled, _ = made(model)
    compiled.prepare(X, Y)
    copied.clear()
    compiled(X, Y)
    dense = [p.data for layer in (model.hidden, model.out) for p in layer.parameters()]
    moments = [(array, copy) for pairs in copied for array, copy in pairs if array.shape not in STATISTICS]
    assert sum(array.size for array, _ in moments) == 3 * sum(p.size for p in dense)
    assert len({memory.memory_of(copy) for _, copy in moments}) == 1  # new pages in one piece


def test_what_backward_updates_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a lack of memory in a later stage, which is played here by one after the last."""
    model = Network()
    compiled, optimizer = made(model)
    before = {name: value.copy() for name, value in model.hidden.state_dict().items()}
    run = execute.Execution.run

    def failing(self: Any, *arrays: Any) -> None:
        run(self, *arrays)
        assert not np.array_equal(model.hidden.weight.data, before["weight"])
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(execute.Execution, "run", failing)
        with pytest.raises(MemoryError):
            compiled(X, Y)
    for name, value in model.hidden.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert not optimizer.state


def test_state_is_filled_once_and_again_after_an_attempt_that_failed() -> None:
    model, twin = nn.Linear(6, 5), nn.Linear(6, 5)
    twin.load_state_dict(model.state_dict())
    compiled, optimizer = made(model)
    x = X[:, 0, 0].copy()
    compiled.prepare(x, Y)
    for array in compiled.updates.states_of_all():
        assert not array.any()
        array.fill(1.0)  # which the first attempt takes as it is
    stepped = model.weight.data.copy()
    compiled(x, Y)
    assert optimizer.state[model.weight]["exp_avg"].max() > 0.8  # 0.9 · 1 + 0.1 · gradient

    compiled, optimizer = made(twin)
    with pytest.raises(NonFiniteError):
        compiled(x * np.float32(np.nan), Y)
    for array in compiled.updates.states_of_all():
        array.fill(1.0)  # as one that failed half-way may leave it
    compiled(x, Y)
    np.testing.assert_array_less(np.abs(optimizer.state[twin.weight]["exp_avg"]), 0.5)
    np.testing.assert_allclose(np.abs(twin.weight.data - stepped), 0.01, rtol=1e-3)  # Adam's first step: the rate


@pytest.mark.parametrize(("own_code", "traces"), [(False, 1), (True, 2)])
def test_traces(own_code: bool, traces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    trace = step.trace

    def noted(*args: Any) -> Any:
        graph = trace(*args)
        counted.append(len(graph.operators))
        return graph

    monkeypatch.setattr(step, "trace", noted)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    made(Network() if own_code else nn.Sequential(*layers))[0](X, Y)
    assert counted == traces * [8 if own_code else 5]


FIRST = """
import sys
import numpy as np
of_numpy = set(sys.modules)  # NumPy 1 imports numpy.ma itself
import fastnn as fnn
from fastnn import nn, optim
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
step = fnn.compile(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()))
step(np.ones((4, 1, 6, 6), np.float32), np.zeros(4, np.int64))
print(*sorted({name for name in set(sys.modules) - of_numpy if name.count(".") < 2}))
"""


def test_it_imports_nothing_heavy() -> None:
    """numpy.ma alone takes as long as making the plan."""
    found = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True).stdout.split()
    assert "fastnn.plan" in found
    assert not {"numpy.ma", "numpy.testing", "unittest"} & set(found)
