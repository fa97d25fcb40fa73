"""How the package is built: imports point down, optional packages are imported late, files stay short."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fastnn as fnn

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "fastnn").rglob("*.py"))
WRITTEN = [
    path
    for folder in ("fastnn", "kernels", "tests", "benchmarks", "examples", ".ci")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".pyx", ".c", ".h", ".md", "") and path.is_file() and "__pycache__" not in path.parts
] + [*sorted(ROOT.glob("*.md")), ROOT / "pyproject.toml", ROOT / "setup.py"]
MOST_LINES = 500

# From the ground up. What stands on a floor imports what stands on lower ones, and itself.
FLOORS = (
    ("errors", "locks"),
    ("checks", "devices", "dtypes", "files"),
    ("arrays", "trees", "console", "formats", "habits", "interrupts", "printing", "random", "versions"),
    ("amp", "tables"),
    ("_kernels", "absent", "cuda", "data", "init", "schedules", "weights"),
    ("accelerator", "backends", "hub", "multiprocessing"),
    ("config", "hooks", "optim", "recording"),
    ("tape", "tensors", "values", "views"),
    ("ops",),
    ("autograd",),
    ("compiler", "distributions", "linalg", "nn", "settings", "special"),
    ("jit", "own", "utils"),
    ("distributed", "func", "metrics", "plan", "saving"),
    ("train",),
    ("insight", "interop"),
    ("onnx", "recipes"),
    ("cli", "sklearn"),
    ("__init__", "__main__"),
)
HEIGHT = {name: height for height, floor in enumerate(FLOORS) for name in floor}
ONE_THING = {"tape": "tensors", "values": "tensors", "views": "tensors"}  # the tape, what it records, and its arrays

RUNTIME = {"fastnn", "numpy"}
MADE_OF = {"backends/jit": {"numba"}, "sklearn": {"scipy", "sklearn"}}  # imported where they are asked for alone


def module_level_imports(source: str, path: Path) -> Iterator[str]:
    """Dotted names of what importing this file imports at once; the folders of the package count as files do.

    ``from fastnn import nn`` is fastnn.nn, ``from fastnn import Tensor`` is fastnn itself. Not what stands in functions
    or after ``if TYPE_CHECKING``.
    """
    package = ("fastnn", *path.relative_to(ROOT / "fastnn").parts[:-1])
    todo: list[ast.AST] = [ast.parse(source)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{module}.{alias.name}" if module == "fastnn" and alias.name in HEIGHT else module
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            todo += node.orelse
        else:
            todo += ast.iter_child_nodes(node)


def home(path: Path) -> str:
    """The name under fastnn/ to which a file belongs: fastnn/nn/conv.py to nn."""
    return path.relative_to(ROOT / "fastnn").parts[0].removesuffix(".py")


def imports_upward(source: str, path: Path) -> list[str]:
    here = home(path)
    wrong = []
    for name in module_level_imports(source, path):
        if name.partition(".")[0] == "fastnn":
            there = name.split(".")[1] if "." in name else "__init__"
            same = ONE_THING.get(there, there) == ONE_THING.get(here, here)
            if not same and HEIGHT[there] >= HEIGHT[here]:
                wrong.append(name)
    return wrong


def imports_too_early(source: str, path: Path) -> list[str]:
    """Packages other than NumPy that importing this file would need, and that its folder is not made of."""
    inside = path.relative_to(ROOT / "fastnn").as_posix()
    allowed = RUNTIME.union(*(made for folder, made in MADE_OF.items() if inside.startswith(f"{folder}/")))
    packages = {name.partition(".")[0] for name in module_level_imports(source, path)}
    return sorted(packages - allowed - sys.stdlib_module_names)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PACKAGE, ids=name)
def test_imports_point_down(path: Path) -> None:
    assert home(path) in HEIGHT, "give it a floor in FLOORS"
    assert imports_upward(path.read_text(), path) == []


@pytest.mark.parametrize("path", PACKAGE, ids=name)
def test_only_numpy_is_imported_at_module_level(path: Path) -> None:
    assert imports_too_early(path.read_text(), path) == []


@pytest.mark.parametrize(
    ("file", "source", "upward", "early"),
    [
        ("ops/conv.py", "from fastnn.nn import Module", ["fastnn.nn"], []),
        ("ops/conv.py", "from fastnn import nn, tensors", ["fastnn.nn"], []),
        ("ops/conv.py", "from ..nn.conv import Conv2d", ["fastnn.nn.conv"], []),
        ("ops/conv.py", "from .. import nn", ["fastnn.nn"], []),
        ("nn/conv.py", "from fastnn import Tensor", ["fastnn"], []),
        ("nn/conv.py", "import fastnn", ["fastnn"], []),
        ("optim.py", "import fastnn.tensors", ["fastnn.tensors"], []),
        ("tape.py", "import fastnn.tensors", [], []),
        ("weights.py", "if True:\n    import fastnn.data", ["fastnn.data"], []),
        ("weights.py", "class A:\n    import safetensors.numpy", [], ["safetensors"]),
        ("weights.py", "try:\n    import tqdm\nexcept ImportError:\n    import scipy", [], ["scipy", "tqdm"]),
        ("weights.py", "def f():\n    import safetensors\n    from fastnn import nn", [], []),
        ("weights.py", "if TYPE_CHECKING:\n    import PIL\nelse:\n    import fastnn.nn", ["fastnn.nn"], []),
        ("backends/jit/conv.py", "import numba", [], []),
        ("backends/shapes.py", "import numba", [], ["numba"]),
        ("sklearn/base.py", "import numba, sklearn.base\nfrom fastnn.recipes import MODELS", [], ["numba"]),
    ],
)
def test_the_checks_see_what_they_look_for(file: str, source: str, upward: list[str], early: list[str]) -> None:
    path = ROOT / "fastnn" / file
    assert imports_upward(source, path) == upward
    assert imports_too_early(source, path) == early


def test_files_are_short() -> None:
    sources = [path for path in WRITTEN if path.suffix != ".md"]
    lengths = {name(path): len(path.read_text().splitlines()) for path in sources}
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def public_names() -> Iterator[tuple[str, object]]:
    """What fastnn and its public modules offer."""
    for public in fnn.__all__:
        value = getattr(fnn, public)
        yield f"fastnn.{public}", value
        if isinstance(value, ModuleType):
            for inner in getattr(value, "__all__", None) or own_names(value):
                yield f"fastnn.{public}.{inner}", getattr(value, inner)


def own_names(module: ModuleType) -> list[str]:
    """Public classes and functions that are written in the module."""
    return [n for n, v in vars(module).items() if n[0] != "_" and getattr(v, "__module__", "") == module.__name__]


def test_public_names_have_docstrings() -> None:
    """Their own: a class does not inherit it."""
    documented = [(n, v) for n, v in public_names() if inspect.isroutine(v) or isinstance(v, type | ModuleType)]
    assert len(documented) > 100
    assert [n for n, v in documented if not (v.__doc__ or "").strip()] == []


def test_no_path_of_one_machine() -> None:
    """Files that name somebody's folders work on that machine only."""
    absolute = re.compile(r"(?<![\w.*/$}])/(?:home|root|work|tmp|mnt|Users|opt)/\w")
    assert absolute.search("cd /" + "home/somebody")
    found = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in WRITTEN
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if absolute.search(line)
    ]
    assert found == []
