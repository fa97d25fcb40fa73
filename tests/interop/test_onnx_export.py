"""Models as ONNX files: ONNX Runtime's answers are the models' own, for any number of samples."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from choice_cases import SINGLE, inputs
from layer_cases import LAYERS, NO_LAYERS, RNG, normal, unit
from operator_cases import CASES, Case, drawn

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn, recipes
from fastnn.autograd import transposes
from fastnn.errors import ArgumentError, GraphError, ShapeError
from fastnn.interop.onnx.forms import FORMS
from fastnn.ops import draws, gamma, inverse_erf
from fastnn.ops.loss_sequences import CTC
from fastnn.plan.hooked import GradientHook, Seed
from fastnn.plan.lower import RULES
from fastnn.trees import flatten, is_tree


class Called(nn.Module):
    """A layer, called with several arguments."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any) -> Any:
        return self.layer(*args)


def unsettled(model: nn.Module) -> nn.Module:
    """In eval mode, with numbers of norms as after a training."""
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean[...] = normal(*module.running_mean.shape)
            module.running_var[...] = RNG.uniform(0.3, 3, module.running_var.shape)
    for parameter in model.parameters():
        parameter.data[...] += 0.1 * normal(*parameter.shape)
    return model.eval()


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(path, options)


def assert_alike(found: list[np.ndarray], expected: Any) -> None:
    leaves = flatten(expected)[0] if is_tree(expected) else [expected]
    assert len(found) == len(leaves)
    for one, other in zip(found, (leaf.numpy() for leaf in leaves), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * max(1e-30, float(np.abs(other).max(initial=0))))


def check(model: nn.Module, args: tuple[np.ndarray, ...], path: Path, batch: int | None = None) -> None:
    """With the arguments, and with fewer and more samples."""
    exported = fnn.onnx.export(model, path, inputs=args, batch=batch)
    run = session(path)
    length = args[0].shape[0]
    for count in (length,) if batch else (length, 1, length + 4):
        given = [np.resize(a, (count, *a.shape[1:])) if a.shape[:1] == (length,) else a for a in args]
        with fnn.no_grad():
            expected = model(*map(fnn.Tensor, given))
        names = [value.name for value in run.get_inputs()]
        assert names == list(exported.inputs)
        assert_alike(run.run(None, dict(zip(names, given, strict=True))), expected)


# ---- layers ----------------------------------------------------------------------------------------------------------

NO_FORM = {
    **dict.fromkeys((transposes.ConvolutionInput, transposes.ConvolutionWeight, transposes.ReLUInput,
                     transposes.Spread), "of derivatives, which no_grad leaves out"),
    **dict.fromkeys((GradientHook, Seed), "of gradients, which no_grad leaves out"),
    CTC: "adds up paths in NumPy",
    **dict.fromkeys((draws.RandintLike, draws.Permutation, draws.Multinomial, draws.Binomial, draws.Poisson,
                     draws.VonMises, gamma.StandardGamma, gamma.StandardDirichlet), "draws what ONNX lacks"),
    **dict.fromkeys((gamma.LGamma, gamma.PolyGamma, inverse_erf.ErfInv), "a function that ONNX does not have"),
}  # fmt: skip


def test_every_operator_has_a_form() -> None:
    assert set(RULES) - set(FORMS) == set(NO_FORM)


def test_every_layer_is_in_the_table() -> None:
    classes = {name for name in nn.__all__ if inspect.isclass(getattr(nn, name))}
    assert classes - set(NO_LAYERS) == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_answer_alike_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    for make, draw in LAYERS[name]:
        check(unsettled(Called(make())), draw(), tmp_path / "model.onnx")


@pytest.mark.long
@pytest.mark.parametrize("name", LAYERS)
def test_layers_come_back_from_their_files(name: str, tmp_path: Path) -> None:
    for make, draw in LAYERS[name]:
        model, args = unsettled(Called(make())), draw()
        fnn.onnx.export(model, tmp_path / "model.onnx", inputs=args)
        found = fnn.onnx.load(tmp_path / "model.onnx").eval()(*map(fnn.Tensor, args))
        leaves = flatten(found)[0] if is_tree(found) else [found]
        assert_alike([leaf.numpy() for leaf in leaves], model(*map(fnn.Tensor, args)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_operators_answer_alike_in_onnx_runtime(case: Case, tmp_path: Path) -> None:
    model, x, _ = drawn(case)
    check(model, (x,), tmp_path / "model.onnx", batch=len(x))


@pytest.mark.parametrize("name", recipes.MODELS)
def test_recipes_answer_alike_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    shape = {"cnn1d": (2, 32), "tabular": (10,)}.get(name, (1, 28, 28))
    model = unsettled(recipes.MODELS[name](shape, mean=(0.3,), std=(0.4,)))
    check(model, (unit(4, *shape),), tmp_path / "model.onnx")


# ---- operators on places ---------------------------------------------------------------------------------------------


class Chosen(nn.Module):
    """An expression of choice_cases."""

    def __init__(self, expression: Callable[..., Any]) -> None:
        super().__init__()
        self.expression = expression

    def forward(self, *tensors: Any) -> Any:
        return self.expression(fnn, F, *tensors)


BY_VALUE = {  # what no plan can know before there are values
    "index by mask", "index by row mask", "masked_select", "masked_scatter", "scatter_reduce, largest",
    "where of a condition alone",
}  # fmt: skip


WITHOUT_FORM = {
    "ctc_loss",
    "cummax",
    "mode",
    "nanmedian",
    "special",
    "special, of shares",
}  # ONNX has no such operators


@pytest.mark.parametrize("name", [name for name in SINGLE if name not in BY_VALUE | WITHOUT_FORM])
def test_expressions_that_choose_answer_alike_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    args = tuple(array.astype(np.float32) for array in inputs().values())
    check(Chosen(SINGLE[name]), args, tmp_path / "model.onnx", batch=len(args[0]))


@pytest.mark.parametrize("name", sorted(WITHOUT_FORM))
def test_what_onnx_has_no_form_for_is_named(name: str, tmp_path: Path) -> None:
    args = tuple(array.astype(np.float32) for array in inputs().values())
    with pytest.raises(GraphError, match="has no form in ONNX"):
        fnn.onnx.export(Chosen(SINGLE[name]), tmp_path / "model.onnx", inputs=args, batch=len(args[0]))


# ---- any number of samples -------------------------------------------------------------------------------------------


class Formula(nn.Module):
    def __init__(self, formula: Callable[[Any], Any]) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, x: Any) -> Any:
        return self.formula(x)


GROWING: dict[str, Callable[[Any], Any]] = {
    "centred by the batch": lambda x: x - x.mean(0) + x.var(0, unbiased=False),
    "a factor of one over N": lambda x: x * (1 / x.shape[0]) + (x.shape[0] - 1),
    "zeros for each sample": lambda x: fnn.cat([fnn.zeros(x.shape[0], 2), x, fnn.full((x.shape[0], 1), 3.0)], 1),
    "numbers of the samples": lambda x: x + fnn.arange(x.shape[0]).reshape(-1, 1) * 0.5,
    "one position for each sample": lambda x: x[fnn.arange(x.shape[0]), fnn.arange(x.shape[0]) * 0 + 2],
    "the largest, by gather": lambda x: x.gather(1, x.argmax(1, keepdim=True)),
    "sorted samples": lambda x: x.sort(0, descending=True).values,
    "all but the last sample": lambda x: fnn.cat([x[:1], x[: x.shape[0] - 1]]) + x[-1],
    "pairs of samples": lambda x: (x.unsqueeze(0) * x.unsqueeze(1)).sum(2) / 6,
    "two sizes that grow": lambda x: (x @ x.T).unsqueeze(2).expand(-1, -1, 3).reshape(x.shape[0], -1, 1, 3) / 6,
    "cut into halves": lambda x: x.reshape(x.shape[0] * 2, 3).cumsum(0),
    "entries written": lambda x: x.index_fill(1, fnn.tensor([1, 3]), 2.0).scatter_add(1, (x > 0).long(), x),
    "running": lambda x: x.cumprod(1) + x.logcumsumexp(1) + x.median(1, keepdim=True).values + x.topk(2)[0].sum(),
    "all but itself": lambda x: (x @ x.T).masked_fill(fnn.eye(x.shape[0]) > 0, -1e9).softmax(1),
    "earlier samples": lambda x: (fnn.arange(x.shape[0])[:, None] > fnn.arange(x.shape[0])).float() @ x,
    "rare functions": lambda x: x.atan2(x - 1) + x.expm1() + x.abs().log1p() + x.remainder(-0.7) + x.fmod(0.7),
}


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_with_the_number_of_samples(name: str, tmp_path: Path) -> None:
    check(Formula(GROWING[name]), (normal(4, 6),), tmp_path / "model.onnx")


def test_containers_and_recurrent_states(tmp_path: Path) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.cell = nn.GRU(5, 4), nn.LSTM(5, 4, bidirectional=True)

        def forward(self, x: Any, y: Any) -> Any:
            zeros = fnn.zeros(1, x.shape[0], 4)
            last = self.rnn(x.transpose(0, 1), zeros)[1]
            return {"last": last[0], "both": (self.cell(x.transpose(0, 1))[0].transpose(0, 1), [y])}

    check(unsettled(Model()), (normal(4, 7, 5), normal(3)), tmp_path / "model.onnx")


# ---- the file --------------------------------------------------------------------------------------------------------


def test_the_file_names_what_the_model_names(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    path = tmp_path / "model.onnx"
    exported = fnn.onnx.export(model, path, (3, 4, 4), input_names=["image"], output_names=["logits"])
    assert exported.inputs == {"image": ("N", 3, 4, 4)}
    assert exported.outputs == {"logits": ("N", 2)}
    graph = onnx.load(path).graph
    assert [node.op_type for node in graph.node] == ["Conv", "BatchNormalization", "Relu", "Flatten", "Gemm"]
    assert graph.node[0].name == "0.Conv"
    state = model.state_dict()
    found = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    assert set(found) == set(state) - {"1.num_batches_tracked"}
    assert all((value == state[name]).all() for name, value in found.items())
    assert exported.parameters == sum(value.size for value in found.values())


def test_metadata_says_what_the_model_was_trained_on(tmp_path: Path) -> None:
    model, path = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 10)), tmp_path / "model.onnx"
    data = fnn.data.load("digits")
    fnn.fit(model, data.subset(slice(64)), epochs=1, verbose=False)
    assert fnn.onnx.export(model, path, dtype="uint8").inputs == {"input": ("N", 1, 28, 28)}
    meta = session(path).get_modelmeta().custom_metadata_map
    assert json.loads(meta["classes"]) == [str(digit) for digit in range(10)]
    assert meta["outputs"] == "classes"
    assert json.loads(meta["preparation"])["shape"] == [1, 28, 28]
    images = data.images[:5]
    assert images.dtype == np.uint8
    assert_alike(session(path).run(None, {"input": images}), model.eval()(images))


def test_weights_that_are_computed_are_written_as_numbers(tmp_path: Path) -> None:
    class Normed(nn.Linear):
        def forward(self, x: Any) -> Any:
            return F.linear(x, self.weight / self.weight.norm(dim=1, keepdim=True), self.bias)

    path = tmp_path / "model.onnx"
    check(Normed(3, 2), (normal(4, 3),), path)
    assert [node.op_type for node in onnx.load(path).graph.node] == ["Gemm"]


def test_a_square_weight_and_its_transpose_are_two_arrays(tmp_path: Path) -> None:
    class Twice(nn.Linear):
        def forward(self, x: Any) -> Any:
            return x @ self.weight + 2 * (x @ self.weight.T)

    check(Twice(3, 3), (normal(4, 3),), tmp_path / "model.onnx")


class Own(fnn.Function):
    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        return np.sinc(x)


ERRORS: dict[str, tuple[type[Exception], str, Callable[[Path], Any]]] = {
    "an operator": (GraphError, r"operator Own of Formula \(1\) has no form in ONNX", lambda path: fnn.onnx.export(
        nn.Sequential(fnn.nn.Linear(2, 2)).append(Formula(Own.apply)), path, (2,))),
    "each sample": (GraphError, "for 2, 3 and 5 samples|to 2, 3 and 5 samples", lambda path: fnn.onnx.export(
        Formula(lambda x: fnn.stack([row * 2 for row in x])), path, (2,))),
    "an even number": (GraphError, "left open: for 3 samples", lambda path: fnn.onnx.export(
        Formula(lambda x: x.reshape(-1, 4)), path, (2,))),
    "values": (GraphError, "cannot be traced: .*value of a tensor", lambda path: fnn.onnx.export(
        Formula(lambda x: x * float(x.sum())), path, (2,))),
    "no shape": (ArgumentError, "expected the shape of one sample", lambda path: fnn.onnx.export(nn.ReLU(), path)),
    "both": (ArgumentError, "got both", lambda path: fnn.onnx.export(nn.ReLU(), path, (2,), inputs=normal(2, 2))),
    "no model": (ArgumentError, "expected a model", lambda path: fnn.onnx.export(len, path)),
    "names": (ArgumentError, "expected input_names with a name for each", lambda path: fnn.onnx.export(
        nn.ReLU(), path, (2,), input_names=["a", "b"])),
    "shape": (ShapeError, "expected input with 3 features", lambda path: fnn.onnx.export(nn.Linear(3, 2), path, (4,))),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_written_is_said_and_leaves_no_file(name: str, tmp_path: Path) -> None:
    kind, said, export = ERRORS[name]
    with pytest.raises(kind, match=said):
        export(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_fixed_number_of_samples_is_written_where_others_differ(tmp_path: Path) -> None:
    model = Formula(lambda x: fnn.stack([row * 2 for row in x]))
    check(model, (normal(4, 2),), tmp_path / "model.onnx", batch=4)
