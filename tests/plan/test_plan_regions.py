"""Regions of compiled plans give what float64 gives: random graphs of layers, by every engine."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import plan_networks as networks
import pytest
import region_networks
import torch_twins
from long import draws
from plan_networks import CLASSES, EXACT, ISAS, LOSSES, NATIVE, WINOGRAD, running_on

import fastnn as fnn
from fastnn import nn, optim

ENGINES = ["", "naive"]  # values of FASTNN_REGION
SEEDS = range(80)

pytestmark = pytest.mark.skipif(not NATIVE, reason="the other backends run operators one by one")


def problem(seed: int) -> tuple[region_networks.Described, nn.Module, np.ndarray, np.ndarray]:
    """The network of this seed, with random norms, and a batch."""
    rng = np.random.default_rng(seed)
    fnn.manual_seed(seed)
    described = region_networks.described(seed)
    x, y = networks.draw_batch(rng, (described.batch, *described.shape), described.uint8, seed % len(LOSSES))
    model = described.build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None and module.bias is not None:
            module.weight.data[...] = rng.uniform(0.5, 1.5, module.weight.shape)  # at 1 and 0 much would fall out again
            module.bias.data[...] = rng.normal(size=module.bias.shape)
    return described, model, x, y


def torch_twin(described: region_networks.Described, model: nn.Module) -> Any:
    torch = pytest.importorskip("torch")
    twin = described.build(torch.nn, torch.cat)
    torch_twins.copy_weights(model, twin)
    return twin


def stages(plan: Any) -> list[Any]:
    """The stages of the plan that ran last, as forward has them."""
    found = [stage for part in plan._last.parts for stage, when, _ in part.names if when == "forward"]
    return list({id(stage): stage for stage in found}.values())


def regions(plan: Any) -> list[Any]:
    return [stage for stage in stages(plan) if type(stage).__name__ == "Region"]


@pytest.mark.parametrize("engine", ENGINES, ids=["usual", "naive"])
@pytest.mark.parametrize("seed", draws(SEEDS, 10))
def test_random_graphs_give_the_gradients_of_float64(seed: int, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 1e-5 of each one's largest entry, or 3 times PyTorch's error in float32; ten times that with Winograd."""
    monkeypatch.setenv("FASTNN_REGION", engine)
    if engine and seed >= 30:
        pytest.skip("the plain loops are slow")
    described, model, x, y = problem(seed)
    loss = LOSSES[seed % len(LOSSES)]
    loss_fn = getattr(nn, loss[0])(**loss[1])
    exact = networks.exact_gradients(model, loss_fn, x, y)
    others = functools.cache(lambda: networks.errors_of_torch(torch_twin(described, model), loss, x, y))
    with running_on(ISAS[seed % len(ISAS)], threads=1 + seed % 2):
        for without, share in ((False, WINOGRAD / EXACT), (True, 1.0)):
            found = networks.compiled_gradients(model, loss_fn, x, y, exact=without)
            excuse = functools.partial(_times, share, others)
            networks.assert_close(found, exact, share * EXACT, excuse)


def _times(share: float, others: Callable[[], dict[str, float]]) -> dict[str, float]:
    return {name: share * error for name, error in others().items()}


@pytest.mark.parametrize("engine", ENGINES, ids=["usual", "naive"])
@pytest.mark.parametrize("seed", draws(range(0, 80, 2), 8))
def test_random_graphs_predict_and_keep_statistics_as_the_model_does(
    seed: int, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three steps: parameters, running statistics, and then predictions."""
    monkeypatch.setenv("FASTNN_REGION", engine)
    described, model, x, y = problem(seed)
    exact = copy.deepcopy(model).double()
    loss = LOSSES[seed % len(LOSSES)]
    loss_fn = getattr(nn, loss[0])(**loss[1])
    step = fnn.compile(model, loss_fn, optim.SGD(model.parameters(), lr=1e-3, momentum=0.9), exact=True)
    slow = optim.SGD(exact.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(3):
        step(x, y)
        slow.zero_grad()
        loss_fn(exact(fnn.Tensor(networks.wide(x))), networks.wide(y)).backward()
        slow.step()
    expected = exact.state_dict()
    for name, values in model.state_dict().items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-3, atol=1e-4 * (1 + np.abs(expected[name]).max()))
    own = copy.deepcopy(model).double().eval()(fnn.Tensor(networks.wide(x))).numpy()
    for options in ({"exact": True}, {"frozen": True, "exact": True}, {"frozen": True}):
        predict = fnn.compile(model, **options)
        bound = (EXACT if "exact" in options else WINOGRAD) * (1 + np.abs(own).max())
        for part in (slice(None), slice(1), slice(None)):  # again: by weights that were packed before
            if part.stop and any(not options.get("track_running_stats", True) for _, options in described.layers):
                continue  # norms that go by the batch
            assert np.abs(predict(x[part]) - own[part]).max() <= bound


def test_random_graphs_hold_everything() -> None:
    """The comparisons above mean something only if all these were drawn."""
    all_of_them = [region_networks.described(seed) for seed in SEEDS]
    layers = [layer for net in all_of_them for layer in net.layers]
    assert {name for name, _ in layers} >= {
        "Conv2d", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "Normalize",
        *(name for name, _ in region_networks.ACTIVATIONS),
    }  # fmt: skip
    convs = [options for name, options in layers if name == "Conv2d"]
    assert any(c.get("groups", 1) == c["in_channels"] > 1 for c in convs)
    assert any(1 < c.get("groups", 1) < c["in_channels"] for c in convs)
    assert any(c["dilation"] != (1, 1) for c in convs)
    assert any(c["stride"] == (2, 2) for c in convs)
    norms = [options for name, options in layers if name == "BatchNorm2d"]
    assert {options.get("affine", True) for options in norms} == {False, True}
    assert {options.get("track_running_stats", True) for options in norms} == {False, True}
    pools = [options for name, options in layers if name in ("MaxPool2d", "AvgPool2d")]
    assert any(p["padding"] != (0, 0) for p in pools)
    assert any(p["stride"][0] < p["kernel_size"][0] for p in pools)
    assert any(p["stride"][0] > p["kernel_size"][0] for p in pools)
    for net in all_of_them:
        used = [what for what, _ in net.steps]
        if "cat" in used and "add" in used and len(used) != len(set(map(str, used))):
            break
    else:
        pytest.fail("no network with sums, concatenations and a layer that is used twice")


@pytest.mark.parametrize("seed", draws(range(1, 80, 6), 4))
def test_results_do_not_depend_on_the_number_of_threads(seed: int) -> None:
    _, model, x, y = problem(seed)
    x, y = (np.concatenate([a] * 4) for a in (x, y))
    loss = LOSSES[seed % len(LOSSES)]
    found = []
    for threads in (1, 2):
        with running_on(threads=threads):
            found.append(networks.compiled_gradients(model, getattr(nn, loss[0])(**loss[1]), x, y))
            found[-1]["predicted"] = fnn.compile(copy.deepcopy(model))(x)
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, found[1][name], err_msg=name)


# ---- what becomes one region -----------------------------------------------------------------------------------------


class Block(nn.Module):
    """A residual block, with a projection where sizes differ."""

    def __init__(self, c: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(c, out, 3, stride, 1, bias=False), nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.skip = nn.Sequential() if (c, 1) == (out, stride) else nn.Sequential(
            nn.Conv2d(c, out, 1, stride, bias=False), nn.BatchNorm2d(out)
        )  # fmt: skip

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        inner = self.second_norm(self.second(self.first_norm(self.first(x)).relu()))
        return (inner + self.skip(x)).relu()


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Normalize([0.5] * 3, [0.2] * 3), nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Block(16, 16), Block(16, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES),
    )  # fmt: skip


def compiled(model: nn.Module, x: np.ndarray, **options: Any) -> Any:
    """A step that has run."""
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), **options)
    step(x, np.arange(len(x)) % CLASSES)
    return step


def images(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)


def test_a_residual_network_is_one_region_between_bytes_and_logits() -> None:
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 12, 12)).astype(np.uint8)
    step = compiled(resnet(), x)
    assert [type(stage).__name__ for stage in stages(step)] == ["Region", "Dense", "Loss"]
    (region,) = regions(step)
    assert [node.kind for node in region.nodes].count("conv") == 6
    assert [node.kind for node in region.nodes].count("join") == 5  # a projection adds none
    assert "native calls: 1;" in step.describe()
    lines = step.describe().split("\n")
    assert "Normalize, Conv2d 3→16 3×3, BatchNorm, ReLU" in lines[2]
    assert "Conv2d 16→16 3×3, BatchNorm + [1], ReLU" in lines[4]
    assert (
        "[5] Conv2d 32→32 3×3, BatchNorm + Conv2d 16→32 1×1 stride 2×2 of [3], BatchNorm, ReLU, GlobalAvgPool2d"
        in lines[6]
    )


def test_regions_can_be_switched_off() -> None:
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 12, 12)).astype(np.uint8)
    assert regions(compiled(resnet(), x, disable="region")) == []


def test_a_plain_chain_without_batch_norm_stays_one() -> None:
    layers = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()]
    step = compiled(nn.Sequential(*layers, nn.Linear(128, CLASSES)), images(4, 1, 14, 14))
    assert [type(stage).__name__ for stage in stages(step)] == ["Chain", "Dense", "Loss"]


def test_an_activation_behind_max_pooling_joins_it() -> None:
    layers = [nn.Conv2d(1, 8, 3, 2), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.MaxPool2d(2), nn.GELU()]
    step = compiled(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, CLASSES)), images(4, 1, 22, 22))
    (region,) = regions(step)
    assert [node.kind for node in region.nodes] == [
        "input",
        "conv",
        "join",
        "conv",
        "join",
        "join",
    ]  # GELU falls and rises


class Detour(nn.Module):
    """A value that leaves convolutions and comes back, once (`way` 0) or by way of another region (1)."""

    def __init__(self, way: int) -> None:
        super().__init__()
        self.way = way
        self.a, self.b, self.c = nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(2, 4, 3, 2, 1)
        self.last = nn.Linear(4 * 16, CLASSES)

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        first = self.a(x).relu()
        if self.way == 0:
            return self.last((first + self.b(first * 2.0)).flatten(1))
        there = self.c(x)
        met = first + there * 0.5  # so the first waits for this one, which then must not wait for the first
        return self.last((self.b(there + first * 0.1) + met).flatten(1))


@pytest.mark.parametrize(("way", "pieces"), [(0, 2), (1, 3)])
def test_what_leaves_a_region_and_comes_back_cuts_it(way: int, pieces: int) -> None:
    fnn.manual_seed(0)
    model, x, y = Detour(way), images(5, 2, 8, 8), np.arange(5) % CLASSES
    exact = networks.exact_gradients(model, nn.CrossEntropyLoss(), x, y)
    networks.assert_close(networks.compiled_gradients(model, nn.CrossEntropyLoss(), x, y, exact=True), exact)
    assert len(regions(compiled(model, x))) == pieces


class Deep(nn.Module):
    """90 residual convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.last = nn.Sequential(*(nn.Conv2d(3, 3, 3, 1, 1) for _ in range(90))), nn.Linear(27, CLASSES)

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        for layer in self.layers:
            x = x + layer(x).tanh()
        return self.last(fnn.ops.max_pool2d(x, 2).flatten(1))


def test_a_network_of_more_nodes_than_a_region_holds_is_several() -> None:
    fnn.manual_seed(0)
    model, x, y = Deep(), images(4, 3, 6, 6), np.arange(4) % CLASSES
    found = regions(compiled(copy.deepcopy(model), x))
    assert len(found) == 3
    assert all(len(region.nodes) <= 128 for region in found)
    exact = networks.exact_gradients(model, nn.CrossEntropyLoss(), x, y)
    found = networks.compiled_gradients(model, nn.CrossEntropyLoss(), x, y, exact=True)
    networks.assert_close(found, exact, 1e-4)  # so deep a network multiplies what each layer rounds


class Parts(nn.Module):
    """What stays out of the graph of gradients: a detached branch, one under no_grad, a layer that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 6, 3, 1, 1), nn.Conv2d(6, 6, 3, 1, 1)
        self.fixed, self.last = nn.Conv2d(6, 6, 1), nn.Linear(6, CLASSES)
        for p in self.fixed.parameters():
            p.requires_grad = False

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        x = fnn.ops.silu(self.a(x))
        with fnn.no_grad():
            kept, active = self.b(x), x.tanh()
        x = x + active
        y = self.b(x.detach()).tanh() + self.fixed(x) + kept
        return self.last(fnn.ops.global_avg_pool2d(y.relu()).flatten(1))


def test_gradients_go_where_eager_ones_go_and_nowhere_else() -> None:
    fnn.manual_seed(0)
    model, x, y = Parts(), images(9, 2, 7, 7), np.arange(9) % CLASSES
    exact = networks.exact_gradients(model, nn.CrossEntropyLoss(), x, y)
    networks.assert_close(networks.compiled_gradients(model, nn.CrossEntropyLoss(), x, y, exact=True), exact)


def test_kinds_are_those_of_the_kernels() -> None:
    """Each activation's number is its place in the list of kinds.h."""
    import pathlib

    from fastnn.ops import activations

    text = (pathlib.Path(__file__).parents[2] / "kernels" / "parts" / "kinds.h").read_text()
    names = text.split("enum activation_kind {")[1].split("}")[0].replace("ACTIVATION_", "").replace("_", "").split(",")
    kinds = {name.strip().lower(): k for k, name in enumerate(names) if name.strip() and name.strip() != "NONE"}
    functions = [f for f in vars(activations).values() if isinstance(f, type) and hasattr(f, "kind")]
    assert {f.__name__.lower(): f.kind for f in functions} == kinds
