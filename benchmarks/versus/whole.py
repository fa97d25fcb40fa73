"""The parts of a run that are whole processes: import time, peak memory, training to an accuracy."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from .fleet import PEERS, environment
from .parts import Progress
from .processes import RECIPE_SCRIPT, Training, import_seconds, peak_memory, train
from .settings import Bench
from .table import Row, time_of
from .workloads import MEMORY_MB, RUN_ACCURACY, RUN_RATIO, RUN_SECONDS

IMPORT, MEMORY, RUNS = "Import", "Peak memory", "Whole runs"
PACKAGES = {"torch": "torch", "jax": "jax", "onnxruntime": "onnxruntime", "openvino": "openvino"}
IMPORT_ROUNDS = 5
FAST = "fast"
STEPS_FOR_MEMORY = 200  # of PyTorch, which holds its most by then
PEER_SEEDS = 3


def imports(bench: Bench, progress: Progress) -> None:
    """What `import fastnn` adds to Python's start, and NumPy's part of it; the peers' imports."""
    progress("import time")
    peers = [PACKAGES[peer] for peer in bench.settings.peers]
    seconds = import_seconds(["fastnn", "numpy", *peers], _environment(bench), IMPORT_ROUNDS)
    bench.raw["import seconds"] = seconds
    for peer in bench.settings.peers:
        theirs = seconds[PACKAGES[peer]]
        row = Row("import", time_of(seconds["fastnn"]), PEERS[peer], time_of(theirs), theirs / seconds["fastnn"])
        bench.rows.setdefault(IMPORT, []).append(row)
    bench.rows.setdefault(IMPORT, []).append(Row("of it NumPy's", time_of(seconds["numpy"])))


def memory(bench: Bench, progress: Progress) -> None:
    """`fastnn train mnist --model cnn`, one epoch of it, and PyTorch training the same recipe."""
    folder = _mnist(bench)
    if folder is None:
        return
    progress("peak memory of train mnist --model cnn, fastnn")
    arguments = ["train", "mnist", "--model", "cnn", "--epochs", "1"]
    own = peak_memory("fastnn", arguments, _environment(bench), bench.folder)
    row = Row("train mnist --model cnn", f"{own:.0f} MB", target=f"≤ {MEMORY_MB} MB", met=own <= MEMORY_MB)
    if "torch" in bench.settings.peers:
        progress("peak memory of train mnist --model cnn, PyTorch")
        given = [*_torch_arguments(bench, "cnn", folder), "--most-steps", str(STEPS_FOR_MEMORY)]
        theirs = peak_memory(RECIPE_SCRIPT, given, _environment(bench), bench.folder)
        row.peer, row.theirs, row.ratio = PEERS["torch"], f"{theirs:.0f} MB", theirs / own
    bench.rows.setdefault(MEMORY, []).append(row)


def runs(bench: Bench, progress: Progress) -> None:
    """`fastnn train mnist --model fast`, seed by seed, and the same recipe in PyTorch."""
    import fastnn as fnn

    folder = _mnist(bench)
    if folder is None:
        return
    if FAST not in fnn.recipes.MODELS:
        bench.note(f"fastnn has no recipe {FAST!r} yet: no whole runs")
        return
    own, theirs = [], []
    modes = _torch_modes(bench, folder) if "torch" in bench.settings.peers else {}
    for seed in range(bench.settings.seeds):
        progress(f"train mnist --model {FAST}, seed {seed}, fastnn")
        own.append(train("fastnn", ["train", "mnist", "--model", FAST], seed, _environment(bench), bench.folder))
        for mode in modes if seed < PEER_SEEDS else ():
            progress(f"train mnist --model {FAST}, seed {seed}, PyTorch {mode}")
            run = train(RECIPE_SCRIPT, modes[mode], seed, _environment(bench), bench.folder)
            theirs.append((mode, run))
        if len(modes) > 1:  # go on with the better one
            best = min(theirs, key=lambda pair: pair[1].seconds)[0]
            theirs = [pair for pair in theirs if pair[0] == best]
            modes = {best: modes[best]}
    bench.raw["runs"] = {"fastnn": [vars(run) for run in own], "torch": [{"mode": m, **vars(r)} for m, r in theirs]}
    bench.rows[RUNS] = _run_rows(own, theirs)


def _run_rows(own: list[Training], theirs: list[tuple[str, Training]]) -> list[Row]:
    name = f"train mnist --model {FAST}, median of {len(own)} seeds"
    seconds, accuracy = (statistics.median(getattr(run, what) for run in own) for what in ("seconds", "accuracy"))
    training = statistics.median(run.train_seconds for run in own)
    goal = Row(f"{name}: test accuracy", f"{100 * accuracy:.2f} %", target=f"≥ {100 * RUN_ACCURACY:.1f} %")
    goal.met = accuracy >= RUN_ACCURACY
    whole = Row(f"{name}: whole process", time_of(seconds), target=f"≤ {RUN_SECONDS:g} s", met=seconds <= RUN_SECONDS)
    part = Row(f"{name}: of it training", time_of(training))
    rows = [goal, whole, part]
    if theirs:
        peer = f"{PEERS['torch']} {theirs[0][0]}"
        other = statistics.median(run.seconds for _, run in theirs)
        for row, value, mine in (
            (whole, other, seconds),
            (part, statistics.median(run.train_seconds for _, run in theirs), training),
        ):
            row.peer, row.theirs, row.ratio = peer, time_of(value), value / mine
        goal.peer, goal.theirs = peer, f"{100 * statistics.median(run.accuracy for _, run in theirs):.2f} %"
        against = Row(f"{name}: against PyTorch", time_of(seconds), peer, time_of(other), other / seconds)
        against.target, against.met = f"≥ {RUN_RATIO:g}×", other / seconds >= RUN_RATIO
        rows.insert(2, against)
    return rows


def _torch_modes(bench: Bench, folder: Path) -> dict[str, list[str]]:
    arguments = _torch_arguments(bench, FAST, folder)
    return {"eager": arguments, "channels_last": [*arguments, "--channels-last"]}


def _torch_arguments(bench: Bench, model: str, folder: Path) -> list[str]:
    from .torch_recipe import describe

    recipe = bench.folder / f"{model}.json"
    recipe.write_text(json.dumps(describe(model)))
    return [str(recipe), str(folder)]


def _mnist(bench: Bench) -> Path | None:
    """The folder of MNIST's files, where they are found."""
    import fastnn as fnn

    reports: Any = fnn.data.verify("mnist")
    if not all(report.ok for report in reports):
        bench.note("MNIST is not here (FASTNN_DATA_DIR, or `fastnn data fetch mnist`): no memory, no whole runs")
        return None
    path: Path = reports[0].path
    return path.parent


def _environment(bench: Bench) -> dict[str, str]:
    settings = bench.settings
    return environment(settings.isa if settings.held else None, settings.threads)
