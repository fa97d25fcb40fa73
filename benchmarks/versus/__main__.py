"""``python -m benchmarks.versus``: the command line, and a run from beginning to end."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

from . import chart, feed, many, parts, report, whole
from .fleet import PEERS, Fleet
from .peak import Peak
from .settings import Bench, Networks, Settings, usable_peers
from .workloads import BATCHES, WORKLOADS
from .zoo import ZOO

Part = Callable[[Bench, parts.Progress], None]
PARTS: dict[str, Part] = {
    "steps": parts.steps,
    "inference": parts.inference,
    "matmul": parts.matmul,
    "threads": parts.threads,
    "ablation": parts.ablation,
    "import": whole.imports,
    "memory": whole.memory,
    "runs": whole.runs,
}
OF_NETWORKS: dict[str, Part] = {"zoo": many.zoo, "random": many.random}  # instead of the parts, if asked for
WHOLE_RUNS = ("memory", "runs")
QUICK_BATCHES = ["1", "128"]
PEAK_SAMPLES = 10

EPILOG = """\
Each library runs in processes of its own and in turns with the others; ratios are medians over rounds, against the
best mode of the best peer: PyTorch in NCHW, channels_last and by torch.compile, all with the fused optimiser, and for
inference by torch.jit.optimize_for_inference; JAX in NCHW and NHWC; ONNX Runtime and OpenVINO on one thread and on
all. A peer that takes longer than 90 s to get ready is left out of that work. Before anything is timed, all must get
the same losses or outputs from the same weights, within 1e-3. Images are MNIST's where they are found (FASTNN_DATA_DIR,
or `fastnn data fetch mnist`), else the digits. Let nothing else run meanwhile. Exits with 1 where fastnn failed.

examples:
  python -m benchmarks.versus --json results.json --png results.png     all of it, about 12 minutes
  python -m benchmarks.versus --quick --workloads cnn,lenet5 --batches 128 --parts steps
  python -m benchmarks.versus --isa avx2                                all held to AVX2
  python -m benchmarks.versus --zoo --markdown zoo.md                   networks that people train, about half an hour
  python -m benchmarks.versus --zoo --quick --only residual,policy
  python -m benchmarks.versus --random 64 --seed 1                      one line for each, and what is true of them all
  python -m benchmarks.versus --random 32 --inference --only separable
"""


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that files and workers are cleared away
    with tempfile.TemporaryDirectory(prefix="versus-") as name:
        folder = Path(name)
        notes: list[str] = []
        settings = _settings(arguments, notes)
        (folder / "feed").mkdir()
        origin = feed.write(folder / "feed")
        with Fleet(folder, settings.isa if settings.held else None) as fleet:
            bench = Bench(settings, folder, fleet, Peak(folder, settings.isa, settings.threads), notes=notes)
            bench.raw["machine"] = report.machine(settings, origin)
            if bench.peak.sample() is None:
                bench.note("no C compiler: the FMA peak is not known")
            _measure(bench, _chosen(arguments))
    print(report.text(bench))
    if arguments.markdown:
        arguments.markdown.write_text(report.document(bench, _asked(sys.argv[1:])))
    if arguments.json:
        arguments.json.write_text(json.dumps(report.as_json(bench), indent=1) + "\n")
    if arguments.png:
        try:
            chart.draw(arguments.png, bench.rows, report.subtitle(bench))
        except ImportError:
            print('no chart: it needs Matplotlib, pip install "fastnn-cpu[plot]"', file=sys.stderr)
    return 1 if any(failure.startswith("fastnn ") for failure in bench.failures) else 0


def _asked(given: list[str]) -> str:
    """The arguments that say what is measured, without the files that results go to."""
    outputs = ("--json", "--png", "--markdown")
    kept = [
        word
        for before, word in zip(["", *given], given, strict=False)
        if before not in outputs and word.partition("=")[0] not in outputs
    ]
    return shlex.join(kept)


def _chosen(arguments: argparse.Namespace) -> dict[str, Part]:
    asked = {"zoo": arguments.zoo, "random": arguments.random}
    if any(asked.values()):
        return {name: part for name, part in OF_NETWORKS.items() if asked[name]}
    return {name: PARTS[name] for name in arguments.parts if not (arguments.no_runs and name in WHOLE_RUNS)}


def _measure(bench: Bench, chosen: dict[str, Part]) -> None:
    from tqdm import tqdm

    started = time.perf_counter()
    bench.raw["peak before"] = [bench.peak.sample() for _ in range(PEAK_SAMPLES)]
    with tqdm(total=_length(bench, chosen), bar_format="{bar:20} {n_fmt}/{total_fmt} {elapsed} {desc}") as bar:

        def progress(what: str) -> None:
            bar.update(int(bool(bar.desc)))  # the one before is done
            bar.set_description_str(what)

        for name, part in chosen.items():
            try:
                part(bench, progress)
            except KeyboardInterrupt:
                bench.note(f"stopped in {bar.desc}: what was finished is shown")
                break
            except Exception as error:  # the other parts are worth having
                bench.failed("fastnn or its benchmark", f"{name}: {type(error).__name__}: {error}", name)
    bench.raw["peak after"] = [bench.peak.sample() for _ in range(PEAK_SAMPLES)]
    bench.raw["seconds"] = time.perf_counter() - started


def _length(bench: Bench, chosen: Iterable[str]) -> int:
    """How often the parts report progress, about."""
    lengths = {
        "steps": len(parts.step_works(bench)),
        "inference": len(parts.inference_works(bench)),
        "threads": 2,
        "ablation": len(parts.ABLATED) if bench.settings.fusions else 0,
        "memory": 2,
        "runs": bench.settings.seeds + whole.PEER_SEEDS + 1,
        "zoo": sum(1 + 2 * entry.inference + entry.memory for entry in many.zoo_entries(bench).values()),
        "random": len(many.drawn(bench)) * (2 if bench.settings.networks.inference else 1),
    }
    return sum(lengths.get(part, 1) for part in chosen)


# ---- options ---------------------------------------------------------------------------------------------------------


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.versus",
        description="Measure fastnn against PyTorch, JAX, ONNX Runtime and OpenVINO on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def several(known: tuple[str, ...]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            names = [name for name in text.split(",") if name]
            for name in names:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, got {name!r}")
            return names

        return parse

    def option(name: str, known: tuple[str, ...], default: tuple[str, ...], text: str) -> None:
        listed = ",".join(known)
        parser.add_argument(
            name, type=several(known), default=list(default), metavar="A,B", help=f"{text}; of {listed}, default "
            + ("all" if default == known else ",".join(default))
        )  # fmt: skip

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    batches = tuple(map(str, BATCHES))
    option("--peers", tuple(PEERS), tuple(PEERS), "with whom to compare; those not installed are left out")
    option("--workloads", WORKLOADS, WORKLOADS, "models")
    option("--batches", batches, batches, "batch sizes; inference takes those of 1 and 32; with --quick 1,128")
    option("--parts", tuple(PARTS), tuple(PARTS), "what to measure")
    several_networks = parser.add_argument_group(
        "many networks", "instead of the parts above: training steps, single inputs and batches of 32 of each"
    )
    several_networks.add_argument("--zoo", action="store_true", help="networks that people train")
    several_networks.add_argument(
        "--random",
        type=int,
        default=0,
        metavar="N",
        help="as many random ones: plain, strided, residual, separable, dense",
    )
    several_networks.add_argument(
        "--seed", type=int, default=0, metavar="S", help="which random ones, default %(default)s"
    )
    several_networks.add_argument(
        "--inference", action="store_true", help="of random networks time single inputs and batches of 32, not training"
    )
    several_networks.add_argument(
        "--only", type=lambda text: tuple(part for part in text.split(",") if part), default=(), metavar="NAME,NAME",
        help="those of the zoo by name, or all that have this in their name or description: " + ", ".join(ZOO),
    )  # fmt: skip
    several_networks.add_argument(
        "--markdown",
        type=Path,
        metavar="PATH",
        help="write the tables there as a document that names command and machine",
    )
    parser.add_argument("--threads", type=int, default=min(2, cpus), metavar="N", help="default %(default)s")
    parser.add_argument("--isa", choices=("avx2", "avx512"), help="hold all to it; default: the best of this CPU")
    parser.add_argument(
        "--quick", action="store_true", help="in two minutes: fewer and shorter blocks, no torch.compile, no whole runs"
    )
    parser.add_argument(
        "--compile", choices=("targets", "all", "none"), default="targets",
        help="works that torch.compile takes part in, some 20 s each; default those that have a target",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="runs to an accuracy, default %(default)s")
    parser.add_argument("--no-runs", action="store_true", help="no memory, no training to an accuracy")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all numbers there")
    parser.add_argument("--png", type=Path, metavar="PATH", help="draw the ratios there; needs Matplotlib")
    arguments = parser.parse_args()
    if min(arguments.threads, arguments.seeds) < 1:
        parser.error("--threads, --seeds: expected 1 or more")
    if min(arguments.random, arguments.seed) < 0:
        parser.error("--random, --seed: expected 0 or more")
    if arguments.quick:
        arguments.no_runs, arguments.compile = True, "none"
        if arguments.batches == list(batches):
            arguments.batches = QUICK_BATCHES
    return arguments


def _settings(arguments: argparse.Namespace, notes: list[str]) -> Settings:
    import fastnn as fnn
    from fastnn import backends

    described = backends.describe()
    available = described["isas"] or []
    if arguments.isa and arguments.isa not in available:
        sys.exit(f"python -m benchmarks.versus: --isa {arguments.isa}: this CPU, or this build of fastnn, has no such")
    isa = arguments.isa or described["isa"] or ""
    compiled = hasattr(fnn, "compile")
    if not compiled:
        notes.append("fastnn has no compile yet: operator by operator only")
    if described["backend"] != "native":
        notes.append(f"fastnn runs on its {described['backend']} backend, not on its compiled kernels")
    return Settings(
        peers=usable_peers(notes, tuple(arguments.peers), isa, bool(arguments.isa)),
        threads=arguments.threads,
        isa=isa,
        held=bool(arguments.isa),
        workloads=tuple(arguments.workloads),
        batches=tuple(map(int, arguments.batches)),
        compile=arguments.compile,
        rounds=4 if arguments.quick else 8,
        other_rounds=3 if arguments.quick else 5,
        block_seconds=0.04 if arguments.quick else 0.15,
        seeds=arguments.seeds,
        compiled=compiled,
        fusions=_fusions() if compiled else (),
        networks=Networks(arguments.random, arguments.seed, arguments.inference, arguments.only),
    )


def _fusions() -> tuple[str, ...]:
    return tuple(getattr(import_module("fastnn.plan"), "FUSIONS", ()))


if __name__ == "__main__":
    sys.exit(main())
