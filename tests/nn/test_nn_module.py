"""Module: finding parameters and modules by name, modes, state, copies, repr, and errors that name the layer."""

from __future__ import annotations

import copy
import importlib
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, BackendError, DTypeError, FastnnError, ShapeError, StateError


class Block(nn.Module):
    """A module with a parameter, a buffer, a child used twice, and a list."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(np.full(3, 2.0, np.float32))
        self.register_buffer("shift", np.ones(3, np.float32))
        self.body = nn.Linear(3, 3)
        self.again = self.body
        self.rest = nn.ModuleList([nn.Linear(3, 3, bias=False), nn.Sequential(nn.ReLU(), nn.Linear(3, 2))])

    def forward(self, x: Any) -> Any:
        x = self.again(self.body(x)) * self.scale + self.shift
        for module in self.rest:
            x = module(x)
        return x


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 4))


# ---- names -----------------------------------------------------------------------------------------------------------


def test_names() -> None:
    block = Block()
    assert [name for name, _ in block.named_parameters()] == [
        "scale", "body.weight", "body.bias", "rest.0.weight", "rest.1.1.weight", "rest.1.1.bias"
    ]  # fmt: skip
    assert [name for name, _ in block.named_children()] == ["body", "rest"]
    modules = ["", "body", "rest", "rest.0", "rest.1", "rest.1.0", "rest.1.1"]
    assert [name for name, _ in block.named_modules()] == modules
    assert [name for name, _ in block.named_buffers()] == ["shift"]
    assert list(block.state_dict())[:6] == ["scale", "shift", "body.weight", "body.bias", "again.weight", "again.bias"]
    assert [name for name, _ in block.named_parameters(recurse=False)] == ["scale"]
    assert len(list(block.modules())) == 7
    assert next(block.buffers()) is block.shift


def test_names_are_torchs() -> None:
    """state_dict, named_parameters and named_modules of a model with all layers that hold something."""
    torch = pytest.importorskip("torch")

    def build(library: Any) -> Any:
        return library.Sequential(
            OrderedDict(
                body=library.Sequential(library.Conv2d(1, 4, 3), library.BatchNorm2d(4), library.Dropout()),
                norms=library.ModuleList([library.BatchNorm1d(3, affine=False), library.BatchNorm1d(3)]),
                head=library.Linear(3, 2, bias=False),
                fixed=library.BatchNorm2d(2, track_running_stats=False),
            )
        )

    own, other = build(nn), build(torch.nn)
    assert list(own.state_dict()) == list(other.state_dict())
    for key, value in other.state_dict().items():
        assert own.state_dict()[key].shape == tuple(value.shape)
    assert [n for n, _ in own.named_parameters()] == [n for n, _ in other.named_parameters()]
    assert [n for n, _ in own.named_modules()] == [n for n, _ in other.named_modules()]
    assert [n for n, _ in own.named_buffers()] == [n for n, _ in other.named_buffers()]


def test_tied_parameters_are_updated_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert len(list(model.parameters())) == 3
    assert np.shares_memory(model.state_dict()["0.weight"], model.state_dict()["1.weight"])
    model(np.ones((1, 2))).sum().backward()
    twin = copy.deepcopy(model)
    assert twin[0].weight is twin[1].weight
    assert twin[0].weight is not model[0].weight


def test_super_init_may_be_forgotten() -> None:
    """There is nothing in it that a module could miss."""

    class Net(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(2, 1)
            self.register_buffer("count", np.zeros(1))

        def forward(self, x: Any) -> Any:
            return self.layer(x)

    net = Net()
    assert list(net.eval().state_dict()) == ["count", "layer.weight", "layer.bias"]
    assert not net.layer.training
    assert net(np.ones((3, 2))).shape == (3, 1)


# ---- attributes ------------------------------------------------------------------------------------------------------


def test_a_parameter_is_not_replaced_by_an_array() -> None:
    layer = nn.Linear(2, 1)
    for value in (np.zeros((1, 2)), fnn.Tensor([[0.0, 0.0]])):
        with pytest.raises(ArgumentError, match=r"Linear.weight is a parameter: .* write weight.data\[...\]"):
            layer.weight = value
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]
    layer.weight = nn.Parameter([[1.0, 2.0]])
    assert layer([[1.0, 1.0]]).tolist() == [[3.0]]


@pytest.mark.parametrize("name", ["", "a.b", "forward", "training"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="a name that is free and without dots"):
        nn.Sequential({name: nn.ReLU()})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: nn.Sequential(nn.ReLU), r"the class ReLU: call it, ReLU\(\)"),
        (lambda: nn.Sequential([nn.ReLU()]), r"a list: unpack it, \*layers"),
        (lambda: nn.ModuleList([None]), "got None"),
    ],
)
def test_children_must_be_modules(given: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        given()


def test_forward_must_be_defined() -> None:
    with pytest.raises(NotImplementedError, match="Module needs a method forward"):
        nn.Module()(1)


# ---- containers ------------------------------------------------------------------------------------------------------


def test_sequential_is_a_list() -> None:
    layers = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)]
    model = nn.Sequential(*layers)
    assert list(model) == layers
    assert (model[0], model[-1], len(model)) == (layers[0], layers[2], 3)
    assert list(model[1:]) == layers[1:]
    assert [name for name, _ in model[1:].named_parameters()] == ["2.weight", "2.bias"]
    model[1] = nn.Tanh()
    model.append(nn.Sigmoid())
    assert [type(m).__name__ for m in model] == ["Linear", "Tanh", "Linear", "Sigmoid"]
    del model[0]
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    with pytest.raises(IndexError):
        model[3]
    with pytest.raises(ArgumentError, match="expected a Module as '0'"):
        model[0] = "layer"


def test_one_module_may_stand_twice() -> None:
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(model) == 3
    x = np.array([[1.0, -2.0]], np.float32)
    np.testing.assert_array_equal(model(x).numpy(), layer(layer(x).relu()).numpy())


def test_named_sequential() -> None:
    model = nn.Sequential(OrderedDict(first=nn.Linear(2, 2), second=nn.ReLU()))
    assert list(model.state_dict()) == ["first.weight", "first.bias"]
    del model[0]
    assert [name for name, _ in model.named_children()] == ["second"]


def test_module_list() -> None:
    layers = nn.ModuleList([nn.ReLU()]).extend([nn.Tanh(), nn.Sigmoid()])
    assert [type(m).__name__ for m in layers[1:]] == ["Tanh", "Sigmoid"]
    assert type(layers[-1]) is nn.Sigmoid


# ---- modes, gradients, types -----------------------------------------------------------------------------------------


def test_train_eval_apply() -> None:
    model, seen = small(), []
    assert model.training
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    assert model.train()[1].training
    model.apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Conv2d", "BatchNorm2d", "ReLU", "Flatten", "Linear", "Sequential"]


def test_zero_grad_and_requires_grad() -> None:
    model = small()
    model[0].requires_grad_(False)
    model(np.ones((2, 1, 5, 5))).sum().backward()
    assert model[0].weight.grad is None
    assert model[4].weight.grad is not None
    model.zero_grad()
    assert model[4].weight.grad is None


def test_double_and_float() -> None:
    model = small()
    x = np.random.default_rng(0).normal(size=(2, 1, 5, 5))
    assert model(x).dtype == np.float32
    model(x).sum().backward()
    assert model.double() is model
    assert {a.dtype for a in model.state_dict().values()} == {np.dtype(np.float64), np.dtype(np.int64)}
    assert all(p.grad is not None and p.grad.dtype == np.float64 for p in model.parameters())
    assert model(x.astype(np.float32)).dtype == np.float64
    assert model.to("float32")(x).dtype == np.float32
    assert model.to("cpu") is model.cpu() is model
    for habit in (model.cuda, lambda: model.to("cuda:1")):
        with pytest.raises(BackendError, match="runs on the CPU"):
            habit()
    with pytest.raises(DTypeError, match="expected float32 or float64, got int64"):
        model.to(np.int64)


# ---- state -----------------------------------------------------------------------------------------------------------


def test_state_dict_is_live_and_loading_is_in_place() -> None:
    model, other = small(), small()
    kept = model[0].weight.numpy()
    model.state_dict()["4.bias"][...] = 5
    assert model[4].bias.tolist() == [5] * 4
    keys = model.load_state_dict({name: a.astype(np.float64) for name, a in other.state_dict().items()})
    assert keys == ([], [])
    assert model[0].weight.numpy() is kept
    assert kept.dtype == np.float32
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], array)


def test_loading_names_everything_that_is_wrong_and_changes_nothing() -> None:
    model = small()
    before = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(before)
    state["0.bias"][...] = 7
    del state["4.weight"], state["1.running_mean"]
    state["5.weight"] = np.zeros(1)
    state["4.bias"] = np.zeros(3)
    state["1.bias"] = np.array(["a", "b"])
    with pytest.raises(StateError) as caught:
        model.load_state_dict(state)
    assert str(caught.value) == (
        "load_state_dict(Sequential): missing 1.running_mean, 4.weight; unexpected 5.weight; "
        "1.bias: expected numbers, got <U1; 4.bias: expected shape (4,), got (3,)"
    )
    with pytest.raises(StateError, match=r"4\.bias"):
        model.load_state_dict(state, strict=False)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    del state["4.bias"], state["1.bias"]
    keys = model.load_state_dict(state, strict=False)
    assert keys.missing_keys == ["1.bias", "1.running_mean", "4.weight", "4.bias"]
    assert keys.unexpected_keys == ["5.weight"]
    assert model[0].bias.tolist() == [7, 7]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_apart(copied: Any) -> None:
    model = small()
    x = np.random.default_rng(0).normal(size=(2, 1, 5, 5)).astype(np.float32)
    model(x)  # the running statistics have moved
    twin = copied(model)
    assert list(twin.state_dict()) == list(model.state_dict())
    np.testing.assert_array_equal(twin.eval()(x).numpy(), model.eval()(x).numpy())
    for name, array in twin.state_dict().items():
        assert not np.shares_memory(array, model.state_dict()[name])


def test_pickling_through_state_dict() -> None:
    model, other = small(), small()
    other.load_state_dict(pickle.loads(pickle.dumps(model.state_dict())))
    np.testing.assert_array_equal(other[4].weight.data, model[4].weight.data)


# ---- repr and errors -------------------------------------------------------------------------------------------------


def test_repr() -> None:
    assert repr(Block()) == (
        "Block(\n"
        "  (body): Linear(in_features=3, out_features=3, bias=True)\n"
        "  (again): Linear(in_features=3, out_features=3, bias=True)\n"
        "  (rest): ModuleList(\n"
        "    (0): Linear(in_features=3, out_features=3, bias=False)\n"
        "    (1): Sequential(\n"
        "      (0): ReLU()\n"
        "      (1): Linear(in_features=3, out_features=2, bias=True)\n"
        "    )\n"
        "  )\n"
        ")"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda library: library.Linear(3, 2, bias=False),
        lambda library: library.Conv2d(4, 6, (3, 5), stride=2, padding=(1, 0), dilation=(1, 2), groups=2, bias=False),
        lambda library: library.LeakyReLU(0.2),
        lambda library: library.ELU(0.5),
        lambda library: library.Softmax(dim=1),
        lambda library: library.Flatten(),
        lambda library: library.AdaptiveAvgPool2d(1),
        lambda library: library.Sequential(library.ReLU(), library.Sequential(library.Tanh())),
    ],
)
def test_repr_is_torchs(make: Any) -> None:
    torch = pytest.importorskip("torch")
    assert repr(make(nn)) == repr(make(torch.nn))


def test_errors_name_the_layers_they_passed() -> None:
    """The path from the outermost model to the layer, by the names that the state_dict uses."""
    inner = nn.Sequential(nn.ReLU(), nn.Linear(5, 2))
    model = nn.Sequential(OrderedDict(body=nn.Identity(), head=inner))
    with pytest.raises(ShapeError) as caught:
        model(np.zeros((4, 3), np.float32))
    path = ["Sequential", "head: Sequential", "1: Linear(in_features=5, out_features=2, bias=True)"]
    message = "linear: expected input with 5 features (weight is (2, 5)), got (4, 3)"
    assert caught.value.layers == path
    assert str(caught.value) == f"{' > '.join(path)}: {message}"


def test_errors_name_layers_that_are_called_from_afar() -> None:
    """Block calls the modules of its ModuleList itself, so the list is no step on the way."""
    block = Block()
    block.rest[1][1] = nn.Linear(7, 2)
    with pytest.raises(ShapeError) as caught:
        block(np.zeros((4, 3), np.float32))
    assert caught.value.layers[:2] == ["Block", "rest.1: Sequential"]
    with pytest.raises(FastnnError) as caught:  # the second pass does not remember the first
        block(np.zeros((4, 3), np.float32))
    assert len(caught.value.layers) == 3


def test_state_dict_into_a_dict_of_ones_own() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    assert type(model.state_dict()) is OrderedDict  # which checkpoints are asked for
    given = {"epoch": 1}
    assert model.state_dict(destination=given, prefix="net.", keep_vars=True) is given
    assert given["net.0.weight"] is model[0].weight
    assert given["epoch"] == 1
    assert [name.removeprefix("net.") for name in list(given)[1:]] == list(model.state_dict())


@pytest.mark.parametrize("package", ["fastnn", "torch"])
def test_modules_change_what_is_loaded_as_pytorchs(package: str) -> None:
    """By `_load_from_state_dict`, as in DETR's FrozenBatchNorm2d, and by hooks."""
    pytest.importorskip(package)
    library, layers = importlib.import_module(package), importlib.import_module(f"{package}.nn")

    class Frozen(layers.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_var", library.ones(2))
            self.register_buffer("added_later", library.ones(2))

        def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *others: Any) -> None:
            state_dict.pop(prefix + "num_batches_tracked", None)
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *others)
            _, missing, _, errors = others
            if prefix + "added_later" in missing:
                missing.remove(prefix + "added_later")
            if state_dict.get(prefix + "running_var") is not None and state_dict[prefix + "running_var"][0] < 0:
                errors.append("a variance is negative")

    model = layers.Sequential(Frozen(), layers.Linear(2, 1, bias=False))
    given = {
        "0.running_var": library.tensor([3.0, 4.0]), "0.num_batches_tracked": library.tensor(5),
        "1.weight": library.zeros(1, 2),
    }  # fmt: skip
    model.load_state_dict(given)
    assert model[0].running_var.tolist() == [3, 4]
    assert model[0].added_later.tolist() == [1, 1]
    assert len(given) == 3
    with pytest.raises(RuntimeError, match="a variance is negative"):
        model.load_state_dict(given | {"0.running_var": -library.ones(2)})
    with pytest.raises(RuntimeError, match=r"0\.running_var"):
        model.load_state_dict({"1.weight": library.zeros(1, 2)})

    seen = []

    def rename(state_dict: Any, prefix: str, *_: Any) -> None:
        seen.append(prefix)
        state_dict[f"{prefix}weight"] = state_dict.pop(f"{prefix}kernel")

    handle = model[1]._register_load_state_dict_pre_hook(rename)
    model.load_state_dict({"0.running_var": library.ones(2), "1.kernel": library.ones(1, 2)})
    handle.remove()
    assert model[1].weight.tolist() == [[1, 1]]
    model.register_load_state_dict_pre_hook(lambda module, state_dict, *_: seen.append(module is model))
    keys = model.load_state_dict({"1.weight": library.ones(1, 2), "else": library.ones(1)}, strict=False)
    assert seen == ["1.", True]
    assert (keys.missing_keys, keys.unexpected_keys) == (["0.running_var"], ["else"])


@pytest.mark.parametrize(
    ("make", "name", "value", "said"),
    [
        (lambda: nn.Linear(2, 2), "weight", 1.0, "weight is a parameter: expected nn.Parameter or None, got float"),
        (lambda: nn.Linear(2, 2), "bias", [0.0, 0.0], "bias is a parameter: .* got list; .* write bias.data"),
        (lambda: nn.Sequential(nn.ReLU()), "0", np.tanh, "0 is a module: expected nn.Module or None, got ufunc"),
        (lambda: nn.BatchNorm1d(2), "running_mean", 0.0, "running_mean is a buffer: expected an array, a tensor or N"),
    ],
)
def test_a_value_of_another_kind_takes_nothing_away(make: Any, name: str, value: Any, said: str) -> None:
    """It would be trained no more, and be in no file, without a word; PyTorch refuses it, too."""
    module = make()
    before = list(module.state_dict()), [type(each) for each in module.modules()]
    with pytest.raises(ArgumentError, match=said):
        setattr(module, name, value)
    assert before == (list(module.state_dict()), [type(each) for each in module.modules()])


def test_one_name_is_one_thing() -> None:
    module = nn.Module()
    module.register_buffer("kept", np.zeros(1))
    with pytest.raises(ArgumentError, match="a name that is free, got 'kept'"):
        module.register_parameter("kept", nn.Parameter([0.0]))
    module.learned = nn.Parameter([0.0])
    with pytest.raises(ArgumentError, match="a name that is free, got 'learned'"):
        module.register_buffer("learned", np.zeros(1))
    assert list(module.state_dict()) == ["learned", "kept"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("running_mean", [1e300, 0.0], r"running_mean: expected numbers that float32 can hold, got 1e\+300"),
        ("num_batches_tracked", 1e30, r"num_batches_tracked: expected numbers that int64 can hold, got 1e\+30"),
        ("num_batches_tracked", np.nan, "num_batches_tracked: .* got nan"),
    ],
)
def test_state_that_the_type_cannot_hold_is_refused(name: str, value: Any, said: str) -> None:
    module = nn.BatchNorm1d(2)
    before = {key: np.array(array) for key, array in module.state_dict().items()}
    with pytest.raises(StateError, match=said):
        module.load_state_dict({**before, "weight": np.full(2, 7.0), name: np.array(value)})
    assert all(np.array_equal(array, before[key]) for key, array in module.state_dict().items())
    # as they were saved, or as a mean of several states is
    module.load_state_dict({**before, "running_mean": np.array([np.inf, 0.1]), "num_batches_tracked": np.array(3.5)})
    assert module.running_mean[0] == np.inf
    assert int(module.num_batches_tracked) == 3


@pytest.mark.parametrize("text", ["eval", "False", b"0"])
def test_text_is_no_flag(text: Any) -> None:
    """bool("False") is True."""
    module = nn.ReLU().eval()
    with pytest.raises(ArgumentError, match="expected mode to be True or False"):
        module.train(text)
    with pytest.raises(ArgumentError, match="expected bias to be True or False"):
        nn.Linear(1, 1, bias=text)
    assert not module.training


def test_what_is_set_is_asked_for_by_getattr() -> None:
    """CenterNet's heads: ``self.__setattr__(head, layer)`` and ``self.__getattr__(head)(x)``."""
    block = Block()
    assert block.__getattr__("body") is block.body
    assert block.__getattr__("scale") is block.scale
    with pytest.raises(AttributeError, match="'Block' object has no attribute 'absent'"):
        _ = block.absent
    assert copy.deepcopy(block).__getattr__("shift").tolist() == [1, 1, 1]
