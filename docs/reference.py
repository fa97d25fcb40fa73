"""The site's reference, written when MkDocs builds: every public name of every public module, from its docstring.

A hook of mkdocs.yml. Most entries are mkdocstrings directives; functions that are made at import, and plain values,
are described by what Python says of them. An object of several names is described under the shortest.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent
# In the order of the navigation. fastnn's own names come last: operators are described in fastnn.ops, and so on.
MODULES = [
    "fastnn.nn", "fastnn.nn.functional", "fastnn.nn.init", "fastnn.nn.utils",
    "fastnn.nn.utils.parametrize", "fastnn.nn.utils.parametrizations", "fastnn.nn.utils.prune",
    "fastnn.nn.utils.rnn", "fastnn.init",
    "fastnn.nn.averaging", "fastnn.optim", "fastnn.optim.lr_scheduler", "fastnn.optim.swa_utils", "fastnn.train",
    "fastnn.distributed",
    "fastnn.data", "fastnn.utils", "fastnn.utils.checkpoint", "fastnn.utils.tensorboard",
    "fastnn.utils.data", "fastnn.recipes", "fastnn.insight", "fastnn.landscape",
    "fastnn.interop", "fastnn.onnx", "fastnn.sklearn", "fastnn.plan", "fastnn.metrics", "fastnn.weights",
    "fastnn.autograd", "fastnn.autograd.forward_ad",
    "fastnn.autograd.functional", "fastnn.func", "fastnn.linalg", "fastnn.special", "fastnn.distributions",
    "fastnn.distributions.constraints", "fastnn.distributions.transforms", "fastnn.distributions.utils",
    "fastnn.ops", "fastnn.random",
    "fastnn.special", "fastnn.jit", "fastnn.compiler", "fastnn.hub", "fastnn.multiprocessing",
    "fastnn.errors", "fastnn.backends", "fastnn.accelerator", "fastnn.amp", "fastnn.cuda", "fastnn.cuda.amp", "fastnn",
]  # fmt: skip
# Links out of this folder lead somewhere on the repository's pages only; the site names the file.
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?:\.\./)*((?:examples|tests|kernels|fastnn)/[^)]+|\w+\.md)\)")


def on_config(config: Any) -> Any:
    """Adds the reference's pages to the navigation."""
    (section,) = (entry for entry in config.nav if "Reference" in entry)
    section["Reference"] += [{module: path_of(module)} for module in MODULES]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the reference's pages."""
    from mkdocs.structure.files import File

    for module, text in pages().items():
        files.append(File.generated(config, path_of(module), content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts names of files in the place of links that lead out of this folder."""
    return OUTSIDE.sub(lambda link: f"`{link[2]}`", markdown)


def path_of(module: str) -> str:
    """The page's path in the site's sources."""
    return f"reference/{module}.md"


def find(module: str) -> Any:
    """The module of this public name."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        return getattr(import_module("fastnn"), module.rpartition(".")[2])  # fnn.landscape


def names(module: ModuleType) -> list[str]:
    """A module's public names: `__all__`, or what is written in it."""
    written = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__ and n[0] != "_"]
    return sorted(dict.fromkeys(getattr(module, "__all__", written)), key=str.lower)


@cache
def defined_in(file: str) -> frozenset[str]:
    """Functions and classes at the top level of a file."""
    tree = ast.parse(Path(file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))


def home(value: Any) -> str | None:
    """``file.py``'s dotted path of a function or class that a reader of sources finds there; None for all else."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(value, ModuleType) or not name or not str(module).startswith("fastnn"):
        return None
    return f"{module}.{name}" if name in defined_in(str(import_module(module).__file__)) else None


def pages() -> dict[str, str]:
    """Text of the page of each module."""
    modules = {module: find(module) for module in MODULES}
    called: dict[int, list[str]] = {}  # by the object's id: its public names
    for module, where in modules.items():
        for name in names(where):
            called.setdefault(id(getattr(where, name)), []).append(f"{module}.{name}")
    described: dict[int, str] = {}  # on which page
    return {module: "\n".join(page(module, where, called, described)) + "\n" for module, where in modules.items()}


def page(module: str, where: ModuleType, called: dict[int, list[str]], described: dict[int, str]) -> Iterator[str]:
    yield f"# {module}\n\n{prose(inspect.getdoc(where))}\n"
    yield "| name | |\n|---|---|"
    entries = []
    for name in names(where):
        value = getattr(where, name)
        if isinstance(value, ModuleType):
            target = f"{value.__name__}.md" if value.__name__ in MODULES else f"fastnn.{name}.md"
            yield f"| [`{name}`]({target}) | {summary(value)} |"
            continue
        title = min(called[id(value)], key=lambda path: (len(path), path))
        if not (inspect.isclass(value) or callable(value)):
            entries.append((f"{module}.{name}", None, value))
        elif id(value) not in described:
            described[id(value)] = module
            entries.append((title, home(value), value))
        on = described.get(id(value), module)
        anchor = f"{module}.{name}" if on == module and not callable(value) else home(value) or title
        yield f"| [`{name}`]({'' if on == module else on + '.md'}#{anchor}) | {summary(value)} |"
    yield ""
    for title, path, value in entries:
        if path:
            yield f"::: {path}\n    options:\n      heading: {title}\n      toc_label: {title.rpartition('.')[2]}\n"
        else:
            yield f"## {title} {{ #{title} }}\n\n{by_itself(value)}\n"


def summary(value: Any) -> str:
    """The first paragraph of an object's docstring in one line of a table; a value itself."""
    if not callable(value) and not isinstance(value, ModuleType):
        text = repr(value)
        return f"`{escaped(text if len(text) <= 100 else text[:99] + '…')}`"
    first = (inspect.getdoc(value) or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")
    return escaped(first)


def escaped(text: str) -> str:
    """Text as a table's cell takes it."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def prose(text: str | None) -> str:
    """A docstring as text, where it has neither code nor tables of its own."""
    return literal(text) if re.search(r"\n +|  ", text or "") else (text or "").replace("``", "`")


def literal(text: str | None) -> str:
    """A docstring as it stands."""
    return f"```text\n{text or ''}\n```"


def by_itself(value: Any) -> str:
    """The entry of what is not to be found in a file under its name."""
    if not hasattr(value, "__name__"):  # a value, which may be callable
        return literal(f"{type(value).__name__}: {value!r}"[:2000])
    try:
        signature = f"{value.__name__}{inspect.signature(value)}"
    except (TypeError, ValueError):
        signature = getattr(value, "__name__", repr(value))
    return f"```python\n{signature}\n```\n\n{literal(inspect.getdoc(value))}"
