"""ONNX files that are damaged, or made to do harm: one typed error, soon, and without much memory."""

from __future__ import annotations

import itertools
import random
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import fastnn as fnn


def model(nodes: list[Any], arrays: dict[str, Any] | None = None, **options: Any) -> onnx.ModelProto:
    """A model with the input x (2, 3) and the output y."""
    arrays = {name: np.asarray(array) for name, array in (arrays or {}).items()}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("own", 1)], **options
    )


node = helper.make_node
ADD = node("Add", ["x", "c"], ["y"])
HUGE = np.array([1 << 20, 1 << 20])


def doubling(operator: str) -> list[Any]:
    """A chain in which each node makes twice as much as the one before."""
    names = ["a", *(f"a{k}" for k in range(40))]
    last = node("ReduceSum", [names[-1]], ["c"])
    return [*(node(operator, [a, a], [b], axis=0) for a, b in itertools.pairwise(names)), last, ADD]


def functions(body: Any, count: int) -> dict[str, Any]:
    opset = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    return {"functions": [helper.make_function("own", f"f{k}", ["a"], ["b"], body(k), opset) for k in range(count)]}


def calling(k: int) -> list[Any]:
    """Two calls of the next function, the last of 50 being plain."""
    inner = ("Neg", "") if k == 49 else (f"f{k + 1}", "own")
    return [node(inner[0], ["a"], ["m"], domain=inner[1]), node(inner[0], ["m"], ["b"], domain=inner[1])]


HOSTILE = {
    "constant": model([node("ConstantOfShape", ["n"], ["c"]), ADD], {"n": HUGE}),
    "expanded": model([node("Expand", ["x", "n"], ["y"])], {"n": np.array([1 << 40, 2, 3])}),
    "tiled": model([node("Tile", ["x", "n"], ["y"])], {"n": HUGE}),
    "range": model(
        [node("Range", ["a", "b", "d"], ["c"]), ADD], {"a": np.array(0), "b": np.array(1 << 60), "d": np.array(1)}
    ),
    "padded": model([node("Pad", ["x", "n"], ["y"])], {"n": np.array([1 << 40, 0, 0, 0])}),
    "resized": model([node("Resize", ["x", "", "n"], ["y"])], {"n": np.array([1e9, 1e9], np.float32)}),
    "negative": model([node("ConstantOfShape", ["n"], ["c"]), ADD], {"n": np.array([-5])}),
    "doubled": model(doubling("Concat"), {"a": np.ones(1000, np.float32)}),
    "no maker": model([node("Add", ["x", "nothing"], ["y"])]),
    "no output": model([node("Relu", ["x"], ["z"])]),
    "loop": model([node("Add", ["x", "b"], ["a"]), node("Add", ["x", "a"], ["b"]), node("Relu", ["b"], ["y"])]),
    "calls itself": model(
        [node("f0", ["x"], ["y"], domain="own")], **functions(lambda k: [node("f0", ["a"], ["b"], domain="own")], 1)
    ),
    "functions": model([node("f0", ["x"], ["y"], domain="own")], **functions(calling, 50)),
    "wrong kinds": model([node("Softmax", ["x"], ["y"], axis="last")]),
    "few inputs": model([node("Gemm", ["x"], ["y"])]),
    "coefficients": model(
        [node("LinearClassifier", ["x"], ["y", "z"], domain="ai.onnx.ml", coefficients=[1.0] * 7, intercepts=[1.0] * 2)]
    ),
    "linear": model([node("LinearRegressor", [], ["y"], domain="ai.onnx.ml", coefficients=[1.0], targets=b"a")]),
    "axis": model([node("Flatten", ["x"], ["y"], axis=77)]),
    "windows": model([node("MaxPool", ["x"], ["y"], kernel_shape=[1 << 40, 1 << 40])]),
}


def refused(path: Path) -> str:
    """The message of the error that loading the file, or running what was loaded, ends in."""
    start = time.perf_counter()
    with pytest.raises(fnn.FastnnError) as caught:
        fnn.onnx.load(path).eval()(np.zeros((2, 3), np.float32))
    assert time.perf_counter() - start < 2
    return str(caught.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_models_are_one_typed_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(HOSTILE[name].SerializeToString())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if name == "doubled":  # which asks for 2^40 numbers when it runs, and for few when it is loaded
        fnn.onnx.load(tmp_path / "m.onnx")
    else:
        refused(tmp_path / "m.onnx")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10


def test_damaged_files_are_typed_errors(tmp_path: Path) -> None:
    """Cut, with random bytes, and with pieces moved: what still loads may run, or say why not."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(3, 4)).astype(np.float32), "c": np.ones(4, np.float32), "n": np.array([0, -1])}
    whole = model(
        [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "c"], ["s"]), node("Reshape", ["s", "n"], ["y"])], arrays
    ).SerializeToString()
    outcomes = set()
    for seed in range(150):
        draw, damaged = random.Random(seed), bytearray(whole)
        if seed % 3 == 0:
            damaged = damaged[: draw.randrange(len(damaged))]
        elif seed % 3 == 1:
            for _ in range(draw.randrange(1, 6)):
                damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        else:
            start = draw.randrange(len(damaged))
            damaged[start : start + draw.randrange(32)] = damaged[: draw.randrange(32)]
        (tmp_path / "m.onnx").write_bytes(damaged)
        try:
            fnn.onnx.load(tmp_path / "m.onnx").eval()(np.zeros((2, 3), np.float32))
            outcomes.add("ran")
        except fnn.FastnnError as error:
            outcomes.add(type(error).__name__)
    assert {"ran", "DataError"} <= outcomes


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"PK\x03\x04 not a model", b"\xff" * 1000])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert refused(tmp_path / "m.onnx").startswith("expected a whole ONNX model, got ")


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    assert "which is not there" in refused(tmp_path / "none.onnx")
    assert "which is a folder" in refused(tmp_path)


@pytest.mark.parametrize(
    ("location", "length", "said"),
    [
        ("../secret.bin", 12, "in the model's folder"),
        ("/etc/passwd", 12, "in the model's folder"),
        ("link.bin", 12, "in the model's folder"),
        ("none.bin", 12, "which is not there"),
        ("short.bin", 12, "too short"),
        ("good.bin", 13, "expected 12 bytes"),
        (".", 12, "folder"),
    ],
)
def test_external_data_stays_in_the_folder(location: str, length: int, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, count in (("short.bin", 4), ("good.bin", 12), ("../secret.bin", 12)):
        (folder / name).write_bytes(b"\x00" * count)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    wrong = model([ADD], {"c": np.zeros(3, np.float32)})
    tensor = wrong.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    (folder / "m.onnx").write_bytes(wrong.SerializeToString())
    assert said in refused(folder / "m.onnx")


def test_external_data_is_read(tmp_path: Path) -> None:
    onnx.save(
        model([ADD], {"c": np.arange(3, dtype=np.float32)}), tmp_path / "m.onnx", save_as_external_data=True,
        location="weights.bin", size_threshold=0,
    )  # fmt: skip
    assert (tmp_path / "weights.bin").stat().st_size == 12
    assert fnn.onnx.load(tmp_path / "m.onnx")(np.zeros((2, 3))).tolist() == [[0, 1, 2], [0, 1, 2]]


def test_absurd_tensors(tmp_path: Path) -> None:
    for shape in ([1 << 62, 1 << 62], [-1], [1 << 40]):
        wrong = model([ADD], {"c": np.zeros(3, np.float32)})
        del wrong.graph.initializer[0].dims[:]
        wrong.graph.initializer[0].dims.extend(shape)
        (tmp_path / "m.onnx").write_bytes(wrong.SerializeToString())
        assert "expected a whole ONNX model" in refused(tmp_path / "m.onnx")
