"""PyTorch's places and older names that programs import: each is there, and is what it is elsewhere."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.errors import DataError

IMPORTS = """
from torch.nn.parallel import DataParallel
from torch.nn.modules.activation import MultiheadAttention
from torch.nn.modules.distance import CosineSimilarity
from torch.nn.modules.flatten import Flatten
from torch.nn.modules.fold import Unfold
from torch.nn.modules.instancenorm import InstanceNorm2d
from torch.nn.modules.padding import ZeroPad2d
from torch.nn.modules.pixelshuffle import PixelShuffle
from torch.nn.modules.rnn import RNNBase, RNNCellBase
from torch.nn.modules.upsampling import Upsample
from torch.nn.modules.utils import _single, _pair, _triple, _quadruple, _ntuple, _reverse_repeat_tuple
from torch.nn.common_types import _size_1_t, _size_2_t, _size_any_t
from torch.nn.init import _calculate_fan_in_and_fan_out, _calculate_correct_fan, xavier_uniform, kaiming_normal
from torch.nn.utils.clip_grad import clip_grad_norm_
from torch.nn.utils.convert_parameters import parameters_to_vector
from torch.nn.utils.weight_norm import weight_norm
from torch.nn.utils.spectral_norm import spectral_norm
from torch.optim.adamw import AdamW
from torch.optim.nadam import NAdam
from torch.optim.optimizer import Optimizer, required
from torch.autograd.variable import Variable
from torch.utils.data import ChainDataset, StackDataset, default_convert, get_worker_info
from torch.utils.data._utils.collate import default_collate
from torch.utils.model_zoo import load_url
from torch.hub import load_state_dict_from_url
from torch.jit import script, ignore, is_scripting
import torch.onnx, torch.compiler, torch.multiprocessing as mp, torch.special, torch.utils.data.distributed
""".strip().splitlines()


@pytest.mark.parametrize("package", ["torch", "fastnn"])
def test_programs_import_from_pytorchs_places(package: str) -> None:
    if package == "torch":
        pytest.importorskip("torch")
    for line in IMPORTS:
        exec(line.replace("torch", package, 1 if line.startswith("from") else -1), {})


def test_places_are_the_same_modules() -> None:
    assert importlib.import_module("fastnn.nn.modules.padding").ZeroPad2d is nn.ZeroPad2d
    assert importlib.import_module("fastnn.optim.radam").RAdam is optim.RAdam
    assert nn.utils.clip_grad.clip_grad_norm_ is nn.utils.clip_grad_norm is nn.utils.clip_grad_norm_
    assert nn.init.orthogonal is nn.init.orthogonal_
    assert nn.parallel.DataParallel is nn.DataParallel
    assert importlib.import_module("fastnn.onnx") is fnn.onnx


def test_base_classes_know_their_layers() -> None:
    of = nn.modules
    for layer, base in [
        (nn.BatchNorm2d(2), of.batchnorm._BatchNorm), (nn.Conv1d(1, 1, 1), of.conv._ConvNd),
        (nn.ConvTranspose2d(1, 1, 1), of.conv._ConvTransposeNd), (nn.Dropout(), of.dropout._DropoutNd),
        (nn.InstanceNorm1d(2), of.instancenorm._InstanceNorm), (nn.MaxPool2d(2), of.pooling._MaxPoolNd),
        (nn.AvgPool1d(2), of.pooling._AvgPoolNd), (nn.MSELoss(), of.loss._Loss), (nn.GRU(1, 1), nn.RNNBase),
    ]:  # fmt: skip
        assert isinstance(layer, base)
    assert not isinstance(nn.Conv1d(1, 1, 1), of.conv._ConvTransposeNd)


@pytest.mark.parametrize("dims", [1, 2])
def test_a_convolution_of_ones_own_changes_its_weight(dims: int) -> None:
    torch = pytest.importorskip("torch")
    outputs = {}
    draw = np.random.default_rng(0)
    x, w = draw.normal(size=(2, 2, *[5] * dims)), draw.normal(size=(4, 2, *[3] * dims))
    for library in (torch, fnn):
        base = getattr(library.nn, f"Conv{dims}d")

        class Standardized(base):  # type: ignore[misc, valid-type]
            def forward(self, input: Any) -> Any:
                weight = self.weight - self.weight.mean(dim=1, keepdim=True)
                return self._conv_forward(input, weight, self.bias)

        conv = Standardized(2, 4, 3, padding=1, padding_mode="reflect", bias=False).double()
        conv.load_state_dict({"weight": library.from_numpy(w)})
        outputs[library] = conv(library.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(outputs[fnn], outputs[torch], rtol=1e-12, atol=1e-12)


def test_a_loss_of_ones_own_inherits_reduction_and_weight() -> None:
    class FocalLoss(nn.modules.loss._WeightedLoss):
        def __init__(self, weight: Any = None, gamma: float = 2.0, reduction: str = "mean") -> None:
            super().__init__(weight, reduction=reduction)
            self.gamma = gamma

        def forward(self, input: Any, target: Any) -> Any:
            p = F.softmax(input, dim=1).gather(1, target[:, None])
            loss = F.cross_entropy(input, target, weight=self.weight, reduction="none") * (1 - p[:, 0]) ** self.gamma
            return loss.mean() if self.reduction == "mean" else loss.sum()

    torch = pytest.importorskip("torch")
    x, y, w = np.random.default_rng(0).normal(size=(5, 3)), np.array([0, 2, 1, 1, 0]), np.array([1.0, 2.0, 0.5])
    t = [torch.from_numpy(each) for each in (x, y, w)]
    p = t[0].softmax(1).gather(1, t[1][:, None])[:, 0]
    expected = (torch.nn.functional.cross_entropy(t[0], t[1], t[2], reduction="none") * (1 - p) ** 2).mean().item()
    criterion = FocalLoss(fnn.tensor(w))
    assert criterion(fnn.tensor(x), fnn.tensor(y)).item() == pytest.approx(expected, rel=1e-12)
    assert list(criterion.state_dict()) == ["weight"]
    with pytest.raises(fnn.FastnnError, match="reduction"):
        FocalLoss(reduction="average")


@pytest.mark.parametrize("shape", [(4, 3), (6, 2, 3, 5), (4, 2, 3)])
def test_fans_are_pytorchs(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    mine, theirs = nn.Parameter(np.zeros(shape)), torch.zeros(shape)
    init = torch.nn.init
    assert nn.init._calculate_fan_in_and_fan_out(mine) == init._calculate_fan_in_and_fan_out(theirs)
    assert nn.init._calculate_correct_fan(mine, "FAN_OUT") == init._calculate_correct_fan(theirs, "fan_out")
    assert nn.init.calculate_gain("conv_transpose3d") == init.calculate_gain("conv_transpose3d")


def test_ntuples_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    mine, theirs = importlib.import_module("fastnn.nn.modules.utils"), torch.nn.modules.utils
    for name in ("_single", "_pair", "_triple", "_quadruple"):
        for value in (3, (1, 2), [1, 2, 3]):
            assert getattr(mine, name)(value) == getattr(theirs, name)(value)
    assert mine._reverse_repeat_tuple((1, 2, 3), 2) == theirs._reverse_repeat_tuple((1, 2, 3), 2)


def test_old_types_are_classes() -> None:
    x = fnn.zeros(2)
    assert isinstance(x, fnn.FloatTensor)
    assert not isinstance(x, fnn.LongTensor)
    assert not isinstance(np.zeros(2, np.float32), fnn.FloatTensor)
    assert isinstance(nn.Parameter([1.0]), (fnn.LongTensor, fnn.FloatTensor))
    assert (fnn.LongTensor | None) == (None | fnn.LongTensor)  # annotations
    assert isinstance(x, fnn.autograd.Variable)
    assert not isinstance(2.0, fnn.autograd.Variable)


def test_data_sets_side_by_side_and_in_a_row() -> None:
    data = fnn.utils.data

    class Count(data.IterableDataset[int]):
        def __init__(self, n: int) -> None:
            self.n = n

        def __iter__(self) -> Any:
            return iter(range(self.n))

        def __len__(self) -> int:
            return self.n

    chain = Count(2) + Count(3)
    assert [*chain] == [0, 1, 0, 1, 2]
    assert len(chain) == 5
    assert [b.tolist() for b in data.DataLoader(chain, batch_size=3)] == [[0, 1, 0], [1, 2]]
    stack = data.StackDataset(x=fnn.arange(3), name=["a", "b", "c"])
    assert len(stack) == 3
    (batch,) = data.DataLoader(stack, batch_size=3)
    assert batch["x"].tolist() == [0, 1, 2]
    assert batch["name"] == ["a", "b", "c"]
    assert data.get_worker_info() is None
    for wrong in (lambda: data.StackDataset([1], [1, 2]), data.StackDataset, lambda: [*data.ChainDataset([[1, 2]])]):
        with pytest.raises(fnn.FastnnError, match="expected data sets"):
            wrong()


def test_samples_are_converted_as_pytorch_does() -> None:
    torch = pytest.importorskip("torch")
    sample = {"x": np.arange(2), "y": [np.float32(1.5), 2, "text"], "z": (np.float64(3), None), "s": np.array(["a"])}
    mine, theirs = fnn.utils.data.default_convert(sample), torch.utils.data.default_convert(sample)
    assert mine["x"].tolist() == theirs["x"].tolist()
    assert isinstance(mine["x"], fnn.Tensor)
    for name in ("y", "z"):
        assert type(mine[name]) is type(theirs[name])
        assert [float(v) if hasattr(v, "item") else v for v in mine[name]] == [
            float(v) if hasattr(v, "item") else v for v in theirs[name]
        ]
    assert mine["s"] is sample["s"]


def test_marks_for_pytorchs_compilers_change_nothing() -> None:
    @fnn.jit.script
    def twice(x: fnn.Tensor) -> fnn.Tensor:
        return 2 * x

    class Net(fnn.jit.ScriptModule):
        @fnn.jit.script_method
        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            return self.more(twice(x))

        @fnn.jit.unused
        def more(self, x: fnn.Tensor) -> fnn.Tensor:
            assert not fnn.jit.is_scripting()
            assert not fnn.jit.is_tracing()
            return x + fnn.jit.annotate(int, self.one())

        @fnn.jit.ignore()
        def one(self) -> int:
            return int(fnn.compiler.is_compiling())

        @fnn.jit.export
        @fnn.compiler.disable(recursive=False)
        def zero(self) -> int:
            return 0

    net = fnn.jit.trace(fnn.jit.script(Net()), fnn.ones(2))
    assert net(fnn.ones(2)).tolist() == [2.0, 2.0]
    assert net.zero() == 0
    assert fnn.compile(net)(np.ones(2, np.float32)).tolist() == [3.0, 3.0]


def test_weights_from_the_internet_are_refused_in_words() -> None:
    with pytest.raises(DataError, match=r"which https://x\.pth is: .* fnn\.from_torch"):
        fnn.utils.model_zoo.load_url("https://x.pth", progress=True)


def test_a_summary_writer_takes_tensors(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with fnn.utils.tensorboard.SummaryWriter(tmp_path / "run") as writer:
        writer.add_scalar("charts/loss", fnn.tensor(0.5, requires_grad=True), global_step=3)
        writer.add_histogram("weights", nn.Linear(2, 2).weight, 0)
        writer.add_scalars("both", {"train": fnn.tensor(1.0), "val": 2.0}, 1)
        writer.add_text("hyperparameters", "|lr|")
    (file,) = (tmp_path / "run").glob("events*")
    assert b"charts/loss" in file.read_bytes()
    assert b"weights" in file.read_bytes()


def test_what_is_seldom_imported_is_not_loaded_at_once() -> None:
    seldom = ["fastnn.jit", "fastnn.hub", "fastnn.special", "fastnn.multiprocessing", "fastnn.utils", "multiprocessing"]
    said = f"import sys, fastnn; print([m for m in {seldom!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout == "[]\n"
