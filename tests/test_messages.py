"""What fastnn says to mistakes, all in one place: messages.txt, to be read through as a stranger would.

``python tests/test_messages.py`` writes the file anew; look at its difference before you keep it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from provocations import PROVOCATIONS, emptied

import fastnn as fnn
from fastnn import backends, nn
from fastnn.errors import BackendError, DataError

KEPT = Path(__file__).parent / "messages.txt"
OTHERS = ("setting an array", "Unknown dtype", "Error while", "Expecting", "choose from", "Cannot", "File is")
LONGEST = 420  # characters; what takes more is no sentence


def message(name: str, folder: Path) -> str:
    """What the call of that name says, with what differs between machines left out."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            result = PROVOCATIONS[name](emptied(folder))
        except SystemExit as exit:  # argparse's
            text = f"exit {exit.code}: {said.getvalue().strip().splitlines()[-1]}"
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        else:
            code = result[-1] if isinstance(result, list) else result
            text = f"exit {code}: {said.getvalue().strip()}" if said.getvalue() else "says nothing"
    text = text.replace(str(folder), "FOLDER").replace(os.sep, "/")
    return re.sub(rf"\((?:{'|'.join(OTHERS)}).*\)", "(...)", text)


def kept() -> dict[str, str]:
    """The messages by name."""
    blocks = KEPT.read_text().strip().split("\n\n")
    return dict(block.split("\n", 1) for block in blocks if block)


@pytest.mark.parametrize("name", PROVOCATIONS)
def test_it_says_what_it_said(name: str, tmp_path: Path) -> None:
    assert message(name, tmp_path / "folder") == kept().get(name, "nothing is kept: python tests/test_messages.py")


def test_nothing_else_is_kept() -> None:
    assert set(kept()) == set(PROVOCATIONS)
    assert len(PROVOCATIONS) > 200


@pytest.mark.parametrize("name", sorted(kept()))
def test_every_message_is_one_sentence_of_fastnns_own(name: str) -> None:
    """One line, not too long, without a full stop at its end, and no error that Python or NumPy made for it."""
    kind, _, text = kept()[name].partition(": ")
    assert "\n" not in text
    assert text
    assert len(text) <= LONGEST
    assert not text.endswith(".") or text.endswith("...")
    assert "  " not in text
    own = kind.startswith("exit") or kind in vars(__import__("fastnn").errors)
    assert own or kind in ("AttributeError", "TypeError", "NotImplementedError", "FileNotFoundError")


# ---- hints that the table cannot provoke -----------------------------------------------------------------------------


def test_a_source_folder_is_not_called_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTNN_BACKEND", "native")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    package = tmp_path / "fastnn" / "backends"
    monkeypatch.setattr(backends, "__file__", str(package / "__init__.py"))
    with pytest.raises(BackendError, match="installed without its compiled kernels: reinstall it"):
        backends._choose()
    (tmp_path / "setup.py").touch()
    (tmp_path / "kernels").mkdir()
    with pytest.raises(BackendError, match=r"imported from its source folder.*run pip install -e \. in it"):
        backends._choose()


def test_labels_may_become_integers_in_a_plan() -> None:
    """y.long() is no read of values."""
    model, x = nn.Linear(3, 2), np.ones((2, 3), np.float32)
    loss = nn.CrossEntropyLoss()
    step = fnn.compile(model, lambda outputs, y: loss(outputs, y.long()))
    assert step(x, np.array([0.0, 1.0], np.float32)) == pytest.approx(loss(model(x), [0, 1]).item())
    assert fnn.compile(Rounded())(x * 1.7).tolist() == [[1, 1, 1]] * 2


class Rounded(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.astype(np.int64)


def test_a_small_folder_is_not_asked_for_a_fraction(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for label in "ab":
        (tmp_path / label).mkdir()
        image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / label / "0.png")
    with pytest.raises(DataError, match=r"keep 20% of them for the test, at least 3, .* found 2"):
        fnn.data.load(tmp_path)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        blocks = [f"{name}\n{message(name, Path(folder) / 'folder')}\n" for name in PROVOCATIONS]
    KEPT.write_text("\n".join(blocks))


if __name__ == "__main__":
    main()
