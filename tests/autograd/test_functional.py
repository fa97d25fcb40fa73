"""autograd.functional and func: Jacobians, Hessians and products, by hand and against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import func, nn, ops
from fastnn.autograd import functional
from fastnn.errors import ArgumentError, GraphError, ShapeError, StateError

RNG = np.random.default_rng(1)
A, B, V = RNG.normal(size=(3, 2)), RNG.normal(size=2), RNG.normal(size=(3, 2))


def numbers(result: Any) -> Any:
    """Nested results as arrays."""
    if isinstance(result, (tuple, list)):
        return [numbers(entry) for entry in result]
    if isinstance(result, dict):
        return {name: numbers(entry) for name, entry in result.items()}
    return result.detach().numpy()


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, (list, dict)):
        assert type(ours) is type(theirs)
        assert len(ours) == len(theirs)
        keys = theirs if isinstance(theirs, dict) else range(len(theirs))
        for key in keys:
            assert_same(ours[key], theirs[key])
    else:
        np.testing.assert_allclose(ours, theirs, 1e-10, 1e-12)


def two(a: Any, b: Any) -> tuple[Any, Any]:
    return (a * b).exp().sum(1), a[0] * b * b


def scalar(a: Any, b: Any) -> Any:
    return ((a * b).exp() * a).sum() ** 2


def test_jacobian_by_hand() -> None:
    """d(x·y)/dx = y, and zeros where nothing depends."""
    x, y = fnn.Tensor([2.0, 3.0]), fnn.Tensor([5.0, 7.0])
    by_x, by_y = functional.jacobian(lambda x, y: x * y, (x, y))
    assert by_x.tolist() == [[5, 0], [0, 7]]
    assert by_y.tolist() == [[2, 0], [0, 3]]
    assert functional.jacobian(lambda x: x.detach() * 2, x).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(GraphError):
        functional.jacobian(lambda x: x.detach() * 2, x, strict=True)
    with pytest.raises(ArgumentError, match="gives tensors"):
        functional.jacobian(lambda x: 3.0, x)
    with pytest.raises(ArgumentError, match="one entry"):
        functional.hessian(lambda x: x * x, x)
    with pytest.raises(ShapeError, match="shapes"):
        functional.hvp(lambda x: (x * x).sum(), x, fnn.Tensor([1.0]))
    with pytest.raises(ArgumentError, match="vector v"):
        functional.vjp(lambda x: x * x, x)


def test_functional_against_pytorch() -> None:
    torch = pytest.importorskip("torch")
    theirs, pair = torch.autograd.functional, (A, B)
    ours_in, theirs_in = tuple(map(fnn.Tensor, pair)), tuple(map(torch.tensor, pair))
    v = (V, B), (fnn.Tensor(V), fnn.Tensor(B)), (torch.tensor(V), torch.tensor(B))
    ends = RNG.normal(size=3), RNG.normal(size=2)
    for name, function, args in (
        ("jacobian", two, ((), ())),
        ("hessian", scalar, ((), ())),
        ("vjp", two, ((tuple(map(fnn.Tensor, ends)),), (tuple(map(torch.tensor, ends)),))),
        ("jvp", two, ((v[1],), (v[2],))),
        ("hvp", scalar, ((v[1],), (v[2],))),
        ("vhp", scalar, ((v[1],), (v[2],))),
    ):
        ours = getattr(functional, name)(function, ours_in, *args[0])
        expected = getattr(theirs, name)(function, theirs_in, *args[1])
        assert_same(numbers(ours), numbers(expected))


def test_func_against_pytorch() -> None:
    torch = pytest.importorskip("torch")

    def results(package: Any, functions: Any) -> list[Any]:
        tensor = fnn.Tensor if package is fnn else package.tensor
        a, b, v = tensor(A), tensor(B), tensor(V)
        output, back = functions.vjp(two, a, b)
        held = {"a": a, "b": b}
        return [
            functions.grad(scalar)(a, b),
            functions.grad(scalar, argnums=(0, 1))(a, b),
            functions.grad(lambda p: scalar(p["a"], p["b"]))(held),
            functions.grad(lambda a, b: (scalar(a, b), a * 2), has_aux=True)(a, b),
            functions.grad_and_value(scalar)(a, b),
            functions.grad(lambda b: (functions.grad(scalar, 1)(a, b) ** 2).sum())(b),
            functions.grad(functions.grad(functions.grad(lambda x: x**4 + x)))(tensor(np.array(3.0))),
            functions.jacrev(lambda a: (a * b).exp().sum(1))(a),
            functions.jacfwd(lambda a, b: (a * b).exp().sum(1), argnums=1)(a, b),
            functions.hessian(lambda b: scalar(a, b))(b),
            list(output),
            list(back(tuple(x * 2 for x in output))),
            functions.jvp(lambda a: (a * b).exp(), (a,), (v,)),
            functions.vmap(lambda x, y: (x * y).exp(), in_dims=(0, None), out_dims=1)(a, b),
            functions.vmap(functions.grad(lambda x, y: (x * y * y).sum()), in_dims=(0, 0))(a, v),
            functions.jacrev(two, argnums=(0, 1))(a, b),
            functions.jacfwd(lambda p, c: ({"x": p["a"] * c}, p["b"][0])[0], argnums=0)(held, 2.0),
            functions.jacrev(lambda a: (a.exp(), a * 2), has_aux=True)(a),
            functions.hessian(scalar, argnums=(0, 1))(a, b),
            functions.vmap(functions.jacrev(lambda x: x.exp() * x))(a),
            functions.grad(lambda b: functions.vmap(lambda x: (x * b).exp().sum())(a).sum())(b),
            functions.vmap(functions.vmap(lambda x, y: x * y, in_dims=(0, 0)), in_dims=(0, None))(a, b),
        ]

    for ours, expected in zip(results(fnn, func), results(torch, torch.func), strict=True):
        assert_same(numbers(ours), numbers(expected))


def test_maps_of_nested_arguments_and_results_are_torchs() -> None:
    torch = pytest.importorskip("torch")

    def results(package: Any, functions: Any) -> list[Any]:
        a, b, v = ((fnn.Tensor if package is fnn else package.tensor)(x) for x in (A, B, V))

        def both(p: Any, y: Any) -> Any:
            return {"x": p["a"] * y, "y": (p["b"].sum() + y, y)}

        return [
            functions.vmap(both)({"a": a, "b": v}, v),
            functions.vmap(both, in_dims=({"a": 0, "b": None}, 1))({"a": a, "b": v}, v.T),
            functions.vmap(both, in_dims=(0, -2), out_dims={"x": 1, "y": (0, -1)})({"a": a, "b": v}, v),
            functions.vmap(lambda x, y: x * y, in_dims=(0, None))(a, b),
            functions.vmap(lambda x, *, other: (x * other).sum())(a, other=v),
            functions.vmap(lambda x, pair: x * pair[0] + pair[1], in_dims=(1, (0, None)))(a, (b, b[0])),
            functions.vmap(lambda x: x[0] * 2, chunk_size=2)(a),
        ]

    for ours, expected in zip(results(fnn, func), results(torch, torch.func), strict=True):
        assert_same(numbers(ours), numbers(expected))


def test_gradients_of_single_samples_by_a_map() -> None:
    """vmap(grad(loss), in_dims=(None, 0, 0)): PyTorch's recipe, beside one backward for each sample."""
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = RNG.normal(size=(5, 3)), np.array([0, 1, 1, 0, 1])
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: Any, x: Any, y: Any) -> Any:
        return ops.cross_entropy(func.functional_call(model, parameters, x.unsqueeze(0)), y.unsqueeze(0))

    found = fnn.vmap(func.grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
    for i in range(5):
        model.zero_grad()
        ops.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        for name, p in model.named_parameters():
            np.testing.assert_allclose(found[name].numpy()[i], p.grad, 1e-12, 1e-15)


def test_an_ensemble_is_called_as_one() -> None:
    fnn.manual_seed(0)
    models = [nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double().eval() for _ in range(3)]
    for i, model in enumerate(models):
        model[1].running_mean[...] = i
    x = RNG.normal(size=(4, 3))
    parameters, buffers = func.stack_module_state(models)
    assert parameters["0.weight"].shape == (3, 2, 3)
    assert parameters["0.weight"].requires_grad
    assert buffers["1.running_mean"].tolist() == [[0, 0], [1, 1], [2, 2]]

    def call(parameters: Any, buffers: Any, x: Any) -> Any:
        return func.functional_call(models[0], (parameters, buffers), (x,))

    found = func.vmap(call, in_dims=(0, 0, None))(parameters, buffers, x)
    np.testing.assert_allclose(found.detach().numpy(), [model(x).detach().numpy() for model in models], rtol=1e-12)
    found.sum().backward()
    models[1](x).sum().backward()
    np.testing.assert_allclose(parameters["0.weight"].grad[1], models[1][0].weight.grad, rtol=1e-12)
    with pytest.raises(ArgumentError, match="of one kind, got none"):
        func.stack_module_state([])
    with pytest.raises(ArgumentError, match="the same shapes"):
        func.stack_module_state([nn.Linear(2, 1), nn.Linear(3, 1)])


def test_random_numbers_in_maps() -> None:
    x = fnn.zeros(4, 3)
    fnn.manual_seed(0)
    drawn = func.vmap(lambda x: x + fnn.rand_like(x))(x).numpy()
    assert len(np.unique(drawn)) == 12
    same = func.vmap(lambda x: x + fnn.rand_like(x), randomness="same")(x).numpy()
    assert (same == same[0]).all()


def test_results_are_on_the_tape_where_the_arguments_are() -> None:
    w = fnn.Tensor([1.0, 2.0], requires_grad=True)
    func.grad(lambda w: (w**3).sum())(w).sum().backward()
    assert w.grad.tolist() == [6, 12]
    assert not func.grad(lambda w: (w**3).sum())(w.detach()).requires_grad
    assert func.hvp(lambda w: (w**3).sum(), w.detach(), fnn.Tensor([1.0, 0.0])).tolist() == [6, 0]


DERIVATIVES: dict[str, Any] = {
    "grad": lambda f, x: func.grad(f)(x),
    "grad_and_value": lambda f, x: func.grad_and_value(f)(x)[0],
    "vmap of grad": lambda f, x: func.vmap(func.grad(f))(x[None])[0],
    "jacrev": lambda f, x: func.jacrev(f)(x),
    "jvp": lambda f, x: func.jvp(f, (x,), (fnn.ones_like(x),))[1],
    "vjp": lambda f, x: func.vjp(f, x)[1](np.ones(()))[0],
    "hvp": lambda f, x: func.hvp(f, x, fnn.ones_like(x)),
    "hessian": lambda f, x: func.hessian(f)(x),
    "grad of grad": lambda f, x: func.grad(func.grad(f))(x),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_results_are_on_the_tape_where_the_function_is_made_of_parameters(name: str) -> None:
    """f = sin(w x), whose derivatives by x, w cos(w x) and -w**2 sin(w x), have derivatives by w."""
    w, x = fnn.Tensor(np.array(1.5), requires_grad=True), fnn.Tensor(np.array(0.4))
    second = name in ("hvp", "hessian", "grad of grad")
    slope = DERIVATIVES[name](lambda x: (w * x).sin(), x)
    (found,) = fnn.autograd.grad(slope.sum(), w)
    sin, cos = np.sin(0.6), np.cos(0.6)
    by_w = -3 * sin - 2.25 * 0.4 * cos if second else cos - 0.6 * sin
    np.testing.assert_allclose([slope.item(), found.item()], [-2.25 * sin if second else 1.5 * cos, by_w], 1e-12)
    with fnn.no_grad():
        assert not DERIVATIVES[name](lambda x: (w * x).sin(), x).requires_grad
    if name != "vjp":  # its output is on the tape
        assert not DERIVATIVES[name](lambda x: (1.5 * x).sin(), x).requires_grad


def test_what_func_refuses() -> None:
    x = fnn.Tensor([1.0, 2.0])
    with pytest.raises(ArgumentError, match="one entry"):
        func.grad(lambda x: x * 2)(x)
    with pytest.raises(ArgumentError, match="argnums"):
        func.grad(lambda x: x.sum(), argnums=1)(x)
    with pytest.raises(ShapeError, match="one size"):
        func.vmap(lambda x, y: x + y)(x, fnn.Tensor([1.0]))
    with pytest.raises(ArgumentError, match="in_dims"):
        func.vmap(lambda x: x, in_dims=(0, 0))(x)
    with pytest.raises(ArgumentError, match="None for all"):
        func.vmap(lambda x: x, in_dims=None)(x)
    with pytest.raises(ArgumentError, match="in the form of"):
        func.vmap(lambda x: x[0], in_dims=((0, 0),))([x])
    with pytest.raises(ShapeError, match="dimension from -1 to 0, got 1"):
        func.vmap(lambda x: x, in_dims=1)(x)
    with pytest.raises(ShapeError, match="above 0"):
        func.vmap(lambda x: x)(fnn.zeros(0, 2))
    with pytest.raises(ArgumentError, match="gives tensors, got float"):
        func.vmap(lambda x: x.item())(x)
    with pytest.raises(ArgumentError, match="randomness"):
        func.vmap(lambda x: x, randomness="none")
    with pytest.raises(ArgumentError, match="jacrev: expected argnums"):
        func.jacrev(lambda x: x, argnums=(0, 1))(x)


def test_functional_call() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1)).eval()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    w = fnn.Tensor(np.array([[1.0, 2.0]], np.float32), requires_grad=True)
    given = {"0.weight": w, "0.bias": fnn.Tensor([0.5])}
    y = func.functional_call(model, (given, {"1.running_mean": fnn.Tensor([3.5])}), np.ones((1, 2), np.float32))
    y.sum().backward()
    assert y.item() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(w.grad, np.ones((1, 2)) / np.sqrt(1 + 1e-5), rtol=1e-6)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert isinstance(model[0].weight, nn.Parameter)
    with pytest.raises(StateError, match=r"got no '0\.bias'"):
        func.functional_call(model, {"0.weight": w}, y, strict=True)
    tied = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    tied[1].weight = tied[0].weight
    three = {"0.weight": fnn.Tensor([[3.0]])}
    assert func.functional_call(tied, three, fnn.Tensor([[1.0]])).item() == 9
    assert func.functional_call(tied, three, fnn.Tensor([[1.0]]), tie_weights=False).item() != 9
    with pytest.raises(StateError, match=r"no parameter or buffer '0\.weights'"):
        func.functional_call(model, {"0.weights": w}, y)


def test_gradients_of_single_samples_add_up() -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = RNG.normal(size=(5, 3)), np.array([0, 1, 1, 0, 1])
    found = func.per_sample_grad(model, nn.CrossEntropyLoss())(x, y)
    assert all(p.grad is None for p in model.parameters())
    ops.cross_entropy(model(x), y, reduction="sum").backward()
    for name, p in model.named_parameters():
        assert found[name].shape == (5, *p.shape)
        np.testing.assert_allclose(found[name].numpy().sum(0), p.grad, 1e-12, 1e-14)


def test_products_with_vectors_take_dicts_as_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    w, b, x, v = (rng.normal(size=size) for size in ((2, 3), (2,), (4, 3), (4, 2)))
    found = []
    for package in (fnn, torch):

        def func(p: Any, x: Any, package: Any = package) -> Any:
            y = package.tanh(x @ p["w"].T + p["b"])
            return {"y": y, "sum": y.sum()}, p["b"]

        p, at = {"w": package.tensor(w), "b": package.tensor(b)}, package.tensor(x)
        output, back, aux = package.func.vjp(func, p, at, has_aux=True)
        slopes, of_x = back({"y": package.tensor(v), "sum": package.tensor(2.0, dtype=package.float64)})
        along = {name: package.ones_like(value) for name, value in p.items()}
        again, change, same = package.func.jvp(func, (p, at), (along, at), has_aux=True)
        found.append([output["y"], slopes["w"], slopes["b"], of_x, aux, again["sum"], change["y"], change["sum"], same])
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine.detach(), other.detach(), rtol=1e-12)


def test_peoples_code_may_write_into_a_gradient_of_one_number() -> None:
    """A sum's gradient is one number behind all entries, and so is its multiple."""

    class Half(fnn.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            grad[1:] = 0
            return grad

    x = fnn.ones(3, requires_grad=True)
    y = Half.apply(x * 2)
    y.register_hook(lambda grad: grad.mul_(0.5))
    (y * 3).sum().backward()
    assert x.grad.tolist() == [3, 0, 0]
    zero = fnn.tensor(0.5, requires_grad=True)
    fnn.nn.functional.selu(zero).backward()
    assert zero.grad.item() == pytest.approx(1.0507009873554805)
