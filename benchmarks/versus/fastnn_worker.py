"""fastnn: operator by operator ("eager"), as a compiled plan ("compiled"), as one of a model that never changes
("frozen"), or as one without some of its fusions."""

from __future__ import annotations

from typing import Any

import fastnn as fnn
from fastnn import backends, nn

from . import fastnn_model
from .feed import Feed, batches
from .network import Network
from .worker import Call, serve
from .workloads import Work

WITHOUT = "compiled without "  # and a name out of fastnn.plan.FUSIONS


def matmul(feed: Feed) -> Call:
    a, b = feed.matrices()
    product = backends.get(backends.name()).matmul
    return lambda: product(a, b)


def prepare(network: Network, work: Work, mode: str, feed: Feed) -> Call:
    model = fastnn_model.build(network, feed.weights(work), feed.statistics(work) if work.uint8 else None)
    disable = (mode.removeprefix(WITHOUT),) if mode.startswith(WITHOUT) else ()
    inputs = feed.inputs(work)
    if work.kind == "inference":
        return _inference(model, mode, disable, batches((inputs,), work.batch))
    return _step(network, model, mode, disable, batches((inputs, feed.targets(work)), work.batch))


def _step(network: Network, model: nn.Module, mode: str, disable: tuple[str, ...], feed: Any) -> Call:
    loss_fn, optimizer = fastnn_model.loss_of(network), fastnn_model.optimizer_of(network, model)
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


def _inference(model: nn.Module, mode: str, disable: tuple[str, ...], feed: Any) -> Call:
    if mode != "eager":
        predict: Any = fnn.compile(model, frozen=mode == "frozen", disable=disable)
        return lambda: predict(*next(feed))
    model.eval()

    def forward() -> Any:
        with fnn.no_grad():
            return model(*next(feed)).data

    return forward


if __name__ == "__main__":
    serve(prepare, matmul)
