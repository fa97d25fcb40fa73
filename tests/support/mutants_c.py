"""Mutants of the C kernels, all in one build: each change is taken where the variable FASTNN_MUTANT has its number.

A number n becomes (M(7) ? n + 1 : n), and what follows an operator gets an operand that turns it: a + b becomes a +
S(7) * b, which is a - b; a < b becomes a < M(7) + b, which is a <= b for integers. A change that does not compile (an
array's size, the mask of a shuffle) is no mutant: the compiler says where, and it is taken out.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

TOKEN = re.compile(
    r"(?P<skip>/\*.*?\*/|//[^\n]*|^[ \t]*#(?:\\\n|[^\n])*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'"
    r"|\benum\b[^;{]*\{.*?\}|\bcase\b[^:]*:|^(?:static )?const [^=;()]*=.*?;|\bASSERT\b[^;]*;)"
    r"|(?P<number>\b0x[0-9a-fA-F]+\w*|(?:\b\d+\.\d*|\.\d+|\b\d+)(?:[eE][-+]?\d+)?\w*)|(?P<word>\b[A-Za-z_]\w*)"
    r"|(?P<op>(?<= )(?:\+=|-=|<=|>=|==|!=|&&|\|\||[-+*<>])(?= ))|(?P<other>\S)",
    re.DOTALL | re.MULTILINE,
)
OPERAND = {
    "+": "S({k}) *", "-": "S({k}) *", "*": "S({k}) *", "+=": "S({k}) *", "-=": "S({k}) *",
    "<": "M({k}) +", ">=": "M({k}) +", ">": "-M({k}) +", "<=": "-M({k}) +", "==": "M({k}) +", "!=": "M({k}) +",
    "&&": "!M({k}) &&", "||": "M({k}) ||",
}  # fmt: skip
SWITCH = """
#ifndef FASTNN_MUTANT_H
#define FASTNN_MUTANT_H
#include <stdlib.h>
static int fastnn_mutant = -1;
__attribute__((constructor)) static void fastnn_choose_mutant(void) {
    const char *number = getenv("FASTNN_MUTANT");
    if (number) fastnn_mutant = atoi(number);
}
#define M(k) ((short)(fastnn_mutant == (k)))
#define S(k) ((short)(1 - 2 * M(k)))
#endif
"""
COMPILE = [
    "gcc",
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-w",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-pthread",
]


class Mutant(NamedTuple):
    """A change of ``length`` characters at ``begin`` of a header, which is ``text`` with the mutant's number for
    {k}."""

    file: str
    line: int
    before: str
    after: str
    begin: int
    length: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  ->  {self.after}"


def mutants(root: Path, file: str) -> list[Mutant]:
    """Every change that is tried in ``file``, a path under ``root``; some will not compile."""
    source = (root / file).read_text()
    lines, made = source.splitlines(), []
    for found in TOKEN.finditer(source):
        token, row = found.group(), source.count("\n", 0, found.start())
        if found.lastgroup == "number":
            number = f"{token[:-1]} * 1.01f" if token[-1] in "fF" and not token.startswith("0x") else f"{token} + 1"
            begin, length, text = found.start(), len(token), f"(M({{k}}) ? {number} : {token})"
        elif found.lastgroup == "op":
            begin, length, text = found.end(), 0, " " + OPERAND[token]
        else:
            continue
        column = begin - source.rfind("\n", 0, begin) - 1
        after = lines[row][:column] + text.format(k="").replace("()", "") + lines[row][column + length :]
        made.append(Mutant(file, row + 1, lines[row].strip(), after.strip(), begin, length, text))
    return made


def write(root: Path, chosen: dict[int, Mutant], kernels: Path) -> None:
    """Headers under ``kernels``, a copy of those under ``root``/kernels, with the chosen changes."""
    for file in {mutant.file for mutant in chosen.values()}:
        source = (root / file).read_text()
        for k, mutant in sorted(chosen.items(), key=lambda item: -item[1].begin):
            if mutant.file == file:
                source = source[: mutant.begin] + mutant.text.format(k=k) + source[mutant.begin + mutant.length :]
        (kernels.parent / file).write_text(source)


def compiled(root: Path, chosen: dict[int, Mutant], unit: str, room: Path, options: list[str]) -> dict[int, Mutant]:
    """Writes ``unit`` with all changes that compile as ``room``/unit.o; ``room``/kernels is a copy.

    Returns what was left.
    """
    (room / "mutant.h").write_text(SWITCH)
    while True:
        write(root, chosen, room / "kernels")
        command = [*COMPILE, *options, "-include", "mutant.h", "-Ikernels", "-c", unit, "-o", "unit.o"]
        run = subprocess.run(command, cwd=room, capture_output=True, text=True)
        if run.returncode == 0:
            return chosen
        wrong = {
            (name, int(row))
            for name, row in re.findall(r"(kernels/[\w/]+\.h):(\d+):\d+: (?:error|note: in exp)", run.stderr)
        }
        left = {k: mutant for k, mutant in chosen.items() if (mutant.file, mutant.line) not in wrong}
        assert len(left) < len(chosen), run.stderr[-3000:]
        for file in {mutant.file for mutant in chosen.values()} - {mutant.file for mutant in left.values()}:
            (room / file).write_text((root / file).read_text())
        chosen = left
