"""Bad input is one fnn.FastnnError that says what was expected and what came.

Every public function, class and method is called with values that make no sense in the place of some of its arguments:
other types, shapes and names, None, NaN, huge and negative numbers, text, nothing at all. What does not return raises a
FastnnError; MemoryError stands for sizes that no memory holds, NotImplementedError for a method that a subclass has to
write. The functions that still let another exception out stand in bad_input.txt, which may only become shorter.
"""

from __future__ import annotations

import contextlib
import faulthandler
import inspect
import io
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import FastnnError

IN_CI = 0.01
CALLS = 100  # of each function at full length
MEMORY = 8 << 30  # bytes of address space
PATIENCE = 5.0  # seconds of one call
MODULES = [
    "nn",
    "nn.functional",
    "nn.init",
    "nn.utils",
    "nn.utils.rnn",
    "optim",
    "optim.lr_scheduler",
    "data",
    "utils.data",
    "func",
    "autograd",
    "autograd.functional",
    "distributions",
    "insight",
    "metrics",
    "onnx",
    "plan",
    "recipes",
    "train",
    "weights",
    "random",
    "landscape",
]
# Other programs, the network or minutes of work; PyTorch's part has a test of its own.
SKIPPED = {
    "view",
    "picture",
    "train",
    "fast",
    "best",
    "measure_speed",
    "to_torch",
    "from_torch",
    "save_pt",
    "parts",
    "dtype",
    "load_pt",
    *("finfo", "iinfo"),  # NumPy's own
    *("arrays", "has_kernel", "initial", "numbers", "rate", "steps_made"),  # what plans and schedules ask of their own
}
PROTOCOL = {  # of tensors: what Python's operators and functions call
    "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "__pow__",
    "__rpow__", "__matmul__", "__rmatmul__", "__floordiv__", "__mod__", "__getitem__", "__setitem__", "__eq__", "__lt__",
    "__and__", "__or__", "__iadd__", "__imul__", "__contains__", "__len__", "__iter__", "__float__", "__int__",
    "__bool__", "__index__", "__call__",
}  # fmt: skip

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
    lambda: np.broadcast_to(np.float32(1), (4, 3)), lambda: fnn.Tensor(3), lambda: tensor(4, 3), lambda: tensor(0), lambda: fnn.Tensor([1, 2]),
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
    **{key: [lambda: 0.5, lambda: np.ones(4, np.float32)] for key in ("mean", "std", "loc", "scale", "rate", "running_mean", "running_var", "var", "p", "low", "high", "lr")},
    **{key: [lambda: FLOATS > 0] for key in ("mask", "condition")},
    "equation": [lambda: "ij,ij->i"], "reduce": [lambda: "sum"], "image_shape": [lambda: (1, 8, 8)], "lr_lambda": [lambda: (lambda n: 0.5)],
    "size": [lambda: (2, 3)], "milestones": [lambda: [1, 2]], "schedulers": [lambda: [optim.lr_scheduler.StepLR(sgd(), 1)]],
    "history": [lambda: fitted()], "problem": [lambda: "ravine"], "datasets": [lambda: [[1, 2], [3]]],
    "sampler": [lambda: [0, 1]], "lengths": [lambda: [2, 2]], "base_distribution": [lambda: fnn.distributions.Normal(0.0, tensor(2))],
}  # fmt: skip


def fitted() -> Any:
    return fnn.fit(nn.Linear(3, 2), (FLOATS, np.array([0, 1, 1, 0])), epochs=1, verbose=False)


def instances() -> Iterator[tuple[str, Callable[[], Any]]]:
    """What methods are called of, and layers as they are called."""
    from layer_cases import LAYERS

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
    d = fnn.distributions
    for name, args in {"Normal": (0.0, 1.0), "Categorical": (np.ones(3),), "Bernoulli": (0.5,), "Uniform": (0.0, 1.0), "Exponential": (1.0,),
                       "Poisson": (2.0,), "Laplace": (0.0, 1.0), "LogNormal": (0.0, 1.0), "OneHotCategorical": (np.ones(3),),
                       "MultivariateNormal": (np.zeros(2), np.eye(2))}.items():  # fmt: skip
        yield name, lambda name=name, args=args: getattr(d, name)(*args)
    yield "compiled model", lambda: fnn.compile(nn.Linear(3, 2))
    yield "compiled step", step
    yield "History", fitted
    yield "Generator", lambda: fnn.Generator()


def step() -> Any:
    layer = nn.Linear(3, 2)
    return fnn.compile(layer, nn.CrossEntropyLoss(), optim.SGD(layer.parameters(), lr=0.1))


def targets() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every public function, class and method by name, with what gives it."""
    seen: set[int] = set()
    for path in ("", *MODULES):
        module: Any = fnn
        for part in path.split(".") if path else ():
            module = getattr(module, part)
        for name in module.__all__:
            found = getattr(module, name)
            record = (
                inspect.isclass(found)
                and hasattr(found, "__dataclass_fields__")
                and not hasattr(found, "__post_init__")
            )
            if (
                not callable(found)
                or name in SKIPPED
                or id(found) in seen
                or record
                or not hasattr(found, "__module__")
            ):
                continue
            if inspect.isclass(found) and issubclass(found, (Warning, BaseException)):
                continue
            seen.add(id(found))
            yield f"{path}.{name}".lstrip("."), lambda found=found: found
    for owner, make in instances():
        for name in dir(make()):
            if (not name.startswith("_") or name in PROTOCOL) and name not in SKIPPED:
                with contextlib.suppress(Exception):
                    if callable(getattr(make(), name)):
                        yield f"{owner}.{name}", lambda make=make, name=name: getattr(make(), name)


def arguments(function: Any, rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    """Values for a call, one of them at least bad, where it takes any."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return [rng.choice(BAD)() for _ in range(rng.randrange(3))], {}
    args, kwargs, share = [], {}, rng.choice((0.15, 0.4, 1.0))

    def value(name: str) -> Any:
        return rng.choice(BAD if rng.random() < share or name not in GOOD else GOOD[name])()

    for parameter in parameters:
        needed = parameter.default is parameter.empty
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += [value(rng.choice(("input", "dim", "other"))) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
        elif parameter.kind is parameter.VAR_KEYWORD:
            continue
        elif parameter.kind is parameter.KEYWORD_ONLY or (not needed and rng.random() < 0.5):
            if needed or rng.random() < 0.3:
                kwargs[parameter.name] = value(parameter.name)
        elif needed or (rng.random() < 0.4 and not kwargs):
            args.append(value(parameter.name))
        elif rng.random() < 0.15:
            kwargs[parameter.name] = value(parameter.name)
    return args, kwargs


class Late(BaseException):
    """A call took too long."""


def late(*_: Any) -> None:
    raise Late


def wrong(function: Any, args: list[Any], kwargs: dict[str, Any]) -> str | None:
    """What is wrong with how a call ended; None where it returned, or raised as it should."""
    with contextlib.suppress(TypeError, ValueError):
        try:
            inspect.signature(function).bind(*args, **kwargs)
        except TypeError:
            return None
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        result = function(*args, **kwargs)
        if inspect.isgenerator(result):
            next(result, None)
        return None
    except (FastnnError, MemoryError, NotImplementedError):
        return None
    except TypeError as error:  # Python's, of the signature of what a call hands its arguments to
        return None if re.search(r"\(\) (takes|missing|got) ", str(error)) else described(error)
    except OSError as error:  # of a path
        return None if error.errno is not None else described(error)
    except Late:
        return "no end"
    except BaseException as error:
        return described(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


KNOWN = Path(__file__).with_suffix(".txt")


def described(error: BaseException) -> str | None:
    trace = traceback.extract_tb(error.__traceback__)
    if any(frame.name == "<lambda>" and frame.filename == __file__ for frame in trace):
        return None  # the user's function, which raised what it likes
    frames = [frame for frame in trace if "/fastnn/" in frame.filename] or [None]
    place = f"{Path(frames[-1].filename).name} {frames[-1].name}" if frames[-1] else ""
    return f"{type(error).__name__}: {str(error)[:150]} [{place}]"


def shown(value: Any) -> str:
    if isinstance(value, (np.ndarray, fnn.Tensor)):
        return f"{type(value).__name__}{tuple(value.shape)} {value.dtype}"
    return " ".join(repr(value)[:60].split())


def restore() -> None:
    fnn.set_grad_enabled(True)
    fnn.set_default_dtype(np.float32)
    fnn.set_default_device("cpu")
    fnn.autograd.set_detect_anomaly(False)
    fnn.use_deterministic_algorithms(False)
    fnn.set_num_threads(1)


def sweep(seed: int, calls: int, only: str = "") -> tuple[int, int, dict[str, str]]:
    """How many calls were made, and raised what they should not; an example by the function of fastnn that raised."""
    made, bare, faults = 0, 0, {}
    for name, get in targets():
        if not name.startswith(only):
            continue
        for number in range(calls):
            rng = random.Random(f"{seed} {name} {number}")
            function = get()
            args, kwargs = arguments(function, rng)
            words = ", ".join([*map(shown, args), *(f"{key}={shown(value)}" for key, value in kwargs.items())])
            faulthandler.dump_traceback_later(60, exit=True)
            with np.printoptions():
                fault = wrong(function, args, kwargs)
            restore()
            made += 1
            if fault:
                bare += 1
                key = fault.rpartition("[")[2].rstrip("]") if fault.endswith("]") else ""
                faults.setdefault(key or name, f"{name}({words}) -> {fault}")
    return made, bare, faults


def measure(share: float = 1.0) -> str:
    command = [sys.executable, __file__, str(max(1, round(CALLS * share)))]
    paths = os.pathsep.join([str(Path(fnn.__file__).parent.parent), str(Path(__file__).parent.parent / "support")])
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": paths, "FASTNN_DATA_DIR": folder, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout.strip()


def main() -> int:
    """`bad_input.py CALLS [NAME]`: that many of each function, or of those whose names begin so; `--known` adds them."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, late)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    options = [option for option in sys.argv[1:] if option != "--known"]
    with contextlib.redirect_stdout(io.StringIO()):
        made, bare, faults = sweep(14, int(options[0]), *options[1:])
    known = set(KNOWN.read_text().splitlines()) if KNOWN.exists() else set()
    new = set(faults) - known
    if "--known" in sys.argv:
        KNOWN.write_text("".join(f"{place}\n" for place in sorted(known | new)))
    elif new:
        print(*(faults[place] for place in sorted(new)), sep="\n")
        return 1
    print(
        f"{bare:,} of {made:,} calls with senseless arguments let a bare exception out, of {len(known | new)} functions"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
