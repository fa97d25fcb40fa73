"""`export_c`: a model as one C99 file without dependencies."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastnn import files
from fastnn.arrays import without_numbers
from fastnn.checks import takes_one
from fastnn.config import version
from fastnn.data.about import about
from fastnn.errors import ArgumentError, GraphError, NonFiniteError
from fastnn.interop.c import quantize
from fastnn.interop.c.fold import constants, fold
from fastnn.interop.c.kernels import FUNCTIONS
from fastnn.interop.c.lower import CEmitter
from fastnn.interop.c.memory import plan
from fastnn.interop.c.source import described, in_comment, source_of, weight_bytes
from fastnn.nn import Module
from fastnn.nn.modes import mode
from fastnn.plan.inputs import Inputs
from fastnn.plan.steady import undone
from fastnn.plan.trace import Graph, trace
from fastnn.tensors import no_grad
from fastnn.train.evaluate import normalizes
from fastnn.train.finite import check_model
from fastnn.trees import ARRAY

__all__ = ["Exported", "export_c"]

_TAKEN = """auto break case char const continue default do double else enum extern float for goto if inline int long
    register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
    main m x y"""


@dataclass(frozen=True, repr=False)
class Exported:
    """What `export_c` wrote; its repr is the text.

    Attributes:
        path: the file.
        inputs, outputs: shapes of one sample and of what comes out.
        constants: bytes of weights and other constants.
        memory: bytes of static memory for what is computed.
        macs: multiply-accumulates of one call.
        int8: what quantization cost (see `Quantized`); None without.
    """

    path: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: int
    memory: int
    macs: int
    int8: quantize.Quantized | None = None

    def to_dict(self) -> dict[str, Any]:
        """The attributes, for JSON."""
        return asdict(self)

    def __repr__(self) -> str:
        macs = f"{self.macs / 1e6:,.2f} million" if self.macs >= 1e6 else f"{self.macs:,}"
        said = (
            f"{self.path}: {self.constants / 1000:,.1f} kB of constants, {self.memory / 1000:,.1f} kB of memory, "
            f"{macs} multiply-accumulates"
        )
        return said if self.int8 is None else f"{said}\n{self.int8}"


def export_c(
    model: Module,
    path: str | os.PathLike[str],
    shape: Sequence[int] | None = None,
    *,
    name: str = "predict",
    int8: Any = None,
    test: Any = None,
) -> Exported:
    """Writes a model to `path` as one C99 file: ``void predict(const float *x, float *y)``, for one sample.

    The file needs no library but C's own (math.h), allocates nothing, and says in its head what memory it takes. The
    model is written as in eval mode, batch norms folded into the weights before them, and gives the same outputs within
    rounding (1e-5). It may be any module whose operators have a form in C; it is traced, as `fnn.compile` traces it.

    Args:
        model: takes x (N, *shape) in float32, and returns one array (N, ...). Images are floats from 0 to 1 in C.
        path: the file; whatever was there stays until the new one is complete.
        shape: of one sample; not needed for a model that knows what it was trained on.
        name: of the C function.
        int8: data to calibrate on (a `Dataset`, samples (N, *shape), or a pair of samples and labels): the weights of
            convolutions and dense layers are written as eight bits, with a scale for each channel, in a quarter of the
            memory. A few hundred samples suffice.
        test: likewise, data to measure the cost of int8 on; by default those that it was calibrated on.

    Returns:
        Exported: memory, multiply-accumulates, and what int8 cost in accuracy.

    Raises:
        GraphError: an operator without a form in C, by name, or a model that needs the values of its input.
        ArgumentError: no shape, or no name that C can have. ShapeError: a shape that the model does not take.
        NonFiniteError: weights that are not finite. OSError: the file cannot be written.

    >>> import tempfile, fastnn as fnn
    >>> model = fnn.nn.Sequential(fnn.nn.Linear(4, 8), fnn.nn.ReLU(), fnn.nn.Linear(8, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     exported = fnn.interop.export_c(model, f"{folder}/model.c", (4,))
    >>> exported.outputs, exported.constants, exported.memory
    ((3,), 268, 32)
    """
    if not isinstance(model, Module):
        raise ArgumentError(f"export_c: expected a model (an nn.Module), got {type(model).__name__}")
    if (
        not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)
        or name in (*_TAKEN.split(), *FUNCTIONS)
        or re.fullmatch(r"w\d+", name)
    ):
        raise ArgumentError(f"export_c: expected name to be one that a C function can have, got {name!r}")
    check_model("export_c", model)
    takes_one("export_c", model.forward)
    shape = _shape_of(model, shape)
    with mode(model, training=False), no_grad():
        graph = traced(model, shape, 1)
        known = constants(graph)
        folded = fold(graph, known)
        quantized = None
        if int8 is not None:
            data = int8, int8 if test is None else test
            quantized = quantize.quantize(lambda n: traced(model, shape, n), folded, model, *data)
        emitter = CEmitter(graph, folded, known, lambda module: _name_of(model, module))
    weights = [array for of in folded.weights.values() for array in (of.weight, of.bias) if array is not None]
    written = [buffer.array for buffer in emitter.buffers if buffer.kind == "w" and buffer.name]
    # Infinities may stand in a mask that is no layer's weight.
    if not all(np.isfinite(array).all() for array in weights) or any(np.isnan(array).any() for array in written):
        raise NonFiniteError("export_c: expected finite weights, got NaN or infinite ones")
    scratch = plan(emitter.statements)
    outputs = graph.results[0].shape[1:]
    x, y = described(shape, _scale(model)), described(outputs, _meaning(model))
    text = source_of(emitter, name, scratch, x, y, version())
    files.write_atomically(path, text.encode())
    constant_bytes = weight_bytes(emitter.buffers)
    return Exported(os.fspath(path), shape, outputs, constant_bytes, 4 * scratch, emitter.macs, quantized)


def traced(model: Module, shape: tuple[int, ...], count: int) -> Graph:
    """The model's operators for so many samples."""
    try:
        with undone(model):
            graph = trace(model, None, Inputs([without_numbers((count, *shape), np.dtype(np.float32))], (ARRAY,)))
    except GraphError as error:
        raise GraphError(f"export_c: the model cannot be traced: {error.message.removeprefix('compile: ')}") from None
    if len(graph.results) != 1 or graph.structure is not ARRAY:
        raise GraphError(f"export_c: expected a model that returns one array, got {len(graph.results)} in a container")
    if graph.results[0].shape[:1] != (count,):
        raise GraphError(f"export_c: expected outputs (N, ...) for N samples, got {graph.results[0].shape} for {count}")
    return graph


def _shape_of(model: Module, shape: Sequence[int] | None) -> tuple[int, ...]:
    known = about(model)
    given = known.shape if shape is None and known is not None else shape
    if given is None:
        raise ArgumentError("export_c: expected the shape of one sample, export_c(model, path, (1, 28, 28)), got none")
    if not isinstance(given, Sequence) or not all(isinstance(size, (int, np.integer)) and size > 0 for size in given):
        raise ArgumentError(f"export_c: expected shape to be positive whole numbers, got {given!r}")
    return tuple(map(int, given))


def _scale(model: Module) -> str:
    return "; pixels from 0 to 1" if normalizes(model) else ""


def _meaning(model: Module) -> str:
    known = about(model)
    return f"; classes: {in_comment(known.classes)}" if known is not None and known.classes else ""


def _name_of(model: Module, module: Any) -> str:
    for name, found in model.named_modules():
        if found is module:
            return f"{type(module).__name__} ({name})" if name else type(module).__name__
    return type(module).__name__
