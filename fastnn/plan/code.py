"""Whose code it is that a model or a loss runs, and which names stand in it."""

from __future__ import annotations

import dis
import functools
import os
import sys
import sysconfig
from types import CodeType
from typing import Any

__all__ = ["is_fastnns", "is_foreign", "is_foreign_class", "names_in"]

_OF_GLOBALS = {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"}
_PACKAGES = {"site-packages", "dist-packages"}


@functools.lru_cache(maxsize=1024)
def names_in(code: CodeType) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The global variables that code reads or sets, all names in it, attributes', too, and those among them that an
    object may lack, `getattr(options, "name", None)`."""
    of_variables = {each.argval for each in dis.get_instructions(code) if each.opname in _OF_GLOBALS}
    names = set(code.co_names)
    lacked = set()
    if names & {"getattr", "hasattr", "vars", "__dict__"}:
        lacked = {constant for constant in code.co_consts if isinstance(constant, str) and constant.isidentifier()}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = names_in(constant)
            of_variables |= inner[0]
            names |= inner[1]
            lacked |= inner[2]
    return frozenset(of_variables), frozenset(names | lacked), frozenset(lacked)


@functools.cache
def _foreign_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    own = sys.modules["fastnn"].__path__[0]
    folders = {own, *(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))}
    return ("<frozen", *(os.path.join(folder, "") for folder in folders))


def is_foreign(file: str | None) -> bool:
    """Whether code of this file is the standard library's, an installed package's or fastnn's own."""
    return file is not None and (file.startswith(_foreign_folders()) or bool(_PACKAGES & {*file.split(os.sep)}))


def is_fastnns(defined: Any) -> bool:
    """Whether fastnn defines this class or function."""
    return str(defined.__module__).split(".")[0] == "fastnn"


def is_foreign_class(cls: type) -> bool:
    if cls.__module__ in ("argparse", "types", "_thread"):  # Namespace, SimpleNamespace and local hold users' values
        return False
    module = sys.modules.get(cls.__module__)
    return cls.__module__ in sys.builtin_module_names or is_foreign(getattr(module, "__file__", None))
