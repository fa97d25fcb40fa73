"""The first lines of programs for PyTorch: seeds, devices, types and settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, BackendError, DTypeError


@pytest.fixture(autouse=True)
def settings_are_put_back() -> Iterator[None]:
    with np.printoptions():
        yield
        fnn.set_printoptions(profile="default")
    fnn.set_default_dtype(fnn.float32)


def test_a_device_is_picked() -> None:
    """The lines as they are written."""
    torch, mps = fnn, fnn.backends.mps
    device = torch.device("cuda" if torch.cuda.is_available() else "mps" if mps.is_available() else "cpu")
    other = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
    assert device == other == "cpu"
    assert (str(device), device.type, device.index, repr(device)) == ("cpu", "cpu", None, "device(type='cpu')")
    assert torch.device(device) == torch.device("cpu") == torch.zeros(1).device
    assert f"Using {device} device" == "Using cpu device"
    model = nn.Linear(2, 1, device=device).to(device)
    assert model(torch.ones(1, 2, device=device).to(device)).device == device
    assert not torch.zeros(1).is_cuda
    assert torch.cuda.device_count() == 0


def test_other_devices_can_be_named() -> None:
    """stable-baselines3 compares with ``th.device("cuda").type`` before it looks whether there is one."""
    there = fnn.device("cuda", 1)
    assert (there.type, there.index, str(there), repr(there)) == ("cuda", 1, "cuda:1", "device(type='cuda', index=1)")
    assert fnn.device("cuda").index is None
    assert there == fnn.device("cuda:1") != fnn.device("cpu")
    for use in (
        lambda: fnn.zeros(1, device=there),
        lambda: fnn.zeros(1).to(there),
        lambda: nn.Linear(1, 1).to(there),
        lambda: fnn.as_tensor([1.0], device=fnn.device(0)),
    ):
        with pytest.raises(BackendError, match="runs on the CPU and has no device 'cuda"):
            use()
    for wrong in ("card", "cuda:x", "cuda:"):
        with pytest.raises(ArgumentError, match=r"fnn\.device: expected 'cpu', or another device's name"):
            fnn.device(wrong)


def test_settings_are_taken() -> None:
    fnn.cuda.manual_seed(0)
    fnn.cuda.manual_seed_all(0)
    fnn.cuda.empty_cache()
    fnn.backends.cudnn.benchmark = True
    fnn.backends.cudnn.deterministic = True
    fnn.backends.cuda.matmul.allow_tf32 = True
    fnn.use_deterministic_algorithms(True)
    fnn.set_float32_matmul_precision("high")
    fnn.set_default_device("cpu")
    fnn.set_num_interop_threads(1)
    assert fnn.is_tensor(fnn.zeros(1))
    assert not fnn.is_tensor(np.zeros(1))
    with pytest.raises(ArgumentError, match="'highest', 'high' or 'medium'"):
        fnn.set_float32_matmul_precision("low")
    with pytest.raises(BackendError, match="runs on the CPU"):
        fnn.set_default_device("cuda")


def test_seeds() -> None:
    fnn.manual_seed(5)
    assert fnn.initial_seed() == 5
    state, first = fnn.get_rng_state(), fnn.rand(3).tolist()
    fnn.set_rng_state(state)
    assert fnn.rand(3).tolist() == first
    assert fnn.seed() == fnn.initial_seed() != 5


def test_types_are_numpys() -> None:
    assert fnn.zeros(1).dtype == fnn.float32 == fnn.float == np.float32
    assert fnn.zeros(1, dtype=fnn.long).dtype == fnn.int64 == np.int64
    assert np.zeros(2, fnn.float64).dtype == fnn.double
    assert fnn.int == fnn.int32
    assert fnn.zeros(2).type() == "torch.FloatTensor"


def test_the_default_type() -> None:
    fnn.set_default_dtype(fnn.float64)
    assert fnn.get_default_dtype() == np.float64
    for made in (
        fnn.zeros(1),
        fnn.tensor([0.5]),
        fnn.rand(1),
        fnn.full((1,), 0.5),
        fnn.arange(0.5),
        fnn.linspace(0, 1, 2),
    ):
        assert made.dtype == np.float64
    assert fnn.arange(3).dtype == np.int64
    assert nn.Linear(2, 1).weight.dtype == nn.Linear(2, 1)(fnn.ones(1, 2)).dtype == np.float64
    fnn.set_default_tensor_type(fnn.FloatTensor)
    assert fnn.zeros(1).dtype == nn.Linear(1, 1).weight.dtype == np.float32
    fnn.set_default_tensor_type("torch.DoubleTensor")
    assert fnn.zeros(1).dtype == np.float64
    for wrong in (np.int64, None, "text"):
        with pytest.raises(DTypeError, match="set_default_dtype: expected"):
            fnn.set_default_dtype(wrong)


def test_printing() -> None:
    fnn.set_printoptions(precision=2, sci_mode=False)
    assert (str(fnn.tensor([1 / 3])), repr(fnn.tensor([1 / 3]))) == ("tensor([0.33])", "Tensor([0.33])")
    fnn.set_printoptions(profile="full")


RNG = np.random.default_rng(0)
PRINTED: list[Any] = [
    np.float32(3.5), np.zeros((2, 0)), np.zeros(0, int), np.arange(5, dtype=np.int32), np.array([True, False]),
    RNG.normal(size=(2, 3)), np.float32([1, 2]), np.float32([1, np.inf, np.nan]), np.float32([1.5, -np.inf, np.nan]),
    np.float32([1e-8, 1e5]), np.float32([1e9, 1]), np.float32([1e-5]), np.float32([np.nan]), np.zeros((2, 2), "f"),
    RNG.normal(size=(2, 3, 4)), RNG.normal(size=(30, 50)), RNG.normal(size=2000), np.arange(2000), np.array([5e-324]),
    RNG.normal(size=(3, 40)), RNG.normal(size=(5, 300, 2)), np.float32([1, 1000]), np.float32([1, 1001]), np.array(7),
    np.array([-0.0, 1.5]), np.uint8([1, 200]),
]  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [{}, {"precision": 2}, {"sci_mode": True}, {"sci_mode": False}, {"linewidth": 40, "edgeitems": 2, "threshold": 10}],
)
def test_tensors_parameters_and_buffers_print_as_pytorchs(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    for package in (fnn, torch):
        package.set_printoptions(profile="default")
        package.set_printoptions(**options)
    for array in map(np.asarray, PRINTED):
        assert str(fnn.tensor(array)) == f"{fnn.tensor([array]).data[0]!s}" == str(torch.tensor(array))
        if array.dtype.kind == "f":
            mine, theirs = nn.Parameter(fnn.tensor(array)), torch.nn.Parameter(torch.tensor(array))
            assert str(mine) == repr(mine) == str(theirs)
    torch.set_printoptions(profile="default")


def test_what_else_prints_as_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    x = fnn.ones(2, requires_grad=True) * 2.5
    assert f"{x}" == "tensor([2.5000, 2.5000], grad_fn=<MulBackward0>)" == str(torch.ones(2, requires_grad=True) * 2.5)
    assert str(nn.BatchNorm1d(2).running_var) == str(torch.nn.BatchNorm1d(2).running_var) == "tensor([1., 1.])"


def test_questions_of_tensors() -> None:
    x = fnn.zeros(2, 3)
    assert (x.nelement(), x.numel(), fnn.numel(x), x.element_size(), x.ndimension()) == (6, 6, 6, 4, 2)
    assert x.size().numel() == x.size()[1:].numel() * 2 == 6
    assert x.size() == (2, 3) == tuple(x.size())
    assert x.is_floating_point()
    assert not fnn.is_floating_point(x.long())
    assert x.is_contiguous()
    assert not x.t().is_contiguous()
    assert (x.stride(), x.t().stride(), x.stride(0)) == ((3, 1), (1, 3), 3)
    assert x.contiguous() is x.pin_memory() is x
    assert (x.get_device(), x.is_pinned(), x.data_ptr() == x.data.ctypes.data) == (-1, False, True)
    assert x.to("cpu", copy=True).data is not x.data
