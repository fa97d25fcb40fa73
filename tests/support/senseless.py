"""Values that make no sense, values that do, and objects whose methods are called: for tests/long/bad_input.py."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from layer_cases import LAYERS

import fastnn as fnn
from fastnn import nn, optim

FLOATS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def tensor(*shape: int) -> fnn.Tensor:
    return fnn.Tensor(np.ones(shape, np.float32), requires_grad=True)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def sgd() -> optim.SGD:
    return optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1, momentum=0.9)


BAD: list[Callable[[], Any]] = [
    *(lambda value=value: value for value in (
        None, True, 0, 1, 2, -1, -7, 10**6, 2**31, 2**62, -(2**63), 10**30, 0.0, 0.5, -2.5, 1e-320, 1e308, float("nan"), float("inf"),
        1j, "", "cnn", "sum", "ä\0", b"bytes", (), (1, 2), (0, -1), (2, "a"), (1, None), ("a",), [], [1.0, [2.0]], [[], [1]], {}, {"a": 1},
        {1, 2}, range(3), slice(None), ..., object, np.float32(2), np.int64(3), np.datetime64("2026-01-01"),
    )),
    *(lambda shape=shape: np.zeros(shape, np.float32) for shape in ((), (0,), (3,), (4, 3), (0, 3), (2, 0, 3), (1, 2, 8, 8), (1,) * 12)),
    lambda: np.full((4, 3), np.nan, np.float32), lambda: np.arange(4), lambda: np.array([-1, 99]),
    lambda: FLOATS.astype(np.float64), lambda: FLOATS > 0, lambda: FLOATS.astype(np.complex64), lambda: np.array(["a", "b"]),
    lambda: np.array([None, {}], object), lambda: FLOATS[:, ::2], lambda: np.zeros(4, "i1,f4"), lambda: np.ma.masked_less(FLOATS, 0),
    lambda: np.array(2**63, np.uint64), lambda: np.array(["2026"], "M8[Y]"),
    lambda: np.broadcast_to(np.float32(1), (4, 3)), lambda: fnn.tensor(3), lambda: tensor(4, 3), lambda: tensor(0), lambda: fnn.Tensor([1, 2]),
    lambda: fnn.Tensor(1.0), model, sgd, lambda: nn.Linear(3, 2).weight, lambda: io.BytesIO(b"x"), lambda: Path("there/is/no"), object,
    lambda: (lambda *_: None), lambda: iter([1, 2]), lambda: np.float32, lambda: np.random.default_rng(0), lambda: fnn.device("cpu"),
]  # fmt: skip

X, IMAGE, SERIES = (lambda: tensor(4, 3)), (lambda: tensor(2, 4, 6, 6)), (lambda: tensor(2, 4, 6))
SQUARE, LABELS, COUNT = (lambda: tensor(3, 3)), (lambda: np.array([0, 1, 1, 0])), (lambda: 2)
GOOD: dict[str, list[Callable[[], Any]]] = {
    "input": [X, X, IMAGE, SERIES, SQUARE, lambda: fnn.Tensor([[1, 2], [3, 0]]), lambda: tensor(5, 2, 3), lambda: tensor(3)],
    **{key: [X, SQUARE, IMAGE] for key in ("other", "tensor", "x", "value", "source", "x1", "x2", "input1", "input2", "outputs", "anchor", "positive", "negative", "values", "query", "key")},
    **{key: [X, LABELS] for key in ("target", "targets", "labels", "y")},
    "weight": [X, lambda: tensor(4, 4, 3, 3), lambda: tensor(2, 3), lambda: tensor(4, 4, 3)],
    **{key: [model, lambda: nn.Linear(3, 2)] for key in ("model", "module", "layer")},
    **{key: [lambda: (FLOATS, np.array([0, 1, 1, 0])), lambda: "digits"] for key in ("data", "dataset", "train", "test")},
    "optimizer": [sgd],
    **{key: [lambda: nn.Linear(3, 2).parameters()] for key in ("params", "parameters")},
    **{key: [lambda: [tensor(4, 3), tensor(4, 3)], X] for key in ("tensors", "inputs", "batch", "primals", "tangents")},
    **{key: [lambda: np.array([0, 1]), lambda: 0, lambda: fnn.Tensor([[0, 1, 0]])] for key in ("index", "indices")},
    **{key: [lambda: "file", lambda: "file.npz", lambda: "file.safetensors", lambda: "0"] for key in ("path", "folder", "f", "name")},
    **{key: [lambda: lambda *x: (x[0] * 2).sum()] for key in ("func", "function", "loss_fn")},
    **{key: [nn.MSELoss, nn.CrossEntropyLoss] for key in ("loss", "loss_function")},
    **{key: [SQUARE, lambda: tensor(3)] for key in ("mat2", "mat1", "mat", "vec", "vec2", "vec1")},
    **{key: [lambda: 0, lambda: -1, lambda: 1] for key in ("dim", "dim0", "dim1", "axis", "d")},
    **{key: [lambda: 0.5, lambda: np.ones(4, np.float32)] for key in ("mean", "std", "loc", "scale", "rate", "concentration", "concentration0", "concentration1", "df", "temperature", "probs", "exponent", "lower_bound", "upper_bound", "running_mean", "running_var", "var", "low", "high", "lr")},
    **{key: [lambda: FLOATS > 0] for key in ("mask", "condition")},
    "equation": [lambda: "ij,ij->i"], "reduce": [lambda: "sum"], "image_shape": [lambda: (1, 8, 8)], "lr_lambda": [lambda: (lambda n: 0.5)],
    "size": [lambda: (2, 3)], "milestones": [lambda: [1, 2]], "schedulers": [lambda: [optim.lr_scheduler.StepLR(sgd(), 1)]],
    "history": [lambda: fitted()], "problem": [lambda: "ravine"], "datasets": [lambda: [[1, 2], [3]]],
    "p": [lambda: 0.5, lambda: fnn.distributions.Normal(np.zeros(3), np.ones(3))],
    "mixture_distribution": [lambda: fnn.distributions.Categorical(np.ones(3))],
    **{key: [lambda: fnn.distributions.ExpTransform()] for key in ("base_transform", "transforms")},
    **{key: [lambda: fnn.distributions.Normal(np.zeros(3), np.ones(3))] for key in ("component_distribution", "q")},
    "amount": [lambda: 1, lambda: 0.5], "pruning_method": [lambda: nn.utils.prune.L1Unstructured], "tensor_name": [lambda: "weight"],
    "functions": [lambda: [nn.ReLU(), nn.ReLU()]], "parametrization": [nn.ReLU], "total_count": [lambda: 3],
    "sampler": [lambda: [0, 1]], "lengths": [lambda: [2, 2]], "base_distribution": [lambda: fnn.distributions.Normal(0.0, tensor(2))],
}  # fmt: skip


DISTRIBUTIONS: dict[str, tuple[Any, ...]] = {  # and transforms, with arguments or what makes them
    **dict.fromkeys(("Normal", "Uniform", "Laplace", "LogNormal", "Cauchy", "Gumbel"), (0.0, 1.0)),
    **dict.fromkeys(("Pareto", "Weibull"), (1.0, 2.0)),
    **dict.fromkeys(("Categorical", "OneHotCategorical", "OneHotCategoricalStraightThrough", "Dirichlet"), (np.ones(3),)),
    **dict.fromkeys(("Bernoulli", "Geometric"), (0.5,)), **dict.fromkeys(("Beta", "Gamma"), (1.0, 2.0)),
    **dict.fromkeys(("Exponential", "Poisson", "HalfCauchy", "HalfNormal", "Chi2", "StudentT"), (2.0,)),
    "Binomial": (3, 0.5), "Multinomial": (3, np.ones(3)), "MultivariateNormal": (np.zeros(2), np.eye(2)),
    "RelaxedBernoulli": (0.5, 0.5), "RelaxedOneHotCategorical": (0.5, np.ones(3)),
    "Independent": (lambda: fnn.distributions.Normal(np.zeros(3), np.ones(3)), 1),
    "MixtureSameFamily": (lambda: fnn.distributions.Categorical(np.ones(3)), lambda: fnn.distributions.Normal(np.zeros(3), np.ones(3))),
    "TransformedDistribution": (lambda: fnn.distributions.Normal(0.0, 1.0), lambda: [fnn.distributions.ExpTransform()]),
    **dict.fromkeys(("AbsTransform", "ExpTransform", "SigmoidTransform", "SoftplusTransform", "TanhTransform"), ()),
    "AffineTransform": (1.0, 2.0), "PowerTransform": (2.0,), "IndependentTransform": (lambda: fnn.distributions.ExpTransform(), 1),
    "ComposeTransform": (lambda: [fnn.distributions.ExpTransform(), fnn.distributions.TanhTransform()],),
}  # fmt: skip


def pruned() -> nn.Module:
    return nn.utils.prune.l1_unstructured(nn.Linear(3, 2), "weight", 1)


def parametrized() -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))


def fitted() -> Any:
    return fnn.fit(nn.Linear(3, 2), (FLOATS, np.array([0, 1, 1, 0])), epochs=1, verbose=False)


def instances() -> Iterator[tuple[str, Callable[[], Any]]]:
    """What methods are called of, and layers as they are called."""
    for name, make in {
        "Tensor": X,
        "Tensor of images": IMAGE,
        "Tensor of integers": lambda: fnn.Tensor([[1, 2], [3, 0]]),
    }.items():
        yield name, make
    for name, cases in LAYERS.items():
        yield f"nn.{name}", cases[0][0]
    yield "Sequential", model
    yield "ModuleList", lambda: nn.ModuleList([nn.ReLU(), nn.Linear(3, 2)])
    yield "ModuleDict", lambda: nn.ModuleDict({"a": nn.ReLU()})
    yield "ParameterList", lambda: nn.ParameterList([nn.Parameter([1.0])])
    yield "ParameterDict", lambda: nn.ParameterDict({"a": nn.Parameter([1.0])})
    for name in optim.__all__:
        if name not in ("Optimizer", "lr_scheduler", "swa_utils"):
            yield f"optim.{name}", lambda name=name: getattr(optim, name)(nn.Linear(3, 2).parameters(), lr=0.1)
    yield "StepLR", lambda: optim.lr_scheduler.StepLR(sgd(), 2)
    yield "ReduceLROnPlateau", lambda: optim.lr_scheduler.ReduceLROnPlateau(sgd())
    yield "Batches", lambda: fnn.data.Batches(FLOATS, np.array([0, 1, 1, 0]), 2)
    yield "Dataset", lambda: fnn.data.load((FLOATS, np.array([0, 1, 1, 0])))
    yield "Augment", lambda: fnn.data.Augment()
    data = fnn.utils.data
    yield "TensorDataset", lambda: data.TensorDataset(tensor(4, 3), tensor(4))
    yield "DataLoader", lambda: data.DataLoader(data.TensorDataset(tensor(4, 3)), batch_size=2)
    yield "Subset", lambda: data.Subset([1, 2, 3], [0, 2])
    yield "ConcatDataset", lambda: data.ConcatDataset([[1, 2], [3]])
    for name, args in DISTRIBUTIONS.items():
        yield (
            name,
            lambda name=name, args=args: getattr(fnn.distributions, name)(*(a() if callable(a) else a for a in args)),
        )
    constraints = fnn.distributions.constraints
    for name in constraints.__all__:
        if isinstance(getattr(constraints, name), constraints.Constraint):
            yield f"constraints.{name}", lambda name=name: getattr(constraints, name)
    yield "constraints.interval of numbers", lambda: constraints.interval(0.0, 1.0)
    yield "compiled model", lambda: fnn.compile(nn.Linear(3, 2))
    yield "compiled step", step
    yield "History", fitted
    yield "Generator", lambda: fnn.Generator()
    yield "Evaluation", lambda: fnn.evaluate(nn.Linear(3, 2), (FLOATS, np.array([0, 1, 1, 0])))
    yield "SignalReport", lambda: fnn.insight.signal_report(model(), FLOATS, np.array([0, 1, 1, 0]))
    prune = nn.utils.prune
    yield "pruned layer", pruned
    for name, args in {"Identity": (), "L1Unstructured": (1,), "RandomUnstructured": (0.5,), "LnStructured": (1, 2), "RandomStructured": (1,),
                       "CustomFromMask": (np.ones((2, 3)),)}.items():  # fmt: skip
        yield f"prune.{name}", lambda name=name, args=args: getattr(prune, name)(*args)
    yield "parametrized layer", parametrized
    yield "ParametrizationList", lambda: parametrized().parametrizations.weight
    yield "GradScaler", fnn.amp.GradScaler
    yield "autocast", lambda: fnn.autocast("cuda")
    yield "AveragedModel", lambda: optim.swa_utils.AveragedModel(nn.Linear(3, 2))


def step() -> Any:
    layer = nn.Linear(3, 2)
    return fnn.compile(layer, nn.CrossEntropyLoss(), optim.SGD(layer.parameters(), lr=0.1))
