"""What a run was asked for, and what it has at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import zoo
from .fleet import NOT_HELD, PEERS, Contender, Fleet, installed
from .network import Network
from .peak import Peak
from .table import Row
from .workloads import EAGER_TARGETS, INFERENCE_TARGETS, MODELS, TARGETS, Work

MATMUL_MODES = {"torch": ["eager"], "jax": ["jit"]}
SMALL_BATCH, SMALL_FLOPS = 32, 1e8  # up to which a peer may be faster on one thread than on all that it is given


@dataclass(frozen=True)
class Networks:
    """Options of the zoo and of random networks."""

    random: int = 0
    seed: int = 0
    inference: bool = False  # of random networks, instead of training
    only: tuple[str, ...] = ()  # names, or parts of descriptions; all where there are none

    def wants(self, name: str, description: str = "") -> bool:
        return not self.only or any(
            part == name if part in zoo.ZOO else part in f"{name} {description}" for part in self.only
        )


@dataclass(frozen=True)
class Settings:
    peers: tuple[str, ...]
    threads: int
    isa: str  # what all are held to, or the best that fastnn has here
    held: bool  # whether --isa asked for it
    workloads: tuple[str, ...]
    batches: tuple[int, ...]
    compile: str  # which works torch.compile takes part in: "targets", "all", "none"
    rounds: int  # of works that have a target
    other_rounds: int
    block_seconds: float
    seeds: int
    compiled: bool  # whether fastnn has compile
    fusions: tuple[str, ...]  # what compile(disable=) takes
    networks: Networks = Networks()


@dataclass
class Bench:
    """What the parts of a run share, and where they leave their results."""

    settings: Settings
    folder: Path
    fleet: Fleet
    peak: Peak
    rows: dict[str, list[Row]] = field(default_factory=dict)  # by title
    raw: dict[str, Any] = field(default_factory=dict)  # for JSON
    notes: list[str] = field(default_factory=list)
    failures: dict[str, list[str]] = field(default_factory=dict)  # who and what: in which works

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def failed(self, who: str, what: str, where: object) -> None:
        self.failures.setdefault(f"{who}: {what}", []).append(str(where))


def usable_peers(bench_notes: list[str], asked: tuple[str, ...], isa: str, held: bool) -> tuple[str, ...]:
    """Those asked for that are installed and can be held to the instruction set; a line about each of the others."""
    usable = []
    for peer in asked:
        if not installed(peer):
            bench_notes.append(f"{PEERS[peer]} is not installed: left out")
        elif held and isa == "avx2" and peer in NOT_HELD:
            bench_notes.append(f"{PEERS[peer]} cannot be held to AVX2: left out")
        else:
            usable.append(peer)
    return tuple(usable)


def contenders(settings: Settings, work: Work, network: Network | None = None) -> list[Contender]:
    """Everybody who runs a work, fastnn first; the network, where the work is one."""
    modes = {"fastnn": _fastnn_modes(settings, work)}
    for peer in settings.peers:
        modes[peer] = MATMUL_MODES.get(peer, []) if network is None else _MODES[peer](settings, work, network)
    return [Contender(peer, mode, settings.threads) for peer, names in modes.items() for mode in names]


def _fastnn_modes(settings: Settings, work: Work) -> list[str]:
    if work.kind == "matmul" or not settings.compiled:
        return ["eager"]
    if work.kind == "inference":
        return ["frozen", "compiled"] if work.model in MODELS else ["frozen"]
    return ["compiled", "eager"] if work in EAGER_TARGETS else ["compiled"]


def has_target(work: Work) -> bool:
    tables = TARGETS, INFERENCE_TARGETS, zoo.TARGETS, zoo.SINGLE_TARGETS
    return work.kind == "matmul" or any(work in targets for targets in tables)


def _torch_modes(settings: Settings, work: Work, network: Network) -> list[str]:
    modes = ["eager", "channels_last"] if network.has("Conv2d") else ["eager"]
    if work.kind == "inference":
        modes.append("TorchScript")
    modes += [f"{mode}, 1 thread" for mode in modes if _one_thread_may_do(settings, work, network)]
    if settings.compile == "all" or (settings.compile == "targets" and has_target(work)):
        modes.append("compile")
    return modes


def _jax_modes(settings: Settings, work: Work, network: Network) -> list[str]:
    return ["NCHW", "NHWC"] if network.has("Conv2d") else ["jit"]


def _onnx_modes(settings: Settings, work: Work, network: Network) -> list[str]:
    if work.kind != "inference":
        return []
    modes = ["in graph", "table"] if work.uint8 else ["all threads"]
    if not _one_thread_may_do(settings, work, network):
        return modes
    return [*modes, *(f"{mode}, 1 thread" if work.uint8 else "1 thread" for mode in modes)]


def _openvino_modes(settings: Settings, work: Work, network: Network) -> list[str]:
    if work.kind != "inference":
        return []
    return ["all threads", *["1 thread"] * _one_thread_may_do(settings, work, network)]


def _one_thread_may_do(settings: Settings, work: Work, network: Network) -> bool:
    small = work.batch <= SMALL_BATCH or work.batch * network.step_flops <= SMALL_FLOPS
    return settings.threads > 1 and small


_MODES = {"torch": _torch_modes, "jax": _jax_modes, "onnxruntime": _onnx_modes, "openvino": _openvino_modes}
