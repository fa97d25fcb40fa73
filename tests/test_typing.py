"""Types as users' programs see them. `mypy` checks tests/typing with fastnn, and so what these programs assert."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fastnn as fnn
from fastnn import settings

ROOT = Path(__file__).parent.parent


@pytest.mark.long
def test_a_program_with_types_is_accepted_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the repository's options: as a user's own run has it."""
    api = pytest.importorskip("mypy.api")
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    options = [
        "--strict",
        "--config-file=",
        "--follow-imports=silent",
        "--cache-dir",
        str(ROOT / ".mypy_cache" / "users"),
    ]
    said, errors, code = api.run([*options, str(ROOT / "tests" / "typing" / "program.py")])
    assert (said, errors, code) == ("Success: no issues found in 1 source file\n", "", 0)


def test_every_public_name_has_a_type() -> None:
    """Those in __all__, in the stub that mypy and editors read, or in what it takes over from another module whole."""
    stub = ast.parse((ROOT / "fastnn" / "__init__.pyi").read_text())
    typed = set(fnn.ops.__all__) | set(settings.__all__)
    for statement in stub.body:
        if isinstance(statement, ast.ImportFrom):
            typed |= {name.asname for name in statement.names if name.asname}
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            typed.add(statement.target.id)
    assert sorted(set(fnn.__all__) - typed) == []
