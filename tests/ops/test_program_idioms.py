"""What people's programs for PyTorch ask of tensors and modules beside the operators themselves: as in PyTorch."""

from __future__ import annotations

import copy
import pickle
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, GraphError, ShapeError

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


@pytest.mark.parametrize("sizes", [(), (0,), (3,), (2, 3), (2, 1, 4)])
def test_a_tensor_of_sizes(sizes: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    found, expected = fnn.Tensor(*sizes), torch.Tensor(*sizes)
    assert found.shape == tuple(expected.shape)
    assert found.dtype == np.float32
    assert found.uniform_(1, 2).tolist() != [0.0] * 3  # it can be written to
    assert nn.Parameter(fnn.Tensor(*sizes)).shape == found.shape


def test_a_tensor_of_sizes_and_of_data_are_told_apart() -> None:
    assert fnn.Tensor(2, requires_grad=True).requires_grad
    assert fnn.Tensor(2, True).shape == (2,)
    assert fnn.Tensor(2.0).shape == fnn.Tensor(np.int64(2)).shape == ()
    assert (fnn.tensor([1, 2]) + 2).tolist() == [3, 4]
    for refused in ((2, -1), (2, 1.5), (2, 3, True)):
        with pytest.raises(ShapeError, match="expected sizes as integers of at least 0"):
            fnn.Tensor(*refused)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"or sizes, got 2\.0, 3$"):
        fnn.Tensor(2.0, 3)


NUMBERS: dict[str, Any] = {  # operators whose arguments may be plain whole numbers
    "x[0] = 2": lambda t, x: x.__setitem__(0, 2) or x,
    "x[mask] = 0": lambda t, x: x.__setitem__(x > 0, 0) or x,
    "index_fill": lambda t, x: x.index_fill(0, t.tensor([0]), 3),
    "where": lambda t, x: t.where(x > 0, 1, x),
    "masked_fill": lambda t, x: x.masked_fill(x > 0, 2),
    "maximum": lambda t, x: x.clamp(min=1) + 2,
    "scatter": lambda t, x: x.scatter(1, t.tensor([[0], [1], [2], [0]]), 2),
    "rsub": lambda t, x: 2 - x,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_whole_numbers_stay_numbers(name: str) -> None:
    torch = pytest.importorskip("torch")
    found, expected = NUMBERS[name](fnn, fnn.tensor(X)), NUMBERS[name](torch, torch.tensor(X))
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize("value", [2.5, 3, True])
def test_a_number_prints_in_a_string_as_pytorchs(value: Any) -> None:
    torch = pytest.importorskip("torch")
    assert f"{fnn.tensor(value)}" == f"{torch.tensor(value)}" == str(value)
    assert f"{fnn.tensor([2.5])}" == "tensor([2.5000])"


def test_gradients_of_what_a_generator_gives() -> None:
    torch = pytest.importorskip("torch")
    results = []
    for t in (fnn, torch):
        w, b = t.tensor(X, requires_grad=True), t.tensor(X[0], requires_grad=True)
        loss = ((w * b).tanh() + b).sum()
        results.append([g.numpy() for g in t.autograd.grad(loss, (p for p in (w, b)))])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_normal_numbers_with_a_gradient_are_a_leaf() -> None:
    w = fnn.normal(0, 0.01, size=(2, 1), requires_grad=True)
    assert w.is_leaf
    (w * w).sum().backward()
    np.testing.assert_allclose(w.grad, 2 * w.data)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_of_one_vector(bias: bool) -> None:
    torch = pytest.importorskip("torch")
    results = []
    for t in (fnn, torch):
        layer, x = t.nn.Linear(3, 2, bias=bias), t.tensor(X[0], requires_grad=True)
        layer.weight.data[:] = t.tensor(X[:2])
        if bias:
            layer.bias.data[:] = t.tensor(X[2, :2])
        y = layer(x)
        (y * y).sum().backward()
        results.append([y.detach().numpy(), np.asarray(x.grad), np.asarray(layer.weight.grad)])
    for found, expected in zip(*results, strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_compiled_model_takes_one_vector() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    np.testing.assert_allclose(fnn.compile(model)(X[0]), fnn.compile(model)(X[:1])[0], rtol=1e-6, atol=1e-7)


def test_a_number_as_index_of_a_vector() -> None:
    torch = pytest.importorskip("torch")
    for call in (
        lambda t: t.zeros(5).scatter_(0, t.tensor(3), value=1),  # the quickstart's one-hot
        lambda t: t.ones(5).scatter_add(0, t.tensor(1), t.tensor([2.0])),
        lambda t: t.arange(5).gather(0, t.tensor(3)),
    ):
        found, expected = call(fnn), call(torch)
        assert found.shape == expected.shape
        assert found.tolist() == expected.tolist()


class Running(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", fnn.zeros(3))

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        self.mean = self.mean * 0.5 + x.mean(0) * 0.5
        return x - self.mean


def test_a_buffer_that_forward_assigns_stays_a_buffer() -> None:
    model = Running()
    model(fnn.tensor(X))
    kept = model.state_dict()
    assert list(kept) == ["mean"]
    np.testing.assert_allclose(kept["mean"], X.mean(0) / 2, rtol=1e-6)
    other = Running()
    other.load_state_dict(kept)
    other(fnn.tensor(X))
    np.testing.assert_allclose(dict(other.named_buffers())["mean"], X.mean(0) * 0.75, rtol=1e-6)
    other.load_state_dict(kept)  # into what forward has assigned
    np.testing.assert_allclose(other.state_dict()["mean"], kept["mean"])
    assert other.double().state_dict()["mean"].dtype == np.float64


@pytest.mark.parametrize(
    "path",
    [
        "sampler.SubsetRandomSampler",
        "sampler.Sampler",
        "dataset.Dataset",
        "dataset.random_split",
        "dataloader.DataLoader",
    ],
)
def test_data_is_where_pytorch_has_it(path: str) -> None:
    module, name = path.split(".")
    assert getattr(import_module(f"fastnn.utils.data.{module}"), name) is getattr(fnn.utils.data, name)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.reshape(shape=(3, 4)),
        lambda x: x.view(size=(2, -1)),
        lambda x: x.permute(dims=(1, 0)),
        lambda x: x.unsqueeze(0).expand(size=(2, 4, 3)),
    ],
)
def test_sizes_by_name(call: Any) -> None:
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(call(fnn.tensor(X)).numpy(), call(torch.tensor(X)).numpy())
    for wrong in ({"sizes": (3, 4)}, {"shape": (3, 4), "dims": 1}):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            fnn.tensor(X).reshape(**wrong)
    with pytest.raises(TypeError, match="unexpected keyword argument 'shape'"):
        fnn.tensor(X).reshape(4, 3, shape=(3, 4))


def test_a_schedule_of_ones_own_by_get_lr() -> None:
    """As warm-ups are written: over the base rates, or, with a factor, from the present ones."""
    torch = pytest.importorskip("torch")

    def rates(optim: Any, new: Any) -> list[list[float]]:
        base = optim.lr_scheduler._LRScheduler

        class WarmUp(base):  # type: ignore[misc]
            def __init__(self, optimizer: Any, steps: int, last_epoch: int = -1) -> None:
                self.steps = steps
                super().__init__(optimizer, last_epoch)

            def get_lr(self) -> list[float]:
                if self.last_epoch <= self.steps:
                    return [base_lr * (self.last_epoch + 1) / self.steps for base_lr in self.base_lrs]
                return [group["lr"] * 0.5 for group in self.optimizer.param_groups]

        opt = optim.SGD([{"params": [new()]}, {"params": [new()], "lr": 0.2}], lr=0.1)
        schedule, found = WarmUp(opt, 3), []
        for t in range(8):
            found.append([group["lr"] for group in opt.param_groups])
            if t == 5:
                opt.param_groups[0]["lr"] = 1.0
            opt.step()
            schedule.step()
        return [*found, schedule.get_last_lr()]

    expected = rates(torch.optim, lambda: torch.nn.Parameter(torch.ones(1)))
    np.testing.assert_allclose(rates(fnn.optim, lambda: nn.Parameter([1.0])), expected, rtol=1e-12)


def test_a_parameter_of_no_dimensions_that_is_used_twice_has_an_array_as_gradient() -> None:
    """Also where a hook is set anywhere: NumPy's sum of two scalars is none."""
    other = nn.Parameter(fnn.ones(2))
    handle = other.register_hook(lambda grad: grad)
    scale = nn.Parameter(fnn.tensor(0.5))
    (scale * fnn.tensor(X) + scale).sum().backward()
    handle.remove()
    assert isinstance(scale.grad, np.ndarray)
    np.testing.assert_allclose(scale.grad, X.sum() + X.size, rtol=1e-5)
    fnn.optim.SGD([scale], 0.1).step()


@pytest.mark.parametrize("options", [{"maximize": True}, {"weight_decay": 0.1}], ids=str)
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad", "RMSprop"])
def test_optimisers_take_a_parameter_of_no_dimensions(name: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for t in (fnn, torch):
        scale = t.nn.Parameter(t.tensor(0.5))
        opt = getattr(t.optim, name)([scale], lr=0.1, **options)
        for _ in range(3):
            opt.zero_grad()
            (scale * scale * 3 - scale).backward()
            opt.step()
        found.append(float(scale))
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_whole_number_that_an_operator_is_given_is_no_size() -> None:
    x = fnn.tensor([3.0, 1.0])
    assert fnn.isclose(x, 3).tolist() == [True, False]
    assert x.isclose(2).tolist() == [False, False]
    assert fnn.equal(fnn.tensor(3), 3)
    assert fnn.atleast_2d(3).tolist() == [[3]]
    assert fnn.where(x > 2, 3, 4).tolist() == [3, 4]
    assert [fnn.zeros_like(3).shape, fnn.stack([fnn.tensor(3), fnn.tensor(3)]).shape] == [(), (2,)]
    assert nn.functional.pad(fnn.tensor([1]), (1, 0)).tolist() == [0, 1]


def test_labels_of_the_other_byte_order_are_labels() -> None:
    logits, labels = fnn.tensor(X), np.array([1, 0, 2, 1])
    swapped = labels.astype(labels.dtype.newbyteorder())
    assert fnn.Tensor(swapped).astype(np.int64).dtype.isnative
    loss = nn.CrossEntropyLoss()
    assert loss(logits, swapped).item() == loss(logits, labels).item()


def test_loaded_keys_are_printed_as_pytorchs() -> None:
    model = nn.Linear(1, 1)
    assert repr(model.load_state_dict(model.state_dict())) == "<All keys matched successfully>"
    found = model.load_state_dict({}, strict=False)
    assert repr(found) == "_IncompatibleKeys(missing_keys=['weight', 'bias'], unexpected_keys=[])"


def test_what_was_written_before_a_tensor_took_a_gradient_is_a_constant() -> None:
    """As in `h = relu_(...); d = h.detach().requires_grad_()`, and in checkpoints one after another."""
    w = fnn.tensor([1.0, -2.0], requires_grad=True)
    for learned in (lambda h: h.detach().requires_grad_(), lambda h: fnn.Tensor(h.detach().numpy(), True)):
        leaf = learned((w * 2).relu_())
        (leaf * leaf).sum().backward()
        assert leaf.grad.tolist() == [4, 0]
    later = w.detach().clone().requires_grad_()
    product = later * later
    view = later.detach()
    view[0] = w[0] * 3  # a write after it
    with pytest.raises(fnn.errors.GraphError, match="in place"):
        product.sum().backward()

    def block(x: Any) -> Any:
        return (x * 3).relu_()

    again = fnn.utils.checkpoint.checkpoint
    again(block, again(block, w, use_reentrant=False), use_reentrant=False).sum().backward()
    assert w.grad.tolist() == [9, 0]


def test_tensors_keep_the_marks_that_programs_set() -> None:
    weight = nn.Parameter(fnn.zeros(2))
    weight._no_weight_decay = True
    weight.data.optim = {"lr": 0.1}
    x = fnn.tensor([1.0])
    x.require_grad = False  # a slip that is found in the wild
    model = nn.ParameterList([weight])
    assert [p._no_weight_decay for p in copy.deepcopy(model).parameters()] == [True]
    assert pickle.loads(pickle.dumps(x)).require_grad is False
    assert not hasattr(x, "_no_weight_decay")


@pytest.mark.parametrize("package", ["fastnn", "torch"])
def test_what_modules_hold_by_kind(package: str) -> None:
    torch = pytest.importorskip(package)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Tanh())
    assert list(model._modules) == ["0", "1", "2"]
    assert [type(m).__name__ for m in model._modules.values()] == ["Linear", "BatchNorm1d", "Tanh"]
    model._modules["2"] = nn.ReLU()
    assert isinstance(model[2], nn.ReLU)
    del model._modules["2"]
    assert len(model) == len(model._modules) == 2
    assert set(model[0]._parameters) == {"weight", "bias"}
    model[0]._parameters["weight"] = nn.Parameter(torch.ones(1, 2))
    assert tuple(model[0].weight.shape) == (1, 2)
    assert [name for name, x in model[1]._buffers.items() if x is not None] == list(dict(model[1].named_buffers()))
    model[1]._buffers["extra"] = torch.ones(2)
    assert "1.extra" in model.state_dict()
    del model[1]._buffers["extra"]
    assert "1.extra" not in model.state_dict()
    assert "absent" not in model._modules
    with pytest.raises(KeyError):
        del model._parameters["0"]
    assert model.to(memory_format=torch.channels_last) is model.to("cpu", torch.float32, non_blocking=True) is model
    torch._assert(True, "holds")
    with pytest.raises(AssertionError, match="not so"):
        torch._assert(False, "not so")


@pytest.mark.parametrize("package", ["fastnn", "torch"])
def test_the_largest_gradient_as_norm(package: str) -> None:
    torch = pytest.importorskip(package)
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, -4.0])
    assert torch.nn.utils.clip_grad_norm_([weight], 1.0, norm_type="inf") == 4
    np.testing.assert_allclose(np.asarray(weight.grad), [0.75, -1], rtol=1e-5)


@pytest.mark.parametrize("package", ["fastnn", "torch"])
def test_hooks_are_taken_back_by_their_kind(package: str) -> None:
    torch = pytest.importorskip(package)
    layer, seen = torch.nn.Linear(1, 1), []
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks")

    def register() -> None:
        layer.register_forward_pre_hook(lambda *_: seen.append(0))
        layer.register_forward_hook(lambda *_: seen.append(1))
        layer.register_full_backward_hook(lambda *_: seen.append(2))

    register()
    handle = layer.register_forward_hook(lambda *_: seen.append(3))
    assert [len(getattr(layer, kind)) for kind in kinds] == [1, 2, 1]
    layer._forward_hooks.pop(next(iter(layer._forward_hooks)))
    layer._backward_hooks.clear()
    layer(torch.ones(1, 1)).sum().backward()
    assert seen == [0, 3]
    handle.remove()
    assert not layer._forward_hooks
    register()
    layer._forward_hooks = {}
    layer._forward_pre_hooks = {}
    layer(torch.ones(1, 1))
    assert seen == [0, 3]


def test_likes_take_what_pytorchs_optimisers_say_of_memory() -> None:
    """As in ``state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)``."""
    x = fnn.ones(2, 3)
    for like in (fnn.zeros_like, fnn.ones_like, fnn.empty_like, fnn.rand_like, fnn.randn_like):
        assert like(x, memory_format=fnn.preserve_format).shape == (2, 3)
    made = [fnn.full_like(x, 2, layout=fnn.strided), fnn.empty(2, 3, memory_format=fnn.contiguous_format)]
    cast = [x.clone(memory_format=fnn.contiguous_format), x.float(memory_format=fnn.preserve_format)]
    assert all(each.shape == (2, 3) for each in (*made, *cast, x.double(memory_format=fnn.preserve_format)[:2]))
    with pytest.raises(ArgumentError, match=r"^zeros_like: expected memory_format=None, .* got 'rows first'"):
        fnn.zeros_like(x, memory_format="rows first")


def test_resize_keeps_the_entries_in_their_order() -> None:
    torch = pytest.importorskip("torch")
    for size in ((4,), (2, 2), (0,), (), (3, 1, 2)):
        own, other = fnn.arange(6).reshape(2, 3), torch.arange(6).reshape(2, 3)
        assert own.resize_(*size) is own
        assert own.tolist() == other.resize_(size).tolist()
    text = fnn.IntTensor(3)
    assert text.resize_((4, 2)).copy_(fnn.arange(8).reshape(4, 2)).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert text.resize_as_(fnn.zeros(5)).tolist() == [0, 1, 2, 3, 4]
    assert fnn.arange(2).resize_(4).tolist() == [0, 1, 0, 0]
    whole = fnn.zeros(4)
    part = whole[:]
    whole.resize_(2)[0] = 7
    assert part.tolist() == [7, 0, 0, 0]
    for x in (fnn.ones(2, requires_grad=True), fnn.ones(2, requires_grad=True) * 2):
        with pytest.raises(GraphError, match="a tensor on the tape keeps its size"):
            x.resize_(3)


def test_programs_that_ask_for_process_groups_go_on_without() -> None:
    assert not (fnn.distributed.is_available() and fnn.distributed.is_initialized())
    assert not isinstance(nn.Linear(2, 2), nn.parallel.DistributedDataParallel)
    with pytest.raises(AttributeError, match=r"fastnn.distributed' has no attribute 'ReduceOp'"):
        _ = fnn.distributed.ReduceOp


def test_numbers_may_stand_before_what_they_scale() -> None:
    """PyTorch's order of old: published optimisers say ``exp_avg.mul_(beta).add_(1 - beta, grad)``, and triplet losses
    ``dist.addmm_(1, -2, inputs, inputs.t())``."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal((2, 2)) for _ in range(3))
    calls: dict[str, tuple[Any, ...]] = {
        "add_": (0.5, b), "sub_": (0.5, b), "add": (2, b), "sub": (2, b), "addcmul_": (0.3, b, c),
        "addcdiv_": (-1, b, c), "addcmul": (0.3, b, c), "addmm_": (1, -2, b, c), "addmm": (0.5, b, c),
        "addr": (2, 3, b[0], c[0]), "addmv": (1, 2, b, c[0]),
    }  # fmt: skip
    for name, given in calls.items():
        results = []
        for library in (fnn, torch):
            x = library.tensor(a if name != "addmv" else a[0])
            rest = [library.tensor(each) if isinstance(each, np.ndarray) else each for each in given]
            results.append(getattr(x, name)(*rest).tolist())
            if not name.endswith("_") and name not in ("addmm", "addr", "addmv"):
                assert getattr(library, name)(x, *rest).tolist() == results[-1]
        np.testing.assert_allclose(*results, rtol=1e-12)
    for library in (fnn, torch):
        x, y = library.tensor(a), library.tensor(b)
        np.testing.assert_allclose(library.addmm(2, x, 3, y, y), 2 * a + 3 * b @ b, rtol=1e-12)
        with pytest.raises(TypeError):
            x.addmm(y, y, y)
        with pytest.raises((TypeError, ArgumentError)):
            x.add(y, y)


def test_tensors_are_made_as_by_pytorchs_first_api() -> None:
    """Of sizes, ``torch.FloatTensor(std.size()).normal_()`` and ``weight.new(layers, batch, hidden)``, or of data."""
    for library in (fnn, pytest.importorskip("torch")):
        x = library.zeros(2, 3, dtype=library.float64)
        assert tuple(library.FloatTensor(x.size()).shape) == tuple(x.new(x.size()).shape) == (2, 3)
        assert tuple(x.new(4, 1).shape) == (4, 1)
        assert x.new().tolist() == []
        assert x.new([1, 2]).tolist() == library.FloatTensor((1, 2)).tolist() == [1, 2]
        assert x.new(3).dtype == x.new([1]).dtype == x.dtype


def test_optimisers_of_ones_own_take_up_a_state_as_pytorchs() -> None:
    class Own(fnn.optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        def __setstate__(self, state: dict[str, Any]) -> None:
            super().__setstate__(state)
            for group in self.param_groups:
                group.setdefault("nesterov", False)

    twin = copy.deepcopy(Own([nn.Parameter([1.0])], 0.5))
    assert (twin.param_groups[0]["lr"], twin.param_groups[0]["nesterov"]) == (0.5, False)
