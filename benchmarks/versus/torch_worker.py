"""PyTorch, in the mode asked for: "eager" is NCHW, "channels_last", "compile" is torch.compile; "1 thread" after any.

The optimiser is the fused one, zeroing sets gradients to None, inference runs under inference_mode. uint8 images are
normalised in whichever of three ways is the fastest for the batch, before anything is timed.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

from .feed import Feed, batches
from .worker import Call, serve
from .workloads import MODELS, SGD, Work

Tensor = torch.Tensor
ONE_THREAD = ", 1 thread"
_threads = 1


def set_up(threads: int) -> None:
    global _threads
    _threads = threads
    torch.set_num_threads(threads)
    if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":
        from torch._inductor import config

        config.cpp.simdlen = 256


def prepare(work: Work, mode: str, feed: Feed) -> Call:
    layout, one, _ = mode.partition(ONE_THREAD)
    torch.set_num_threads(1 if one else _threads)
    if work.kind == "matmul":
        a, b = torch.from_numpy(feed.matrices())
        return lambda: torch.mm(a, b)
    images = torch.from_numpy(feed.images(work))
    model: Any = _model(work, feed, images[: work.batch], fixed=layout == "compile")
    if layout == "channels_last":
        images = images.to(memory_format=torch.channels_last)
        model = model.to(memory_format=torch.channels_last)
    if work.kind == "inference":
        return _inference(model, layout == "compile", batches((images,), work.batch))
    labels = torch.from_numpy(feed.labels(work))
    return _step(model, layout == "compile", batches((images, labels), work.batch))


def _step(model: torch.nn.Module, compiled: bool, feed: Any) -> Call:
    optimizer = torch.optim.SGD(model.parameters(), **SGD, fused=True)
    loss_fn = torch.nn.CrossEntropyLoss()

    def forward(x: Tensor, y: Tensor) -> Any:
        return loss_fn(model(x), y)

    forward = torch.compile(forward) if compiled else forward

    def step() -> float:
        loss = forward(*next(feed))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _inference(model: torch.nn.Module, compiled: bool, feed: Any) -> Call:
    model.eval()
    forward: Any = torch.compile(model) if compiled else model

    def call() -> Any:
        with torch.inference_mode():
            return forward(*next(feed)).numpy()

    return call


# ---- the model -------------------------------------------------------------------------------------------------------


def _model(work: Work, feed: Feed, sample: Tensor, fixed: bool) -> torch.nn.Sequential:
    layers = [layer.build(torch.nn) for layer in MODELS[work.model]]
    if work.uint8:
        layers.insert(0, _normalise(*feed.statistics(work), sample, fixed))
    model = torch.nn.Sequential(*layers)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in feed.weights(work).items()})
    return model


def _normalise(mean: Iterable[float], std: Iterable[float], sample: Tensor, fixed: bool) -> torch.nn.Module:
    """Its fastest form on the sample; the first one for torch.compile, which makes one loop of it."""
    scale = 1 / (255 * torch.tensor(list(std))).reshape(1, -1, 1, 1)
    shift = -torch.tensor(list(mean)).reshape(1, -1, 1, 1) * 255 * scale
    if fixed:
        return Normalise(lambda x: x.float() * scale + shift)
    ways: list[Callable[[Tensor], Tensor]] = [lambda x: x.float().mul_(scale).add_(shift)]
    if scale.numel() == 1:
        factor, table = scale.item(), (torch.arange(256) * scale.item() + shift).reshape(-1)
        ways.append(lambda x: torch.add(shift, x, alpha=factor))
        ways.append(lambda x: torch.nn.functional.embedding(x.int(), table[:, None])[..., 0])
    return Normalise(min(ways, key=lambda way: _median_time(way, sample)))


class Normalise(torch.nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _median_time(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    times = []
    for _ in range(20):
        started = time.perf_counter()
        function(x)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    serve(prepare, set_up)
