"""Programs written for PyTorch run on fastnn, eagerly and compiled, and give PyTorch's losses.

To add one, put its file into this folder (see tests/support/torch_programs.py for its form) and run
``python tests/programs/test_programs.py`` where PyTorch is installed: that writes PyTorch's losses to losses.json, what
does not run yet to not_yet.json, with the reason, and prints a table of all.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))  # for the command

import torch_programs as programs

from fastnn.errors import FastnnError

LOSSES, NOT_YET = programs.FOLDER / "losses.json", programs.FOLDER / "not_yet.json"
RECORDED: dict[str, dict[str, list[float]]] = json.loads(LOSSES.read_text()) if LOSSES.exists() else {}
WAITING: dict[str, str] = json.loads(NOT_YET.read_text()) if NOT_YET.exists() else {}
TOLERANCES = {"float32": 1e-4, "float64": 1e-10}
FAILURES = (FastnnError, AttributeError, ImportError, TypeError, ValueError, RuntimeError)
COMPILED = [name for name in programs.NAMES if programs.can_be_compiled(name)]

USUAL = ("ema_swa", "gradient_hooks", "gru_language_model", "vae", "wgan_gp")  # the others run at full length

dtypes = pytest.mark.parametrize("dtype", TOLERANCES)


def check(losses: list[float], name: str, dtype: str) -> None:
    expected = RECORDED[name][dtype][: len(losses)]
    assert len(losses) >= programs.STEPS
    np.testing.assert_allclose(losses, expected, rtol=TOLERANCES[dtype], atol=0)


def check_waiting(run: Any, case: str, name: str, dtype: str) -> None:
    """A program that is named in not_yet.json fails; the file is to be written anew once it runs."""
    with pytest.raises((*FAILURES, AssertionError)):
        check(run(), name, dtype)
    assert case in WAITING


@dtypes
@pytest.mark.parametrize("name", programs.NAMES)
def test_losses_are_pytorchs(name: str, dtype: str) -> None:
    def run() -> list[float]:
        return programs.run(name, "fastnn", dtype)

    if name in WAITING:
        check_waiting(run, name, name, dtype)
    else:
        losses = run()
        assert len(losses) == len(RECORDED[name][dtype])
        check(losses, name, dtype)


@dtypes
@pytest.mark.parametrize("name", COMPILED)
def test_losses_of_compiled_steps_are_pytorchs(name: str, dtype: str) -> None:
    def run() -> list[float]:
        return programs.run_compiled(name, dtype)[0]

    case = f"{name} compiled"
    if case in WAITING:
        check_waiting(run, case, name, dtype)
    else:
        check(run(), name, dtype)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in USUAL else pytest.mark.long) for name in programs.NAMES],
)
@pytest.mark.filterwarnings("ignore:compile. this model runs operator by operator")
def test_models_may_be_compiled_as_pytorchs_are(name: str) -> None:
    """With ``model = torch.compile(model)``; loss, backward and update stay as they are."""
    check(programs.run(name, "fastnn", "float32", compiled=True), name, "float32")


@pytest.mark.parametrize("name", programs.NAMES)
def test_recorded_losses_are_pytorchs(name: str) -> None:
    pytest.importorskip("torch")
    for dtype in TOLERANCES:
        check(programs.run(name, "torch", dtype), name, dtype)


def test_files_name_programs() -> None:
    assert sorted(RECORDED) == programs.NAMES
    assert set(WAITING) <= {*programs.NAMES, *(f"{name} compiled" for name in COMPILED)}
    assert len(set(programs.NAMES) - set(WAITING)) >= 31


def test_a_wrong_loss_is_seen() -> None:
    name = programs.NAMES[0]
    losses = list(RECORDED[name]["float64"])
    losses[-1] *= 1 + 1e-9
    with pytest.raises(AssertionError):
        check(losses, name, "float64")


def reason(run: Any, name: str, dtype: str) -> str:
    """Why it does not run, in a line; "" if it does."""
    try:
        check(run(), name, dtype)
    except AssertionError as error:
        return f"other losses in {dtype}" if "tolerance" in str(error) else f"an assertion fails: {error}"
    except FAILURES as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def main() -> None:
    """Writes losses.json and not_yet.json, and prints how each program runs."""
    chosen = sys.argv[1:] or programs.NAMES
    for name in chosen:
        RECORDED[name] = {dtype: programs.run(name, "torch", dtype) for dtype in TOLERANCES}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(RECORDED[name])}" for name in programs.NAMES)
    LOSSES.write_text(f"{{\n{lines}\n}}\n")
    for name in chosen:
        notes = ""
        runs = {name: lambda name=name, dtype="float32": programs.run(name, "fastnn", dtype)}
        if name in COMPILED:

            def compiled(name: str = name, dtype: str = "float32") -> list[float]:
                nonlocal notes
                losses, plan = programs.run_compiled(name, dtype)
                if dtype == "float32":
                    notes = "; ".join(line.strip() for line in plan.splitlines() if "Python" in line)
                return losses

            runs[f"{name} compiled"] = compiled
        for case, run in runs.items():
            found = [reason(lambda run=run, d=dtype: run(dtype=d), name, dtype) for dtype in TOLERANCES]
            WAITING.pop(case, None)
            if any(found):
                WAITING[case] = re.sub(r" \(/.*\)$", "", found[0] or found[1])
            print(f"{case:32s} {WAITING.get(case, 'runs')} {notes}")
    NOT_YET.write_text(json.dumps(dict(sorted(WAITING.items())), indent=0) + "\n")


if __name__ == "__main__":
    main()
