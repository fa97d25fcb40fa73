"""Inference of regions against plain loops in double precision, on random graphs."""

from __future__ import annotations

import numpy as np
import pytest
from long import draws

import fastnn as fnn

_kernels = pytest.importorskip("fastnn._kernels")

ABSENT = dict.fromkeys(("x", "table", "grad_x", "weight", "bias", "grad_weight", "grad_bias", "y", "grad_y"))
NORM_ABSENT = dict.fromkeys(("gamma", "beta", "grad_gamma", "grad_beta"))


class Drawn:
    """A random region: its nodes as RegionStage takes them, and the shapes of their values."""

    def __init__(self, seed: int, N: int) -> None:
        self.rng, self.N = np.random.default_rng(seed), N
        self.nodes: list[dict] = []
        self.shapes: list[tuple[int, int, int]] = []

    def floats(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape).astype(np.float32)

    def add(self, value: tuple[int, int, int], **node: object) -> int:
        self.nodes.append({**ABSENT, **node})
        self.shapes.append(value)
        return len(self.nodes) - 1

    def input(self, C: int, H: int, W: int, *, table: bool = False) -> int:
        shape = (C, H, W)
        if table:
            return self.add(shape, kind="input", sources=[], shape=shape, table=self.floats(C, 256))
        return self.add(shape, kind="input", sources=[], shape=shape, x=self.floats(self.N, *shape))

    def conv(self, source: int, C: int, kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1) -> int:
        c, *size = self.shapes[source]
        H, W = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
        )
        weight = self.floats(C, c // groups, *kernel) / np.float32(np.sqrt(c // groups * kernel[0] * kernel[1]))
        return self.add(
            (C, H, W), kind="conv", sources=[source], kernel=(C, *kernel), stride=stride, padding=padding,
            dilation=dilation, groups=groups, weight=weight, bias=self.floats(C) if self.rng.random() < 0.7 else None,
        )  # fmt: skip

    def norm(self, C: int) -> dict:
        affine = {"gamma": self.floats(C), "beta": self.floats(C)} if self.rng.random() < 0.8 else {}
        return {
            **NORM_ABSENT, **affine, "eps": 1e-3, "momentum": 0.1, "running_mean": self.floats(C),
            "running_var": np.abs(self.floats(C)) + 0.5,
        }  # fmt: skip

    def pool(self, size: tuple[int, int]) -> dict | None:
        kind = self.rng.choice(["none", "max", "two", "average", "global"], p=[0.5, 0.15, 0.15, 0.1, 0.1])
        if kind == "none" or min(size) < 3:
            return None
        if kind == "two":
            return {"kind": "max", "kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
        if kind == "global":
            return {"kind": "global"}
        window = tuple(int(n) for n in self.rng.integers(1, 4, 2))
        padding = tuple(int(self.rng.integers(0, w // 2 + 1)) for w in window)
        stride = tuple(int(n) for n in self.rng.integers(1, 4, 2))
        found = {"kind": kind, "kernel_size": window, "stride": stride, "padding": padding}
        return {**found, "count_include_pad": bool(self.rng.random() < 0.5)} if kind == "average" else found

    def join(self, *sources: int, pool="draw", activation: int | None = None, norms: bool | None = None) -> int:
        C, H, W = self.shapes[sources[0]]
        pool = self.pool((H, W)) if pool == "draw" else pool
        activation = int(self.rng.choice([0, 1, 1, 1, 2, 3, 4, 5, 6, 7])) if activation is None else activation
        drawn = [self.norm(C) if (self.rng.random() < 0.5 if norms is None else norms) else None for _ in sources]
        if pool is not None and pool["kind"] == "global":
            H = W = 1
        elif pool is not None:
            H, W = (
                (n + 2 * p - k) // s + 1
                for n, k, s, p in zip((H, W), pool["kernel_size"], pool["stride"], pool["padding"], strict=True)
            )
        return self.add(
            (C, H, W), kind="join", sources=list(sources), norms=drawn, activation=activation,
            parameter=0.3 if activation in (2, 5) else 0.0, pool=pool,
        )  # fmt: skip

    def concat(self, *sources: int) -> int:
        C = sum(self.shapes[s][0] for s in sources)
        return self.add((C, *self.shapes[sources[0]][1:]), kind="concat", sources=list(sources))

    def run(self, *, naive: bool, exact: bool = False, frozen: bool = True, calls: int = 1, x=None) -> list[np.ndarray]:
        """The values of all nodes that have `wanted`."""
        found = []
        nodes = [dict(node) for node in self.nodes]
        for node, shape in zip(nodes, self.shapes, strict=True):
            if node.pop("wanted", False):
                node["y"] = np.full((self.N, *shape), np.nan, np.float32)
                found.append(node["y"])
        stage = _kernels.RegionStage(
            self.N, nodes, training=False, exact=exact, dense=False, frozen=frozen, naive=naive
        )
        assert stage.supported()
        stage.reserve()
        program = _kernels.Program()
        program.add(stage)
        for _ in range(calls):
            assert program.run(np.zeros((self.N, 1), np.float32) if x is None else x, np.zeros(self.N, np.int64)) == 0
        return found


def compare(region: Drawn, **options: object) -> None:
    expected = region.run(naive=True, **options)
    found = region.run(naive=False, calls=2, **options)
    exact = region.run(naive=False, exact=True, **options)
    for e, f, g in zip(expected, found, exact, strict=True):
        scale = max(1.0, float(np.abs(e).max()))
        np.testing.assert_allclose(g, e, rtol=0, atol=2e-5 * scale)
        np.testing.assert_allclose(f, e, rtol=0, atol=2e-4 * scale)


def draw_region(seed: int) -> Drawn:
    rng = np.random.default_rng(seed)
    r = Drawn(seed, int(rng.choice([1, 2, 5, 9, 33])))
    channels = [1, 3, 4, 8, 12, 16, 17, 24, 32, 48, 64, 80]
    size = [int(n) for n in rng.integers(3, 20, 2)]
    values = [r.input(int(rng.choice(channels)), *size)]
    if rng.random() < 0.3:
        values.append(r.input(r.shapes[0][0], *size))
    for _ in range(int(rng.integers(2, 8))):
        v = int(rng.choice(values[-2:]))
        c, H, W = r.shapes[v]
        kind = rng.choice(["conv", "3x3", "pointwise", "residual", "depthwise", "grouped", "value", "concat"])
        if kind == "conv":
            kernel = tuple(int(rng.integers(1, min(n, 5) + 1)) for n in (H, W))
            dilation = tuple(int(rng.integers(1, 3)) if n >= 2 * k else 1 for n, k in zip((H, W), kernel, strict=True))
            stride, padding = (tuple(int(n) for n in rng.integers(low, 3, 2)) for low in (1, 0))
            values.append(r.join(r.conv(v, int(rng.choice(channels)), kernel, stride, padding, dilation)))
        elif kind == "3x3":
            values.append(r.join(r.conv(v, int(rng.choice(channels)))))
        elif kind == "pointwise":
            values.append(r.join(r.conv(v, int(rng.choice(channels)), (1, 1), padding=(0, 0))))
        elif kind == "residual":
            first = r.join(r.conv(v, c), pool=None)
            others = [v] if rng.random() < 0.5 else [r.conv(v, c, (1, 1), padding=(0, 0))]
            if rng.random() < 0.3:
                others.append(first)
            sources = [r.conv(first, c), *others]
            values.append(r.join(*(sources if rng.random() < 0.5 else sources[::-1])))
        elif kind == "depthwise":
            stride = (int(rng.integers(1, 3)),) * 2
            values.append(r.join(r.conv(v, c, stride=stride, groups=c)))
        elif kind == "grouped" and c % 2 == 0:
            groups = int(rng.choice([g for g in (2, 4, 8) if c % g == 0]))
            values.append(r.join(r.conv(v, groups * int(rng.integers(1, 20)), groups=groups)))
        elif kind == "value":
            values.append(r.join(v))
        elif kind == "concat":
            same = [u for u in values if r.shapes[u][1:] == (H, W)]
            values.append(r.concat(v, *(int(u) for u in rng.choice(same, int(rng.integers(1, 3))))))
    for v in range(len(r.nodes)):
        if v == values[-1] or (v in values and rng.random() < 0.3):
            r.nodes[v]["wanted"] = True
    return r


@pytest.mark.parametrize("seed", draws(range(150), 30))
def test_random_regions_match_plain_loops(seed: int) -> None:
    compare(draw_region(seed), frozen=bool(seed % 2))


def test_bytes_through_a_table() -> None:
    for C in (1, 3, 20):
        r = Drawn(C, 3)
        r.nodes[r.join(r.conv(r.input(C, 9, 7, table=True), 24))]["wanted"] = True
        compare(r, x=r.rng.integers(0, 256, (3, C, 9, 7)).astype(np.uint8))


def test_changed_parameters_are_packed_again() -> None:
    r = Drawn(0, 1)
    a = r.join(r.conv(r.input(3, 12, 12), 16), norms=True, pool=None)
    b = r.join(r.conv(a, 16), a, norms=True, pool=None)
    r.nodes[b]["wanted"] = True
    nodes = [dict(node) for node in r.nodes]
    y = nodes[b]["y"] = np.zeros((1, *r.shapes[b]), np.float32)
    nodes[b].pop("wanted")
    stage = _kernels.RegionStage(1, nodes, training=False, exact=False, dense=False, frozen=False, naive=False)
    stage.reserve()
    program = _kernels.Program()
    program.add(stage)
    changed = [nodes[1]["weight"], nodes[3]["weight"]]
    changed += [norm[key] for norm in nodes[b]["norms"] for key in ("running_mean", "running_var", "gamma", "beta")]
    changed += [node["bias"] for node in nodes if node["bias"] is not None]
    for array in changed:
        if array is not None:
            array.flat[1] += 1
        program.run(np.zeros((1, 1), np.float32), np.zeros(1, np.int64))
        np.testing.assert_allclose(y, r.run(naive=True)[0], rtol=0, atol=1e-4 * np.abs(y).max())


@pytest.mark.parametrize("seed", draws(range(0, 40, 2), 6))
def test_thread_counts_give_the_same_bits(seed: int) -> None:
    threads = fnn.get_num_threads()
    found = []
    try:
        for count in (1, 2, 5):
            fnn.set_num_threads(count)
            found.append(draw_region(seed).run(naive=False))
    finally:
        fnn.set_num_threads(threads)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_nan_and_infinity_pass() -> None:
    for exact in (True, False):
        r = Drawn(1, 1)
        x = r.input(16, 12, 12)
        r.nodes[x]["x"][0, 3, 5, 5] = np.nan
        two = {"kind": "max", "kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0)}
        for pool in (None, two):
            r.nodes[r.join(r.conv(x, 16), pool=pool, activation=1, norms=True)]["wanted"] = True
        for e, f in zip(r.run(naive=True), r.run(naive=False, exact=exact), strict=True):
            assert (np.isnan(f) >= np.isnan(e)).all()
            assert not exact or (np.isnan(f) == np.isnan(e)).all()
