"""A program as users write them, with types, which `mypy --strict` accepts (tests/test_typing.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_type

import fastnn as fnn
from fastnn import Tensor, nn, optim
from fastnn.nn import functional as F
from fastnn.utils.data import DataLoader, TensorDataset


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.scale = nn.Parameter(fnn.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.scale * self.norm(self.conv(x)))


def build(classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 8, 3), Residual(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


def train(model: nn.Module, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> list[float]:
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1)
    criterion = nn.CrossEntropyLoss()
    losses: list[float] = []
    for x, y in DataLoader(TensorDataset(images, labels), batch_size=4, shuffle=True):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    scheduler.step()
    return losses


x = fnn.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
assert_type(x, Tensor)
assert_type(x + 1, Tensor)
assert_type(2 * x, Tensor)
assert_type(x @ x, Tensor)
assert_type(-x, Tensor)
assert_type(x > 0, Tensor)
assert_type(x == x, Tensor)
assert_type(x[0], Tensor)
assert_type(x.sum(), Tensor)
assert_type(x.reshape(4), Tensor)
assert_type(x.relu(), Tensor)
assert_type(fnn.cat([x, x], 1), Tensor)
assert_type(fnn.zeros(2, 3), Tensor)
assert_type(F.softmax(x, 1), Tensor)
assert_type(x.shape, "tuple[int, ...]")
assert_type(x.ndim, int)
assert_type(x.requires_grad, bool)

model = build(3)
assert_type(model.train(), nn.Sequential)
assert_type(model.eval(), nn.Sequential)
assert_type(len(model), int)
assert_type([name for name, _ in model.named_parameters()], "list[str]")
for parameter in model.parameters():
    assert_type(parameter, nn.Parameter)
assert_type(nn.Linear(2, 3).weight, nn.Parameter)
assert_type(nn.Linear(2, 3).in_features, int)

losses = train(model, np.zeros((8, 1, 8, 8), np.float32), np.zeros(8, np.int64))
state = model.state_dict()
model.load_state_dict(state)

history = fnn.fit(model, (np.zeros((8, 1, 8, 8), np.float32), np.zeros(8, np.int64)), epochs=1, verbose=False)
assert_type(history, fnn.History)
predicted: npt.NDArray[Any] = fnn.predict(model, np.zeros((2, 1, 8, 8), np.float32))

# Mistakes that are found: mypy complains of an ignored line without one.
loss: float = fnn.zeros(2)  # type: ignore[assignment]
nn.Linear("two", 3)  # type: ignore[arg-type]
fnn.fit(model)  # type: ignore[call-arg]
