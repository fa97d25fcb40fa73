"""PyTorch, in the mode asked for: "eager" is NCHW, "channels_last", "compile" is torch.compile; "1 thread" after any.

For inference there is "TorchScript", too: torch.jit.optimize_for_inference. The optimiser is the fused one, zeroing
sets gradients to None, inference runs under inference_mode. uint8 images are normalised in whichever of three ways is
the fastest for the batch, before anything is timed.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch

from . import torch_model
from .feed import Feed, batches
from .network import Network
from .worker import Call, serve
from .workloads import Work

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


def matmul(feed: Feed) -> Call:
    a, b = torch.from_numpy(feed.matrices())
    return lambda: torch.mm(a, b)


def prepare(network: Network, work: Work, mode: str, feed: Feed) -> Call:
    layout, one, _ = mode.partition(ONE_THREAD)
    torch.set_num_threads(1 if one else _threads)
    inputs = torch.from_numpy(feed.inputs(work))
    model: Any = torch_model.build(network, feed.weights(work))
    if work.uint8:
        first = torch_model.normalise(*feed.statistics(work), inputs[: work.batch], fixed=layout == "compile")
        model = torch.nn.Sequential(first, model)
    if layout == "channels_last":
        inputs = inputs.to(memory_format=torch.channels_last)
        model = model.to(memory_format=torch.channels_last)
    if work.kind == "inference":
        return _inference(model, layout, inputs[: work.batch], batches((inputs,), work.batch))
    targets = torch.from_numpy(feed.targets(work))
    return _step(network, model, layout == "compile", batches((inputs, targets), work.batch))


def _step(network: Network, model: torch.nn.Module, compiled: bool, feed: Any) -> Call:
    optimizer = torch_model.optimizer_of(network, model)
    loss_fn = torch_model.loss_of(network)

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


def _inference(model: torch.nn.Module, mode: str, sample: Tensor, feed: Any) -> Call:
    model.eval()
    forward: Any = model
    if mode == "compile":
        forward = torch.compile(model)
    elif mode == "TorchScript":
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            forward = torch.jit.optimize_for_inference(torch.jit.trace(model, sample))

    def call() -> Any:
        with torch.inference_mode():
            return forward(*next(feed)).numpy()

    return call


if __name__ == "__main__":
    serve(prepare, matmul, set_up)
