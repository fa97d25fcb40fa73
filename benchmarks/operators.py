"""``python -m benchmarks.operators``: operators, forward and backward, eager and compiled, against PyTorch's.

One thread, float32; PyTorch and fastnn alternate, and the least time of each counts. Each case is written once for
both: `lib` is torch or fastnn, `F` its functions. Arguments choose the cases that have one of them in their names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fnn
import fastnn.nn.functional
from benchmarks.rl import Update, least

Case = tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]  # of lib, F and tensors of these shapes
ROWS, IMAGES, SEQUENCES = (512, 256), (32, 16, 28, 28), (32, 64, 64)
RNG = np.random.default_rng(0)
PLACES, LABELS = RNG.integers(0, 256, (512, 64)), RNG.integers(0, 1000, (32, 64))
MASK = RNG.random(ROWS) < 0.3

CASES: dict[str, Case] = {
    **{
        name: (lambda lib, F, x, name=name: getattr(lib, name)(x), (ROWS,))
        for name in ("exp", "log1p", "sin", "erf", "rsqrt", "square", "abs", "sigmoid", "tanh")
    },
    **{
        name: (lambda lib, F, x, name=name: getattr(F, name)(x), (ROWS,))
        for name in ("relu6", "hardswish", "softplus", "mish", "logsigmoid", "softsign", "celu", "selu")
    },
    "add, broadcast": (lambda lib, F, x, y: x + y, (ROWS, (256,))),
    "mul": (lambda lib, F, x, y: x * y, (ROWS, ROWS)),
    "maximum": (lambda lib, F, x, y: lib.maximum(x, y), (ROWS, ROWS)),
    "lerp": (lambda lib, F, x, y: lib.lerp(x, y, 0.3), (ROWS, ROWS)),
    "where": (lambda lib, F, x, y: lib.where(lib.from_numpy(MASK), x, y), (ROWS, ROWS)),
    "masked_fill": (lambda lib, F, x: x.masked_fill(lib.from_numpy(MASK), 0.0), (ROWS,)),
    "sum, dim 0": (lambda lib, F, x: x.sum(0), (ROWS,)),
    "mean, dim 1": (lambda lib, F, x: x.mean(1), (ROWS,)),
    "amax": (lambda lib, F, x: x.amax(1), (ROWS,)),
    "prod": (lambda lib, F, x: x.prod(1), (ROWS,)),
    "var": (lambda lib, F, x: x.var(1), (ROWS,)),
    "logsumexp": (lambda lib, F, x: x.logsumexp(1), (ROWS,)),
    "norm": (lambda lib, F, x: x.norm(dim=1), (ROWS,)),
    "cumsum": (lambda lib, F, x: x.cumsum(1), (ROWS,)),
    "sort": (lambda lib, F, x: x.sort(1)[0], (ROWS,)),
    "topk": (lambda lib, F, x: x.topk(5)[0], (ROWS,)),
    "gather": (lambda lib, F, x: x.gather(1, lib.from_numpy(PLACES)), (ROWS,)),
    "cat": (lambda lib, F, x, y: lib.cat([x, y], 1), (ROWS, ROWS)),
    "stack": (lambda lib, F, x, y: lib.stack([x, y]), (ROWS, ROWS)),
    "pad": (lambda lib, F, x: F.pad(x, (1, 1, 1, 1)), (IMAGES,)),
    "bmm": (lambda lib, F, x, y: x @ y, (SEQUENCES, SEQUENCES)),
    "einsum": (lambda lib, F, x, y: lib.einsum("bij,bkj->bik", x, y), (SEQUENCES, SEQUENCES)),
    "embedding": (lambda lib, F, w: F.embedding(lib.from_numpy(LABELS), w), ((1000, 64),)),
    "layer_norm": (lambda lib, F, x, w, b: F.layer_norm(x, (64,), w, b), (SEQUENCES, (64,), (64,))),
    "group_norm": (lambda lib, F, x, w, b: F.group_norm(x, 4, w, b), (IMAGES, (16,), (16,))),
    "conv1d": (lambda lib, F, x, w: F.conv1d(x, w, padding=2), ((32, 16, 256), (32, 16, 5))),
    "conv_transpose2d": (lambda lib, F, x, w: F.conv_transpose2d(x, w, stride=2), ((32, 32, 7, 7), (32, 16, 3, 3))),
    "avg_pool1d": (lambda lib, F, x: F.avg_pool1d(x, 2), ((32, 16, 256),)),
    "max_pool1d": (lambda lib, F, x: F.max_pool1d(x, 2), ((32, 16, 256),)),
    "adaptive_avg_pool2d": (lambda lib, F, x: F.adaptive_avg_pool2d(x, (7, 7)), (IMAGES,)),
    "interpolate": (lambda lib, F, x: F.interpolate(x, scale_factor=2), ((32, 16, 14, 14),)),
    "attention": (
        lambda lib, F, q, k, v: F.scaled_dot_product_attention(q, k, v),
        ((8, 4, 64, 16), (8, 4, 64, 16), (8, 4, 64, 16)),
    ),
    "smooth_l1_loss": (lambda lib, F, x, y: F.smooth_l1_loss(x, y.detach()), (ROWS, ROWS)),
    "huber_loss": (lambda lib, F, x, y: F.huber_loss(x, y.detach()), (ROWS, ROWS)),
    "kl_div": (lambda lib, F, x, y: F.kl_div(x, y.detach(), reduction="batchmean"), (ROWS, ROWS)),
    "cosine_similarity": (lambda lib, F, x, y: F.cosine_similarity(x, y), (ROWS, ROWS)),
}


class Applied(fnn.nn.Module):
    """The case as a model whose parameters are its tensors, so that all have gradients."""

    def __init__(self, call: Callable[..., Any], arrays: list[np.ndarray]) -> None:
        super().__init__()
        self.call = call
        self.tensors = fnn.nn.ParameterList([fnn.nn.Parameter(array) for array in arrays])

    def forward(self, _: Any) -> Any:
        return self.call(fnn, fnn.nn.functional, *self.tensors)


def updates(name: str) -> tuple[Update, Update, Update]:
    """PyTorch's forward and backward, fastnn's eager, and fastnn's compiled."""
    import torch

    call, shapes = CASES[name]
    arrays = [RNG.uniform(0.1, 1, shape).astype(np.float32) for shape in shapes]

    def eager(lib: Any) -> Update:
        tensors = [lib.tensor(array, requires_grad=True) for array in arrays]

        def update() -> None:
            for tensor in tensors:
                tensor.grad = None
            call(lib, lib.nn.functional, *tensors).sum().backward()

        return update

    model = Applied(call, arrays)
    parameters = list(model.parameters())
    step, start = fnn.compile(model, lambda outputs, _: outputs.sum()), np.ones((1, 1), np.float32)

    def compiled() -> None:
        for parameter in parameters:
            parameter.grad = None
        step(start, start)

    return eager(torch), eager(fnn), compiled


def main() -> None:
    """Prints a table."""
    import torch

    torch.set_num_threads(1)
    fnn.set_num_threads(1)
    print(f"{'':22s} {'PyTorch':>10s} {'eager':>10s} {'':7s} {'compiled':>10s}")
    for name in CASES:
        if len(sys.argv) == 1 or any(part in name for part in sys.argv[1:]):
            other, eager, compiled = least(updates(name))
            ratios = f"{1e6 * eager:8.0f}us {other / eager:6.2f}x {1e6 * compiled:8.0f}us {other / compiled:6.2f}x"
            print(f"{name:22s} {1e6 * other:8.0f}us {ratios}", flush=True)


if __name__ == "__main__":
    main()
