"""What the README shows is true: its Python runs, its shell commands are those that .ci/run runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_python_learns(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = blocks("python")
    exec(compile(program, "README.md", "exec"), {})
    accuracy = float(capsys.readouterr().out.split()[-1])
    assert 0.95 < accuracy <= 1


def test_it_begins_with_the_two_set_up_commands() -> None:
    first, second = blocks("sh")[0].splitlines()
    assert first.startswith("python -m venv v && v/bin/pip install . && v/bin/fastnn train")
    assert second.startswith('pip install -e ".[test]" && pytest')
    assert README.index("```sh") < README.index("```python")
