"""How far float32 kernels are from float64, operator by operator and instruction set by instruction set, in ulp.

    python tests/support/precision_table.py      rewrites docs/PRECISION.md

An error is in units in the last place of the largest entry of the result, or of what its sums are made of where that
is larger: what rounding alone can give is half a unit for one operation, and grows with the root of the number of
terms in a sum.
"""

from __future__ import annotations

import datetime
import math
from pathlib import Path

import numpy as np
from kernel_checks import algorithms, evaluate, expected_results
from op_cases import KERNELS, arguments
from op_description import Arguments, Array, Kernel
from targets import Target, targets

PAGE = Path(__file__).parents[2] / "docs" / "PRECISION.md"
Errors = dict[tuple[str, str], dict[str, float]]  # (kernel, algorithm) -> instruction set -> ulp

HEAD = """# Precision

The largest error of every kernel in float32 against the same formula in float64, over the cases of the tests
(`tests/support/op_cases*.py`), in ulp: units in the last place of the largest entry of the result, or of what its
sums are made of where they cancel. Half a unit is what rounding the right result gives; a sum of K terms may have
some √K. `python tests/support/precision_table.py` on {machine}, {date}; other machines with these instruction sets
compute the same bits. `tests/long/precision.py` holds every kernel to twice its number here; and whole networks over
1,000 steps to the distance from float64 that PyTorch has, convolutions by Winograd's method and direct ones
(`exact=True`).

"""


def ulp(got: tuple[Array, ...], expected: tuple[Array, ...], kernel: Kernel, a: Arguments) -> float:
    """The largest error of the floating results."""
    worst = 0.0
    for g, e in zip(got, expected, strict=True):
        finite = np.isfinite(e) if e.dtype.kind == "f" else np.zeros(e.shape, bool)
        if finite.any():
            scale = max(kernel.size(a), float(np.abs(e[finite]).max()), float(np.finfo(np.float32).tiny))
            with np.errstate(all="ignore"):
                worst = max(worst, float(np.abs(g[finite] - e[finite]).max()) / float(np.spacing(np.float32(scale))))
    return worst


def measured(share: float = 1.0) -> Errors:
    """Every kernel on every instruction set of this CPU, over that share of its cases, at least one."""
    found: Errors = {}
    native: list[Target] = [target for target in targets() if target.isa]
    for target in native:
        target.kernels.set_isa(target.isa)
        for kernel in KERNELS.values():
            for index in range(0, len(kernel.cases), max(1, round(1 / share))):
                a, expected = arguments(kernel, kernel.cases[index]), expected_results(kernel.name, index)
                for keywords in algorithms(kernel, target.kernels, expected, a):
                    error = ulp(evaluate(target.kernels, kernel, a, **keywords), expected, kernel, a)
                    row = found.setdefault((kernel.name, keywords.get("algorithm", "")), {})
                    row[str(target.isa)] = max(row.get(str(target.isa), 0.0), error)
    native[-1].kernels.set_isa(native[-1].isa)
    return found


def published() -> Errors:
    """The table in docs/PRECISION.md."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines() if line[:2] == "| "
    ]
    isas = rows[0][2:]
    return {
        (row[0].strip("`"), row[1]): {isa: float(cell) for isa, cell in zip(isas, row[2:], strict=True)}
        for row in rows[1:]
    }


def main() -> None:
    from platform import processor

    found = measured()
    isas = list(next(iter(found.values())))
    lines = ["| kernel | algorithm | " + " | ".join(isas) + " |", "|---" * (2 + len(isas)) + "|"]
    for (name, algorithm), row in found.items():
        lines.append(
            f"| `{name}` | {algorithm} | " + " | ".join(f"{math.ceil(row[isa] * 100) / 100:g}" for isa in isas) + " |"
        )
    machine = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        processor(),
    )
    PAGE.write_text(HEAD.format(machine=machine, date=datetime.date.today().isoformat()) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
