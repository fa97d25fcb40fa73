"""fastnn: operator by operator ("eager"), as a compiled plan ("compiled"), as one of a model that never changes
("frozen"), or as one without some of its fusions."""

from __future__ import annotations

from typing import Any

import fastnn as fnn
from fastnn import backends, nn, optim

from .feed import Feed, batches
from .worker import Call, serve
from .workloads import MODELS, SGD, Work

WITHOUT = "compiled without "  # and a name out of fastnn.plan.FUSIONS


def prepare(work: Work, mode: str, feed: Feed) -> Call:
    if work.kind == "matmul":
        a, b = feed.matrices()
        matmul = backends.get(backends.name()).matmul
        return lambda: matmul(a, b)
    model = _model(work, feed)
    disable = (mode.removeprefix(WITHOUT),) if mode.startswith(WITHOUT) else ()
    images = feed.images(work)
    if work.kind == "inference":
        return _inference(model, mode, disable, batches((images,), work.batch))
    optimizer = optim.SGD(model.parameters(), **SGD)
    return _step(model, optimizer, mode, disable, batches((images, feed.labels(work)), work.batch))


def _model(work: Work, feed: Feed) -> nn.Sequential:
    layers: list[Any] = [nn.Normalize(*feed.statistics(work))] if work.uint8 else []
    model = nn.Sequential(*layers, *(layer.build(nn) for layer in MODELS[work.model]))
    state = model.state_dict()
    model.load_state_dict({**state, **feed.weights(work)})
    return model


def _step(model: nn.Sequential, optimizer: optim.SGD, mode: str, disable: tuple[str, ...], feed: Any) -> Call:
    loss_fn = nn.CrossEntropyLoss()
    if mode != "eager":
        compiled: Any = fnn.compile(model, loss_fn, optimizer, disable=disable)
        return lambda: compiled(*next(feed))

    def step() -> float:
        x, y = next(feed)
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _inference(model: nn.Sequential, mode: str, disable: tuple[str, ...], feed: Any) -> Call:
    if mode != "eager":
        predict: Any = fnn.compile(model, frozen=mode == "frozen", disable=disable)
        return lambda: predict(*next(feed))
    model.eval()

    def forward() -> Any:
        with fnn.no_grad():
            return model(*next(feed)).data

    return forward


if __name__ == "__main__":
    serve(prepare)
