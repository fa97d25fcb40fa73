"""What PyTorch switches off without a GPU is off: mixed precision, DataParallel; half precision is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError

X = np.ones((2, 3), np.float32)


def test_a_program_for_mixed_precision_trains_in_float32() -> None:
    from fastnn.cuda.amp import GradScaler, autocast

    losses = []
    for context, scaler in (
        (fnn.autocast(device_type="cuda", enabled=False), fnn.amp.GradScaler("cuda", enabled=False)),
        (fnn.amp.autocast("cpu", enabled=False), fnn.GradScaler(device="cpu", enabled=False)),
        (autocast(), GradScaler()),
        (fnn.autocast("cuda"), fnn.GradScaler(enabled=True)),
    ):
        fnn.manual_seed(0)
        model = nn.DataParallel(nn.Linear(3, 1), device_ids=[0, 1])
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            with context:
                assert not fnn.is_autocast_enabled()
                loss = (model(X) ** 2).sum()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        scaler.load_state_dict(scaler.state_dict())
        assert not scaler.is_enabled()
        losses.append(loss.item())
    assert losses[0] > 0
    assert losses == losses[:1] * 4


def test_autocast_is_a_decorator_too() -> None:
    @fnn.cuda.amp.autocast(enabled=True)
    def forward(x: Any) -> Any:
        return fnn.tensor(x) * 2

    assert forward([1.0]).dtype == np.float32
    assert not fnn.amp.is_autocast_available("cpu")


@pytest.mark.parametrize("call", [lambda: fnn.autocast("cpu"), lambda: fnn.amp.autocast("cpu", np.float16)])
def test_half_precision_is_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(ArgumentError, match=r"enabled=False on the CPU: .* half precision"):
        call()
    with pytest.raises(ArgumentError, match="GradScaler: expected enabled=False"):
        fnn.GradScaler("cpu")


def test_data_parallel_is_the_module_itself() -> None:
    layer = nn.Linear(3, 2)
    parallel = nn.DataParallel(layer)
    assert parallel.module is layer
    np.testing.assert_array_equal(parallel(X).data, layer(X).data)
    assert list(parallel.state_dict()) == ["module.weight", "module.bias"]
    np.testing.assert_allclose(fnn.compile(parallel)(X), layer(X).data, rtol=1e-6)
    with pytest.raises(ArgumentError, match="expected a Module"):
        nn.DataParallel(lambda x: x)
