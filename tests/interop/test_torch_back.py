"""Models of fastnn's as PyTorch's, state dicts both ways, and PyTorch's files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.cli import main
from fastnn.errors import ArgumentError, DataError, GraphError, StateError

torch = pytest.importorskip("torch")
theirs = torch.nn


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Conv2d(1, 4, 3), nn.ReLU())
        self.blocks = nn.ModuleList([OwnBlock(4), nn.Identity(), OwnBlock(8)])
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        n, c, h, w = x.shape
        x = x.view(n, c, h * w).mean(-1)
        y = self.out(self.drop(x)) + self.out(x)
        return nn.functional.log_softmax(y, 1), y.max(1)[0], x[:, 1:3].sum(), x.flip(1)


class OwnBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.scale = nn.Parameter(np.full((1, channels, 1, 1), 1.5, np.float32))

    def forward(self, x: Any) -> Any:
        y = self.norm(self.conv(x)).relu() * self.scale
        return fnn.cat([x + y, nn.functional.max_pool2d(x, 3, 1, 1)], 1)


def test_a_forward_of_ones_own_becomes_a_graph() -> None:
    fnn.manual_seed(0)
    model = Own().eval()
    module = fnn.to_torch(model, (1, 10, 10))
    assert list(module.state_dict()) == list(model.state_dict())
    for count in (1, 4):
        x = np.random.default_rng(count).normal(size=(count, 1, 10, 10)).astype(np.float32)
        for one, other in zip(model(x), module(torch.as_tensor(x)), strict=True):
            np.testing.assert_allclose(other.detach().numpy(), one.detach().numpy(), rtol=1e-4, atol=1e-4)
    ones = torch.ones(1, 1, 10, 10)
    assert not torch.equal(module.train().drop(ones), ones)
    assert "self.drop" in module.code
    assert not torch.equal(module(torch.ones(2, 1, 10, 10))[0][0], module(torch.ones(2, 1, 10, 10))[0][0])
    again = fnn.from_torch(module, ones)
    assert list(again.state_dict()) == list(model.state_dict())


class Calls(nn.Module):
    """Any function of the input."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


F = nn.functional
FUNCTIONS = {
    "elementwise": lambda x: (x.exp() + x.abs().sqrt() - 1 / (x**2 + 1)) * x.clamp(-0.5, 0.5) + x.sin().atan(),
    "activations": lambda x: F.gelu(x) + F.silu(x) + F.elu(x) + F.leaky_relu(x, 0.2) + F.softplus(x) + F.mish(x),
    "reductions": lambda x: x.amax(1) + x.mean(1) + x.std(1) + x.prod(1) + x.logsumexp(1) + x.argmax(1).float(),
    "comparisons": lambda x: fnn.where((x > 0) & (x <= 1), x, fnn.zeros_like(x)) + (x == x).float(),
    "shapes": lambda x: x.unsqueeze(1).expand(x.shape[0], 3, x.shape[1]).permute(2, 0, 1).reshape(-1, 3),
    "norms": lambda x: F.layer_norm(x, (6,)) + F.group_norm(x, 2) + F.rms_norm(x, (6,)) + F.normalize(x),
    "places": lambda x: x[:, [0, 2, 2]].cumsum(1) + x.sort(1)[0][:, :3] + x.topk(3)[0],
    "products": lambda x: (x @ x.T).softmax(1) @ x,
    "padding": lambda x: F.pad(x, (1, 2), value=3.0).tile(2, 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operators_have_a_form_in_pytorch(name: str) -> None:
    model = Calls(FUNCTIONS[name])
    module = fnn.to_torch(model, (6,))
    for count in (2, 5):
        x = np.random.default_rng(count).normal(size=(count, 6)).astype(np.float32)
        np.testing.assert_allclose(module(torch.as_tensor(x)).numpy(), model(x).numpy(), rtol=1e-4, atol=1e-5)


def test_models_that_have_no_form_in_pytorch() -> None:
    with pytest.raises(fnn.FastnnError, match=r"expected a model .* got str"):
        fnn.to_torch("model")
    with pytest.raises(fnn.FastnnError, match="shape of one sample"):
        fnn.to_torch(Own())
    with pytest.raises(fnn.FastnnError, match="read"):
        fnn.to_torch(Calls(lambda x: x * float(x.sum())), (2,))


# ---- states and files ------------------------------------------------------------------------------------------------


def test_state_dicts_both_ways() -> None:
    module, model = theirs.BatchNorm1d(3), nn.BatchNorm1d(3)
    module(torch.randn(8, 3))
    model.load_state_dict(module.state_dict())
    assert np.array_equal(model.running_mean, module.running_mean.numpy())
    model.load_state_dict(dict(module.named_parameters()), strict=False)  # tensors that ask for gradients
    model.weight.data[...] = 7
    module.load_state_dict(fnn.to_torch(model.state_dict()))
    assert module.weight.tolist() == [7, 7, 7]
    arrays = fnn.from_torch({"a": [torch.ones(2, dtype=torch.bfloat16)], "n": 3})
    assert arrays["n"] == 3
    assert arrays["a"][0].dtype == np.float32


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = theirs.Linear(3, 2)
    pt, safe, back = (str(tmp_path / name) for name in ("c.pt", "c.safetensors", "back.pth"))
    torch.save({"model": module.state_dict(), "epoch": 3}, pt)
    assert main(["convert", pt, safe, "--key", "model"]) == 0
    assert "2 tensors, 8 numbers" in capsys.readouterr().out
    nn.Linear(3, 2).load_state_dict(fnn.weights.load(safe))
    assert main(["convert", safe, back]) == 0
    assert torch.equal(torch.load(back, weights_only=True)["weight"], module.weight)
    assert main(["convert", pt, safe]) == 0
    assert fnn.load(safe)["epoch"] == 3
    assert main(["convert", pt, safe, "--key", "modle"]) == 2
    assert "did you mean 'model'" in capsys.readouterr().err
    assert main(["convert", safe, safe]) == 2


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was_executed"),))


def test_nothing_in_a_file_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, "evil.pt")
    torch.save(theirs.Linear(2, 2), "whole.pt")
    Path("damaged.pt").write_bytes(b"PK\x03\x04 and then nothing")
    for name, said in (("evil", "objects"), ("whole", "objects"), ("damaged", "damaged"), ("none", "not there")):
        assert main(["convert", f"{name}.pt", "x.safetensors"]) == 3
        assert said in capsys.readouterr().err
    assert not Path("was_executed").exists()
    assert not Path("x.safetensors").exists()


NUMBER_OF_SAMPLES = {
    "a factor": lambda x: x * x.shape[0],
    "a mean over samples": lambda x: x - x.mean(0),
    "a sum over samples": lambda x: x / x.abs().sum(),
    "half of them": lambda x: x[: x.shape[0] // 2 + 1],
    "a deviation": lambda x: x / x.std(0),
    "a constant": lambda x: x + fnn.eye(x.shape[0], 4),
}


@pytest.mark.parametrize("name", NUMBER_OF_SAMPLES)
def test_the_number_of_samples_is_none_of_the_trace(name: str) -> None:
    """A mean over samples was divided by 2, whatever came: right for all numbers, or refused."""
    model = Calls(NUMBER_OF_SAMPLES[name])
    if name in ("half of them", "a deviation", "a constant"):
        with pytest.raises(GraphError, match="number of samples"):
            fnn.to_torch(model, (4,))
        return
    module = fnn.to_torch(model, (4,))
    for count in (1, 2, 7):
        x = np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)
        np.testing.assert_allclose(module(torch.as_tensor(x)).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)


def test_pixels_of_uint8_are_put_on_scale_there_too() -> None:
    """PyTorch's module took 0 to 255 as they are."""
    model = nn.Sequential(nn.Normalize([0.5, 0.2], [0.3, 1.0]), nn.Conv2d(2, 3, 3))
    x = np.random.default_rng(0).integers(0, 256, (2, 2, 5, 5)).astype(np.uint8)
    for module in (fnn.to_torch(model), fnn.to_torch(Calls(model), (2, 5, 5))):
        for given in (x, x.astype(np.float32) / 255):
            found = module(torch.as_tensor(given)).detach().numpy()
            np.testing.assert_allclose(found, model(given).numpy(), rtol=1e-4, atol=1e-5)


def test_checkpoints_with_numbers_of_numpy(tmp_path: Path) -> None:
    """As a training keeps its best accuracy; other objects are named, and not made."""
    torch.save({"best": np.float64(0.75), "curve": np.arange(3.0), "w": torch.ones(2)}, tmp_path / "a.pt")
    content = fnn.interop.load_pt(tmp_path / "a.pt")
    assert content["best"] == 0.75
    np.testing.assert_array_equal(content["curve"], [0, 1, 2])
    torch.save({"args": argparse.Namespace(lr=1)}, tmp_path / "b.pt")
    with pytest.raises(DataError, match=r"objects \(argparse.Namespace\)"):
        fnn.interop.load_pt(tmp_path / "b.pt")


def test_names_of_data_parallel(tmp_path: Path) -> None:
    module = theirs.Sequential(theirs.Linear(3, 2))
    torch.save(theirs.DataParallel(module).state_dict(), tmp_path / "parallel.pt")
    model = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(StateError, match=r"all names given begin with 'module.', as those of .* DataParallel"):
        model.load_state_dict(fnn.interop.load_pt(tmp_path / "parallel.pt"))
    with pytest.raises(StateError, match=r"would have to begin with 'module.'"):
        nn.DataParallel(model).load_state_dict(module.state_dict())
    path = tmp_path / "plain.safetensors"
    assert main(["convert", str(tmp_path / "parallel.pt"), str(path), "--key", "module"]) == 0
    model.load_state_dict(fnn.weights.load(path))
    np.testing.assert_array_equal(model[0].weight.data, module[0].weight.detach())


def test_models_of_several_inputs_are_named(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a + b

    for export in (
        lambda: fnn.to_torch(Two(), (3,)),
        lambda: fnn.interop.export_c(Two(), tmp_path / "two.c", (3,)),
        lambda: fnn.onnx.export(Two(), tmp_path / "two.onnx", (3,)),
    ):
        with pytest.raises(ArgumentError, match=r"expected a model that takes one array, got forward\(a: .*, b: "):
            export()


class Lines(nn.Module):
    """Functions of sequences (N, C, L), which have the Functions of images."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(fnn.randn(4, 3, 3)), nn.Parameter(fnn.randn(4))
        self.back = nn.Parameter(fnn.randn(4, 1, 2))

    def forward(self, x: Any) -> Any:
        F = nn.functional
        x = F.conv1d(x, 2 * self.weight, self.bias, 2, 3, 2)
        x = F.interpolate(F.conv_transpose1d(x, self.back, None, 3, 1, 2, 2), scale_factor=2)
        return F.max_pool1d(x, 3, 2, 1), F.avg_pool1d(x, 3, 2, 1), x[:, :, 5:2:-1], x[:, ::-1, -2::-1]


def test_functions_of_sequences() -> None:
    model, x = Lines().eval(), np.random.default_rng(0).normal(size=(2, 3, 12)).astype(np.float32)
    for found, expected in zip(fnn.to_torch(model, (3, 12))(torch.from_numpy(x)), model(x), strict=True):
        np.testing.assert_allclose(found.detach(), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_state_dicts_of_16_bits() -> None:
    module, model = theirs.Linear(3, 2), nn.Linear(3, 2)
    for half in (module.bfloat16(), module.half()):
        model.load_state_dict(half.state_dict())
        np.testing.assert_array_equal(model.weight.data, half.weight.detach().float())
