"""Arguments at the edge of sense, which have crashed or gone astray once."""

from __future__ import annotations

import numpy as np
import pytest
from targets import Target

from fastnn.errors import ArgumentError, ShapeError


@pytest.mark.parametrize("stride", [1000, 2**31, 2**59])
def test_a_stride_past_the_image_is_one_position(target: Target, stride: int) -> None:
    """Only the first window exists: the stride must not size a buffer."""
    k, far = target.kernels, (stride, stride)
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    w = np.full((1, 1, 2, 2), 2, np.float32)
    one = np.ones((1, 1, 1, 1), np.float32)
    assert k.conv2d_forward(x, w, None, far, algorithm="direct").item() == 2 * (0 + 1 + 3 + 4)
    grad_x = k.conv2d_backward_input(one, w, (3, 3), far, algorithm="direct")
    np.testing.assert_array_equal(grad_x[0, 0], [[2, 2, 0], [2, 2, 0], [0, 0, 0]])
    grad_w, grad_b = k.conv2d_backward_weight(one, x, (2, 2), far, algorithm="direct")
    np.testing.assert_array_equal(grad_w[0, 0], [[0, 1], [3, 4]])
    assert grad_b.item() == 1
    y, argmax = k.max_pool2d_forward(x, (2, 2), far)
    assert (y.item(), argmax.item()) == (4, 4)
    assert k.avg_pool2d_forward(x, (2, 2), far).item() == 2
    np.testing.assert_array_equal(
        k.avg_pool2d_backward_input(one, (3, 3), (2, 2), far)[0, 0], [[0.25, 0.25, 0], [0.25, 0.25, 0], [0, 0, 0]]
    )


@pytest.mark.parametrize("side", [2**17, 2**32, 2**62, 2**63, 2**64])
def test_padding_that_no_memory_holds_is_refused(target: Target, side: int) -> None:
    """Once the number of bytes overflowed, and a small buffer was written past its end."""
    k, x, w = target.kernels, np.ones((1, 2, 4, 4), np.float32), np.ones((2, 2, 3, 3), np.float32)
    window, half = (side, side), (side // 2, side // 2)
    for call in (
        lambda: k.conv2d_forward(x, w, None, (1, 1), window, (1, 1), 1),
        lambda: k.conv2d_forward(x, w, None, (2, 2), half, half, 1),
        lambda: k.max_pool2d_forward(x, window, (1, 1), half),
        lambda: k.avg_pool2d_forward(x, window, (1, 1), half, True),
    ):
        with pytest.raises((ArgumentError, ShapeError), match=r"2\*\*(31|63)"):
            call()


@pytest.mark.parametrize("option", ["stride", "dilation"])
def test_windows_that_c_cannot_count_are_refused(target: Target, option: str) -> None:
    k, x, w = target.kernels, np.ones((1, 2, 4, 4), np.float32), np.ones((2, 2, 1, 1), np.float32)
    given = {"stride": (1, 1), "dilation": (1, 1)} | {option: (2**63, 1)}
    with pytest.raises(ArgumentError, match=f"conv2d: expected {option} of less than "):
        k.conv2d_forward(x, w, None, given["stride"], (0, 0), given["dilation"], 1)


def test_labels_of_either_64_bit_type(target: Target) -> None:
    """C has two types of 64 bits, which NumPy calls equal and numbers differently."""
    logits = np.zeros((2, 4), np.float32)
    for code in ("l", "q"):
        labels = np.array([1, 3], dtype=code)
        if labels.dtype == np.int64:
            loss, _ = target.kernels.softmax_cross_entropy(logits, labels)
            np.testing.assert_allclose(loss, np.log(4), rtol=1e-6)


def test_nan_in_one_filter_stays_out_of_the_next_ones_gradient(target: Target) -> None:
    x = np.ones((1, 2, 40, 40), np.float32)
    grad = np.ones((1, 2, 38, 38), np.float32)
    grad[0, 0, :3] = np.nan
    grad_w, grad_b = target.kernels.conv2d_backward_weight(grad, x, (3, 3), algorithm="direct")
    assert np.isnan(grad_w[0]).all()
    np.testing.assert_array_equal(grad_w[1], np.full((2, 3, 3), 38 * 38))
    assert np.isnan(grad_b[0])
    assert grad_b[1] == 38 * 38
