"""Models as C: compiled by the compilers that are there, without a warning, they answer as the models do."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn, recipes
from fastnn.errors import ArgumentError, GraphError, NonFiniteError, ShapeError
from fastnn.interop import export_c
from fastnn.interop.c.memory import Buffer, Reference, Statement, plan
from fastnn.recipes.deep import Residual

STRICT = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")


def compiled(path: Path, name: str = "predict") -> Callable[[np.ndarray, int], np.ndarray]:
    """The C function, of samples (N, ...) and the number of outputs."""
    library = path.with_suffix(".so")
    subprocess.run(["gcc", *STRICT, "-O2", "-shared", "-fPIC", "-o", library, path, "-lm"], check=True)
    function = getattr(ctypes.CDLL(str(library)), name)

    def run(x: np.ndarray, outputs: int) -> np.ndarray:
        y = np.full((len(x), outputs), np.nan, np.float32)
        for sample, out in zip(np.ascontiguousarray(x), y, strict=True):
            function(sample.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p))
        return y

    return run


def unsettled(model: nn.Module) -> nn.Module:
    """With statistics and weights of norms as after a training."""
    rng = np.random.default_rng(1)
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean[...] = rng.normal(size=module.running_mean.shape)
            module.running_var[...] = rng.uniform(0.3, 3, module.running_var.shape)
            module.weight.data[...] = rng.uniform(0.5, 2, module.weight.shape)
    return model


class Masked(nn.Module):
    """A softmax over what a mask of infinities leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", np.triu(np.full((5, 5), -np.inf, np.float32), 1))

    def forward(self, x: Any) -> Any:
        return F.softmax(x + self.mask, dim=-1)


class Attention(nn.Module):
    """Products of values, layer norm, slices, reductions, a constant that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.query, self.norm, self.out = nn.Linear(6, 8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.weight = nn.Parameter(fnn.randn(8))

    def forward(self, x: Any) -> Any:
        h = F.gelu(self.embed(x))
        scores = fnn.softmax(self.query(h) @ h.transpose(1, 2) / 8**0.5, dim=-1)
        h = self.norm(h + scores @ h) * self.weight.sigmoid()
        h = fnn.cat([h[:, -1], h.mean(1), h.flip(1)[:, 1], h.amax(1), h.cumsum(1)[:, 2]], 1)
        return F.log_softmax(self.out(h[:, ::5]), 1)


class Recurrent(nn.Module):
    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.layers = getattr(nn, kind)(4, 5, num_layers=2, batch_first=True, **options)

    def forward(self, x: Any) -> Any:
        return self.layers(x)[0][:, ::3]


class Elementwise(nn.Module):
    """Comparisons, broadcasting, reductions of one dimension and of all."""

    def forward(self, x: Any) -> Any:
        whole = fnn.where(x > 0.5, x.clamp(min=0.2, max=0.7), -x.sqrt()) + x.argmax(1, keepdim=True)
        total = (3 * x).int() + x.sum((1, 2), keepdim=True).exp() / 1000
        return whole * x.amin(2, keepdim=True) - total + x.flip(2).transpose(1, 2)[:, :1]


def residual() -> nn.Module:
    return nn.Sequential(
        nn.Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        Residual(4, 4), Residual(4, 8, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet5": (lambda: recipes.lenet5((1, 16, 16), mean=0.3, std=0.4), (1, 16, 16)),
    "fast": (lambda: recipes.fast((1, 14, 12), mean=0.3, std=0.4), (1, 14, 12)),
    "mlp": (lambda: recipes.mlp((1, 6, 6), mean=0.3, std=0.4), (1, 6, 6)),
    "residual": (residual, (3, 9, 8)),
    "depthwise": (lambda: recipes.mobile((3, 8, 8), mean=0.3, std=0.4), (3, 8, 8)),
    "attention": (Attention, (5, 6)),
    "gru": (lambda: Recurrent("GRU", bidirectional=True), (7, 4)),
    "lstm": (lambda: Recurrent("LSTM", bidirectional=True), (7, 4)),
    "rnn": (lambda: Recurrent("RNN", nonlinearity="relu"), (7, 4)),
    "elementwise": (Elementwise, (5, 5)),
    "masked": (Masked, (5, 5)),
    "transposed": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=1, groups=2), nn.Mish(),
            nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1), nn.SiLU(), nn.AvgPool2d(3, 2, 1),
            nn.BatchNorm2d(2), nn.GroupNorm(1, 2), nn.Softplus(), nn.ELU(), nn.Hardswish(), nn.InstanceNorm2d(2),
        ),
        (2, 9, 11),
    ),
    "one dimension": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, dilation=2), nn.BatchNorm1d(4), nn.LeakyReLU(0.1), nn.MaxPool1d(2, padding=1),
            nn.Flatten(), nn.Linear(16, 5, bias=False), nn.BatchNorm1d(5), nn.Tanh(), nn.ReLU6(), nn.Softmax(1),
        ),
        (2, 11),
    ),
}  # fmt: skip


@needs_gcc
@pytest.mark.parametrize("kind", MODELS)
def test_it_answers_as_the_model(kind: str, tmp_path: Path) -> None:
    fnn.manual_seed(0)
    make, shape = MODELS[kind]
    model = unsettled(make())
    exported = export_c(model, tmp_path / "model.c", shape)
    x = np.random.default_rng(0).random((20, *shape), np.float32)
    with fnn.no_grad():
        expected = model.eval()(x).numpy().reshape(20, -1)
    y = compiled(tmp_path / "model.c")(x, expected.shape[1])
    assert exported.inputs == shape
    assert np.prod(exported.outputs) == expected.shape[1]
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * abs(expected).max())


class Sliced(nn.Module):
    """Products by a part of a parameter and then by all of it: both are constants, and begin at one place."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32))

    def forward(self, x: Any) -> Any:
        return fnn.cat([fnn.nn.functional.linear(x, self.w[:2]), fnn.nn.functional.linear(x, self.w)], 1)


@pytest.mark.parametrize(("model", "shape"), [(Sliced(), (5,)), (nn.LayerNorm(5), (4, 5)), (nn.RMSNorm(5), (4, 5))])
def test_parts_of_constants_and_norms_of_sequences(model: nn.Module, shape: tuple[int, ...], tmp_path: Path) -> None:
    fnn.interop.export_c(model, tmp_path / "model.c", shape)
    predict = compiled(tmp_path / "model.c")
    x = np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)
    expected = model(fnn.Tensor(x)).numpy().reshape(3, -1)
    found = predict(x, expected.shape[1])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compiler", ["clang", "arm-none-eabi-gcc"])
def test_other_compilers_have_no_warning(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    path = tmp_path / "model.c"
    exported = export_c(unsettled(residual()), path, (3, 9, 8), int8=np.ones((2, 3, 9, 8), np.float32))
    machine = ["-mcpu=cortex-m4", "-mthumb"] if compiler.startswith("arm") else []
    subprocess.run([compiler, *STRICT, *machine, "-O2", "-c", "-o", tmp_path / "model.o", path], check=True)
    said = re.search(r"Memory: ([\d,]+) bytes of constants, ([\d,]+) bytes of static memory", path.read_text())
    assert said is not None
    assert [int(n.replace(",", "")) for n in said.groups()] == [exported.constants, exported.memory]
    if machine:
        sizes = subprocess.run(["arm-none-eabi-size", tmp_path / "model.o"], capture_output=True, text=True, check=True)
        assert int(sizes.stdout.split()[8]) == exported.memory  # of uninitialised data: all that it uses, and no heap
        undefined = subprocess.run(["arm-none-eabi-nm", "-u", tmp_path / "model.o"], capture_output=True, text=True)
        assert not re.search(r"alloc|free|print", undefined.stdout)


def test_memory_is_shared_by_what_is_never_needed_together() -> None:
    """Of x → a → b → c, a and b are in use together, and b and c; c takes the place of a."""
    a, b, c = (Buffer(np.empty(size, np.float32), "m") for size in (4, 8, 3))
    x, y = Buffer(np.empty(5, np.float32), "x", "x"), Buffer(np.empty(2, np.float32), "y", "y")
    chain = [Statement("", Reference(to, 0), [Reference(of, 0)]) for of, to in ((x, a), (a, b), (b, c), (c, y))]
    assert plan(chain) == 12
    assert (a.offset, b.offset, c.offset) == (8, 0, 8)
    chain[1].in_place = [0]  # of another size: not possible
    assert plan(chain) == 12


def test_int8_is_exact_for_weights_that_are_whole_numbers(tmp_path: Path) -> None:
    """Of a common scale, one a channel, up to 127."""
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(27, 4))
    for layer, scale in ((model[0], 0.25), (model[2], 0.5)):
        weight = rng.integers(-126, 127, layer.weight.shape).astype(np.float32)
        weight.reshape(len(weight), -1)[:, 0] = 127
        layer.weight.data[...] = weight * (scale * np.arange(1, len(weight) + 1)).reshape(-1, *[1] * (weight.ndim - 1))
    x = rng.random((30, 2, 4, 4), np.float32)
    with fnn.no_grad():
        expected = model(x).numpy()
    exported = export_c(model, tmp_path / "model.c", (2, 4, 4), int8=(x, expected.argmax(1)))
    assert exported.int8 is not None
    assert (exported.int8.before, exported.int8.after, exported.int8.same) == (1, 1, 1)
    assert exported.int8.error < 1e-5
    assert exported.constants == (24 + 108) + 4 * (3 + 3 + 4 + 4)  # weights, scales, biases
    if shutil.which("gcc"):
        y = compiled(tmp_path / "model.c")(x, 4)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * abs(expected).max())


@needs_gcc
def test_int8_tells_what_it_costs(tmp_path: Path) -> None:
    """The accuracy that is said is that of the compiled file."""
    digits, test = fnn.data.load("digits"), fnn.data.load("digits", split="test")
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))
    fnn.fit(model, digits, epochs=2, verbose=False)
    exported = export_c(model, tmp_path / "model.c", int8=digits, test=test, name="digit")
    y = compiled(tmp_path / "model.c", "digit")(test.images / np.float32(255), 10)
    assert exported.int8 is not None
    assert exported.int8.after == pytest.approx((y.argmax(1) == test.labels).mean(), abs=0.003)
    assert exported.int8.before == pytest.approx(fnn.evaluate(model, test).accuracy, abs=0.003)
    assert exported.int8.after > exported.int8.before - 0.01
    assert "classes: 0, 1, 2" in (tmp_path / "model.c").read_text()


class Sorted(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.sort(1)[0]


class Noisy(nn.Module):
    def forward(self, x: Any) -> Any:
        return x + fnn.rand_like(x)


class Peeking(nn.Module):
    def forward(self, x: Any) -> Any:
        return x if float(x.sum()) > 0 else -x


class Two(nn.Module):
    def forward(self, x: Any) -> Any:
        return x, x


def broken() -> nn.Module:
    model = nn.Linear(3, 2)
    model.weight.data[0, 0] = np.nan
    return model


def overflowing() -> nn.Module:
    """Finite numbers, but not their product."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model[0].weight.data[...], model[1].weight.data[...] = 10, 3e38
    return model


@pytest.mark.parametrize(
    ("model", "options", "error", "said"),
    [
        (nn.Sequential(nn.Linear(3, 3), Sorted()), {}, GraphError, r"of Sorted \(1\) has no form in C"),
        (Noisy(), {}, GraphError, "RandLike of Noisy has no form in C: it draws random numbers"),
        (Peeking(), {}, GraphError, "cannot be traced: the model reads the value"),
        (Two(), {}, GraphError, "returns one array, got 2"),
        (broken(), {}, NonFiniteError, r"export_c: .* finite numbers, got other ones in the parameter weight \(nan"),
        (overflowing(), {"shape": (3,)}, NonFiniteError, "export_c: expected finite weights, got NaN or infinite ones"),
        (nn.Linear(3, 2), {"shape": None}, ArgumentError, "shape of one sample"),
        (nn.Linear(3, 2), {"shape": (3, 0)}, ArgumentError, "positive whole numbers"),
        (nn.Linear(3, 2), {"shape": (4,)}, ShapeError, "4"),
        (nn.Linear(3, 2), {"name": "my-model"}, ArgumentError, "name"),
        (nn.Linear(3, 2), {"name": "float"}, ArgumentError, "name"),
        (nn.Linear(3, 2), {"int8": np.ones((5, 4), np.float32)}, ShapeError, r"samples \(N, 3\) for int8"),
        (nn.Linear(3, 2).double(), {}, GraphError, "Cast of Linear .* float64: model.float"),
        (len, {}, ArgumentError, "expected a model"),
    ],
)
def test_what_cannot_be_written_is_named(
    model: Any, options: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        export_c(model, tmp_path / "model.c", **{"shape": (3,), **options})
    assert not (tmp_path / "model.c").exists()


def test_int8_of_one_output_counts_the_side_that_it_is_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 5)).astype(np.float32)
    model = nn.Linear(5, 1)
    labels = (model(fnn.Tensor(x)).numpy()[:, 0] > 0).astype(np.int64)
    found = fnn.interop.export_c(model, tmp_path / "m.c", (5,), int8=(x, labels)).int8
    assert found is not None
    assert found.before == 1
    assert found.same is not None
    assert found.same > 0.95
    fnn.fit(model, x, x[:, :1] * 2, verbose=False)
    found = fnn.interop.export_c(model, tmp_path / "m.c", int8=x).int8
    assert found is not None
    assert found.same is None
    assert "class" not in str(found)


def test_int8_takes_data_frames_and_names_of_classes_as_the_training_did(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    x = np.random.default_rng(0).normal(size=(60, 2))
    frame, names = pandas.DataFrame({"b": x[:, 1], "a": x[:, 0]}), np.where(x[:, 0] > 0, "yes", "no")
    model = fnn.recipes.train(frame[["a", "b"]], names, epochs=2, verbose=False).model
    exported = export_c(model, tmp_path / "model.c", int8=(frame, names))
    assert exported.int8 is not None
    assert exported.int8.before == fnn.evaluate(model, frame, names).accuracy
