"""The backends that this installation has, native once per instruction set of this CPU."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from types import ModuleType

from fastnn import backends


@dataclass(frozen=True)
class Target:
    backend: str
    isa: str | None = None  # of native

    @property
    def kernels(self) -> ModuleType:
        return backends.get(self.backend)

    def __str__(self) -> str:
        return f"{self.backend}-{self.isa}" if self.isa else self.backend


def targets() -> list[Target]:
    found = [Target("reference")]
    if importlib.util.find_spec("fastnn._kernels"):
        found += [Target("native", isa) for isa in backends.get("native").isas()]
    if importlib.util.find_spec("numba"):
        found.append(Target("jit"))
    return found
