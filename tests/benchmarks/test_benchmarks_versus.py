"""benchmarks/versus compares like with like, and reports what it measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # `benchmarks` is a folder of the repository, not installed

from versus_networks import with_everything  # noqa: E402

from benchmarks.versus import feed as feeding  # noqa: E402
from benchmarks.versus import fleet as fleets  # noqa: E402
from benchmarks.versus.duel import Duel as Timed  # noqa: E402
from benchmarks.versus.duel import Series, _disagreements, _still_in, fight, ratio  # noqa: E402
from benchmarks.versus.fleet import Contender, Fleet, WorkerError, environment  # noqa: E402
from benchmarks.versus.peak import Peak  # noqa: E402
from benchmarks.versus.table import Row, at_least, lines, time_of  # noqa: E402
from benchmarks.versus.workloads import MODELS, Work, works  # noqa: E402

EAGER = Contender("fastnn", "eager", 1)
PEERS = [peer for peer in ("torch", "jax") if fleets.installed(peer)]
STEPS = [
    Work("step", "lenet5", 4),
    Work("step", "cifar", 4),
    Work("step", "linear", 4, uint8=True),
    Work("step", "everything", 4),  # with its dropout, which is left out before anything is compared
]
INFERENCES = [Work("inference", work.model, 1, work.uint8) for work in STEPS]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Workers on the digits, one thread each."""
    folder = tmp_path_factory.mktemp("versus")
    (folder / "feed").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeding, "MOST_IMAGES", 8)
        patch.setattr(feeding, "_found", lambda name: None)
        origin = feeding.write(folder / "feed")
        feeding.add(folder / "feed", "everything", with_everything())
    assert origin["mnist"] == "digits"
    with Fleet(folder, None) as workers:
        yield workers


def test_flops_of_the_cnn() -> None:
    """71.6 MFLOP: conv1 0.78 (no gradient of the images), conv2 63.7, dense 7.1."""
    assert MODELS["cnn"].step_flops == 2 * (2 * 9 * 32 * 26 * 26 + 3 * (9 * 32 * 64 * 24 * 24 + 9216 * 128 + 1280))


def test_works_by_model_and_batch() -> None:
    assert [str(work) for work in works("step", ("cnn", "mlp-uint8"), (1, 32))] == [
        "cnn step, B=1", "cnn step, B=32", "mlp step, B=1, uint8", "mlp step, B=32, uint8",
    ]  # fmt: skip


def test_batches_go_round() -> None:
    feed = feeding.batches((np.arange(5),), 2)
    assert [next(feed)[0].tolist() for _ in range(3)] == [[0, 1], [2, 3], [0, 1]]


@pytest.mark.long
@pytest.mark.parametrize("work", STEPS, ids=str)
def test_everybody_takes_the_same_step(fleet: Fleet, work: Work) -> None:
    """From the same weights, on the same images, to the same loss."""
    modes = {"torch": "channels_last", "jax": "NHWC"}
    everybody = [EAGER, Contender("fastnn", "compiled", 1), *(Contender(peer, modes[peer], 1) for peer in PEERS)]
    _all_agree(fleet, work, everybody)


@pytest.mark.long
@pytest.mark.parametrize("work", INFERENCES, ids=str)
def test_everybody_infers_the_same(fleet: Fleet, work: Work) -> None:
    modes = {"torch": ["eager"], "jax": ["NCHW"]}
    everybody = [EAGER, Contender("fastnn", "compiled", 1)]
    everybody += [Contender(peer, mode, 1) for peer in PEERS for mode in modes[peer]]
    if fleets.installed("openvino"):
        everybody.append(Contender("openvino", "1 thread", 1))
    if fleets.installed("onnxruntime"):
        everybody += [Contender("onnxruntime", mode, 1) for mode in (["in graph", "table"] if work.uint8 else [""])]
    _all_agree(fleet, work, everybody)


def _all_agree(fleet: Fleet, work: Work, everybody: list[Contender]) -> None:
    firsts = {contender: fleet.prepare(contender, work)[0] for contender in everybody}
    outputs = 5 if work.model == "everything" else 10
    assert all(len(first) == (2 if work.kind == "step" else outputs) for first in firsts.values())
    assert _disagreements(firsts) == {}
    fleet.drop()


def test_a_duel(fleet: Fleet, tmp_path: Path) -> None:
    work, unknown = STEPS[0], Contender("fastnn", "compiled without brakes", 1)
    duel = fight(fleet, Peak(tmp_path, "none", 1), work, [EAGER, unknown], rounds=3, block_seconds=0.001)
    (series,) = duel.of("fastnn")
    assert len(series.blocks) == len(series.least) == len(duel.peaks) == 3
    assert all(0 < least <= median < 1 for least, median in zip(series.least, series.blocks, strict=True))
    assert list(duel.failures) == [str(unknown)]
    assert "brakes" in duel.failures[str(unknown)]


@pytest.mark.long
def test_a_worker_that_takes_too_long_is_left_out(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fleets, "MOST_SECONDS", 0.001)
        with pytest.raises(WorkerError, match=r"took longer than 0\.001 s"):
            fleet.prepare(EAGER, STEPS[0])
    assert fleet.prepare(EAGER, STEPS[0])[0]  # by a new one
    assert fleet.peak_memory(EAGER, STEPS[0]) > 10
    fleet.drop()


@pytest.mark.long
def test_a_worker_that_ends_says_why(fleet: Fleet) -> None:
    with pytest.raises(WorkerError, match="KeyError"):
        fleet.block(Contender("fastnn", "eager", 1), 0.001)
    with pytest.raises(WorkerError, match="expected FASTNN_NUM_THREADS to be at most 256"):
        fleet.prepare(Contender("fastnn", "eager", 1000), STEPS[0])
    worker = fleet._worker(EAGER)
    worker.process.kill()
    worker.process.wait()
    with pytest.raises(WorkerError, match="the process ended with -9"):
        worker.ask(do="drop")
    assert fleet.prepare(EAGER, STEPS[0])[0]  # by a new one


def _timed(blocks: dict[Contender, list[float]]) -> Timed:
    series = {contender: Series(contender, list(own)) for contender, own in blocks.items()}
    return Timed(STEPS[0], series, [100.0] * max(map(len, blocks.values())), {})


def test_ratios_are_taken_within_rounds() -> None:
    """A slow round is everybody's."""
    duel = _timed({EAGER: [1.0, 10.0, 2.0], Contender("torch", "eager", 1): [3.0, 30.0, 6.0]})
    assert ratio(duel.of("torch")[0], duel.of("fastnn")[0]) == 3
    assert duel.shares_of_peak(duel.of("fastnn")[0], 5e10) == pytest.approx([0.5, 0.05, 0.25])


def test_who_goes_on_after_the_trial() -> None:
    blocks = {EAGER: 9.0, Contender("torch", "eager", 1): 1.0, Contender("torch", "channels_last", 1): 1.2,
              Contender("torch", "compile", 1): 3.0, Contender("torch", "eager, 1 thread", 1): 1.5,
              Contender("jax", "NCHW", 1): 2.5, Contender("onnxruntime", "1 thread", 1): 0.9}  # fmt: skip
    remaining = _still_in(_timed({contender: [own] for contender, own in blocks.items()}), list(blocks))
    assert [f"{c.peer} {c.mode}" for c in remaining] == [
        "fastnn eager", "torch eager", "torch channels_last", "torch compile", "onnxruntime 1 thread",
    ]  # fmt: skip


def test_another_result_is_not_the_same_work() -> None:
    torch, jax = Contender("torch", "eager", 1), Contender("jax", "NCHW", 1)
    assert list(_disagreements({EAGER: [2.3], torch: [2.301], jax: [2.31]})) == [jax]
    assert list(_disagreements({EAGER: [1.0, -3.0], torch: [1.001, -3.0], jax: [1.0]})) == [jax]


def test_all_are_held_to_avx2() -> None:
    held = environment("avx2", 3)
    assert held["FASTNN_ISA"] == held["ATEN_CPU_CAPABILITY"] == "avx2"
    assert held["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert held["OMP_NUM_THREADS"] == held["FASTNN_NUM_THREADS"] == "3"
    assert "ONEDNN_MAX_CPU_ISA" not in environment(None, 3)


def test_the_table() -> None:
    rows = [at_least(Row("cnn step", time_of(0.0123), "PyTorch", time_of(0.0615), 5.0), 4.5), Row("import", "0.1 s")]
    assert list(lines(rows)) == [
        "| work     | fastnn  | best peer | its best | ratio | target | met |",
        "|----------|---------|-----------|----------|-------|--------|-----|",
        "| cnn step | 12.3 ms | PyTorch   | 61.5 ms  | 5.00× | ≥ 4.5× | yes |",
        "| import   | 0.1 s   |           |          |       |        |     |",
    ]
    assert at_least(Row("", "", ratio=4.4), 4.5).met is False


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.345, "2.35 s"), (0.1234, "123 ms"), (0.0123, "12.3 ms"), (4.5e-6, "4.50 µs")]
)
def test_times_have_three_figures(seconds: float, text: str) -> None:
    assert time_of(seconds) == text


def test_peak_of_this_machine(tmp_path: Path) -> None:
    """Between 1 and 1000 GFLOP/s; nothing where there is no such instruction set."""
    assert Peak(tmp_path, "none", 1).sample() is None
    sample = Peak(tmp_path, "avx2", 1).sample()
    assert sample is None or 1 < sample < 1000


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="compares with PyTorch")
@pytest.mark.parametrize("name", ["cnn", "fast"])
def test_the_recipe_for_pytorch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model, and a learning rate for each of the steps."""
    import torch

    import fastnn as fnn
    from benchmarks.versus import torch_recipe

    digits = fnn.data.load("digits")
    monkeypatch.setattr(fnn.data, "load", lambda *_: digits)
    recipe = json.loads(json.dumps(torch_recipe.describe(name, epochs=2, batch_size=100, augment=False)))
    own = fnn.recipes.recipe(name, digits, epochs=2).build(digits)
    other = torch.nn.Sequential(*map(torch_recipe._build, recipe["layers"]))
    x = digits.images[:3].copy()
    shapes = [parameter.shape for parameter in own.parameters()]
    assert [tuple(parameter.shape) for parameter in other.parameters()] == shapes
    for mine, its in zip(own.parameters(), other.parameters(), strict=True):
        its.data = torch.from_numpy(mine.data.copy())
    with torch.no_grad():
        np.testing.assert_allclose(other(torch.from_numpy(x)).numpy(), own(x).data, atol=1e-4)
    assert len(recipe["learning_rates"]) == 2 * 15
    assert len(set(recipe["learning_rates"])) == (30 if name == "fast" else 2)
