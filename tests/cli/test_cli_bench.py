"""`fastnn bench` and `fastnn completion`."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import fastnn as fnn
from fastnn import recipes
from fastnn.cli import main
from fastnn.errors import ArgumentError
from fastnn.recipes import speed

WORDS = {
    ("tr",): {"train"},
    ("train", "--model", "le"): {"lenet5"},
    ("eval", "--conf"): set(),
    ("data", "ver"): {"verify"},
    ("bench", "--pn"): {"--png"},
}


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small matrices and arrays, which take no time."""
    monkeypatch.setattr(speed, "SIZES", (32,))
    monkeypatch.setattr(speed, "FLOATS", 1 << 12)


def test_bench_prints_writes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    threads = fnn.get_num_threads()
    files = "--json", str(tmp_path / "b.json"), "--png", str(tmp_path / "b.png")
    assert main(["bench", "--threads", "2", "--seconds", "0.001", "--models", "mlp", *files]) == 0
    out = capsys.readouterr().out
    found = {m["name"]: m for m in json.loads((tmp_path / "b.json").read_text())["measures"]}
    assert list(found) == ["matrix product", "memory, read and written"] + [
        f"mlp, {what}" for what in ("training", "inference", "one image at a time")
    ]
    for name, measure in found.items():
        assert measure["one"] > 0
        assert measure["all"] > 0
        assert name in out
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    fnn.set_num_threads(threads)


def test_rates_are_work_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that a run moves on by 3 s, but the third by 2: the fastest that counts is 2 s."""
    clock, steps = [0.0], iter([9.0, 1.0, 2.0, 3.0, 3.0, 3.0])
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert speed._rate(lambda: clock.__setitem__(0, clock[0] + next(steps)), 10.0, 0.5) == 5.0


def test_measuring_leaves_the_number_of_threads() -> None:
    before = fnn.get_num_threads()
    fnn.set_num_threads(3)
    try:
        assert recipes.measure_speed(0.001, []).threads == 3
        assert fnn.get_num_threads() == 3
    finally:
        fnn.set_num_threads(before)


def test_models_and_seconds_are_checked() -> None:
    for bad in ("tabular", "nonsense"):
        with pytest.raises(ArgumentError, match=f"expected models out of cnn, .*got '{bad}'"):
            recipes.measure_speed(0.1, [bad])
    with pytest.raises(ArgumentError, match="seconds"):
        recipes.measure_speed(0)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        with pytest.MonkeyPatch.context() as patch:
            said: list[str] = []
            patch.setattr("fastnn.cli.completion.say", said.append)
            assert main(["completion", shell]) == 0
        (folder / f"fastnn.{shell}").write_text(said[0])
    return folder


@pytest.mark.parametrize("words", WORDS)
def test_bash_completes(scripts: Path, words: tuple[str, ...]) -> None:
    program = (
        f'. {scripts}/fastnn.bash; COMP_WORDS=(fastnn "$@"); COMP_CWORD=$#; _fastnn; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    result = subprocess.run(["bash", "-c", program, "bash", *words], capture_output=True, text=True)
    assert (set(result.stdout.split()), result.stderr) == (WORDS[words], "")


@pytest.mark.parametrize("words", WORDS)
def test_fish_completes(scripts: Path, words: tuple[str, ...]) -> None:
    if shutil.which("fish") is None:
        pytest.skip("needs fish")
    program = f"source {scripts}/fastnn.fish; complete -C 'fastnn {' '.join(words)}'"
    result = subprocess.run(["fish", "--no-config", "-c", program], capture_output=True, text=True)
    assert {line.split("\t")[0] for line in result.stdout.splitlines()} == WORDS[words]


def test_zsh_takes_the_script(scripts: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("needs zsh")
    program = f"autoload -U compinit; compinit -u -D; . {scripts}/fastnn.zsh; print $_comps[fastnn]"
    result = subprocess.run(["zsh", "-f", "-c", program], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("_fastnn\n", "")


def test_every_option_is_in_every_script(scripts: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        text = (scripts / f"fastnn.{shell}").read_text()
        for word in ("compare-optimizers", "batch-size", "data-dir", "lenet5", "landscape"):
            assert word in text, (shell, word)


def test_completion_is_immediate(scripts: Path) -> None:
    """fastnn itself is not started."""
    begin = time.perf_counter()
    test_bash_completes(scripts, ("tr",))
    assert time.perf_counter() - begin < 1
