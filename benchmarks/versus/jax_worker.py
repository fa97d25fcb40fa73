"""JAX: one jitted function a step, with donated parameters, or an inference; mode "NCHW", "NHWC", or "jit" for rows."""

from __future__ import annotations

import os
import sys
from typing import Any

if hasattr(os, "sched_setaffinity"):  # XLA's thread pool takes what the process may run on
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])

import jax
import jax.numpy as jnp
import numpy as np

from .feed import Feed, batches
from .jax_model import Model, image_axes, loss_of, optimizer_of, split
from .network import Network
from .worker import Call, serve
from .workloads import Work

jax.config.update("jax_default_prng_impl", "unsafe_rbg")  # the fastest, for dropout


def matmul(feed: Feed) -> Call:
    a, b = map(jnp.asarray, feed.matrices())
    product = jax.jit(jnp.matmul)
    return lambda: product(a, b).block_until_ready()


def prepare(network: Network, work: Work, mode: str, feed: Feed) -> Call:
    trained, running = split(feed.weights(work))
    inputs = np.ascontiguousarray(feed.inputs(work).transpose(image_axes(network.shape, mode)))
    model = Model(network, mode, feed.statistics(work) if work.uint8 else None)
    if work.kind == "inference":
        predict = jax.jit(lambda x: model(trained, running, x)[0])
        several = batches((inputs,), work.batch)
        return lambda: np.asarray(predict(*next(several)))
    initial, _ = optimizer_of(network)
    step = jax.jit(_step(network, model), donate_argnums=(0, 1, 2))
    state: Any = trained, initial(trained), running
    key = jax.random.key(0)
    targets = feed.targets(work)
    several = batches((inputs, targets.astype(np.int32) if targets.ndim == 1 else targets), work.batch)

    def call() -> float:
        nonlocal state, key
        *state, key, loss = step(*state, key, *next(several))
        return float(loss)

    return call


def _step(network: Network, model: Model) -> Any:
    loss_fn, (_, update) = loss_of(network), optimizer_of(network)

    def loss_and_running(trained: Any, running: Any, key: Any, x: Any, y: Any) -> Any:
        outputs, running = model(trained, running, x, key)
        return loss_fn(outputs, y), running

    def step(trained: Any, state: Any, running: Any, key: Any, x: Any, y: Any) -> Any:
        key, own = jax.random.split(key)
        gradient = jax.value_and_grad(loss_and_running, has_aux=True)
        (loss, running), grads = gradient(trained, running, own, x, y)
        return *update(trained, state, grads), running, key, loss

    return step


if __name__ == "__main__":
    serve(prepare, matmul)
