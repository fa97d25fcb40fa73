"""A network as JAX runs it: pure functions of parameters, running statistics, inputs and a random key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .network import Network, Node, Shape, evaluate

Parameters = dict[str, Any]
EPS, NORM_MOMENTUM = 1e-5, 0.1
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "ReLU": jax.nn.relu, "ELU": jax.nn.elu, "Sigmoid": jax.nn.sigmoid, "Tanh": jnp.tanh, "SiLU": jax.nn.silu,
    "GELU": lambda x: jax.nn.gelu(x, approximate=False),
}  # fmt: skip


def image_axes(shape: Shape, layout: str) -> tuple[int, ...]:
    """Returns how transpose() brings a batch of NCHW images, or of rows, into the layout."""
    return (0, 2, 3, 1) if layout == "NHWC" and len(shape) == 3 else tuple(range(len(shape) + 1))


def split(weights: Mapping[str, np.ndarray]) -> tuple[Parameters, Parameters]:
    """Returns what is trained, and the running statistics of batch norm."""
    arrays = {name: jnp.asarray(value) for name, value in weights.items() if "num_batches" not in name}
    running = {name: value for name, value in arrays.items() if "running" in name}
    return {name: value for name, value in arrays.items() if name not in running}, running


class Model:
    """(parameters, running statistics, x, key or None) → (outputs, new running statistics); a key means training."""

    def __init__(self, network: Network, layout: str, statistics: tuple[list[float], list[float]] | None) -> None:
        self.network, self.layout, self.statistics = network, layout, statistics
        self.rows = (1, 2) if layout == "NHWC" else (2, 3)

    def __call__(self, p: Parameters, running: Parameters, x: Any, key: Any = None) -> tuple[Any, Parameters]:
        changed = dict(running)
        if self.statistics is not None:
            mean, std = (self._along_channels(jnp.asarray(values), x) for values in self.statistics)
            x = (x.astype(jnp.float32) / 255 - mean) / std

        def apply(index: int, node: Node, inputs: list[Any]) -> Any:
            x, name = inputs[0], f"{index}."
            if node.kind == "Conv2d":
                return self._convolution(x, p, name, node)
            if node.kind == "Linear":
                y = x @ p[name + "weight"].T
                return y + p[name + "bias"] if name + "bias" in p else y
            if node.kind.startswith("BatchNorm"):
                return self._norm(x, p, changed, name, key is not None)
            if node.kind == "Dropout":
                return x if key is None else _dropout(x, node.args[0], jax.random.fold_in(key, index))
            return self._without_weights(node, inputs)

        return evaluate(self.network, x, apply), changed

    def _without_weights(self, node: Node, inputs: list[Any]) -> Any:
        x = inputs[0]
        if node.kind == "Add":
            return inputs[0] + inputs[1]
        if node.kind == "Cat":
            return jnp.concatenate(inputs, -1 if self.layout == "NHWC" else 1)
        if node.kind in ("MaxPool2d", "AvgPool2d"):
            return self._pool(x, node)
        if node.kind == "AdaptiveAvgPool2d":
            return x.mean(self.rows, keepdims=True)
        if node.kind == "Flatten":
            return (x.transpose(0, 3, 1, 2) if self.layout == "NHWC" else x).reshape(len(x), -1)
        if node.kind == "LeakyReLU":
            return jax.nn.leaky_relu(x, *node.args)
        return ACTIVATIONS[node.kind](x)

    def _along_channels(self, values: Any, x: Any) -> Any:
        return values if self.layout == "NHWC" or x.ndim == 2 else values[:, None, None]

    def _convolution(self, x: Any, p: Parameters, name: str, node: Node) -> Any:
        y = lax.conv_general_dilated(
            x, p[name + "weight"], node.pair("stride", 1), [(n, n) for n in node.pair("padding", 0)],
            rhs_dilation=node.pair("dilation", 1), feature_group_count=node.option("groups", 1),
            dimension_numbers=(self.layout, "OIHW", self.layout),
        )  # fmt: skip
        return y + self._along_channels(p[name + "bias"], y) if name + "bias" in p else y

    def _pool(self, x: Any, node: Node) -> Any:
        window, stride, padding = [1] * 4, [1] * 4, [(0, 0)] * 4
        sizes = node.pair("kernel_size", None), node.pair("stride", node.args[0]), node.pair("padding", 0)
        for axis, k, s, n in zip(self.rows, *sizes, strict=True):
            window[axis], stride[axis], padding[axis] = k, s, (n, n)
        if node.kind == "MaxPool2d":
            return lax.reduce_window(x, -jnp.inf, lax.max, window, stride, padding)
        return lax.reduce_window(x, 0.0, lax.add, window, stride, padding) / np.prod(window)

    def _norm(self, x: Any, p: Parameters, running: Parameters, name: str, training: bool) -> Any:
        mean, var = running[name + "running_mean"], running[name + "running_var"]
        if training:
            axes = (0,) if x.ndim == 2 else (0, *self.rows)
            count = x.size // mean.size
            batch_mean, batch_var = x.mean(axes), x.var(axes)
            running[name + "running_mean"] = mean + NORM_MOMENTUM * (batch_mean - mean)
            running[name + "running_var"] = var + NORM_MOMENTUM * (batch_var * count / (count - 1) - var)
            mean, var = batch_mean, batch_var
        scale = p[name + "weight"] / jnp.sqrt(var + EPS)
        return x * self._along_channels(scale, x) + self._along_channels(p[name + "bias"] - mean * scale, x)


def _dropout(x: Any, p: float, key: Any) -> Any:
    return jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0) if p else x


def loss_of(network: Network) -> Callable[[Any, Any], Any]:
    def cross_entropy(outputs: Any, y: Any) -> Any:
        logs = jax.nn.log_softmax(outputs)
        return -(jnp.take_along_axis(logs, y[:, None], 1) if y.ndim == 1 else (logs * y).sum(1)).mean()

    def squared_error(outputs: Any, y: Any) -> Any:
        return ((outputs - y) ** 2).mean()

    def policy_and_value(outputs: Any, y: Any) -> Any:
        return cross_entropy(outputs[:, :-1], y[:, :-1]) + squared_error(outputs[:, -1], y[:, -1])

    losses = {"CrossEntropyLoss": cross_entropy, "MSELoss": squared_error, "PolicyValueLoss": policy_and_value}
    return losses[network.loss]


# ---- optimisers, by PyTorch's formulas and defaults ------------------------------------------------------------------

State = tuple[Any, ...]  # trees like the parameters' and, last, the number of steps
Update = Callable[[Any, State, Any], tuple[Any, State]]  # (parameters, state, gradients) → (parameters, state)


def optimizer_of(network: Network) -> tuple[Callable[[Any], State], Update]:
    """Returns (parameters → first state, update)."""
    name, options = network.optimizer
    formula, slots = _FORMULAS[name]
    settings = {"weight_decay": 0.0, **dict(options)}

    def initial(parameters: Any) -> State:
        return (*(jax.tree.map(jnp.zeros_like, parameters) for _ in range(slots)), jnp.zeros(()))

    def update(parameters: Any, state: State, gradients: Any) -> tuple[Any, State]:
        steps = state[-1] + 1
        parts = {
            key: formula(p, gradients[key], *(slot[key] for slot in state[:-1]), steps, settings)
            for key, p in parameters.items()
        }
        slots_after = ({key: each[1 + i] for key, each in parts.items()} for i in range(slots))
        return {key: each[0] for key, each in parts.items()}, (*slots_after, steps)

    return initial, update


def _sgd(p: Any, g: Any, velocity: Any, steps: Any, settings: dict[str, Any]) -> State:
    momentum = settings.get("momentum", 0.0)
    g = g + settings["weight_decay"] * p
    velocity = momentum * velocity + g
    return p - settings["lr"] * (g + momentum * velocity if settings.get("nesterov") else velocity), velocity


def _adam(p: Any, g: Any, m: Any, v: Any, steps: Any, settings: dict[str, Any]) -> State:
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return p - settings["lr"] * (m / (1 - 0.9**steps)) / (jnp.sqrt(v / (1 - 0.999**steps)) + 1e-8), m, v


def _adamw(p: Any, g: Any, m: Any, v: Any, steps: Any, settings: dict[str, Any]) -> State:
    return _adam(p * (1 - settings["lr"] * settings["weight_decay"]), g, m, v, steps, settings)


def _rmsprop(p: Any, g: Any, square: Any, steps: Any, settings: dict[str, Any]) -> State:
    square = 0.99 * square + 0.01 * g * g
    return p - settings["lr"] * g / (jnp.sqrt(square) + 1e-8), square


_FORMULAS: dict[str, tuple[Callable[..., State], int]] = {
    "SGD": (_sgd, 1), "Adam": (_adam, 2), "AdamW": (_adamw, 2), "RMSprop": (_rmsprop, 1),
}  # fmt: skip
