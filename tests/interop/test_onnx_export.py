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
from operator_cases import CASES, Case, drawn

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn, recipes
from fastnn.autograd import transposes
from fastnn.errors import ArgumentError, GraphError, ShapeError
from fastnn.interop.onnx.forms import FORMS
from fastnn.ops import draws
from fastnn.plan.lower import RULES
from fastnn.trees import flatten, is_tree

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def unit(*shape: int) -> np.ndarray:
    return RNG.uniform(0.05, 0.95, shape).astype(np.float32)


def below(most: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, most, shape)


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

X3, X4, FLAT = (4, 6, 8), (4, 6, 8, 10), (4, 6)
Layer = tuple[Callable[[], nn.Module], Callable[[], tuple[np.ndarray, ...]]]


def of(shape: tuple[int, ...], *makers: Callable[[], nn.Module]) -> list[Layer]:
    return [(make, lambda: (normal(*shape),)) for make in makers]


def pairs(*makers: Callable[[], nn.Module], target: Callable[[], np.ndarray] = lambda: unit(4, 6)) -> list[Layer]:
    return [(make, lambda: (unit(4, 6), target())) for make in makers]


def signs() -> np.ndarray:
    return np.where(RNG.random((4, 6)) > 0.5, 1, -1).astype(np.float32)


def states(*shape: int) -> tuple[np.ndarray, ...]:
    return normal(5, 3, 6), normal(*shape)


LAYERS: dict[str, list[Layer]] = {
    **{name: of(X3, getattr(nn, name)) for name in (
        "CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU",
        "LogSigmoid", "Mish", "PReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign",
        "Tanh", "Tanhshrink", "Dropout", "AlphaDropout", "Dropout1d", "Flatten",
    )},
    **{name: of(X4, getattr(nn, name)) for name in ("Dropout2d", "Softmax2d", "GlobalAvgPool2d")},
    "Dropout3d": of((4, 2, 3, 2, 2), nn.Dropout3d),
    **{name: [(lambda name=name: getattr(nn, name)(1), lambda: (normal(*X3),)),
              (lambda name=name: getattr(nn, name)(-1), lambda: (normal(*FLAT),))]
       for name in ("LogSoftmax", "Softmax", "Softmin")},
    "Threshold": of(X3, lambda: nn.Threshold(0.1, 2.0)),
    "AdaptiveAvgPool1d": of(X3, lambda: nn.AdaptiveAvgPool1d(3), lambda: nn.AdaptiveAvgPool1d(4)),
    "AdaptiveAvgPool2d": of(X4, lambda: nn.AdaptiveAvgPool2d((3, 4)), lambda: nn.AdaptiveAvgPool2d(1)),
    "AdaptiveMaxPool1d": of(X3, lambda: nn.AdaptiveMaxPool1d(3), lambda: nn.AdaptiveMaxPool1d(4)),
    "AdaptiveMaxPool2d": of(X4, lambda: nn.AdaptiveMaxPool2d((3, 4)), lambda: nn.AdaptiveMaxPool2d((4, 5))),
    "AvgPool1d": of(X3, lambda: nn.AvgPool1d(3, 2, 1), lambda: nn.AvgPool1d(3, 2, ceil_mode=True)),
    "AvgPool2d": of(X4, lambda: nn.AvgPool2d((3, 2), 2, 1, count_include_pad=False), lambda: nn.AvgPool2d(3, 2, 1)),
    "MaxPool1d": of(X3, lambda: nn.MaxPool1d(3, 2, 1), lambda: nn.MaxPool1d(2, ceil_mode=True, return_indices=True)),
    "MaxPool2d": of(X4, lambda: nn.MaxPool2d((3, 2), 2, 1), lambda: nn.MaxPool2d(2, 1, 0, 2)),
    "BatchNorm1d": [*of(X3, lambda: nn.BatchNorm1d(6)), *of(FLAT, lambda: nn.BatchNorm1d(6, affine=False))],
    "BatchNorm2d": of(X4, lambda: nn.BatchNorm2d(6)),
    "InstanceNorm1d": of(X3, lambda: nn.InstanceNorm1d(6)),
    "InstanceNorm2d": of(X4, lambda: nn.InstanceNorm2d(6, affine=True)),
    "GroupNorm": [*of(X4, lambda: nn.GroupNorm(3, 6), lambda: nn.GroupNorm(1, 6, affine=False)),
                  *of(FLAT, lambda: nn.GroupNorm(3, 6), lambda: nn.GroupNorm(1, 6))],
    "LayerNorm": of(X3, lambda: nn.LayerNorm(8), lambda: nn.LayerNorm((6, 8)),
                    lambda: nn.LayerNorm(8, elementwise_affine=False)),
    "RMSNorm": of(X3, lambda: nn.RMSNorm(8), lambda: nn.RMSNorm((6, 8), elementwise_affine=False)),
    "Normalize": [*of((4, 3, 5, 5), lambda: nn.Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))),
                  (lambda: nn.Normalize(0.3, 0.4), lambda: (below(256, 4, 1, 5, 5).astype(np.uint8),))],
    "Linear": [*of(FLAT, lambda: nn.Linear(6, 5)), *of(X3, lambda: nn.Linear(8, 5, bias=False))],
    "Bilinear": [(lambda: nn.Bilinear(6, 5, 3), lambda: (normal(4, 6), normal(4, 5)))],
    "Conv1d": of(X3, lambda: nn.Conv1d(6, 4, 3, 2, 1, groups=2), lambda: nn.Conv1d(6, 4, 2, padding="same")),
    "Conv2d": of(X4, lambda: nn.Conv2d(6, 4, (3, 2), (2, 1), (1, 0), 2, groups=2),
                 lambda: nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False),
                 lambda: nn.Conv2d(6, 3, 3, padding=1, padding_mode="reflect")),
    "ConvTranspose1d": of(X3, lambda: nn.ConvTranspose1d(6, 4, 3, 2, 1, 1)),
    "ConvTranspose2d": of(X4, lambda: nn.ConvTranspose2d(6, 4, (3, 2), (2, 3), 1, (1, 0), 2, dilation=(1, 2))),
    "Embedding": [(lambda: nn.Embedding(9, 5, padding_idx=0), lambda: (below(9, 4, 6),))],
    "EmbeddingBag": [(lambda mode=mode: nn.EmbeddingBag(9, 5, mode=mode), lambda: (below(9, 4, 6),))
                     for mode in ("sum", "mean", "max")],
    "CosineSimilarity": pairs(nn.CosineSimilarity),
    "PairwiseDistance": pairs(nn.PairwiseDistance),
    **{name: [(lambda name=name, options=options: getattr(nn, name)(8, 5, 2, batch_first=True, **options),
               lambda: (normal(*X3),)) for options in ({}, {"bidirectional": True, "bias": False})]
       for name in ("GRU", "LSTM", "RNN")},
    **{name: of(FLAT, lambda name=name: getattr(nn, name)(6, 5)) for name in ("GRUCell", "LSTMCell", "RNNCell")},
    "MultiheadAttention": [(lambda: nn.MultiheadAttention(8, 2, batch_first=True),
                            lambda: (normal(4, 6, 8), normal(4, 5, 8), normal(4, 5, 8)))],
    "Transformer": [(lambda: nn.Transformer(8, 2, 1, 1, 12, batch_first=True),
                     lambda: (normal(4, 6, 8), normal(4, 5, 8)))],
    "TransformerEncoderLayer": of(X3, lambda: nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)),
    "TransformerEncoder": of(X3, lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 12, activation="gelu", batch_first=True, norm_first=True), 2)),
    "TransformerDecoderLayer": [(lambda: nn.TransformerDecoderLayer(8, 2, 12, batch_first=True),
                                 lambda: (normal(4, 6, 8), normal(4, 5, 8)))],
    "TransformerDecoder": [(lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 12, batch_first=True), 1),
                            lambda: (normal(4, 6, 8), normal(4, 5, 8)))],
    "ChannelShuffle": of(X4, lambda: nn.ChannelShuffle(3)),
    **{f"{name}{d}d": of((X3, X4)[d - 1], lambda name=name, d=d: getattr(nn, f"{name}{d}d")(2))
       for name in ("CircularPad", "ReflectionPad", "ReplicationPad", "ZeroPad") for d in (1, 2)},
    "ConstantPad1d": of(X3, lambda: nn.ConstantPad1d((1, 2), 0.5)),
    "ConstantPad2d": of(X4, lambda: nn.ConstantPad2d((1, 2, -1, 0), 0.5)),
    "Unfold": of(X4, lambda: nn.Unfold(3, 1, 1, 2)),
    "Fold": of((4, 12, 12), lambda: nn.Fold((4, 5), 2)),
    "PixelShuffle": of((4, 8, 3, 5), lambda: nn.PixelShuffle(2)),
    "PixelUnshuffle": of((4, 2, 4, 6), lambda: nn.PixelUnshuffle(2)),
    "Upsample": of(X4, lambda: nn.Upsample(scale_factor=(2, 3)), lambda: nn.Upsample((9, 13), mode="bilinear")),
    "UpsamplingBilinear2d": of(X4, lambda: nn.UpsamplingBilinear2d(scale_factor=2)),
    "UpsamplingNearest2d": of(X4, lambda: nn.UpsamplingNearest2d((5, 7))),
    "Unflatten": of(FLAT, lambda: nn.Unflatten(1, (2, 3))),
    "Sequential": of(FLAT, lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))),
    **{name: pairs(getattr(nn, name)) for name in (
        "BCELoss", "BCEWithLogitsLoss", "HuberLoss", "KLDivLoss", "L1Loss", "MSELoss", "MultiLabelSoftMarginLoss",
        "PoissonNLLLoss", "SmoothL1Loss",
    )},
    **{name: pairs(getattr(nn, name), target=signs) for name in ("HingeEmbeddingLoss", "SoftMarginLoss")},
    **{name: pairs(getattr(nn, name), target=lambda: below(6, 4)) for name in ("MultiMarginLoss", "NLLLoss")},
    "CrossEntropyLoss": pairs(lambda: nn.CrossEntropyLoss(label_smoothing=0.1), lambda: nn.CrossEntropyLoss(
        reduction="none"), target=lambda: below(6, 4)),
    "CosineEmbeddingLoss": [(nn.CosineEmbeddingLoss, lambda: (normal(4, 6), normal(4, 6), signs()[:, 0]))],
    "GaussianNLLLoss": [(nn.GaussianNLLLoss, lambda: (normal(4, 6), normal(4, 6), unit(4, 6)))],
    "MarginRankingLoss": [(nn.MarginRankingLoss, lambda: (normal(4, 6), normal(4, 6), signs()))],
    "TripletMarginLoss": [(nn.TripletMarginLoss, lambda: (normal(4, 6), normal(4, 6), normal(4, 6)))],
}  # fmt: skip
NO_FORM = {
    **dict.fromkeys((transposes.ConvolutionInput, transposes.ConvolutionWeight, transposes.ReLUInput,
                     transposes.Spread), "of derivatives, which no_grad leaves out"),
    **dict.fromkeys((draws.RandintLike, draws.Permutation, draws.Multinomial), "draws what ONNX has no operator for"),
}  # fmt: skip
NO_LAYERS = {
    **dict.fromkeys(("ModuleDict", "ModuleList", "ParameterDict", "ParameterList"), "holds others, without a forward"),
    "Module": "has no forward of its own",
    "Parameter": "is a tensor",
}


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


@pytest.mark.parametrize("name", [name for name in recipes.MODELS if name not in ("auto", "tabular")])
def test_recipes_answer_alike_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    shape = (2, 32) if name == "cnn1d" else (1, 28, 28)
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


@pytest.mark.parametrize("name", [name for name in SINGLE if name not in BY_VALUE])
def test_expressions_that_choose_answer_alike_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    args = tuple(array.astype(np.float32) for array in inputs().values())
    check(Chosen(SINGLE[name]), args, tmp_path / "model.onnx", batch=len(args[0]))


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
