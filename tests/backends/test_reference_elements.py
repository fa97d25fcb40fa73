"""Reference against the math module, number by number: activations, losses, updates; and Philox against Random123."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from op_description import Array

from fastnn.backends import reference
from fastnn.backends.reference.erf import erf
from fastnn.backends.reference.philox import philox4x32, uniform24

X = np.concatenate([np.linspace(-8, 8, 161), [1e-9, -1e-9, 0.8437, 1.2501, -2.857143, 30.0, -30.0]])


def normal_cdf(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("relu", lambda x: max(x, 0.0)),
        ("leaky_relu", lambda x: x if x > 0 else 0.01 * x),
        ("elu", lambda x: x if x > 0 else math.expm1(x)),
        ("sigmoid", lambda x: 1 / (1 + math.exp(-x))),
        ("tanh", math.tanh),
        ("gelu", lambda x: x * normal_cdf(x)),
        ("silu", lambda x: x / (1 + math.exp(-x))),
    ],
)
def test_activations(name: str, formula: Callable[[float], float]) -> None:
    got = getattr(reference, f"{name}_forward")(X)
    np.testing.assert_allclose(got, [formula(float(x)) for x in X], rtol=1e-14, atol=1e-15)


def test_activation_options() -> None:
    x = np.array([-2.0, 3.0])
    np.testing.assert_allclose(reference.leaky_relu_forward(x, 0.5), [-1.0, 3.0])
    np.testing.assert_allclose(reference.elu_forward(x, 0.5), [0.5 * math.expm1(-2.0), 3.0])


def test_erf() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), np.logspace(-300, 0, 301)])
    np.testing.assert_allclose(erf(x), [math.erf(value) for value in x], rtol=1e-15)
    np.testing.assert_array_equal(erf(np.array([np.nan, np.inf, -np.inf, -0.0])), [np.nan, 1, -1, -0.0])
    single = erf(x.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, erf(x), rtol=0, atol=2e-7)


def softmax(row: Array) -> list[float]:
    exponentials = [math.exp(value) for value in row]
    return [e / math.fsum(exponentials) for e in exponentials]


def test_softmax(rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 7))
    expected = np.array([softmax(row) for row in x])
    np.testing.assert_allclose(reference.softmax_forward(x), expected, rtol=1e-14)
    np.testing.assert_allclose(reference.log_softmax_forward(x), np.log(expected), rtol=1e-13)


# ---- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
def test_cross_entropy(rng: np.random.Generator, smoothing: float) -> None:
    """By PyTorch's definition of smoothing: (1 - s) * t + s / C; labels, one-hot and soft targets."""
    logits, labels = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    soft = rng.random((6, 4))
    for target, rows in ((labels, np.eye(4)[labels]), (np.eye(4)[labels], np.eye(4)[labels]), (soft, soft)):
        loss, grad = reference.softmax_cross_entropy(logits, target, smoothing, 0.5)
        for n in range(6):
            p = softmax(logits[n])
            t = [(1 - smoothing) * rows[n, c] + smoothing / 4 for c in range(4)]
            np.testing.assert_allclose(loss[n], -sum(t[c] * math.log(p[c]) for c in range(4)), rtol=1e-13)
            np.testing.assert_allclose(
                grad[n], [0.5 * (p[c] * sum(t) - t[c]) for c in range(4)], rtol=1e-12, atol=1e-16
            )


def test_bce() -> None:
    z, t = np.array([-3.0, 0.0, 0.7, 5.0]), np.array([0.0, 1.0, 0.3, 1.0])
    loss, grad = reference.bce_with_logits(z, t, 2.0)
    p = [1 / (1 + math.exp(-value)) for value in z]
    np.testing.assert_allclose(loss, [-b * math.log(a) - (1 - b) * math.log(1 - a) for a, b in zip(p, t, strict=True)])
    np.testing.assert_allclose(grad, [2 * (a - b) for a, b in zip(p, t, strict=True)], rtol=1e-14)


def test_mse() -> None:
    loss, grad = reference.mse(np.array([[1.0, -2.0]]), np.array([[3.0, 0.5]]), 0.25)
    np.testing.assert_array_equal(loss, [[4.0, 6.25]])
    np.testing.assert_array_equal(grad, [[-1.0, -1.25]])


def test_losses_of_two_pieces() -> None:
    """Differences of -3, -1, 0, 1/2 and 4."""
    x, t = np.array([0.0, 1.0, 5.0, 2.5, 3.0]), np.array([3.0, 2.0, 5.0, 2.0, -1.0])
    loss, grad = reference.huber(x, t, 2.0, 0.5)
    np.testing.assert_array_equal(loss, [4.0, 0.5, 0.0, 0.125, 6.0])
    np.testing.assert_array_equal(grad, [-1.0, -0.5, 0.0, 0.25, 1.0])
    loss, grad = reference.smooth_l1(x, t, 2.0, 0.5)
    np.testing.assert_array_equal(loss, [2.0, 0.25, 0.0, 0.0625, 3.0])
    np.testing.assert_array_equal(grad, [-0.5, -0.25, 0.0, 0.125, 0.5])
    loss, grad = reference.smooth_l1(x, t, 0.0)
    np.testing.assert_array_equal(loss, [3.0, 1.0, 0.0, 0.5, 4.0])
    np.testing.assert_array_equal(grad, [-1.0, -1.0, 0.0, 1.0, 1.0])


# ---- updates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("momentum", "nesterov", "weight_decay"),
    [(0.0, False, 0.0), (0.0, False, 0.1), (0.9, False, 0.0), (0.9, False, 0.1), (0.9, True, 0.1)],
)
def test_sgd(momentum: float, nesterov: bool, weight_decay: float) -> None:
    """Three steps on one number."""
    param, velocity = np.array([2.0]), np.zeros(1) if momentum else None
    p, v = 2.0, 0.0
    for grad in (1.0, -0.5, 0.25):
        reference.sgd_update(
            param, np.array([grad]), velocity,
            lr=0.1, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
        )  # fmt: skip
        g = grad + weight_decay * p
        v = momentum * v + g
        p -= 0.1 * (g + momentum * v if nesterov else v)
        np.testing.assert_allclose(param, [p], rtol=1e-15)


def test_sgd_dampening() -> None:
    param, velocity = np.array([1.0]), np.array([4.0])
    reference.sgd_update(param, np.array([2.0]), velocity, lr=0.5, momentum=0.5, dampening=0.75)
    np.testing.assert_array_equal(velocity, [2.5])
    np.testing.assert_array_equal(param, [-0.25])


def test_rprop() -> None:
    """Four steps on one number: the size grows by 1.5, shrinks by a half where the sign turns, and then stays."""
    param, prev, size = np.array([2.0]), np.zeros(1), np.array([0.1])
    for grad, expected in ((3.0, (1.9, 3.0, 0.1)), (1.0, (1.75, 1.0, 0.15)), (-2.0, (1.75, 0.0, 0.075)),
                           (-9.0, (1.825, -9.0, 0.075))):  # fmt: skip
        reference.rprop_update(param, np.array([grad]), prev, size, eta_plus=1.5)
        np.testing.assert_allclose([param[0], prev[0], size[0]], expected, rtol=1e-14)
    reference.rprop_update(param, np.array([-1.0]), prev, size, eta_plus=1.5, step_size_max=0.1)
    np.testing.assert_allclose([param[0], size[0]], [1.925, 0.1], rtol=1e-14)
    reference.rprop_update(param, np.array([1.0]), prev, size, step_size_min=0.09)
    np.testing.assert_allclose([param[0], size[0]], [1.925, 0.09], rtol=1e-14)


def test_adagrad() -> None:
    """Two steps on one number, with a rate that decays: 0.5, then 0.5 / 1.5."""
    param, total = np.array([1.0]), np.array([0.75])
    reference.adagrad_update(param, np.array([0.5]), total, step=1, lr=0.5, lr_decay=0.5, eps=0.25)
    np.testing.assert_allclose([param[0], total[0]], [0.8, 1.0], rtol=1e-14)
    reference.adagrad_update(param, np.array([0.0]), total, step=2, lr=0.5, lr_decay=0.5, eps=0.25, weight_decay=10.0)
    np.testing.assert_allclose([param[0], total[0]], [0.8 - (0.5 / 1.5) * 8 / (65**0.5 + 0.25), 65.0], rtol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop(momentum: float, centered: bool) -> None:
    """Three steps on one number."""
    param, square = np.array([2.0]), np.zeros(1)
    buffer, mean = np.zeros(1) if momentum else None, np.zeros(1) if centered else None
    p, s, b, m = 2.0, 0.0, 0.0, 0.0
    for grad in (1.0, -0.5, 0.25):
        reference.rmsprop_update(
            param, np.array([grad]), square, buffer, mean,
            lr=0.1, alpha=0.8, eps=0.01, weight_decay=0.1, momentum=momentum,
        )  # fmt: skip
        g = grad + 0.1 * p
        s, m = 0.8 * s + 0.2 * g * g, 0.8 * m + 0.2 * g
        b = momentum * b + g / (math.sqrt(s - m * m if centered else s) + 0.01)
        p -= 0.1 * b
        np.testing.assert_allclose([param[0], square[0]], [p, s], rtol=1e-13)
    if mean is not None:
        np.testing.assert_allclose(mean, [m], rtol=1e-13)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam(decoupled: bool, weight_decay: float) -> None:
    """Three steps on one number, as Algorithm 1 of the paper writes them: with bias-corrected moments."""
    update = reference.adamw_update if decoupled else reference.adam_update
    param, exp_avg, exp_avg_sq = np.array([2.0]), np.zeros(1), np.zeros(1)
    p, m, v = 2.0, 0.0, 0.0
    for step, grad in enumerate((1.0, -0.5, 0.25), 1):
        update(
            param, np.array([grad]), exp_avg, exp_avg_sq,
            step=step, lr=0.1, beta1=0.8, beta2=0.9, eps=0.01, weight_decay=weight_decay,
        )  # fmt: skip
        g = grad if decoupled else grad + weight_decay * p
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        if decoupled:
            p *= 1 - 0.1 * weight_decay
        p -= 0.1 * (m / (1 - 0.8**step)) / (math.sqrt(v / (1 - 0.9**step)) + 0.01)
        np.testing.assert_allclose([param[0], exp_avg[0], exp_avg_sq[0]], [p, m, v], rtol=1e-14)


# ---- random numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_known_answers(counter: list[int], key: tuple[int, int], expected: str) -> None:
    """Of Random123's kat_vectors, philox4x32 with 10 rounds."""
    words = philox4x32(np.array([counter, counter], np.uint64), key)
    assert [" ".join(f"{word:08x}" for word in block) for block in words] == [expected] * 2


def test_uniform_numbers_by_seed_and_stream() -> None:
    """Seed 0x299f31d0a4093822 and stream 0x0370734413198a2e with a block number that only block 0 can have."""
    words = philox4x32(np.array([[1, 0, 0x13198A2E, 0x03707344]], np.uint64), (0xA4093822, 0x299F31D0))[0]
    u = uniform24(8, 0x299F31D0A4093822, 0x0370734413198A2E)
    np.testing.assert_array_equal(u[4:], [(int(word) >> 8) / 2**24 for word in words])
    assert np.all((u >= 0) & (u < 1))


def test_dropout(rng: np.random.Generator) -> None:
    x = rng.standard_normal((40, 50))
    u = uniform24(2000, 11, 5).reshape(40, 50)
    np.testing.assert_array_equal(reference.dropout_forward(x, 0.25, 11, 5), np.where(u >= 0.25, x * (1 / 0.75), 0))
    kept = np.count_nonzero(reference.dropout_forward(np.ones(100_000), 0.25, 11, 5))
    assert abs(kept - 75_000) < 5 * math.sqrt(100_000 * 0.25 * 0.75)
