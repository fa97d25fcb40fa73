"""What the README shows is true: its Python runs, its commands are those of .ci/run, its links and pictures exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fastnn import cli

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
    assert first.startswith("python3 -m venv v && v/bin/pip install -e . && v/bin/fastnn train")
    assert second.startswith("python3 -m venv .venv && . .venv/bin/activate && pip install -e")
    assert second.partition("#")[0].rstrip().endswith("&& pytest")
    assert README.index("```sh") < README.index("```python")


def test_its_commands_are_commands() -> None:
    (block,) = (text.strip() for text in README.split("```")[1::2] if text.startswith("\nfastnn train"))
    commands = [part for line in block.splitlines() for part in re.split(r"\s{3,}|&&", line.partition("#")[0]) if part]
    assert len(commands) >= 12
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "fastnn"
        cli._parser().parse_args(arguments)  # exits where there is no such command or option


def test_the_pictures_are_small_and_say_what_draws_them() -> None:
    examples = (ROOT / "docs" / "EXAMPLES.md").read_text()
    shown = re.findall(r"!\[\]\((pictures/[\w.]+)\)<br>[^|]+ \[(examples/\w+\.py)\]\(\.\./\2\) ", examples)
    assert sorted(picture for picture, _ in shown) == sorted(
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs" / "pictures").iterdir()
    )
    assert {example for _, example in shown} == {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("[a-z]*.py")
    }
    sizes = [(ROOT / "docs" / picture).stat().st_size for picture, _ in shown]
    assert max(sizes) <= 60_000
    assert sum(sizes) <= 600_000


def test_its_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).is_file()] == []
