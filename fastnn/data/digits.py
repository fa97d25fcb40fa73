"""The digits that come with fastnn: 1,797 images of 8x8 pixels.

*Optical Recognition of Handwritten Digits*, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licensed CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). These are the 1,797
images of its test part as scikit-learn's ``load_digits`` gives them; ``digits.npz`` holds ``images`` uint8 (1797, 8, 8)
with values 0 to 16 and ``labels`` uint8 (1797,). ``enlarge`` is fastnn's own change to them.
"""

from __future__ import annotations

import numpy as np

# Weight, in thirds, of each of 8 source pixels in each of 24 target pixels: bilinear interpolation between pixel
# centres, edges repeated. Target pixel 3k + 1 has the centre of source pixel k; its two neighbours lie a third of the
# way to the next ones.
_THIRDS = np.zeros((24, 8), np.int64)
for _target in range(24):
    _source, _phase = divmod(_target, 3)
    _THIRDS[_target, _source] += 3 if _phase == 1 else 2
    if _phase != 1:
        _THIRDS[_target, min(max(_source + _phase - 1, 0), 7)] += 1


def enlarge(images: np.ndarray) -> np.ndarray:
    """Digits at the size of MNIST: threefold, bilinear, 0 to 16 stretched to 0 to 255, in a margin of 2 pixels.

    Args:
        images: (N, 8, 8) integers from 0 to 16.

    Returns:
        uint8 (N, 28, 28), rounded to the nearest; whole-number arithmetic, hence the same on every machine.

    >>> enlarge(np.full((1, 8, 8), 16))[0, :4, 13]
    array([  0,   0, 255, 255], dtype=uint8)
    """
    ninths = _THIRDS @ images.astype(np.int64) @ _THIRDS.T  # (N, 24, 24)
    enlarged = np.zeros((len(images), 28, 28), np.uint8)
    enlarged[:, 2:26, 2:26] = (ninths * 255 + 72) // 144  # 144 = 9 * 16; half of it rounds
    return enlarged
