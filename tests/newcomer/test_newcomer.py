"""What a newcomer does works as the README says: see newcomer.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from newcomer import PARTS

pytest.importorskip("PIL")
pytest.importorskip("matplotlib")


@pytest.mark.parametrize("part", PARTS)
def test_a_newcomer_gets_on(part: str, tmp_path: Path) -> None:
    if part in ("regression", "classification"):
        pytest.importorskip("sklearn")
        pytest.importorskip("pandas")
    PARTS[part](tmp_path)
