"""No file's content is executed: fastnn has no pickle, eval, exec, shell or import of a name that a file could give."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fastnn"
MODULES = {
    "_pickle", "cloudpickle", "code", "codeop", "commands", "ctypes", "dill", "imp", "jsonpickle", "marshal",
    "multiprocessing", "pickle", "pty", "runpy", "shelve", "subprocess", "yaml",
}  # fmt: skip
BUILT_IN = ("eval", "exec", "compile", "__import__")
METHODS = {
    "popen", "import_module", "spec_from_file_location", "exec_module", "load_module", "extractall",
    "startfile", "execv", "execve", "execvp", "execl", "execlp", "spawnv", "spawnve", "spawnl", "fork",
    "posix_spawn",
}  # fmt: skip
OPTIONS = {("shell", "True"), ("allow_pickle", "True"), ("weights_only", "False")}
# np.load and torch.load unpickle unless they are told not to.
LOADERS = {"np.load": ("allow_pickle", "False"), "numpy.load": ("allow_pickle", "False"),
           "torch.load": ("weights_only", "True"), "library.load": ("weights_only", "True")}  # fmt: skip
KNOWN = {  # what stands there for something that no file gives
    ("plan/reach.py", "import pickle"): "the state of this process's own generators, in memory",
    ("distributed.py", "import pickle"): "an exception of this process's own: whether other ranks can read it",
    ("own/code.py", "exec(source, names)"): "lines that fastnn writes, of a function of this process",
    ("own/operator.py", "import ctypes"): "to call what was compiled of those lines",
    ("train/logs.py", "import_module(module)"): "names in the file itself",
    ("utils/tensorboard.py", "import_module('tensorboardX')"): "the name itself",
    ("utils/tensorboard.py", "import_module('torch.utils.tensorboard')"): "the name itself",
    ("multiprocessing.py", "import multiprocessing"): "what a program asks for by its name",
    ("__init__.py", "import_module(_ON_FIRST_USE[name])"): "a table of the file itself",
}


def uses(source: str) -> Iterator[str]:
    """What of those stands in a source, as it is written there."""
    tree = ast.parse(source)
    own = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {alias.name}" for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in MODULES:
            yield f"import {node.module}"
        elif isinstance(node, ast.Call) and runs(node, own):
            yield ast.unparse(node)


def runs(call: ast.Call, own: set[str]) -> bool:
    function = ast.unparse(call.func)
    name = function.rpartition(".")[2]
    options = {(option.arg or "", ast.unparse(option.value)) for option in call.keywords}
    if name == "import_module":  # of fastnn's own, by a name that begins with it
        return not ast.unparse(call.args[0]).lstrip("f").startswith(("'fastnn", "'{__name__}."))
    return (
        (function in BUILT_IN and function not in own)
        or function == "os.system"
        or ("." in function and name in METHODS)
        or bool(options & OPTIONS)
        or (function in LOADERS and LOADERS[function] not in options)
    )


SOURCES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def test_nothing_of_it_stands_in_the_package() -> None:
    found = {(name, use) for name, path in SOURCES.items() for use in uses(path.read_text())}
    assert found == set(KNOWN), "and what is known is still there"


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle", "from pickle import loads", "import os\nos.system(x)", "eval(x)", "exec(x)", "__import__(x)",
        "compile(x, '', 'exec')", "import_module(x)", "importlib.import_module(f'{x}.y')", "torch.load(x)",
        "np.load(x)", "np.load(x, allow_pickle=True)", "tar.extractall()", "run(x, shell=True)", "import yaml",
        "def f():\n    import subprocess",
    ],
)  # fmt: skip
def test_what_is_planted_is_found(planted: str) -> None:
    assert list(uses(planted))


def test_a_model_file_cannot_name_what_to_import(tmp_path: Path) -> None:
    import fastnn as fnn

    path, marker = tmp_path / "m.fnn", tmp_path / "executed"
    fnn.save(fnn.nn.Sequential(fnn.nn.ReLU()), path)
    content = path.read_bytes()
    for name in (
        "os.system",
        "builtins.eval",
        "__import__",
        "nn.functional.pickle",
        "subprocess.run",
        "fastnn.files.write_atomically",
    ):
        note = content.replace(b"ReLU", name.encode())
        length = int.from_bytes(content[:8], "little") + len(note) - len(content)
        path.write_bytes(length.to_bytes(8, "little") + note[8:])
        with pytest.raises(fnn.FastnnError):
            fnn.load(path)
        assert not marker.exists()
