"""A notebook, run as Jupyter runs it: pictures without magic, bars that are not red, tables, and nothing twice."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")
pytest.importorskip("plotly")

CELLS = {
    "fit": """
        import numpy as np
        import fastnn as fnn
        from fastnn import nn
        from fastnn.train import progress
        progress.SECONDS_BEFORE_BAR = 0
        fnn.manual_seed(0)
        data = fnn.data.load("digits").subset(slice(200))
        model = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 10), nn.Tanh(), nn.Linear(10, 10))
        history = fnn.fit(model, data, epochs=2, batch_size=20)
        history
    """,
    "again": "history",
    "rare": "fnn.fit(model, data, epochs=5, verbose=2); None",
    "quiet": "fnn.fit(model, data, verbose=False); None",
    "figure": "history.plot()",
    "show": "history.plot().show()",
    "data": "data",
    "model": "model",
    "evaluation": "evaluation = fnn.evaluate(model, data); evaluation",
    "diagnosis": "fnn.diagnose(history)",
    "signals": "fnn.signal_report(model, data.images[:8], data.labels[:8])",
    "describe": "predict = fnn.compile(model); predict(data.images); predict.describe()",
    "landscape": "fnn.compare_optimizers('ravine', steps=3)",
    "table": "fnn.data.Dataset(np.arange(6.0).reshape(2, 3), [0.5, 1.5])",
}


@pytest.fixture(scope="module")
def outputs() -> Mapping[str, list[Any]]:
    """What stands below each cell."""
    import textwrap

    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in CELLS.values()]
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


def html(outputs: list[Any]) -> str:
    """The one thing that is shown."""
    (output,) = outputs
    return output.data["text/html"]


def streams(outputs: list[Any]) -> str:
    """Standard output; a bar is part of it, or a widget if there are any."""
    assert not [output for output in outputs if output.get("name") == "stderr"]  # it is red
    assert not [output for output in outputs if "text/html" in output.get("data", ())]
    return "".join(output.get("text") or output.data["text/plain"] for output in outputs)


def test_a_training_has_a_bar_and_its_table_once(outputs: Mapping[str, list[Any]]) -> None:
    text = streams(outputs["fit"])
    assert re.search(r"epoch 1/2: .*/200 .* samples/s", text)
    rows = [line for line in re.split(r"[\r\n]", text) if re.match(r" +\d ", line)]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert "val" not in text  # nothing was watched
    table = html(outputs["again"])
    assert table.count("<tr>") == 3
    assert "val" not in table


def test_verbose_says_how_much(outputs: Mapping[str, list[Any]]) -> None:
    lines = streams(outputs["rare"]).splitlines()
    assert [line.split()[0] for line in lines] == ["loss:", "epoch", "2", "4", "5"]
    assert outputs["quiet"] == []


@pytest.mark.parametrize("cell", ["figure", "show"])
def test_a_picture_is_shown_once_without_magic(outputs: Mapping[str, list[Any]], cell: str) -> None:
    (output,) = outputs[cell]
    assert b64decode(output.data["image/png"]).startswith(b"\x89PNG")


def test_things_are_shown_as_tables_and_pictures(outputs: Mapping[str, list[Any]]) -> None:
    model = html(outputs["model"])
    assert "weight 10×784, bias 10" in model
    assert "7,960 parameters" in model  # 784 · 10 + 10 + 10 · 10 + 10
    assert html(outputs["data"]).count("<img") == 20
    assert "accuracy" in html(outputs["evaluation"])
    assert html(outputs["evaluation"]).count("<tr>") == 11
    assert html(outputs["diagnosis"]).count("<img") == 1
    assert html(outputs["signals"]).count("<tr>") == 1 + 5  # the input, and four layers with flatten's left out
    assert html(outputs["describe"]).startswith("<pre>input 200×1×28×28")
    assert html(outputs["landscape"]).startswith("<iframe")
    assert "<td" in html(outputs["table"])


def test_a_png_made_by_hand_holds_the_pixels() -> None:
    import io

    from fastnn import tables

    image = pytest.importorskip("PIL.Image")
    for pixels in (np.arange(12, dtype=np.uint8).reshape(3, 4), np.arange(36, dtype=np.uint8).reshape(3, 4, 3)):
        assert np.array_equal(np.asarray(image.open(io.BytesIO(tables.png(pixels)))), pixels)


def test_a_figure_is_saved_as_its_name_says_and_tells_where_it_has_no_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import pyplot

    from fastnn.errors import ArgumentError, BackendError
    from fastnn.insight import plots

    drawing = plots.figure(1, 1)
    for name, start in (("a.pdf", b"%PDF"), ("a.PNG", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.jpg", b"\xff\xd8")):
        drawing.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(ArgumentError, match=r"ends in \.png, \.pdf, \.svg, \.jpg, got 'a\.gif'"):
        drawing.save("a.gif")
    pyplot.switch_backend("agg")
    with pytest.raises(BackendError, match=r'no window here.*\.save\("picture\.png"\)'):
        drawing.show()
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("verbose", "rows"), [("epoch", "12345"), (1, "12345"), (2, "245"), (np.int64(4), "45"), (0, "")]
)
def test_verbose_is_a_word_or_a_number_of_epochs(verbose: Any, rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = np.zeros((4, 3), np.float32), np.array([0, 1, 0, 1])
    fnn.fit(fnn.nn.Linear(3, 2), data, epochs=5, verbose=verbose)
    shown = capsys.readouterr()
    assert "".join(line.split()[0] for line in shown.out.splitlines()[2:]) == rows
    assert shown.err == ""


@pytest.mark.parametrize("verbose", ["epochs", -1, 1.5, None])
def test_any_other_verbose_is_refused(verbose: Any) -> None:
    with pytest.raises(fnn.errors.ArgumentError, match="expected verbose to be True, False"):
        fnn.fit(fnn.nn.Linear(3, 2), (np.zeros((4, 3), np.float32), np.zeros(4, int)), verbose=verbose)


def test_a_narrow_terminal_gets_a_narrow_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnn.train import EpochRecord, History

    monkeypatch.setenv("COLUMNS", "40")
    record = EpochRecord(1, 123456.5, 0.5, 1.5e-7, 0.25, 0.001, 0.0012, 123456.0, penalty=2.5e-5)
    lines = repr(History([record])).splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[1].split() == ["1", "1.235e+05", "1.5e-07", "25.00", "%"]


def test_a_table_leaves_out_what_a_terminal_has_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnn import tables

    rows = [("layer", "size", "bytes"), ("a very long layer", "1000000", "4000000"), ("b", "1", "4")]
    monkeypatch.setenv("COLUMNS", "30")
    assert tables.aligned(rows, 1).splitlines() == [
        "layer            size    bytes",
        "a very long…  1000000  4000000",
        "b                   1        4",
    ]
    monkeypatch.setenv("COLUMNS", "24")
    assert tables.aligned(rows, 1).splitlines() == [
        "layer            size  …",
        "a very long…  1000000",
        "b                   1",
    ]
