"""Every line of docs/LECTURES.md is run, after the block above its table, and does what its row says.

A row's check gets what its lines gave: the value of each expression, what a command printed; and the names they set.
"""

from __future__ import annotations

import ast
import copy
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import cli

pytest.importorskip("matplotlib")
pytest.importorskip("plotly")
ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "LECTURES.md"
TEXT = DOCUMENT.read_text()
ROWS = {
    int(number): (re.findall(r"`([^`]+)`", code), shown)
    for number, code, shown in re.findall(r"^\| (\d+) \|.*? \| (.*) \| (.*)\|$", TEXT, re.MULTILINE)
}
Check = Callable[[list[Any], dict[str, Any]], None]
CHECKS: dict[int, Check] = {}


def row(number: int) -> Callable[[Check], Check]:
    def keep(check: Check) -> Check:
        CHECKS[number] = check
        return check

    return keep


@pytest.fixture(scope="module")
def after_the_block() -> dict[str, Any]:
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "LECTURES.md", "exec"), names)
    return names


@pytest.mark.parametrize("number", range(1, 32))
def test_row(
    number: int,
    after_the_block: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names = after_the_block  # as in one sitting: what the rows before have set and trained stays
    names["before"] = copy.deepcopy(names["model"])
    values = []
    for line in ROWS[number][0]:
        capsys.readouterr()
        if line.startswith("fastnn "):
            arguments = ["digits" if argument == "mnist" else argument for argument in shlex.split(line)[1:]]
            assert cli.main([*arguments, *(["--epochs", "2"] if arguments[0] == "train" else [])]) == 0
            values.append(capsys.readouterr().out)
            continue
        *statements, last = ast.parse(line).body
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(statements, []), line, "exec"), names)
            values.append(eval(compile(ast.Expression(last.value), line, "eval"), names))
        else:
            exec(line, names)
    CHECKS[number](values, names)


def test_every_row_has_code_and_a_check_and_links_that_lead_somewhere() -> None:
    assert sorted(ROWS) == sorted(CHECKS) == list(range(1, 32))
    assert all(code for code, _ in ROWS.values())
    linked = re.findall(r"\[(\w+)\]\(\.\./examples/(\w+)\.py\)", TEXT)
    assert linked
    for title, name in linked:
        assert title == name
        assert (ROOT / "examples" / f"{name}.py").exists()
    assert {name for _, name in linked} == {path.stem for path in (ROOT / "examples").glob("[a-z]*.py")}


def softmax(logits: Any) -> np.ndarray:
    e = np.exp(np.asarray(logits, np.float64))
    return e / e.sum(axis=-1, keepdims=True)


def falls(history: fnn.History) -> bool:
    """In every epoch."""
    return all(np.diff(history["train_loss"]) < 0)


@row(1)
def _(values: list[Any], names: dict[str, Any]) -> None:
    assert sum(p.numel() for p in names["linear"].parameters()) == 3072 * 10 + 10
    assert [axes.get_title() for axes in values[0].axes[:10]] == list("0123456789")


@row(2)
def _(values: list[Any], names: dict[str, Any]) -> None:
    first, _, last = names["net"]
    hidden = 1 / (1 + np.exp(-(names["x"].reshape(-1, 784) @ first.weight.data.T + first.bias.data)))
    np.testing.assert_allclose(values[0].numpy(), hidden @ last.weight.data.T + last.bias.data, atol=1e-5)


@row(3)
def _(values: list[Any], names: dict[str, Any]) -> None:
    assert f"{784 * 1000 + 1000 + 1000 * 10 + 10:,}" in values[0]


@row(4)
def _(values: list[Any], names: dict[str, Any]) -> None:
    error = np.square(names["net"](names["t"]).numpy() - names["t"] ** 2).mean()
    assert error < 0.02 * np.var(names["t"] ** 2)


@row(5)
def _(values: list[Any], names: dict[str, Any]) -> None:
    assert values[0].shape == (64, 8, 28, 28)
    assert len(values[1].axes) >= 8
    assert values[2].axes[0].get_ylabel().startswith("input")


@row(6)
def _(values: list[Any], names: dict[str, Any]) -> None:
    x = names["x"]
    expected = 1 / (1 + np.exp(-x)), np.tanh(x), np.maximum(x, 0), np.where(x > 0, x, np.expm1(x))
    for found, wanted in zip(values[0], expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


@row(7)
def _(values: list[Any], names: dict[str, Any]) -> None:
    p = softmax(names["model"](names["x"]).numpy())
    assert values[0].item() == pytest.approx(-np.log(p[np.arange(64), names["y"]]).mean(), rel=1e-5)
    assert values[1].item() == 20_000


@row(8)
def _(values: list[Any], names: dict[str, Any]) -> None:
    s = softmax([1.0, 2.0, 3.0])
    np.testing.assert_allclose(values[-1], s[0] * ([1, 0, 0] - s), rtol=1e-5)


@row(9)
def _(values: list[Any], names: dict[str, Any]) -> None:
    np.testing.assert_allclose(values[-1], 1 / (1 + np.exp([2.0, -3.0])) - [0, 1], rtol=1e-5)


@row(10)
def _(values: list[Any], names: dict[str, Any]) -> None:
    assert values[0].item() == (1 + 4) / 2


@row(11)
def _(values: list[Any], names: dict[str, Any]) -> None:
    (during,), absolute = values
    squares = sum(float(np.square(p.data).sum()) for p in names["before"].parameters())
    assert 0.8e-3 * squares < during < 1.2e-3 * squares
    weights = [p.data for p in names["model"].parameters() if p.ndim > 1]
    assert absolute == pytest.approx(1e-4 * sum(float(np.abs(w).sum()) for w in weights), rel=1e-4)


@row(12)
def _(values: list[Any], names: dict[str, Any]) -> None:
    np.testing.assert_allclose(values[0], [2, -6], rtol=1e-8)
    assert values[1] is True


@row(13)
def _(values: list[Any], names: dict[str, Any]) -> None:
    assert Path("graph.svg").read_text().startswith("<svg")
    e = np.exp(2.0 * 0.5 - 0.25)
    assert values[-1].nodes[-1].value == pytest.approx(1 + e)
    assert (values[-1]["w1"].gradient, values[-1]["w0"].gradient) == pytest.approx((0.5 * e, e))


@row(14)
def _(values: list[Any], names: dict[str, Any]) -> None:
    after = names["loss_fn"](names["model"](names["x"]), names["y"])
    assert after.item() < names["loss"].item()


@row(15)
def _(values: list[Any], names: dict[str, Any]) -> None:
    np.testing.assert_allclose(values[-1]["lr"], 0.025 * (1 + np.cos(np.pi * np.arange(4) / 4)), rtol=1e-6)


@row(16)
def _(values: list[Any], names: dict[str, Any]) -> None:
    stopped, descent = values
    assert 1 <= len(stopped) <= 9
    assert falls(descent)


@row(17)
def _(values: list[Any], names: dict[str, Any]) -> None:
    """Two halves, one update of their mean: the first losses are the model's own."""
    model, loss_fn, x, y = (names[name] for name in ("before", "loss_fn", "x", "y"))
    expected = [loss_fn(model(x[part]), y[part]).item() for part in (slice(32), slice(32, 64))]
    assert values[0] == pytest.approx(expected, rel=1e-4)
    assert any((p.data != q.data).any() for p, q in zip(names["model"].parameters(), model.parameters(), strict=True))


@row(18)
def _(values: list[Any], names: dict[str, Any]) -> None:
    """Along the ravine, x, momentum is far ahead of plain descent after 20 steps; across it, y, that changes sides."""
    sgd, momentum = (path.coordinates[:20] for path in names["ways"].paths[:2])
    assert np.count_nonzero(np.diff(np.sign(sgd[:, 1]))) == 19
    assert momentum[-1, 0] > -3 > -6 > sgd[-1, 0]
    assert Path("ravine.png").read_bytes().startswith(b"\x89PNG")


@row(19)
def _(values: list[Any], names: dict[str, Any]) -> None:
    losses = [history[-1].train_loss for history in values[0]]
    assert len(losses) == 5
    assert losses[-1] < losses[0] < names["history"][0].train_loss


@row(20)
def _(values: list[Any], names: dict[str, Any]) -> None:
    starts = [path.coordinates[0] for path in names["ways"].paths]
    np.testing.assert_allclose(starts, starts[:1] * len(starts), atol=1e-4)
    ends = [path.losses[-1] for path in names["ways"].paths]
    assert len(set(ends)) == len(ends)
    assert "<script" in Path("ways.html").read_text()


@row(21)
def _(values: list[Any], names: dict[str, Any]) -> None:
    first, last = (value.data for value in values)
    assert first.std() == pytest.approx(np.sqrt(2 / first.shape[1]), rel=0.02)
    bound = np.sqrt(6 / sum(last.shape))
    assert 0.98 * bound < np.abs(last).max() <= bound


@row(22)
def _(values: list[Any], names: dict[str, Any]) -> None:
    report = values[-1]
    assert report.loss == pytest.approx(names["loss_fn"](names["before"](names["x"]), names["y"]).item(), rel=1e-5)
    assert min(report["gradient"]) > 0
    assert len(values[0].axes) == 4


@row(23)
def _(values: list[Any], names: dict[str, Any]) -> None:
    pixels = values[0].numpy()
    assert (pixels.mean(dtype=np.float64), pixels.std(dtype=np.float64)) == pytest.approx((0, 1), abs=1e-5)


@row(24)
def _(values: list[Any], names: dict[str, Any]) -> None:
    assert (values[0].numpy().mean(), values[0].numpy().std()) == pytest.approx((0, 1), abs=1e-4)


@row(25)
def _(values: list[Any], names: dict[str, Any]) -> None:
    assert set(values[0].tolist()) == {0.0, 2.0}
    assert values[0].numpy().mean() == pytest.approx(1, abs=0.15)
    assert values[1].param_groups[0]["weight_decay"] == 0.01


@row(26)
def _(values: list[Any], names: dict[str, Any]) -> None:
    assert len(values[0].axes) == 2
    assert values[1].verdict in fnn.insight.diagnosis.SUMMARIES
    assert values[1].numbers["test"] is not None


@row(27)
def _(values: list[Any], names: dict[str, Any]) -> None:
    assert len(names["held"]) == round(0.2 * 1437)
    found = names["model"].eval()(names["test"].images).numpy().argmax(1)
    assert names["result"].accuracy == pytest.approx((found == names["test"].labels).mean(), abs=0.003)
    assert names["result"].confusion.sum() == 360
    assert "taken for another class" in values[1]._suptitle.get_text()


@row(28)
def _(values: list[Any], names: dict[str, Any]) -> None:
    line = values[0]
    np.testing.assert_allclose(line.axes[0].values, np.linspace(-1, 1, 51))
    assert line.losses[25] == line.centre == fnn.evaluate(names["before"], names["train"]).loss
    assert line.losses[0] > line.centre < line.losses[-1]


@row(29)
def _(values: list[Any], names: dict[str, Any]) -> None:
    plane = values[0]
    assert plane.losses.shape == (15, 15)
    few = fnn.landscape.sample(names["train"], 200)
    assert plane.losses[7, 7] == fnn.evaluate(names["before"], few).loss


@row(30)
def _(values: list[Any], names: dict[str, Any]) -> None:
    page = Path("out.html").read_text()
    assert "<script" in page
    assert re.search(r"<script[^>]* src=", page) is None  # all that it needs is in it


@row(31)
def _(values: list[Any], names: dict[str, Any]) -> None:
    trained, evaluated, diagnosed = values
    accuracies = [float(re.search(r"accuracy:? +([\d.]+) %", text)[1]) for text in (trained, evaluated)]
    assert accuracies[0] == accuracies[1] > 70
    assert diagnosed.partition(":")[0] in fnn.insight.diagnosis.SUMMARIES
    assert len(list(Path("run/diagnosis").glob("*.png"))) == 3
