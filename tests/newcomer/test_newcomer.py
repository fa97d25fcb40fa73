"""What a newcomer does works as the README says: see newcomer.py."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any

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


def test_the_notebook_shows_pictures_bars_and_tables() -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    here = Path(__file__).parent
    notebook = nbformat.read(here / "newcomer.ipynb", as_version=4)
    resources = {"metadata": {"path": str(here)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    shapes, trained, layers, curves, measured, found, table, epochs, scores = (
        cell.outputs for cell in notebook.cells if cell.cell_type == "code"
    )
    said = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in said if output.get("name") == "stderr"]
    assert _html(shapes).count("<img") > 10
    assert "samples/s" in _text(trained)  # the bar
    assert "epoch" in _text(trained)
    assert "<table" in _html(layers)
    assert b64decode(curves[0].data["image/png"]).startswith(b"\x89PNG")
    assert "accuracy" in _html(measured)
    assert _text(found) == "'disc'"
    assert "<table" in _html(table)
    assert len(_text(epochs).splitlines()) >= 20
    assert "benign" in _html(scores)
    assert "malignant" in _html(scores)


def _html(outputs: list[Any]) -> str:
    return "".join(output.get("data", {}).get("text/html", "") for output in outputs)


def _text(outputs: list[Any]) -> str:
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)
