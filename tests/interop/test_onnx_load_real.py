"""ONNX files that others wrote: the node tests of the package onnx, scikit-learn, PyTorch."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_conformance
import pytest
from onnx_files import agrees, rng, runtime

import fastnn as fnn
from fastnn import nn, optim


def test_scikit_learn(tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = rng.normal(size=(60, 5)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    options: dict[str, Any] = {"hidden_layer_sizes": (6,), "max_iter": 5}
    path = tmp_path / "m.onnx"
    estimators = {
        "classes": (MLPClassifier(**options), y),
        "two classes": (MLPClassifier(**options, activation="tanh"), y > 0),
        "scaled": (make_pipeline(StandardScaler(), MLPClassifier(**options)), y),
        "regression": (MLPRegressor(**options), x[:, 0]),
        "text": (MLPClassifier(**options, activation="logistic"), np.array(["a", "b", "c"])[y]),
        "logistic": (LogisticRegression(), y),
    }
    for name, (estimator, target) in estimators.items():
        estimator.fit(x, target)
        path.write_bytes(to_onnx(estimator, x[:1]).SerializeToString())
        model = fnn.onnx.load(path).eval()
        found = model(x)
        wanted = {"output_label": estimator.predict(x), "variable": estimator.predict(x)[:, None]}
        wanted["output_probability"] = estimator.predict_proba(x) if hasattr(estimator, "predict_proba") else None
        for output, value in zip(model.outputs, found if isinstance(found, tuple) else (found,), strict=True):
            np.testing.assert_allclose(value.detach().numpy(), wanted[output], rtol=1e-4, atol=1e-5, err_msg=name)
        assert ("output_label" in model.outputs) == (name not in ("regression", "text"))
        assert len(list(model.parameters())) == (2 if name == "logistic" else 4)


# ---- the node tests of the package onnx ------------------------------------------------------------------------------

QUICK = ("batch_normalization", "clip", "conv", "convtranspose", "einsum", "gather", "gemm", "groupnormalization",
         "instance_normalization", "layernormalization", "lstm", "pad", "reducemean", "reshape", "resize",
         "scatterelements", "slice", "softmax", "split", "topk", "where")  # fmt: skip  # those of pools take long

# Where ONNX Runtime and PyTorch answer otherwise than these tests, see test_onnx_load.py.
OTHERWISE = {f"test_resize_downsample_scales_{mode}_align_corners" for mode in ("linear", "cubic")}


def test_node_tests_of_some_operators() -> None:
    results = onnx_conformance.run(onnx_conformance.cases(QUICK))
    failed = [(name, said) for each in results.values() for name, said in each if said not in ("", "foreign")]
    assert {name for name, _ in failed} == OTHERWISE, failed
    assert sum(map(len, results.values())) > 200


DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


@pytest.mark.parametrize("folder", ["pytorch-converted", "pytorch-operator"])
def test_files_that_early_versions_of_pytorch_wrote(folder: str) -> None:
    """Layers and operators, with the inputs and outputs that PyTorch had for them."""
    paths = sorted((DATA / folder).glob("*/model.onnx"))
    assert len(paths) > 30
    for path in paths:
        model = fnn.onnx.load(path).eval()
        inputs, outputs = (
            [
                onnx.numpy_helper.to_array(onnx.TensorProto.FromString((path.parent / file).read_bytes()))
                for file in sorted(path.parent.glob(f"test_data_set_0/{kind}_*.pb"))
            ]
            for kind in ("input", "output")
        )
        with np.errstate(invalid="ignore"):  # negative numbers to the power of fractions: NaN in PyTorch, too
            found = model(*inputs)
        for y, expected in zip(found if isinstance(found, tuple) else (found,), outputs, strict=True):
            np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-3, atol=1e-5, err_msg=path.parent.name)


@pytest.mark.long
@pytest.mark.parametrize("path", sorted(DATA.glob("light/*net*.onnx")), ids=lambda path: path.stem)
def test_architectures_of_the_model_zoo(path: Path) -> None:
    """Whole networks for 224×224 images, with weights that are all alike; also for another batch than the file's."""
    model = fnn.onnx.load(path).eval()
    x = rng.normal(size=(1, 3, 224, 224)).astype(np.float32)
    (wanted,) = runtime(path, x)
    np.testing.assert_allclose(model(x).detach().numpy(), wanted, rtol=1e-3, atol=1e-5)
    assert model(np.repeat(x, 2, 0)).shape == (2, *wanted.shape[1:])


@pytest.mark.long
def test_the_table_of_node_tests() -> None:
    _, passed, total = onnx_conformance.table(onnx_conformance.run(onnx_conformance.cases()))
    said = re.search(r"(\d+) of (\d+) tests of the operators", onnx_conformance.PAGE.read_text())
    assert said is not None
    assert passed >= 0.98 * total
    if re.search(r"onnx\s+([\d.]+)", onnx_conformance.PAGE.read_text())[1] == onnx.__version__:  # type: ignore[index]
        assert (passed, total) == (int(said[1]), int(said[2]))


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def residual(torch: Any, blocks: int = 3, width: int = 16) -> Any:
    """ResNet-20 for CIFAR (He et al. 2016), as its users write it."""
    T = torch.nn

    class Block(T.Module):  # type: ignore[misc, name-defined]
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = T.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = T.BatchNorm2d(outputs)
            self.conv2 = T.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = T.BatchNorm2d(outputs)
            short = T.Sequential(T.Conv2d(inputs, outputs, 1, stride, bias=False), T.BatchNorm2d(outputs))
            self.short = short if stride > 1 else T.Identity()

        def forward(self, x: Any) -> Any:
            h = torch.relu(self.bn1(self.conv1(x)))
            return torch.relu(self.bn2(self.conv2(h)) + self.short(x))

    sizes = [width] * blocks + [2 * width] * blocks + [4 * width] * blocks
    body = [Block(before, size, 1 + (before < size)) for before, size in zip([width, *sizes[:-1]], sizes, strict=True)]
    return T.Sequential(
        T.Conv2d(3, width, 3, 1, 1, bias=False), T.BatchNorm2d(width), T.ReLU(), *body,
        T.AdaptiveAvgPool2d(1), T.Flatten(), T.Linear(4 * width, 10),
    )  # fmt: skip


@pytest.mark.parametrize("dynamo", [False, pytest.param(True, marks=pytest.mark.long)])
def test_resnet20_of_pytorch_loads_agrees_and_trains(dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    module, x = residual(torch), torch.randn(8, 3, 32, 32)
    module(x), module(x)  # statistics
    path = tmp_path / "resnet20.onnx"
    module.eval()
    if dynamo:
        shapes = ({0: torch.export.Dim("N")},)
        torch.onnx.export(module, (x,), path, dynamo=True, dynamic_shapes=shapes, external_data=False)
    else:
        axes = {"x": {0: "N"}}
        torch.onnx.export(module, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    model = agrees(path, x.numpy(), tolerance=1e-4)
    np.testing.assert_allclose(model(x.numpy()).detach().numpy(), module(x).detach().numpy(), rtol=1e-4, atol=1e-4)
    labels = np.arange(8)
    step = fnn.compile(model.train(), nn.CrossEntropyLoss(), optim.Adam(model.parameters(), 3e-3))
    losses = [step(x.numpy(), labels) for _ in range(12)]
    assert losses[-1] < losses[0] - 0.1
    assert "native calls: 1" in str(step.describe())


def test_weights_exported_in_training_keep_their_names(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module, file = residual(torch, 1, 8), io.BytesIO()
    torch.onnx.export(
        module, (torch.randn(2, 3, 8, 8),), file, dynamo=False, training=torch.onnx.TrainingMode.TRAINING,
        do_constant_folding=False,
    )  # fmt: skip
    (tmp_path / "m.onnx").write_bytes(file.getvalue())
    model = fnn.onnx.load(tmp_path / "m.onnx")
    state = model.state_dict()
    wanted = {name: value for name, value in module.state_dict().items() if "num_batches" not in name}
    assert {name: value.shape for name, value in state.items()} == {k: tuple(v.shape) for k, v in wanted.items()}
    # Batch norms follow the mode, as PyTorch's do, and so do their statistics.
    x = torch.randn(2, 3, 8, 8)
    module.load_state_dict(fnn.to_torch(state), strict=False)  # the export has moved the module's on
    with torch.no_grad():
        np.testing.assert_allclose(model(x.numpy()).detach(), module.eval()(x), rtol=1e-4, atol=1e-4)
        module.train()(x)
    model.train()(x.numpy())
    for name, value in model.named_buffers():
        np.testing.assert_allclose(value, module.get_buffer(name), rtol=1e-4, atol=1e-5)
