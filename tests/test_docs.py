"""The site's pages are true: their Python runs, their commands parse, and the reference has every public name."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
from test_architecture import public_names

from fastnn import cli

pytest.importorskip("matplotlib")
ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.name != "LECTURES.md")  # that has a test of its own


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.stem)
def test_its_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom, as in one sitting."""
    if "import torch\n" in page.read_text():
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "sh")], ids=lambda p: p.stem)
def test_its_commands_are_commands(page: Path) -> None:
    for line in "".join(blocks(page, "sh")).splitlines():
        words = [word for word in shlex.split(line, comments=True) if "=" not in word or word.startswith("-")]
        if words[0] == "fastnn":
            cli._parser().parse_args(words[1:])  # exits where there is no such command or option


def test_the_navigation_has_every_page() -> None:
    listed = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text())
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_the_reference_has_every_public_name() -> None:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    pages = reference.pages()
    rows = {module: re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE) for module, text in pages.items()}
    listed = {f"{module}.{name}" for module, names in rows.items() for name in names}
    assert {name for name, _ in public_names()} - listed == set()
    modules = {name for name, value in public_names() if isinstance(value, ModuleType) and name.count(".") == 1}
    assert modules - set(pages) == set()
    # each has one entry: a directive of mkdocstrings, or a heading
    titles = re.findall(r"^(?:      heading: |## )([\w.]+)", "\n".join(pages.values()), re.MULTILINE)
    assert len(titles) == len(set(titles)) > 600
