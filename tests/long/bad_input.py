"""Bad input is one fnn.FastnnError that says what was expected and what came.

Every public function, class and method is called with values that make no sense in the place of some of its arguments:
other types, shapes and names, None, NaN, huge and negative numbers, text, nothing at all. What does not return raises a
FastnnError; MemoryError stands for sizes that no memory holds, NotImplementedError for a method that a subclass has to
write, Python's own TypeError for a wrong number or name of arguments.
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
import senseless
from senseless import BAD, GOOD, instances

import fastnn as fnn
from fastnn.errors import FastnnError

IN_CI = 0.01
CALLS = 100  # of each function at full length
MEMORY = 8 << 30  # bytes of address space
PATIENCE = 5.0  # seconds of one call
MODULES = [
    "nn", "nn.functional", "nn.init", "nn.utils", "nn.utils.rnn", "optim", "optim.lr_scheduler", "data", "utils.data",
    "utils.checkpoint", "nn.utils.prune", "nn.utils.parametrize", "nn.utils.parametrizations", "func", "autograd",
    "autograd.functional", "amp", "cuda", "distributions", "distributions.constraints", "distributions.transforms",
    "insight", "metrics", "onnx", "plan", "recipes", "train", "weights", "random", "landscape", "linalg",
]  # fmt: skip
SKIPPED = {
    *("view", "picture", "train", "fast", "best", "measure_speed"),  # other programs, the network, minutes of work
    *("to_torch", "from_torch", "save_pt", "load_pt"),  # PyTorch's part has tests of its own
    *("Size", "dtype", "finfo", "iinfo", "parts"),  # Python's and NumPy's own
    *("computed", "holds", "compute_mask", "0"),  # what pruning, parametrizations and constraints ask of their own
    *("arrays", "has_kernel", "initial", "numbers", "rate", "steps_made"),  # what plans and schedules ask of their own
}
USERS = {"module.py apply"}  # where the user's function raised, which may be a type of NumPy's
PROTOCOL = {  # of tensors: what Python's operators and functions call
    "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "__pow__",
    "__rpow__", "__matmul__", "__rmatmul__", "__floordiv__", "__mod__", "__getitem__", "__setitem__", "__eq__",
    "__lt__", "__and__", "__or__", "__iadd__", "__imul__", "__contains__", "__len__", "__iter__", "__float__",
    "__int__", "__bool__", "__index__", "__call__",
}  # fmt: skip


def targets() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every public function, class and method by name, with what gives it."""
    seen: set[int] = set()
    for path in ("", *MODULES):
        module: Any = fnn
        for part in path.split(".") if path else ():
            module = getattr(module, part)
        for name in module.__all__:
            found = getattr(module, name)
            if name not in SKIPPED and id(found) not in seen and is_called_by_users(found):
                seen.add(id(found))
                yield f"{path}.{name}".lstrip("."), lambda found=found: found
    for owner, make in instances():
        for name in dir(make()):
            if (not name.startswith("_") or name in PROTOCOL) and name not in SKIPPED:
                with contextlib.suppress(Exception):
                    if callable(getattr(make(), name)):
                        yield f"{owner}.{name}", lambda make=make, name=name: getattr(make(), name)


def is_called_by_users(found: Any) -> bool:
    """Whether it is a function or class, but no exception, and no record that checks nothing."""
    if not callable(found) or not hasattr(found, "__module__"):
        return False
    record = hasattr(found, "__dataclass_fields__") and not hasattr(found, "__post_init__")
    return not (inspect.isclass(found) and (record or issubclass(found, (Warning, BaseException))))


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


def described(error: BaseException) -> str | None:
    trace = traceback.extract_tb(error.__traceback__)
    if any(frame.name == "<lambda>" and frame.filename == senseless.__file__ for frame in trace):
        return None  # the user's function, which raised what it likes
    frames = [frame for frame in trace if "/fastnn/" in frame.filename] or [None]
    place = f"{Path(frames[-1].filename).name} {frames[-1].name}" if frames[-1] else ""
    if place in USERS:
        return None
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


def sweep(seed: int, calls: int, only: str = "") -> tuple[int, dict[str, str]]:
    """How many calls were made; of those that raised what they should not, one by the function that raised."""
    made, faults = 0, {}
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
                place = fault.rpartition("[")[2].rstrip("]") if fault.endswith("]") else ""
                faults.setdefault(place or name, f"{name}({words}) -> {fault}")
    return made, faults


def measure(share: float = 1.0) -> str:
    command = [sys.executable, __file__, str(max(1, round(CALLS * share)))]
    paths = os.pathsep.join([str(Path(fnn.__file__).parent.parent), str(Path(__file__).parent.parent / "support")])
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": paths, "FASTNN_DATA_DIR": folder, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout.strip()


def main() -> int:
    """`bad_input.py CALLS [NAME]`: that many of each function, or of those whose names begin so."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, late)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    with contextlib.redirect_stdout(io.StringIO()):
        made, faults = sweep(14, int(sys.argv[1]), *sys.argv[2:])
    print(
        *faults.values(), f"{made:,} calls with senseless arguments: all were refused in words or made sense", sep="\n"
    )
    return min(len(faults), 1)


if __name__ == "__main__":
    sys.exit(main())
