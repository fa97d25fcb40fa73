"""JAX: one jitted function a step, with donated parameters, or an inference; mode "NCHW" or "NHWC"."""

from __future__ import annotations

import os
import sys
from typing import Any

if hasattr(os, "sched_setaffinity"):  # XLA's thread pool takes what the process may run on
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .feed import Feed, batches
from .worker import Call, serve
from .workloads import MODELS, SGD, Work

Parameters = dict[str, Any]
EPS, NORM_MOMENTUM = 1e-5, 0.1


def prepare(work: Work, mode: str, feed: Feed) -> Call:
    if work.kind == "matmul":
        a, b = map(jnp.asarray, feed.matrices())
        product = jax.jit(jnp.matmul)
        return lambda: product(a, b).block_until_ready()
    weights = {name: jnp.asarray(value) for name, value in feed.weights(work).items() if "num_batches" not in name}
    images = feed.images(work)
    if mode == "NHWC":
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    network = Network(work, mode, feed)
    running = {name: value for name, value in weights.items() if "running" in name}
    trained = {name: value for name, value in weights.items() if name not in running}
    if work.kind == "inference":
        predict = jax.jit(lambda x: network(trained, running, x, False)[0])
        several = batches((images,), work.batch)
        return lambda: np.asarray(predict(*next(several)))
    step = jax.jit(_step(network), donate_argnums=(0, 1, 2))
    state = trained, jax.tree.map(jnp.zeros_like, trained), running
    several = batches((images, feed.labels(work).astype(np.int32)), work.batch)

    def call() -> float:
        nonlocal state
        *new, loss = step(*state, *next(several))
        state = tuple(new)
        return float(loss)

    return call


def _step(network: Network) -> Any:
    def loss_of(trained: Parameters, running: Parameters, x: Any, y: Any) -> Any:
        logits, running = network(trained, running, x, True)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean(), running

    def step(trained: Parameters, velocity: Parameters, running: Parameters, x: Any, y: Any) -> Any:
        (loss, running), grads = jax.value_and_grad(loss_of, has_aux=True)(trained, running, x, y)
        velocity = jax.tree.map(lambda v, g: SGD["momentum"] * v + g, velocity, grads)
        trained = jax.tree.map(lambda p, v: p - SGD["lr"] * v, trained, velocity)
        return trained, velocity, running, loss

    return step


class Network:
    """(parameters, running statistics, images, whether training) → (logits, new running statistics)."""

    def __init__(self, work: Work, layout: str, feed: Feed) -> None:
        self.layers = list(enumerate(MODELS[work.model], int(work.uint8)))
        self.layout = layout
        self.rows, self.channels = ((1, 2), 3) if layout == "NHWC" else ((2, 3), 1)
        self.statistics = feed.statistics(work) if work.uint8 else None

    def __call__(self, p: Parameters, running: Parameters, x: Any, training: bool) -> tuple[Any, Parameters]:
        running = dict(running)
        if self.statistics is not None:
            mean, std = (self._along_channels(jnp.asarray(values)) for values in self.statistics)
            x = (x.astype(jnp.float32) / 255 - mean) / std
        for index, layer in self.layers:
            name = f"{index}."
            if layer.kind == "Conv2d":
                x = self._convolution(x, p, name, dict(layer.options).get("padding", 0))
            elif layer.kind == "BatchNorm2d":
                x = self._norm(x, p, running, name, training)
            elif layer.kind == "ReLU":
                x = jax.nn.relu(x)
            elif layer.kind == "MaxPool2d":
                window = [layer.args[0] if axis in self.rows else 1 for axis in range(4)]
                x = lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")
            elif layer.kind == "AdaptiveAvgPool2d":
                x = x.mean(self.rows, keepdims=True)
            elif layer.kind == "Flatten":
                x = (x.transpose(0, 3, 1, 2) if self.channels == 3 else x).reshape(len(x), -1)
            else:
                x = x @ p[name + "weight"].T + p[name + "bias"]
        return x, running

    def _along_channels(self, values: Any) -> Any:
        return values if self.channels == 3 else values[:, None, None]

    def _convolution(self, x: Any, p: Parameters, name: str, padding: int) -> Any:
        dimensions = (self.layout, "OIHW", self.layout)
        weight = p[name + "weight"]
        y = lax.conv_general_dilated(x, weight, (1, 1), [(padding, padding)] * 2, dimension_numbers=dimensions)
        return y + self._along_channels(p[name + "bias"]) if name + "bias" in p else y

    def _norm(self, x: Any, p: Parameters, running: Parameters, name: str, training: bool) -> Any:
        mean, var = running[name + "running_mean"], running[name + "running_var"]
        if training:
            axes = (0, *self.rows)
            count = x.size // mean.size
            batch_mean, batch_var = x.mean(axes), x.var(axes)
            running[name + "running_mean"] = mean + NORM_MOMENTUM * (batch_mean - mean)
            running[name + "running_var"] = var + NORM_MOMENTUM * (batch_var * count / (count - 1) - var)
            mean, var = batch_mean, batch_var
        scale = p[name + "weight"] / jnp.sqrt(var + EPS)
        return x * self._along_channels(scale) + self._along_channels(p[name + "bias"] - mean * scale)


if __name__ == "__main__":
    serve(prepare)
