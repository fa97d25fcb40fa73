"""ONNX files as trainable modules, against ONNX Runtime and layers of fastnn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_files import agrees, drawn, node, rng, runtime, written

import fastnn as fnn
from fastnn import nn, optim
from fastnn.interop.onnx.operators.shaping import _rebatched


def keras(path: Path) -> Path:
    """What tf2onnx makes of a Keras network, whose images are (N, H, W, C): transposed around the convolutions."""
    arrays = {
        "model/conv/kernel": drawn(8, 3, 3, 3), "model/conv/bias": drawn(8), "model/depth": drawn(8, 1, 3, 3),
        "model/bn/gamma": 1 + drawn(8), "model/bn/beta": drawn(8), "model/bn/mean": drawn(8),
        "model/bn/var": 1 + drawn(8) ** 2, "model/dense/MatMul": drawn(128, 10), "model/dense/bias": drawn(10),
        "const_shape": np.array([-1, 128]), "model/out/kernel": drawn(10, 1), "model/out/bias": drawn(1),
    }  # fmt: skip
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "model/conv/kernel", "model/conv/bias"], ["c"], strides=[2, 2], auto_pad="SAME_UPPER"),
        node("Clip", ["c", "zero", "six"], ["r"]),
        node("Conv", ["r", "model/depth"], ["d"], group=8, pads=[0, 0, 1, 1], kernel_shape=[3, 3]),
        node("BatchNormalization", ["d", *(f"model/bn/{p}" for p in ("gamma", "beta", "mean", "var"))], ["b"]),
        node("MaxPool", ["b"], ["p"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
        node("Transpose", ["p"], ["n"], perm=[0, 2, 3, 1]),
        node("Reshape", ["n", "const_shape"], ["f"]),
        node("MatMul", ["f", "model/dense/MatMul"], ["m"]),
        node("Add", ["m", "model/dense/bias"], ["h"]),
        node("Elu", ["h"], ["e"]),
        node("MatMul", ["e", "model/out/kernel"], ["o"]),
        node("Add", ["o", "model/out/bias"], ["s"]),
        node("Sigmoid", ["s"], ["y"]),
    ]
    arrays |= {"zero": np.float32(0), "six": np.float32(6)}
    return written(path, nodes, arrays, {"x": ["N", 16, 16, 3]}, ["y"])


def test_a_network_as_tf2onnx_writes_it(tmp_path: Path) -> None:
    x = drawn(5, 16, 16, 3)
    model = agrees(keras(tmp_path / "keras.onnx"), x)
    assert {name for name, _ in model.named_parameters()} == {
        "model.conv.kernel", "model.conv.bias", "model.depth", "model.bn.gamma", "model.bn.beta",
        "model.dense.MatMul", "model.dense.bias", "model.out.kernel", "model.out.bias",
    }  # fmt: skip
    assert sorted(name for name, _ in model.named_buffers()) == ["model.bn.mean", "model.bn.var"]
    assert model.get_parameter("model.dense.MatMul").shape == (10, 128)  # as nn.Linear's


def test_it_computes_what_the_file_says_as_it_comes(tmp_path: Path) -> None:
    """Not with the batch's own statistics, and with nothing dropped: no `eval()` is asked for."""
    x = drawn(5, 16, 16, 3)
    path = keras(tmp_path / "keras.onnx")
    (expected,) = runtime(path, x)
    np.testing.assert_allclose(fnn.onnx.load(path)(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_it_trains_by_fit_and_is_saved(tmp_path: Path) -> None:
    model = fnn.onnx.load(keras(tmp_path / "keras.onnx"))
    x = rng.normal(size=(64, 16, 16, 3)).astype(np.float32)
    y = (x[:, :, :, 0].mean((1, 2)) > 0).astype(np.float32)[:, None]
    statistics = model.get_buffer("model.bn.mean").copy()
    history = fnn.fit(model, x, y, loss="mse", optimizer=optim.Adam(model.parameters(), 0.01), epochs=8, verbose=False)
    assert history["train_loss"][-1] < 0.8 * history["train_loss"][0]
    assert not np.array_equal(model.get_buffer("model.bn.mean"), statistics)  # which follow in training
    fnn.save(model, tmp_path / "m.fnn")
    again = fnn.load(tmp_path / "m.fnn")
    assert np.array_equal(again.eval()(x[:3]).detach().numpy(), model.eval()(x[:3]).detach().numpy())


def test_gradients_are_those_of_the_same_layers(tmp_path: Path) -> None:
    weight, bias, last = drawn(6, 4), drawn(6), drawn(6, 3)
    path = written(
        tmp_path / "m.onnx",
        [
            node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], transB=1),
            node("Tanh", ["h"], ["t"]),
            node("MatMul", ["t", "w"], ["y"]),
        ],
        {"fc1.weight": weight, "fc1.bias": bias, "w": last},
        {"x": ["N", 4]},
        ["y"],
    )
    model = fnn.onnx.load(path)
    own = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3, bias=False))
    own.load_state_dict({"0.weight": weight, "0.bias": bias, "2.weight": last.T})
    x, y = drawn(7, 4), rng.integers(0, 3, 7)
    for each in (model, own):
        nn.CrossEntropyLoss()(each(x), y).backward()
    for name, twin in {"fc1.weight": "0.weight", "fc1.bias": "0.bias", "w": "2.weight"}.items():
        found, wanted = model.get_parameter(name).grad, own.get_parameter(twin).grad
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))
    step(x, y)
    assert "native calls: 1" in str(step.describe())


def test_shapes_are_computed_before_a_plan_runs(tmp_path: Path) -> None:
    """Shape, Gather, Concat and Reshape leave nothing in the plan, for any batch."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Mul", ["rest", "two"], ["r2"]),
        node("Concat", ["n1", "r2"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["f"]),
        node("Gemm", ["f", "w"], ["y"]),
    ]
    arrays = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([6]), "two": np.array(2), "w": drawn(12, 2)}
    path = written(tmp_path / "m.onnx", nodes, arrays, {"x": ["N", 3, 4]}, ["y"])
    model = agrees(path, drawn(5, 3, 4))
    assert model(drawn(2, 3, 4)).shape == (2, 2)
    assert sorted(model._constants) == ["axes", "r2", "zero"]  # 6 · 2 is computed when the file is read
    step = fnn.compile(model)
    step(drawn(5, 3, 4))
    lines = str(step.describe()).splitlines()[2:-1]
    assert len(lines) == 1
    assert "Linear 12→2" in lines[0]


def test_a_file_for_one_batch_runs_on_any(tmp_path: Path) -> None:
    """As exporters write without dynamic axes: attention of 2 heads on (1, 5, 8), all shapes as numbers."""
    nodes = [
        node("MatMul", ["x", "w"], ["q"]),
        node("Reshape", ["q", "heads"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "joined"], ["j"]),
        node("Transpose", ["j"], ["k"], perm=[0, 2, 1]),
        node("MatMul", ["j", "k"], ["a"]),
        node("Softmax", ["a"], ["p"]),
        node("MatMul", ["p", "j"], ["o"]),
        node("Reshape", ["o", "split"], ["s"]),
        node("Transpose", ["s"], ["u"], perm=[0, 2, 1, 3]),
        node("Reshape", ["u", "rows"], ["v"]),
        node("Gemm", ["v", "g"], ["h"]),
        node("Reshape", ["h", "back"], ["y"]),
    ]
    shapes = {"heads": [1, 5, 2, 4], "joined": [2, 5, 4], "split": [1, 2, 5, 4], "rows": [5, 8], "back": [1, 5, 8]}
    arrays = {"w": drawn(8, 8), "g": drawn(8, 8), **{name: np.array(shape) for name, shape in shapes.items()}}
    path = written(tmp_path / "m.onnx", nodes, arrays, {"x": [1, 5, 8]}, ["y"])
    model, x = agrees(path, drawn(1, 5, 8)), drawn(3, 5, 8)
    each = np.concatenate([runtime(path, x[i : i + 1])[0] for i in range(3)])
    np.testing.assert_allclose(model(x).detach().numpy(), each, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fnn.compile(model)(x), each, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "own", "written", "shape", "wanted"),
    [
        ([1, 512], 1, (1, 8, 8, 8), (5, 8, 8, 8), [5, 512]),  # a flattening
        ([1, -1], 1, (1, 8, 8, 8), (5, 8, 8, 8), [5, -1]),
        ([-1, 512], 1, (1, 8, 8, 8), (5, 8, 8, 8), [-1, 512]),
        ([2, 6], 2, (2, 3, 2), (4, 3, 2), [4, 6]),
        ([7, 1, 3, 32], 1, (7, 1, 96), (7, 5, 96), [7, 5, 3, 32]),  # attention, time first
        ([7, 4, 8], 1, (7, 1, 32), (7, 5, 32), [7, 20, 8]),  # heads join the batch
        ([1, 4, 7, 8], 1, (4, 7, 8), (20, 7, 8), [5, 4, 7, 8]),  # and leave it
        ([7, 32], 1, (7, 1, 4, 8), (7, 5, 4, 8), [35, 32]),  # rows of features
        ([7, 1, 32], 1, (7, 32), (35, 32), [7, 5, 32]),
        ([3, 2, 6], 2, (3, 2, 6), (3, 2, 6), [3, 2, 6]),  # no other batch here
    ],
)
def test_where_the_batch_goes(sizes: Any, own: int, written: Any, shape: Any, wanted: Any) -> None:
    assert _rebatched(sizes, own, written, shape) == wanted


def test_several_inputs_outputs_and_types(tmp_path: Path) -> None:
    nodes = [
        node("Gather", ["table", "ids"], ["e"]),
        node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        node("Concat", ["m", "x"], ["c"], axis=1),
        node("Gemm", ["c", "w", "b"], ["logits"]),
        node("Softmax", ["logits"], ["p"]),
        node("ArgMax", ["p"], ["k"], axis=1, keepdims=0),
        node("Cast", ["k"], ["label"], to=TensorProto.INT32),
    ]
    arrays = {"table": drawn(9, 4), "w": drawn(6, 3), "b": drawn(3)}
    inputs = {"ids": (TensorProto.INT64, ["N", 5]), "x": ["N", 2]}
    path = written(tmp_path / "m.onnx", nodes, arrays, inputs, ["p", "label"])
    proto = onnx.load(path)
    proto.graph.output[1].type.tensor_type.elem_type = TensorProto.INT32
    onnx.save(proto, path)
    ids, x = rng.integers(0, 9, (4, 5)), drawn(4, 2)
    model = agrees(path, ids, x)
    assert (model.inputs, model.outputs) == (["ids", "x"], ["p", "label"])
    assert np.array_equal(model(x=x, ids=ids)[1].numpy(), model(ids, x)[1].numpy())
    cut = fnn.onnx.load(path, outputs="logits")
    assert cut.outputs == ["logits"]
    np.testing.assert_allclose(cut(ids, x).softmax(1).detach().numpy(), runtime(path, ids, x)[0], rtol=1e-5)
    first, second = fnn.onnx.load(path, outputs=["c", "logits"])(ids, x)
    assert (first.shape, second.shape) == ((4, 6), (4, 3))


def test_branches(tmp_path: Path) -> None:
    """An If whose condition follows from shapes, as PyTorch's exporter writes for squeeze."""
    branch = [
        helper.make_graph([node(op, ["h"], ["out"])], op, [], [helper.make_tensor_value_info("out", 1, None)])
        for op in ("Relu", "Neg")
    ]
    nodes = [
        node("Mul", ["x", "x"], ["h"]),
        node("Shape", ["x"], ["s"], start=1),
        node("Equal", ["s", "four"], ["c"]),
        node("Squeeze", ["c"], ["c0"]),
        node("If", ["c0"], ["y"], then_branch=branch[0], else_branch=branch[1]),
    ]
    path = written(tmp_path / "m.onnx", nodes, {"four": np.array([4])}, {"x": ["N", "M"]}, ["y"])
    for size in (4, 3):
        agrees(path, drawn(2, size))


def test_layers_written_as_several_operators(tmp_path: Path) -> None:
    """As exporters of older versions write SiLU, Mish, hard swish, GELU and layer norm: one operator each."""
    numbers = {"one": 1.0, "two": 2.0, "half": 0.5, "root2": np.sqrt(2.0), "root_half": np.sqrt(0.5), "eps": 1e-5}
    arrays = {**{name: np.float32(n) for name, n in numbers.items()}, "g": 1 + drawn(6), "b": drawn(6)}
    erf = [node("Erf", ["d"], ["e"]), node("Add", ["e", "one"], ["a"])]
    patterns: dict[str, list[Any]] = {
        "Swish": [node("Sigmoid", ["x"], ["s"]), node("Mul", ["s", "x"], ["y"])],
        "Mish": [node("Softplus", ["x"], ["p"]), node("Tanh", ["p"], ["t"]), node("Mul", ["x", "t"], ["y"])],
        "HardSwish": [node("HardSigmoid", ["x"], ["s"], alpha=1 / 6, beta=0.5), node("Mul", ["x", "s"], ["y"])],
        "Gelu": [node("Div", ["x", "root2"], ["d"]), *erf, node("Mul", ["x", "a"], ["m"]),
                 node("Mul", ["m", "half"], ["y"])],
        "Gelu ": [node("Mul", ["x", "root_half"], ["d"]), *erf, node("Mul", ["half", "x"], ["m"]),
                  node("Mul", ["m", "a"], ["y"])],
        "LayerNormalization": [
            node("ReduceMean", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["c"]),
            node("Pow", ["c", "two"], ["q"]), node("ReduceMean", ["q"], ["v"], axes=[-1]),
            node("Add", ["v", "eps"], ["w"]), node("Sqrt", ["w"], ["r"]), node("Div", ["c", "r"], ["n"]),
            node("Mul", ["n", "g"], ["h"]), node("Add", ["h", "b"], ["y"]),
        ],
        "Mul": [node("Sigmoid", ["x"], ["s"]), node("Mul", ["s", "g"], ["y"])],  # which is none
        "Mul  ": [node("Mul", ["x", "root_half"], ["d"]), *erf, node("Mul", ["x", "a"], ["y"])],
        "Mul ": [node("Mul", ["x", "root2"], ["d"]), *erf, node("Mul", ["x", "a"], ["m"]),
                 node("Mul", ["m", "half"], ["y"])],
    }  # fmt: skip
    for name, nodes in patterns.items():
        model = agrees(written(tmp_path / "m.onnx", nodes, arrays, {"x": ["N", 6]}, ["y"]), 3 * drawn(4, 6))
        operators = [each[0] for each in model._nodes]
        assert operators == [name.strip()] if name.strip() != "Mul" else len(operators) == len(nodes), name


def test_mistakes(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", [node("Gemm", ["x", "w"], ["y"])], {"w": drawn(3, 2)}, {"x": ["N", 3]}, ["y"])
    model = fnn.onnx.load(path)
    with pytest.raises(fnn.errors.ArgumentError, match=r"expected the inputs \['x'\], got 2"):
        model(drawn(1, 3), drawn(1, 3))
    with pytest.raises(fnn.errors.ShapeError, match=r"expected x of shape \(\?, 3\), got \(1, 3, 3\)"):
        model(drawn(1, 3, 3))
    with pytest.raises(
        fnn.errors.ShapeError, match=r"Gemm '.*': linear.* written for x of shape \(\?, 3\), got \(1, 4\)"
    ):
        model(drawn(1, 4))
    with pytest.raises(fnn.errors.DTypeError, match="uint8"):
        model(np.zeros((1, 3), np.uint8))
    with pytest.raises(fnn.errors.ArgumentError, match=r"such as \['y'\], got \['z'\]"):
        fnn.onnx.load(path, outputs="z")
    nodes = [
        node("NonMaxSuppression", ["x", "x"], ["a"], name="boxes"),
        node("Unheard", ["a"], ["y"], name="own", domain="my.domain"),
    ]
    written(tmp_path / "n.onnx", nodes, {}, {"x": ["N", 3]}, ["y"])
    said = r"no operator for NonMaxSuppression \(node 'boxes'\), my.domain.Unheard \(node 'own'\)"
    with pytest.raises(fnn.errors.DataError, match=said):
        fnn.onnx.load(tmp_path / "n.onnx")


def test_names_become_attributes(tmp_path: Path) -> None:
    names = ["a.weight", "a", "forward", "layer:0/w", "_b", "ein Wort", "a_weight", "training.x", "inputs"]
    nodes = [node("Mul", [f"h{i - 1}" if i else "x", name], [f"h{i}"]) for i, name in enumerate(names)]
    path = written(tmp_path / "m.onnx", nodes, {name: drawn(3) for name in names}, {"x": [2, 3]}, ["h8"])
    model = agrees(path, drawn(2, 3))
    found = [name for name, _ in model.named_parameters()]
    assert len(found) == len(set(found)) == len(names)
    assert {"a.weight", "a_weight", "layer.0.w", "forward_", "b", "ein_Wort"} <= set(found)


def test_pools(tmp_path: Path) -> None:
    """Uneven padding, windows beyond it, dilation, and what counts in a mean; of one, two and three dimensions."""
    options: list[dict[str, Any]] = [
        {"strides": [2, 2], "pads": [1, 0, 0, 1]}, {"strides": [2, 3], "ceil_mode": 1}, {"dilations": [2, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"pads": [1, 1, 1, 1], "ceil_mode": 1, "strides": [2, 2]},
    ]  # fmt: skip
    for more in options:
        for operator, own in (("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})):
            pool = node(operator, ["x"], ["y"], kernel_shape=[3, 2], **more, **own)
            agrees(written(tmp_path / "m.onnx", [pool], {}, {"x": ["N", 2, 8, 9]}, ["y"], 19), drawn(2, 2, 8, 9))
    for shape in ([7], [5, 6, 7]):
        for operator in ("MaxPool", "AveragePool"):
            pool = node(operator, ["x"], ["y"], kernel_shape=[2] * len(shape), strides=[2] * len(shape))
            agrees(written(tmp_path / "m.onnx", [pool], {}, {"x": ["N", 2, *shape]}, ["y"]), drawn(1, 2, *shape))


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layers(kind: str, direction: str, tmp_path: Path) -> None:
    """By fastnn's kernels, and step by step where there are lengths."""
    gates, two = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind], 1 + (direction == "bidirectional")
    arrays = {"w": drawn(two, gates * 4, 3), "r": drawn(two, gates * 4, 4), "b": drawn(two, gates * 8),
              "lengths": np.array([5, 2], np.int32)}  # fmt: skip
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    outputs = ["y", "h", "c"][: 2 + (kind == "LSTM")]
    for lengths in ("", "lengths"):
        recurrent = node(kind, ["x", "w", "r", "b", lengths], outputs, hidden_size=4, direction=direction, **more)
        agrees(written(tmp_path / "m.onnx", [recurrent], arrays, {"x": [5, 2, 3]}, outputs), drawn(5, 2, 3))


def test_bounds_of_integers_and_bounds_that_are_computed(tmp_path: Path) -> None:
    """A mask's count, at least 1, as PyTorch exports a mean over what is not padding."""
    nodes = [
        node("ReduceSum", ["i", "last"], ["n"], keepdims=1),
        node("Clip", ["n", "one"], ["m"]),
        node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
        node("ReduceMin", ["x"], ["low"], keepdims=0),
        node("Clip", ["f", "low", "eight"], ["y"]),
    ]
    arrays = {"last": np.array([-1]), "one": np.array(1), "eight": np.float32(8)}
    path = written(tmp_path / "c.onnx", nodes, arrays, {"i": (TensorProto.INT64, ["N", 3]), "x": ["N", 2]}, ["y"])
    agrees(path, np.array([[0, 0, 0], [1, 3, 5], [-3, 1, 1], [2, 2, 0]]), drawn(4, 2) + 2)


def test_resizing_between_corners_by_a_factor_that_leaves_a_rest(tmp_path: Path) -> None:
    """As ONNX Runtime and PyTorch: the last entry is the last one, although 5 · 1.5 is not a whole number."""
    nodes = [node("Resize", ["x", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="align_corners")]
    path = written(tmp_path / "r.onnx", nodes, {"s": np.float32([1, 1, 1.5, 1.7])}, {"x": ["N", 2, 5, 6]}, ["y"])
    agrees(path, drawn(2, 2, 5, 6))


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_pictures_sampled_at_a_grid(mode: str, tmp_path: Path) -> None:
    nodes = [
        node("GridSample", ["x", "g"], ["y"], mode=mode),
        node("GridSample", ["x", "g"], ["z"], mode=mode, padding_mode="border", align_corners=1),
    ]
    path = written(tmp_path / "g.onnx", nodes, {}, {"x": ["N", 2, 5, 6], "g": ["N", 3, 4, 2]}, ["y", "z"])
    agrees(path, drawn(2, 2, 5, 6), rng.uniform(-1.3, 1.3, (2, 3, 4, 2)).astype(np.float32))


def test_categories_of_scikit_learn(tmp_path: Path) -> None:
    nodes = [
        node("OneHotEncoder", ["i"], ["o"], domain="ai.onnx.ml", cats_int64s=[-2, 0, 7], zeros=1),
        node("Reshape", ["o", "shape"], ["f"]),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    arrays = {"shape": np.array([-1, 3]), "w": drawn(3, 2)}
    path = written(tmp_path / "o.onnx", nodes, arrays, {"i": (TensorProto.INT64, ["N", 1])}, ["y"])
    agrees(path, np.array([[7], [-2], [3], [0]]))


def test_a_number_that_fills_a_mask_is_not_learned(tmp_path: Path) -> None:
    """The causal mask of PyTorch's attention: ones of the scores' shape, of which a triangle is kept."""
    nodes = [
        node("Shape", ["x"], ["s"], start=1),
        node("Expand", ["one", "s"], ["e"]),
        node("Trilu", ["e"], ["t"], upper=0),
        node("Equal", ["t", "nothing"], ["q"]),
        node("Where", ["q", "low", "nothing"], ["m"]),
        node("Add", ["x", "m"], ["a"]),
        node("Softmax", ["a"], ["y"]),
    ]
    arrays = {"one": np.float32([1]), "nothing": np.float32([0]), "low": np.float32([-np.inf])}
    path = written(tmp_path / "m.onnx", nodes, arrays, {"x": ["N", 4, 4]}, ["y"])
    assert not list(agrees(path, drawn(2, 4, 4)).parameters())
