"""The networks of benchmarks/versus: each library builds the same of a description, and the zoo's are as stated."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastnn as fnn

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # `benchmarks` is a folder of the repository, not installed

from versus_networks import with_everything  # noqa: E402

from benchmarks.versus import __main__ as command_line  # noqa: E402
from benchmarks.versus import fastnn_model, feed, many, report, zoo  # noqa: E402
from benchmarks.versus.duel import Duel, Series  # noqa: E402
from benchmarks.versus.fleet import Contender  # noqa: E402
from benchmarks.versus.network import ACTIVATIONS, Builder, Network, evaluate  # noqa: E402
from benchmarks.versus.random_networks import FAMILIES, OPTIMIZERS, draw  # noqa: E402
from benchmarks.versus.settings import Bench, Networks  # noqa: E402
from benchmarks.versus.table import Row  # noqa: E402
from benchmarks.versus.workloads import Work  # noqa: E402

TORCH = importlib.util.find_spec("torch") is not None
TOGETHER = 3  # images; batch norm needs more than one
LOSS, OUTPUTS = 1e-5, 1e-5  # relative
GRADIENTS = 3e-2  # in norm: where an input lies within rounding of a kink, one entry goes elsewhere
DRAWN = {f"random {number}": draw(0, number).network for number in range(40)}
NETWORKS = {**{name: entry.network for name, entry in zoo.ZOO.items()}, **DRAWN}


# ---- the description -------------------------------------------------------------------------------------------------


def test_shapes_and_flops_by_hand() -> None:
    network = with_everything()
    shapes = [(6, 8, 8), *[(8, 4, 4)] * 3, (8, 8, 8), *[(8, 4, 4)] * 3, (8, 1, 1), (8,), (8, 4, 4), (8, 1, 1), (8,)]
    assert network.shapes == (*shapes, (16,), (16,), (5,))
    products = 8 * 16 * 3 * 9, 8 * 64 * 6 * 3, 80
    assert network.step_flops == 2 * (2 * products[0] + 2 * products[1] + 3 * products[2])
    assert not network.is_chain
    assert Builder((3,)).linear(2).layer("ReLU").build().is_chain


def test_one_line() -> None:
    assert str(with_everything()) == (
        "6×8×8: conv8 3×3/2 groups 2 norm LeakyReLU [3 back] conv8 1×3 dilated 1 avg3×3/2 +[3 back] GELU mean "
        "[6 back] max3×3/1 mean cat [4 back] dropout 0.5 fc5"
    )


def test_results_are_forgotten_once_nobody_needs_them() -> None:
    """The input goes with its last use, and no more than three results are held at once."""
    network = with_everything()
    assert [i for each in network.finished for i in each] == [1, 2, 0, 4, 5, 6, 7, 8, 3, 10, 11, 12, 9, 13, 14]
    assert evaluate(network, "x", lambda index, node, inputs: f"{index}({','.join(inputs)})").startswith("14(13(12(")


@pytest.mark.parametrize("network", [with_everything(), zoo.ZOO["alphazero"].network, DRAWN["random 3"]])
def test_by_way_of_json(network: Network) -> None:
    assert Network.from_json(json.loads(json.dumps(network.as_json()))) == network


def test_a_draw_depends_on_seed_and_number_alone() -> None:
    assert str(draw(1, 7)) == str(draw(1, 7)) != str(draw(2, 7))
    assert [draw(0, number).family for number in range(5)] == list(FAMILIES)


def test_draws_know_every_activation_norm_pooling_dropout_and_optimiser() -> None:
    many_of_them = [draw(4, number) for number in range(200)]
    for kind in (*ACTIVATIONS, "BatchNorm1d", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "Dropout", "Add"):
        assert any(each.network.has(kind) for each in many_of_them), kind
    assert {each.network.optimizer for each in many_of_them} == set(OPTIMIZERS)
    assert {each.network.loss for each in many_of_them} == {"CrossEntropyLoss", "MSELoss"}
    assert all(each.batch * each.network.step_flops <= 8e9 or each.batch == 4 for each in many_of_them)


# ---- all libraries compute the same ----------------------------------------------------------------------------------


def _data(network: Network, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    inputs = rng.standard_normal((TOGETHER, *network.shape), np.float32)
    weights = feed._weights(fastnn_model.build, network, rng)
    return weights, inputs, feed._targets(network, TOGETHER, rng)


Step = tuple[float, dict[str, np.ndarray], np.ndarray]  # loss, gradients, outputs in eval mode before the step


def _by_fastnn(network: Network, data: Any, compiled: bool) -> Step:
    weights, x, y = data
    model = fastnn_model.build(network, weights)
    loss_fn = fastnn_model.loss_of(network)
    before = fnn.compile(model)(x) if compiled else model.eval()(x).numpy()
    model.train()
    if compiled:
        loss = fnn.compile(model, loss_fn)(x, y)
    else:
        result = loss_fn(model(x), y)
        result.backward()
        loss = result.item()
    return loss, {name: p.grad for name, p in model.named_parameters()}, before


def _by_torch(network: Network, data: Any) -> Step:
    import torch

    from benchmarks.versus import torch_model

    weights, x, y = data[0], *map(torch.from_numpy, data[1:])
    model = torch_model.build(network, weights)
    before = model.eval()(x).detach().numpy()
    loss = torch_model.loss_of(network)(model.train()(x), y)
    loss.backward()
    return loss.item(), {name: p.grad.numpy() for name, p in model.named_parameters()}, before


def _assert_same(got: Step, expected: Step) -> None:
    assert got[0] == pytest.approx(expected[0], rel=LOSS)
    np.testing.assert_allclose(got[2], expected[2], rtol=0, atol=OUTPUTS * np.abs(expected[2]).max())
    assert got[1].keys() == expected[1].keys()
    largest = max(np.linalg.norm(gradient) for gradient in expected[1].values())
    for name, gradient in expected[1].items():  # some are zero but for rounding
        bound = GRADIENTS * np.linalg.norm(gradient) + 1e-4 * largest
        assert np.linalg.norm(got[1][name] - gradient) <= bound, name


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For both libraries: the networks are small."""
    import torch

    before = fnn.get_num_threads(), torch.get_num_threads()
    fnn.set_num_threads(1)
    torch.set_num_threads(1)
    yield
    fnn.set_num_threads(before[0])
    torch.set_num_threads(before[1])


@pytest.mark.long
@pytest.mark.skipif(not TORCH, reason="compares with PyTorch")
@pytest.mark.parametrize("name", NETWORKS)
def test_one_step_by_fastnn_and_pytorch(name: str, one_thread: None) -> None:
    """Eager, compiled and PyTorch, from the same weights: the same loss, gradients and outputs in eval mode."""
    network = NETWORKS[name].without_dropout()
    data = _data(network, np.random.default_rng(5))
    expected = _by_torch(network, data)
    for compiled in (False, True):
        _assert_same(_by_fastnn(network, data, compiled), expected)


@pytest.mark.skipif(not TORCH, reason="compares with PyTorch")
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda each: f"{each[0]}{len(each[1])}")
def test_optimisers_step_alike(optimizer: Any, one_thread: None) -> None:
    import torch

    from benchmarks.versus import torch_model

    network = replace(Builder((4,)).linear(8).layer("Tanh").linear(3).build(), optimizer=optimizer)
    weights, x, y = _data(network, np.random.default_rng(6))
    theirs, ours = torch_model.build(network, weights), fastnn_model.build(network, weights)
    step = fnn.compile(ours, fastnn_model.loss_of(network), fastnn_model.optimizer_of(network, ours))
    optimizer = torch_model.optimizer_of(network, theirs)
    for _ in range(5):
        loss = torch_model.loss_of(network)(theirs(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert step(x, y) == pytest.approx(loss.item(), rel=1e-5)
    for name, p in ours.named_parameters():
        np.testing.assert_allclose(p.data, theirs.state_dict()[name].numpy(), rtol=1e-5, atol=1e-6)


# ---- the zoo and what is printed -------------------------------------------------------------------------------------


def test_targets_name_works_of_the_zoo() -> None:
    steps = {Work("step", name, entry.batch) for name, entry in zoo.ZOO.items()}
    assert set(zoo.TARGETS) < steps
    assert zoo.TARGETS[Work("step", "keras-convnet", 128)] == 9
    assert zoo.TARGETS[Work("step", "strided-leaky-32", 32)] == zoo.TARGETS[Work("step", "strided-relu", 128)] == 3
    assert {work.model for work in zoo.SINGLE_TARGETS} == {
        "keras-convnet", "residual", "separable", "nature-cnn", "policy",
    }  # fmt: skip
    assert all(zoo.ZOO[work.model].inference for work in zoo.SINGLE_TARGETS)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("mnist-example", 1_199_882), ("keras-convnet", 34_826), ("keras-mlp", 669_706), ("resnet20", 272_474),
     ("simplechains-lenet", 44_426), ("nature-cnn", 1_687_206), ("simplechains-mlp", 756)],
)  # fmt: skip
def test_the_zoo_has_the_published_numbers_of_parameters(name: str, parameters: int) -> None:
    """Of PyTorch's and Keras' examples, and of the papers; ResNet-20 with two projections."""
    model = fastnn_model.build(zoo.ZOO[name].network)
    assert sum(p.data.size for p in model.parameters()) == parameters


def test_summary_by_hand() -> None:
    found = many.summary([8.0, 1.0, 2.0, 4.0])
    assert found["geometric mean"] == pytest.approx(2**1.5)
    assert found["10th percentile"] == pytest.approx(1.3)
    assert found["worst"] == 1


def test_rows_below_the_table() -> None:
    rows = [Row("a", "1 ms", "PyTorch", "2 ms", 2.0), Row("b", "1 ms", "JAX", "8 ms", 8.0)]
    bench: Any = SimpleNamespace(rows={many.RANDOM_STEPS: rows})
    many._summarise(bench, many.RANDOM_STEPS, zoo.RANDOM_TARGETS["step"])
    assert [row.cells() for row in bench.rows[many.RANDOM_STEPS][2:]] == [
        ("geometric mean of 2", "", "", "", "4.00×", "≥ 3×", "yes"),
        ("10th percentile of 2", "", "", "", "2.60×", "≥ 1.5×", "yes"),
        ("worst of 2", "", "", "", "2.00×", "≥ 1×", "yes"),
    ]
    many._summarise(bench, many.RANDOM_STEPS, {}, [3.0, 3.0])
    assert bench.rows[many.RANDOM_STEPS][-1].cells()[0] == "worst of 2 against ONNX Runtime"


def test_a_part_goes_on_where_one_network_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, what they have in common, and the failure; the targets of single inputs are against ONNX Runtime."""
    settings: Any = SimpleNamespace(
        networks=Networks(random=3, seed=1, inference=True), peers=("torch", "onnxruntime"), threads=1, compiled=True,
        compile="none", held=False, isa="avx512",
    )  # fmt: skip
    bench = Bench(settings, tmp_path, SimpleNamespace(feed=tmp_path), None)  # type: ignore[arg-type]

    def run(bench: Bench, work: Work, everybody: list[Contender]) -> Duel:
        assert (tmp_path / work.model / "network.json").exists()
        if work.model == "random 1":
            raise ValueError("no such operator")
        seconds = {"fastnn": 1.0, "torch": 3.0, "onnxruntime": 4.0}
        return Duel(work, {each: Series(each, [seconds[each.peer]]) for each in everybody}, [None], {})

    monkeypatch.setattr(many, "run", run)
    told: list[str] = []
    many.random(bench, told.append)
    assert [text.split(",")[0] for text in told] == [
        "random 0 inference", "random 0 inference", "random 1 inference", "random 2 inference", "random 2 inference",
    ]  # fmt: skip
    rows = [row.cells() for row in bench.rows[many.RANDOM_SINGLES]]
    assert rows[0] == ("0 plain", "1.00 s", "PyTorch eager", "3.00 s", "3.00×", "", "")
    assert rows[2][::4] == ("geometric mean of 2", "3.00×")
    assert rows[5] == ("geometric mean of 2 against ONNX Runtime", "", "", "", "4.00×", "≥ 1.3×", "yes")
    assert bench.failures == {"fastnn or its benchmark: ValueError: no such operator": ["random 1"]}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("only", "expected"),
    [((), 3), (("residual",), 1), (("conv",), 2), (("policy", "fc6"), 1), (("nothing",), 0)],
)
def test_only(only: tuple[str, ...], expected: int) -> None:
    """A name of the zoo stands for itself; anything else for all that have it in their name or description."""
    known = {"residual": "", "residual-like conv": "", "random 3": "strided, 3×32×32: conv8 fc6"}
    assert sum(Networks(only=only).wants(name, text) for name, text in known.items()) == expected


def test_the_document() -> None:
    """Says command, machine and date, then the tables, then what the random networks are."""
    about = {
        "cpu": "A CPU", "isa": "avx2", "all held to it": False, "threads": 2, "date": "2026-11-26T22:00+00:00",
        "versions": {"fastnn": "1", "torch": "2"}, "images": {"mnist": "mnist"}, "load before": 0.0,
    }  # fmt: skip
    bench = Bench(SimpleNamespace(networks=Networks(seed=3)), Path(), None, SimpleNamespace(samples=[]))  # type: ignore[arg-type]
    bench.raw = {"machine": about, "seconds": 1.0, "random networks": {"random 0": "plain, 1×4×4: fc2; B=8, Adam"}}
    bench.rows = {many.RANDOM_STEPS: [Row("0 plain, B=8", "1 ms", "PyTorch", "2 ms", 2.0)]}
    text = report.document(bench, command_line._asked(["--random", "1", "--json", "x", "--markdown=y", "--seed", "3"]))
    assert "```sh\npython -m benchmarks.versus --random 1 --seed 3\n```" in text
    assert "A CPU, avx2, 2 threads, 2026-11-26; fastnn 1, torch 2; images: mnist" in text
    assert "\n## Random networks: training steps\n\n| work         | fastnn |" in text
    assert text.endswith("* 0: plain, 1×4×4: fc2; B=8, Adam\n")
