"""Writes docs/FROM_PYTORCH.md: for each public name of PyTorch what fastnn has.

python docs/from_pytorch.py          from the lists of names in fastnn/pytorch_names.txt
python docs/from_pytorch.py --names  the lists, too, from the PyTorch that is installed
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import fastnn as fnn
from fastnn.absent import NAMES, hint_of, lists

DOCUMENT = Path(__file__).parent / "FROM_PYTORCH.md"
# PyTorch's places of names, and fastnn's.
PLACES = {
    "torch": "fastnn",
    "torch.Tensor": "fastnn.Tensor",
    "torch.nn": "fastnn.nn",
    "torch.nn.functional": "fastnn.nn.functional",
    "torch.nn.init": "fastnn.nn.init",
    "torch.nn.utils": "fastnn.nn.utils",
    "torch.optim": "fastnn.optim",
    "torch.optim.lr_scheduler": "fastnn.optim.lr_scheduler",
    "torch.utils.data": "fastnn.utils.data",
    "torch.linalg": "fastnn.linalg",
    "torch.special": "fastnn.special",
    "torch.distributions": "fastnn.distributions",
    "torch.autograd": "fastnn.autograd",
}
# What is there and does something else than PyTorch's, in a sentence each.
DIFFERENCES = {
    "torch.Tensor": "`fnn.Tensor([1, 2])` keeps whole numbers, and `fnn.Tensor(array)` shares the array's memory",
    "torch.empty": "holds zeros",
    "torch.empty_like": "holds zeros",
    "torch.dtype": "types are NumPy's, `np.dtype`: `x.is_floating_point()`, not `x.dtype.is_floating_point`",
    "torch.Generator": "`get_state()` is a dict; `fnn.Generator` gives other numbers than PyTorch's from one seed",
    "torch.manual_seed": "the numbers that follow are others than PyTorch's; returns nothing",
    "torch.get_rng_state": "a dict of plain values",
    "torch.set_rng_state": "takes what `get_rng_state` gave",
    "torch.set_printoptions": "of `print`, which writes as PyTorch does, and NumPy's, by which `repr` does",
    "torch.floor_divide": "off the tape",
    "torch.compile": "of a model, as there; of a model, its loss and its optimiser: one call is a whole training step",
    "torch.cuda": "there is no device: `is_available()` is False, seeds and caches are ignored",
    "torch.device": 'the CPU alone, which equals "cpu"',
    "torch.save": "safetensors, never pickle: whole models, state dicts, and nested containers of tensors and numbers",
    "torch.load": "reads safetensors, never pickle",
    "torch.Tensor.data": "an ndarray",
    "torch.Tensor.grad": "an ndarray, or None",
    "torch.Tensor.numpy": "of a tensor on the tape, too: the live array",
    "torch.Tensor.shape": "a plain tuple; `x.size()` has `.numel()`",
    "torch.Tensor.T": "of any number of dimensions",
    "torch.Tensor.contiguous": "the tensor itself: operators copy what they need in one piece",
    "torch.Tensor.view": "copies where no view is possible, as `reshape` does",
    "torch.Tensor.half": "raises: there is no float16",
    "torch.Tensor.cuda": "raises: there is no GPU",
    "torch.nn.functional.softmax": "`dim` is -1 if it is left out",
    "torch.nn.functional.log_softmax": "`dim` is -1 if it is left out",
    "torch.nn.functional.relu": "`inplace=True` off the tape leaves views of the input, and the array that it was made "
    "of, as they were; so do all activations",
}
HEAD = """\
# From PyTorch

What each public name of PyTorch {version} is in fastnn: there, there with a difference, or absent with what to do
instead. `import fastnn as torch`, `from fastnn import nn, optim` and `import fastnn.nn.functional as F` are the lines
to change in a program. An absent name says at once what is said here, by attribute and by import.

A module that exists already is taken over, weights and all, by `fnn.from_torch`, and given back by `fnn.to_torch`:
[A PyTorch model](howto/pytorch.md).

What differs everywhere: numbers are float32 or float64, or whole; the device is the CPU; tensors hold NumPy arrays,
which `x.numpy()` and `np.asarray(x)` show without a copy; what is written in place (`x.exp_()`) is on the tape, and in
the gradient of all views, but for leaves and views of them; what `expand` has stretched cannot be written; `x.view()`
of what is not contiguous may be a copy, where PyTorch raises an error; random numbers are reproducible by
`fnn.manual_seed`, but are not PyTorch's; errors are subclasses of `fnn.FastnnError`.

<!-- written by python docs/from_pytorch.py -->
"""


def owner(place: str) -> Any:
    """The module of fastnn, or its Tensor; None for one that there is not."""
    if place == "fastnn.Tensor":
        return fnn.Tensor
    path, _, last = place.rpartition(".")
    try:
        return importlib.import_module(place)
    except ImportError:
        return getattr(owner(path), last, None) if path else None


def has(place: str, name: str) -> bool:
    try:
        return getattr(owner(place), name, None) is not None or name in vars(owner(place))
    except Exception:
        return False


def paragraph(names: list[str]) -> str:
    return textwrap.fill(" ".join(f"`{name}`" for name in names), 126, break_long_words=False, break_on_hyphens=False)


def section(torchs: str, mine: str, names: list[str]) -> Iterator[str]:
    there = [name for name in names if has(mine, name)]
    differ = [name for name in there if f"{torchs}.{name}" in DIFFERENCES]
    absent: dict[str, list[str]] = {}
    for name in names:
        if name not in there:
            absent.setdefault(hint_of(mine, name) or "", []).append(name)
    yield f"## {torchs}\n"
    yield f"{len(there)} of {len(names)} names are there.\n"
    same = [name for name in there if name not in differ]
    if same:
        yield f"**There:**\n\n{paragraph(same)}\n"
    if differ:
        yield "**There, with a difference:**\n"
        yield "\n".join(f"- `{name}`: {DIFFERENCES[f'{torchs}.{name}']}" for name in differ) + "\n"
    if absent:
        yield "**Absent:**\n"
        lines = sorted(absent.items(), key=lambda entry: (-len(entry[1]), entry[0]))
        yield "\n".join(
            textwrap.fill(
                " ".join(f"`{name}`" for name in members) + f": {hint}", 126, initial_indent="- ",
                subsequent_indent="  ", break_long_words=False, break_on_hyphens=False,
            )
            for hint, members in lines
        ) + "\n"  # fmt: skip


def document() -> str:
    """The text of FROM_PYTORCH.md."""
    version, found = lists()
    parts = [HEAD.format(version=version)]
    for torchs, mine in PLACES.items():
        parts += section(torchs, mine, sorted(found[torchs]))
    return "\n".join(parts)


def names(torch: Any) -> str:
    """The text of pytorch_names.txt, from the PyTorch that is installed."""
    version = torch.__version__.partition("+")[0]
    parts = [f"PyTorch {version}: its public names, by place; written by python docs/from_pytorch.py --names"]
    for place in PLACES:
        module = torch.Tensor if place == "torch.Tensor" else importlib.import_module(place)
        parts_of_it = {part.name for part in iter_modules(getattr(module, "__path__", []))}  # imported by now, or not
        public = sorted(
            {name for name in dir(module) if _is_public(module, name)}
            | {name for name in parts_of_it if not name.startswith("_")}
        )
        parts.append(
            f"[{place}]\n{textwrap.fill(' '.join(public), 126, break_long_words=False, break_on_hyphens=False)}"
        )
    return "\n".join(parts) + "\n"


def _is_public(module: Any, name: str) -> bool:
    """Whether it is a name of PyTorch's own, and not one that its file imports or keeps for itself."""
    value = inspect.getattr_static(module, name)
    if name.startswith("_") or "torch_function" in name:
        return False
    if not isinstance(module, ModuleType):
        return True
    if isinstance(value, ModuleType):
        return value.__name__ == f"{module.__name__}.{name}"
    if module.__name__ != "torch" and hasattr(module, "__all__"):
        return name in module.__all__
    if name.isupper() and not isinstance(value, type):
        return False
    home = getattr(value, "__module__", None) or "torch"
    inner = isinstance(value, type) and module.__name__ == "torch.nn.functional"
    return home.startswith("torch") and not inner and home != "torch.overrides"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", action="store_true", help="write the lists of names, too")
    if parser.parse_args().names:
        import torch

        NAMES.write_text(names(torch))
        lists.cache_clear()
    DOCUMENT.write_text(document())


if __name__ == "__main__":
    main()
