"""randn_like, rand_like and bernoulli: distributions, seeds, and new numbers at every call, compiled or not."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, DTypeError, ShapeError

N = 200_000
ONES = np.ones(N, np.float32)


def distance(drawn: np.ndarray, cumulative: Any) -> float:
    """Kolmogorov and Smirnov's: the largest difference between the drawn numbers' distribution and the right one."""
    values = np.sort(drawn.astype(np.float64))
    right = cumulative(values)
    steps = np.arange(len(values) + 1) / len(values)
    return float(max(np.abs(right - steps[1:]).max(), np.abs(right - steps[:-1]).max()))


BOUND = 1.95 / math.sqrt(N)  # passed by one right generator of a thousand


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distributions(dtype: Any) -> None:
    fnn.manual_seed(1)
    x = ONES.astype(dtype)
    normal, uniform = fnn.randn_like(x).data, fnn.rand_like(x).data
    assert normal.dtype == uniform.dtype == dtype
    errors = np.vectorize(math.erf)
    assert distance(normal, lambda v: 0.5 * (1 + errors(v / math.sqrt(2)))) < BOUND
    assert distance(uniform, lambda v: v) < BOUND
    assert 0 <= uniform.min() <= uniform.max() < 1
    assert abs(np.corrcoef(normal[:-1], normal[1:])[0, 1]) < 4 / math.sqrt(N)
    for p in (0.0, 0.001, 0.5, 0.9, 1.0):
        drawn = fnn.bernoulli(x * dtype(p)).data
        assert drawn.dtype == dtype
        assert set(np.unique(drawn)) <= {0, 1}
        assert abs(drawn.mean(dtype=np.float64) - p) <= 4 * math.sqrt(p * (1 - p) / N)
    each = np.tile(np.array([0.2, 0.7], dtype), N // 2)
    assert fnn.bernoulli(each).data.reshape(-1, 2).mean(0, dtype=np.float64) == pytest.approx([0.2, 0.7], abs=0.01)


def drawn() -> list[list[float]]:
    x = fnn.Tensor(ONES[:1000] / 2)
    return [draw(x).tolist() for draw in (fnn.randn_like, fnn.rand_like, fnn.bernoulli, fnn.ops.dropout)]


def test_seeds_and_states() -> None:
    fnn.manual_seed(3)
    first, second = drawn(), drawn()
    assert all(a != b for a, b in zip(first, second, strict=True))
    fnn.manual_seed(3)
    assert drawn() == first
    state = json.loads(json.dumps(fnn.random.get_state()))
    fnn.manual_seed(4)
    assert drawn() != first
    fnn.random.set_state(state)
    assert drawn() == second
    fnn.manual_seed(3)
    fnn.random.generator().random(7)  # shuffles and initialisers draw from elsewhere
    assert drawn() == first


def test_no_two_draws_have_numbers_in_common() -> None:
    """Neither two calls, nor two seeds, nor a draw and the generator of initialisers."""
    seen: list[np.ndarray] = []
    for seed in (0, 1, 2**63):
        fnn.manual_seed(seed)
        seen += [fnn.rand_like(np.ones(500)).data for _ in range(20)]
        seen.append(fnn.random.generator().random(500))
    assert len(np.unique(np.concatenate(seen))) == 500 * len(seen)


def test_threads_draw_from_streams_of_their_own_and_their_number_changes_nothing() -> None:
    fnn.manual_seed(0)
    before = fnn.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            fnn.set_num_threads(threads)
            fnn.manual_seed(0)
            found.append(drawn())
    finally:
        fnn.set_num_threads(before)
    assert found[0] == found[1]
    results: list[bytes] = []
    workers = [
        threading.Thread(target=lambda: results.append(fnn.rand_like(ONES[:99]).data.tobytes())) for _ in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(set(results)) == 8


def test_arguments() -> None:
    x = fnn.Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    for draw in (fnn.randn_like, fnn.rand_like):
        assert draw(x).shape == draw([[1.0] * 3] * 2).shape == (2, 3)
        assert not draw(x).requires_grad
        assert draw(x, dtype=np.float64).dtype == np.float64
        assert draw(np.zeros(2, np.int64), dtype="float32").dtype == np.float32
        assert draw(x, device="cpu", requires_grad=False, layout=None, memory_format=fnn.preserve_format).shape == (
            2,
            3,
        )
        with pytest.raises(DTypeError, match="expected float32 or float64, got int64"):
            draw(np.zeros(2, np.int64))
        assert draw(x, requires_grad=True).is_leaf
    assert fnn.randn_like(np.ones((0, 3))).shape == (0, 3)
    assert fnn.bernoulli(x * 0, generator=None).shape == (2, 3)
    for wrong in (-0.1, 1.5, np.nan, np.inf):
        with pytest.raises(ArgumentError, match=r"bernoulli: expected probabilities from 0 to 1, got"):
            fnn.bernoulli([0.5, wrong])
    with pytest.raises(DTypeError, match="bernoulli: expected float32 or float64"):
        fnn.bernoulli([0, 1])


def test_signatures_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    for ours, theirs in ((fnn.randn_like, torch.randn_like), (fnn.rand_like, torch.rand_like)):
        assert (
            ours(fnn.Tensor(ONES[:2]), dtype=np.float64).numpy().dtype
            == theirs(torch.ones(2), dtype=torch.float64).numpy().dtype
        )
    assert fnn.bernoulli(input=fnn.Tensor([1.0])).tolist() == torch.bernoulli(input=torch.ones(1)).tolist()


class Autoencoder(nn.Module):
    """A variational one, small: the sampled code has noise of its own at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(8, 6), nn.Linear(3, 8)

    def forward(self, x: Any) -> Any:
        code = self.encode(x)
        mean, std = code[:, :3], (code[:, 3:] * 0.5).exp()
        kept = fnn.bernoulli(fnn.rand_like(mean))
        return self.decode(mean + std * fnn.randn_like(std) * kept)


def autoencoder(compile: bool, lr: float = 0.05, epochs: int = 6) -> tuple[list[float], Autoencoder]:
    x = np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32)
    fnn.manual_seed(5)
    model = Autoencoder()
    history = fnn.fit(
        model, (x, x), loss=nn.MSELoss(), optimizer=optim.SGD(model.parameters(), lr=lr), epochs=epochs, batch_size=16,
        seed=5, verbose=False, compile=compile,
    )  # fmt: skip
    return history["train_loss"], model


@pytest.mark.filterwarnings("error")
def test_a_variational_autoencoder_trains_compiled_as_operator_by_operator() -> None:
    losses, model = autoencoder(True)
    expected, twin = autoencoder(False)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(array, twin.state_dict()[name], rtol=1e-4, atol=1e-6, err_msg=name)
    still, _ = autoencoder(True, lr=0.0)
    assert len(set(still)) == len(still), "every step draws anew"


def test_predictions_draw_anew_and_in_the_same_order() -> None:
    fnn.manual_seed(0)
    model = Autoencoder()
    x = ONES[:80].reshape(10, 8)
    predict = fnn.compile(model)
    predict(x)
    fnn.manual_seed(9)
    found = [predict(x) for _ in range(3)]
    fnn.manual_seed(9)
    for one in found:
        np.testing.assert_allclose(one, model.eval()(x).data, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[0], found[1])


def test_making_a_plan_draws_nothing() -> None:
    fnn.manual_seed(0)
    model = Autoencoder()
    before = fnn.random.get_state()
    fnn.compile(model, nn.MSELoss()).prepare(ONES[:80].reshape(10, 8), ONES[:80].reshape(10, 8))
    assert fnn.random.get_state() == before


def test_gradients_pass_by() -> None:
    x = fnn.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    noise = fnn.randn_like(x)
    (x * noise).sum().backward()
    np.testing.assert_array_equal(x.grad, noise.data)


def test_multinomial() -> None:
    """Frequencies by the shares; without replacement none twice, and none with share 0."""
    fnn.manual_seed(2)
    shares = fnn.tensor([[1.0, 0.0, 3.0], [2.0, 2.0, 0.0]])
    drawn = fnn.multinomial(shares, 4000, replacement=True)
    assert drawn.shape == (2, 4000)
    assert drawn.dtype == np.int64
    counts = np.stack([np.bincount(row, minlength=3) for row in drawn.numpy()]) / 4000
    np.testing.assert_allclose(counts, [[0.25, 0, 0.75], [0.5, 0.5, 0]], atol=0.04)
    pairs = np.array([shares[0].multinomial(2).numpy() for _ in range(400)])
    assert {tuple(pair) for pair in pairs.tolist()} == {(0, 2), (2, 0)}
    assert np.mean(pairs[:, 0] == 2) == pytest.approx(0.75, abs=0.08)
    g = fnn.Generator().manual_seed(1)
    first = fnn.multinomial(shares, 2, generator=g).tolist()
    assert fnn.multinomial(shares, 2, generator=g.manual_seed(1)).tolist() == first
    for wrong, error in (
        (lambda: fnn.multinomial([-1.0, 2.0], 1), ArgumentError),
        (lambda: fnn.multinomial([0.0, 0.0], 1), ArgumentError),
        (lambda: fnn.multinomial([[1.0, 2.0], [0.0, 0.0]], 1, replacement=True), ArgumentError),
        (lambda: fnn.multinomial([1.0, 0.0], 2), ArgumentError),
        (lambda: fnn.multinomial([1.0, 0.0], 0), ArgumentError),
        (lambda: fnn.multinomial([[[1.0]]], 1), ShapeError),
        (lambda: fnn.multinomial([1, 2], 1), DTypeError),
    ):
        with pytest.raises(error, match="multinomial: expected"):
            wrong()


def test_multinomial_in_a_compiled_model() -> None:
    """New numbers at every call, those of eager, between two programs."""
    model = nn.Sequential(nn.Softmax(-1), Drawing())
    x = np.zeros((40, 7), np.float32)
    plan = fnn.compile(model)
    plan(x)
    fnn.manual_seed(3)
    found = [plan(x).copy() for _ in range(2)]
    assert (found[0] != found[1]).any()
    fnn.manual_seed(3)
    for one in found:
        np.testing.assert_array_equal(model(x).numpy(), one)


class Drawing(nn.Module):
    def forward(self, x: Any) -> Any:
        return fnn.multinomial(x, 3).float()
