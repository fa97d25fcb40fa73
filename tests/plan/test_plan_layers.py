"""Networks of sequences, of transposed convolutions and of words, compiled: what runs them, and the same as eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from operator_cases import assert_alike, interpreted
from plan_networks import ISAS, NATIVE, running_on

import fastnn as fnn
from fastnn import nn, optim

pytestmark = pytest.mark.skipif(not NATIVE, reason="compiled operators need the native kernels")


def sequences() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 8, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(8, 12, 3, stride=2, padding=1), nn.BatchNorm1d(12), nn.Hardswish(), nn.AvgPool1d(2),
        nn.Conv1d(12, 12, 3, padding=1, dilation=2, groups=4), nn.Softplus(), nn.AdaptiveAvgPool1d(1),
        nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip


def plain_sequences() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 8, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 12, 3), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(12, 12, 3), nn.ReLU6(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(24, 5),
    )  # fmt: skip


class Residual1d(nn.Module):
    """A sum and a concatenation of sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (
            nn.Conv1d(2, 8, 3, padding=1),
            nn.Conv1d(8, 8, 3, padding=1),
            nn.Linear(16, 5),
        )
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        a = self.first(x).relu()
        b = (self.norm(self.second(a)) + a).relu()
        return self.last(fnn.cat([a, b], 1).mean(2))


def decoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 6, 3, 2, 1), nn.Mish(), nn.Unflatten(2, (4, 4)), nn.ConvTranspose2d(6, 4, 3, 2, 1, 1), nn.ReLU(),
        nn.ConvTranspose2d(4, 3, 2, 2), nn.Sigmoid(), nn.Flatten(), nn.Linear(3 * 256, 5),
    )  # fmt: skip


def generator() -> nn.Module:
    """Begins with images of one entry, and ends with one window for the whole image: matrix products."""
    return nn.Sequential(
        nn.Flatten(), nn.Unflatten(1, (64, 1, 1)), nn.ConvTranspose2d(64, 32, 4), nn.ReLU(),
        nn.Conv2d(32, 160, 4, bias=False), nn.Flatten(), nn.Linear(160, 5),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {  # and how many regions
    "sequences": (sequences, 1), "plain sequences": (plain_sequences, 1), "residual": (Residual1d, 1),
    "decoder": (decoder, 1),
    "generator": (generator, 0),
}  # fmt: skip


def steps(model: nn.Module, x: np.ndarray, y: np.ndarray, how: str) -> list[np.ndarray]:
    """Losses, what the model then holds, and its predictions."""
    loss, optimizer = nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    step = fnn.compile(model, loss, optimizer)
    losses = []
    for _ in range(4):
        if how == "compiled":
            losses.append(step(x, y))
            continue
        optimizer.zero_grad()
        value = loss(model(fnn.Tensor(x)), fnn.Tensor(y))
        value.backward()
        optimizer.step()
        losses.append(value.item())
    if how == "compiled":
        assert interpreted(step) == []
    model.eval()
    predict = fnn.compile(model) if how == "compiled" else lambda x: model(fnn.Tensor(x)).numpy()
    return [np.float32(losses), *(np.array(v) for v in model.state_dict().values()), np.array(predict(x))]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_learn_as_in_eager(name: str) -> None:
    make, _ = NETWORKS[name]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 2, 32)).astype(np.float32), rng.integers(0, 5, 9)
    results = []
    fnn.manual_seed(1)
    expected = steps(make(), x, y, "eager")
    for isa in ISAS:
        with running_on(isa):
            fnn.manual_seed(1)
            results.append(steps(make(), x, y, "compiled"))
    for found in results:
        assert_alike([a.astype(np.float32) / 20 for a in found], [a.astype(np.float32) / 20 for a in expected])


@pytest.mark.parametrize("name", NETWORKS)
def test_sequences_are_one_region(name: str) -> None:
    """All convolutions of a sequence's network in one stage, training and inference."""
    make, count = NETWORKS[name]
    x, y = np.zeros((9, 2, 32), np.float32), np.zeros(9, np.int64)
    model = make()
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    step(x, y)
    predict = fnn.compile(model.eval())
    predict(x)
    for plan in (step, predict):
        described = [line for line in plan.describe().splitlines() if line.startswith("forward")]
        assert sum("region" in line for line in described) == count, plan.describe()


class Tokens(nn.Module):
    """Words, and a mask of those that count: integers and booleans."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.conv, self.out = (
            nn.Embedding(11, 6, padding_idx=0),
            nn.Conv1d(6, 8, 3, padding=1),
            nn.Linear(8, 3),
        )

    def forward(self, words: fnn.Tensor, keep: fnn.Tensor | None = None) -> fnn.Tensor:
        x = self.table(words)
        if keep is not None:
            x = fnn.where(keep.unsqueeze(2), x, 0.0)
        return self.out(self.conv(x.transpose(1, 2)).relu().max(2)[0])


def test_words_and_masks_as_inputs() -> None:
    """compile, fit and predict take integers and booleans, alone and together; the table learns but for one row."""
    rng = np.random.default_rng(0)
    words, keep, labels = rng.integers(0, 11, (40, 7)), rng.random((40, 7)) < 0.8, rng.integers(0, 3, 40)
    for x in (words, (words, keep)):
        results = []
        for compiled in (False, True):
            fnn.manual_seed(2)
            model = Tokens()
            fnn.fit(
                model, (x, labels), epochs=2, batch_size=8, compile=compiled, verbose=False, loss=nn.CrossEntropyLoss()
            )
            model.eval()
            inputs = x if isinstance(x, tuple) else (x,)
            outputs = fnn.compile(model)(*inputs) if compiled else model(*map(fnn.Tensor, inputs)).numpy()
            results.append([*(np.array(v) for v in model.state_dict().values()), np.array(outputs)])
            assert (results[-1][0][0] == 0).all()
        assert_alike(*results)


def test_a_word_that_there_is_not() -> None:
    model = Tokens()
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    words = np.zeros((4, 7), np.int64)
    step(words, np.zeros(4, np.int64))
    words[2, 3] = 11
    with pytest.raises(fnn.FastnnError, match="indices from 0 to 10, got 0 to 11"):
        step(words, np.zeros(4, np.int64))
    with pytest.raises(fnn.FastnnError, match="indices from 0 to 10, got 0 to 11"):
        model(words)


@pytest.mark.parametrize("isa", ISAS)
def test_compiled_instance_norm_follows_running_statistics(isa: str | None) -> None:
    """One layer used twice, in compiled steps without a call of Python; a step that fails puts them back."""
    torch = pytest.importorskip("torch")

    def network(library: Any) -> Any:
        norm = library.InstanceNorm1d(3, momentum=0.3, affine=True, track_running_stats=True)
        return library.Sequential(library.Conv1d(3, 3, 2), norm, library.Tanh(), norm, library.Flatten())

    mine, theirs = network(nn), network(torch.nn)
    theirs.load_state_dict({name: torch.tensor(np.array(value)) for name, value in mine.state_dict().items()})
    theirs, loss = theirs.double(), torch.nn.MSELoss()
    optimizer, rng = torch.optim.SGD(theirs.parameters(), lr=0.1), np.random.default_rng(4)
    with running_on(isa):
        step = fnn.compile(mine, nn.MSELoss(), optim.SGD(mine.parameters(), lr=0.1))
        for images in (2, 5, 1):
            x, y = (rng.normal(2, 3, shape).astype(np.float32) for shape in ((images, 3, 8), (images, 21)))
            expected = loss(theirs(torch.tensor(x).double()), torch.tensor(y).double())
            optimizer.zero_grad()
            expected.backward()
            optimizer.step()
            assert step(x, y) == pytest.approx(expected.item(), rel=1e-5)
        assert interpreted(step) == []
        before = {name: np.array(value) for name, value in mine.state_dict().items()}
        for name, value in theirs.state_dict().items():
            np.testing.assert_allclose(before[name], value, rtol=1e-4, atol=1e-6)
        with pytest.raises(fnn.errors.NonFiniteError):
            step(x, y * np.float32(np.inf))
        assert all(np.array_equal(value, mine.state_dict()[name]) for name, value in before.items())
        expected = theirs.eval()(torch.tensor(x).double()).detach()
        np.testing.assert_allclose(fnn.compile(mine)(x), expected, rtol=1e-4, atol=1e-5)


class Unread(nn.Module):
    """What norms make is thrown away; their statistics count."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out, self.last = nn.Conv2d(2, 8, 3), nn.Linear(8, 3), nn.Conv2d(8, 8, 3)
        self.norms = nn.ModuleList(
            [nn.BatchNorm2d(8), nn.InstanceNorm2d(8, track_running_stats=True), nn.BatchNorm2d(8)]
        )

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        h = self.conv(x)
        self.norms[1](self.norms[0](h).relu())
        self.norms[2](self.last(h)).relu()
        return self.out(h.relu().mean((2, 3)))


@pytest.mark.parametrize("disable", [(), ("region", "chain")])
def test_norms_that_nothing_reads_follow_their_batches(disable: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    model, twin = Unread(), Unread()
    twin.load_state_dict(model.state_dict())
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), disable=disable)
    optimizer = optim.SGD(twin.parameters(), lr=0.1)
    for images in (4, 3):
        x, y = rng.normal(2, 3, (images, 2, 8, 8)).astype(np.float32), rng.integers(0, 3, images)
        step(x, y)
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(twin(fnn.Tensor(x)), y).backward()
        optimizer.step()
    assert interpreted(step) == []
    assert model.norms[2].num_batches_tracked == 2
    for (name, found), expected in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6, err_msg=name)


class Twice(nn.Module):
    """One norm, used twice, that averages over all batches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 6), nn.BatchNorm1d(6, momentum=None), nn.Linear(6, 3)

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return self.last(self.norm(self.norm(self.first(x)).exp()).relu())


def test_an_average_over_batches_that_are_seen_twice() -> None:
    torch = pytest.importorskip("torch")
    model, rng = Twice(), np.random.default_rng(0)
    norm = torch.nn.BatchNorm1d(6, momentum=None).double()
    step = fnn.compile(model, nn.CrossEntropyLoss())
    for images in (5, 7):
        x = rng.normal(1, 2, (images, 4)).astype(np.float32)
        step(x, rng.integers(0, 3, images))
        norm(norm(torch.tensor(np.array(model.first(x).detach())).double()).exp())
    assert model.norm.num_batches_tracked == 4
    np.testing.assert_allclose(model.norm.running_mean, norm.running_mean, rtol=1e-5)
    np.testing.assert_allclose(model.norm.running_var, norm.running_var, rtol=1e-5)


def crossed(library: Any, first: str) -> Any:
    """A network with one norm of several values; of the first that it is used on comes the last."""

    class Crossed(library.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = library.Conv2d(2, 8, 3), library.Conv2d(8, 8, 3, padding=1)
            self.norm, self.out = library.BatchNorm2d(8), library.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            h = self.a(x)
            if first == "late":
                late = self.norm(self.norm(self.b(h)).tanh())
                return self.out((late + self.norm(h)).mean((2, 3)))
            alone = self.norm(self.b(h))  # part of the sum, behind all that is read twice
            twice = self.norm(h.tanh())
            return self.out((alone + twice + twice.sigmoid()).mean((2, 3)))

    return Crossed()


@pytest.mark.parametrize("first", ["late", "alone"])
@pytest.mark.parametrize("disable", [(), ("region",), ("region", "chain")])
def test_a_norm_follows_in_the_order_of_its_uses(first: str, disable: tuple[str, ...]) -> None:
    torch = pytest.importorskip("torch")
    model, twin, rng = crossed(nn, first), crossed(torch.nn, first), np.random.default_rng(0)
    twin.load_state_dict({name: torch.tensor(np.array(value)) for name, value in model.state_dict().items()})
    twin.double()
    step = fnn.compile(model, nn.CrossEntropyLoss(), disable=disable)
    for images in (5, 7):
        x = rng.normal(1, 2, (images, 2, 6, 7)).astype(np.float32)
        step(x, rng.integers(0, 3, images))
        twin(torch.tensor(x).double())
    np.testing.assert_allclose(model.norm.running_mean, twin.norm.running_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.norm.running_var, twin.norm.running_var, rtol=1e-5)


class WithItsInput(nn.Module):
    """Returns beside the output what the first layer reads: the input, in another shape or normalised."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.norm, self.layer = nn.Normalize(0.3, 0.4), layer

    def forward(self, x: fnn.Tensor) -> tuple[fnn.Tensor, fnn.Tensor]:
        shape = (-1, 72) if isinstance(self.layer, nn.Linear) else (-1, 2, 6, 6)
        read = (self.norm(x) if x.dtype == np.uint8 else x).reshape(shape)
        return self.layer(read).relu(), read


@pytest.mark.parametrize("disable", [(), ("region",), ("region", "chain"), ("rows",), ("rows", "dense")])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("make", [lambda: nn.Conv2d(2, 8, 3), lambda: nn.Linear(72, 8)])
def test_what_a_layer_reads_may_be_an_output(make: Any, kind: Any, disable: tuple[str, ...]) -> None:
    model = WithItsInput(make())
    x = np.random.default_rng(0).integers(0, 256, (3, 2, 6, 6) if kind is np.uint8 else (3, 8, 9)).astype(kind)

    def loss(outputs: Any, y: Any) -> Any:
        return (outputs[0] * outputs[0]).mean() + (outputs[1] * y).mean()

    y = np.ones(1, np.float32)
    expected = loss(model(x), fnn.Tensor(y))
    step = fnn.compile(model, loss, disable=disable)
    assert step(x, y) == pytest.approx(expected.item(), rel=1e-5)
    for outputs in (step.outputs, fnn.compile(model, disable=disable)(x), fnn.compile(model, frozen=True)(x)):
        for found, wanted in zip(outputs, model(x), strict=True):
            np.testing.assert_allclose(found, wanted.detach(), rtol=1e-4, atol=1e-3)
