"""The parts of a run that time many networks: the zoo, and networks drawn at random.

Of each there is a training step and, frozen, single inputs and batches of 32. Below each table stand the geometric
mean, the 10th percentile and the worst of the ratios.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from . import feed
from .duel import Duel
from .fleet import PEERS, Contender
from .network import Network
from .parts import Progress, add, anyone, compare, ours, run
from .random_networks import Drawn, draw
from .settings import Bench, contenders
from .table import Row, at_least, time_of
from .workloads import Work
from .zoo import (
    AVX2_STEP_MEAN,
    FIRST_STEP_SECONDS,
    GEOMETRIC_MEAN,
    PERCENTILE_10,
    RANDOM_TARGETS,
    REFERENCE_GFLOPS,
    SINGLE_TARGETS,
    TARGETS,
    WORST,
    ZOO,
    Entry,
)  # fmt: skip

STEPS, SINGLES, BATCHES = "Zoo: training steps", "Zoo: single inputs, frozen", "Zoo: batches of 32, frozen"
BESIDES = "Zoo: besides speed"
RANDOM_STEPS = "Random networks: training steps"
RANDOM_SINGLES, RANDOM_BATCHES = "Random networks: single inputs, frozen", "Random networks: batches of 32, frozen"
TITLES = (STEPS, SINGLES, BATCHES, BESIDES, RANDOM_STEPS, RANDOM_SINGLES, RANDOM_BATCHES)
INFERENCE_BATCH = 32
INFERENCE_PEERS = ("onnxruntime", "openvino")

Accept = Callable[[Contender], bool]


def zoo_entries(bench: Bench) -> dict[str, Entry]:
    return {name: entry for name, entry in ZOO.items() if bench.settings.networks.wants(name)}


def drawn(bench: Bench) -> dict[str, Drawn]:
    asked = bench.settings.networks
    all_of_them = {f"random {number}": draw(asked.seed, number) for number in range(asked.random)}
    return {name: each for name, each in all_of_them.items() if asked.wants(name, str(each))}


def zoo(bench: Bench, progress: Progress) -> None:
    try:
        for name, entry in zoo_entries(bench).items():
            with _fed(bench, name, entry.network, entry.batch):
                _of_the_zoo(bench, progress, name, entry)
    finally:  # also of a run that was stopped
        for title in (STEPS, SINGLES, BATCHES):
            _summarise(bench, title, {})


def _of_the_zoo(bench: Bench, progress: Progress, name: str, entry: Entry) -> None:
    work = Work("step", name, entry.batch)
    duel = _duel(bench, progress, work, entry.network)
    add(bench, STEPS, compare(bench, duel, _mode(bench, work), TARGETS.get(work)))
    _besides_speed(bench, entry, duel)
    if entry.inference:
        _inferences(bench, progress, name, entry.network)
    if entry.memory and "torch" in bench.settings.peers:
        progress(f"{name}, memory")
        add(bench, BESIDES, _memory(bench, work))


def _inferences(bench: Bench, progress: Progress, name: str, network: Network) -> None:
    for batch, title in ((1, SINGLES), (INFERENCE_BATCH, BATCHES)):
        work = Work("inference", name, batch)
        duel = _duel(bench, progress, work, network)
        add(bench, title, compare(bench, duel, _mode(bench, work), SINGLE_TARGETS.get(work), _accept(bench, work)))


def random(bench: Bench, progress: Progress) -> None:
    by_onnx: dict[str, list[float]] = {RANDOM_SINGLES: [], RANDOM_BATCHES: []}
    networks = drawn(bench)
    bench.raw["random networks"] = {name: str(each) for name, each in networks.items()}
    try:
        for name, each in networks.items():
            with _fed(bench, name, each.network, each.batch):
                if bench.settings.networks.inference:
                    _random_inferences(bench, progress, name, each, by_onnx)
                else:
                    duel = _duel(bench, progress, Work("step", name, each.batch), each.network)
                    _random_row(bench, RANDOM_STEPS, each, duel)
    finally:
        avx2 = bench.settings.held and bench.settings.isa == "avx2"
        _summarise(bench, RANDOM_STEPS, {GEOMETRIC_MEAN: AVX2_STEP_MEAN} if avx2 else RANDOM_TARGETS["step"])
        for title, targets in ((RANDOM_SINGLES, "inference 1"), (RANDOM_BATCHES, "inference 32")):
            _summarise(bench, title, {})
            _summarise(bench, title, RANDOM_TARGETS[targets], by_onnx[title])


def _random_inferences(
    bench: Bench, progress: Progress, name: str, each: Drawn, by_onnx: dict[str, list[float]]
) -> None:
    """Rows against the best peer; ratios against ONNX Runtime, which there are targets for, go into `by_onnx`."""
    for batch, title in ((1, RANDOM_SINGLES), (INFERENCE_BATCH, RANDOM_BATCHES)):
        duel = _duel(bench, progress, Work("inference", name, batch), each.network)
        _random_row(bench, title, each, duel)
        row = compare(bench, duel, _mode(bench, duel.work), None, lambda contender: contender.peer == "onnxruntime")
        if row is not None and row.ratio is not None:
            by_onnx[title].append(row.ratio)


def _random_row(bench: Bench, title: str, each: Drawn, duel: Duel) -> None:
    row = compare(bench, duel, _mode(bench, duel.work), None)
    if row is not None:
        batch = f", B={duel.work.batch}" if duel.work.kind == "step" else ""
        row.work = f"{duel.work.model.removeprefix('random ')} {each.family}{batch}"
    add(bench, title, row)


# ---- what one network takes ------------------------------------------------------------------------------------------


@contextmanager
def _fed(bench: Bench, name: str, network: Network, batch: int) -> Iterator[None]:
    """While it lasts, the workers find the network under its name. What fails is noted: there are other networks."""
    bench.raw.setdefault("networks", {})[name] = network.as_json()
    try:
        feed.add(bench.fleet.feed, name, network, batch)
        yield
    except Exception as error:
        bench.failed("fastnn or its benchmark", f"{type(error).__name__}: {error}", name)
    finally:
        feed.remove(bench.fleet.feed, name)


def _duel(bench: Bench, progress: Progress, work: Work, network: Network) -> Duel:
    progress(str(work))
    return run(bench, work, contenders(bench.settings, work, network))


def _mode(bench: Bench, work: Work) -> str:
    if not bench.settings.compiled:
        return "eager"
    return "compiled" if work.kind == "step" else "frozen"


def _accept(bench: Bench, work: Work) -> Accept:
    """Targets of single inputs are against the libraries that do nothing but inference, where one is installed."""
    aimed = work in SINGLE_TARGETS and any(peer in bench.settings.peers for peer in INFERENCE_PEERS)
    return (lambda contender: contender.peer in INFERENCE_PEERS) if aimed else anyone


def _besides_speed(bench: Bench, entry: Entry, duel: Duel) -> None:
    """How long the first step took, tracing and all; and a step's bound in milliseconds."""
    own = ours(duel, _mode(bench, duel.work))
    if own is None:
        return
    beyond = duel.first_seconds[own.contender] - own.seconds
    row = Row(f"{duel.work}: the first, beyond a step", time_of(max(beyond, 0.0)))
    row.target, row.met = f"≤ {time_of(FIRST_STEP_SECONDS)}", beyond <= FIRST_STEP_SECONDS
    add(bench, BESIDES, row)
    peaks = [peak for peak in duel.peaks if peak]
    if entry.milliseconds is not None and peaks:
        most = entry.milliseconds * REFERENCE_GFLOPS / statistics.median(peaks)
        row = Row(f"{duel.work}: on this machine's peak", time_of(own.seconds), target=f"≤ {time_of(most / 1e3)}")
        row.met = own.seconds <= most / 1e3
        add(bench, BESIDES, row)


def _memory(bench: Bench, work: Work) -> Row:
    threads = bench.settings.threads
    own, theirs = (
        bench.fleet.peak_memory(Contender(peer, mode, threads), work)
        for peer, mode in (("fastnn", _mode(bench, work)), ("torch", "eager"))
    )
    row = Row(f"{work}: peak memory", f"{own:.0f} MB", PEERS["torch"], f"{theirs:.0f} MB", theirs / own)
    return at_least(row, 1.0)


# ---- many ratios in few numbers --------------------------------------------------------------------------------------


def summary(ratios: Sequence[float]) -> dict[str, float]:
    """Geometric mean, 10th percentile (by linear interpolation) and least of the ratios."""
    ordered = sorted(ratios)
    place = 0.1 * (len(ordered) - 1)
    low = ordered[int(place)]
    high = ordered[min(int(place) + 1, len(ordered) - 1)]
    return {
        GEOMETRIC_MEAN: statistics.geometric_mean(ordered),
        PERCENTILE_10: low + (place - int(place)) * (high - low),
        WORST: ordered[0],
    }


def _summarise(bench: Bench, title: str, targets: dict[str, float], ratios: Sequence[float] | None = None) -> None:
    """Rows below a table: of its own ratios, or of those against ONNX Runtime."""
    against = "" if ratios is None else f" against {PEERS['onnxruntime']}"
    rows = bench.rows.get(title, [])
    found = [row.ratio for row in rows if row.ratio is not None and row.peer] if ratios is None else list(ratios)
    if len(found) < 2:
        return
    for name, value in summary(found).items():
        rows.append(at_least(Row(f"{name} of {len(found)}{against}", "", ratio=value), targets.get(name)))
