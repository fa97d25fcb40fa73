"""Mutants of Python source: one small change of meaning each, as its author might have got it wrong."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
UNSEEN = ("strict", "stacklevel")  # of zip, where lengths are the same by construction; of warnings


class Mutant(NamedTuple):
    """A file with one change: ``source`` is its text then, ``before`` and ``after`` are the line where it begins."""

    file: str
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  ->  {self.after}"


def changed(node: ast.AST) -> str | None:
    """The text of ``node`` with one change of meaning; None where this kind of node is left alone."""
    match node:
        case ast.Compare(left, [op], compared):
            return ast.unparse(ast.Compare(left, [COMPARED[type(op)]()], compared))
        case ast.BinOp(left, op, right) if type(op) in COMPUTED:
            texts = any(
                isinstance(side, ast.JoinedStr) or isinstance(getattr(side, "value", None), str)
                for side in (left, right)
            )
            return None if texts else f"({ast.unparse(ast.BinOp(left, COMPUTED[type(op)](), right))})"
        case ast.AugAssign(target, op, value) if type(op) in COMPUTED:
            return ast.unparse(ast.AugAssign(target, COMPUTED[type(op)](), value))
        case ast.BoolOp(op, values):
            return f"({ast.unparse(ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values))})"
        case ast.UnaryOp(ast.Not() | ast.USub(), operand) if not isinstance(operand, ast.Constant):
            return f"({ast.unparse(operand)})"
        case ast.Constant(bool() as value):
            return str(not value)
        case ast.Constant(int() | float() as value):
            return str(value + 1)
        case ast.Expr(ast.Call(ast.Attribute(ast.Call(ast.Name("super")), "__init__"), [], [])):
            return None  # of modules and the like, whose bases have none
        case ast.Expr(ast.Call()) | ast.Assign([ast.Attribute() | ast.Subscript()]):
            return "pass"
        case ast.Continue():
            return "break"
    return None


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """What can be changed under ``node``, but for types, messages of errors, decorators and texts."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, (ast.Raise, ast.JoinedStr)):
                continue
            if isinstance(child, ast.keyword) and child.arg in UNSEEN:
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if text := changed(child):
                yield child, text
            yield from places(child)


def mutants(root: Path, file: str) -> list[Mutant]:
    """Every mutant of ``file``, a path under ``root``."""
    source = (root / file).read_bytes()
    lines = source.splitlines(keepends=True)
    starts = [sum(map(len, lines[:row])) for row in range(len(lines))]
    made = []
    for node, text in places(ast.parse(source)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        new = source[:begin] + text.encode() + source[end:]
        row = node.lineno - 1
        made.append(
            Mutant(file, row + 1, lines[row].decode().strip(), new.splitlines()[row].decode().strip(), new.decode())
        )
    return made
