"""Losses as modules: each keeps the options of a function of fastnn.ops, which says the formula, shapes and errors.

`reduction` is "mean", "sum" or "none" (one loss per row, or per entry). The order of arguments is PyTorch's.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastnn import ops
from fastnn.arrays import as_array
from fastnn.checks import flag, number
from fastnn.nn.module import Module
from fastnn.ops.loss import check_loss
from fastnn.tensors import Tensor


class _Loss(Module):
    """PyTorch's base of losses, which those of programs inherit from, too."""

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__()
        more = ("batchmean",) if isinstance(self, KLDivLoss) else ()
        self.reduction = check_loss(type(self).__name__, reduction, size_average, reduce, *more)


class _WeightedLoss(_Loss):
    """PyTorch's base of losses with a weight for each class, a buffer."""

    def __init__(
        self, weight: Any = None, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


class _Function(_Loss):
    """A loss with options, which are attributes; weights are buffers, as in PyTorch."""

    function: ClassVar[str]  # the name of the function in fastnn.ops

    def __init__(
        self, reduction: str, size_average: bool | None = None, reduce: bool | None = None, **options: Any
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self._options = tuple(options)
        for name, value in options.items():
            if name in ("weight", "pos_weight"):
                off_tape = value.detach().numpy() if isinstance(value, Tensor) else value
                self.register_buffer(name, None if value is None else as_array(off_tape))
            else:
                setattr(self, name, value)

    def options(self) -> dict[str, Any]:
        """Returns what it was made with, by name, with lists in the place of arrays; without what is None."""
        found = {name: getattr(self, name) for name in ("reduction", *self._options)}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items() if v is not None}

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        options = {name: getattr(self, name) for name in self._options}
        loss: Tensor = getattr(ops, self.function)(*inputs, **named, reduction=self.reduction, **options)
        return loss


class CrossEntropyLoss(_Function):
    """Softmax and negative log-likelihood in one: logits (N, C); target labels (N,) or probabilities (N, C).

    `label_smoothing` mixes the target with the uniform distribution (Szegedy et al. 2016), `weight` (C,) says what each
    class counts, labels equal to `ignore_index` count nowhere. See `fnn.ops.cross_entropy`.

    >>> from fastnn import nn
    >>> nn.CrossEntropyLoss()([[2.0, 0.0], [0.0, 2.0]], [0, 1]).item()  # log(1 + exp(-2))
    0.126928...
    """

    function = "cross_entropy"
    ignore_index: int

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        options = {"weight": weight, "ignore_index": ignore_index, "label_smoothing": label_smoothing}
        super().__init__(reduction, size_average, reduce, **options)
        number("CrossEntropyLoss", "label_smoothing", label_smoothing, 0, 1)


class NLLLoss(_Function):
    """-input[n, target[n]]: input (N, C) are log-probabilities, as LogSoftmax gives them; target labels (N,)."""

    function = "nll_loss"

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction, size_average, reduce, weight=weight, ignore_index=ignore_index)


class BCEWithLogitsLoss(_Function):
    """Sigmoid and binary cross-entropy in one: logits and target (from 0 to 1) of one shape."""

    function = "binary_cross_entropy_with_logits"

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Any = None,
    ) -> None:
        super().__init__(reduction, size_average, reduce, weight=weight, pos_weight=pos_weight)


class BCELoss(_Function):
    """Binary cross-entropy -(t·log p + (1 - t)·log(1 - p)): probabilities p and target t of one shape, from 0 to 1."""

    function = "binary_cross_entropy"

    def __init__(
        self, weight: Any = None, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, size_average, reduce, weight=weight)


class MultiLabelSoftMarginLoss(_Function):
    """BCEWithLogitsLoss, averaged over the classes of each row (N, C)."""

    function = "multilabel_soft_margin_loss"

    def __init__(
        self, weight: Any = None, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, size_average, reduce, weight=weight)


class _Plain(_Function):
    """Those without options."""

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction, size_average, reduce)


class MSELoss(_Plain):
    """The squared error (input - target)², of one shape; where others broadcast, a warning says so.

    >>> from fastnn import nn
    >>> nn.MSELoss()([1.0, 2.0], [0.0, 0.0]).item()
    2.5
    """

    function = "mse_loss"


class L1Loss(_Plain):
    """The absolute error |input - target|."""

    function = "l1_loss"


class SoftMarginLoss(_Plain):
    """log(1 + exp(-target·input)), target 1 or -1."""

    function = "soft_margin_loss"


class SmoothL1Loss(_Function):
    """Squared below `beta`, absolute above."""

    function = "smooth_l1_loss"

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean", beta: float = 1.0
    ) -> None:
        super().__init__(reduction, size_average, reduce, beta=beta)


class HuberLoss(_Function):
    """SmoothL1Loss times `delta`: squared below delta, of slope delta above."""

    function = "huber_loss"

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction, delta=delta)


class KLDivLoss(_Function):
    """t·(log t - input), input log-probabilities; reduction "batchmean" gives the divergence."""

    function = "kl_div"

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ) -> None:
        log_target = flag("KLDivLoss", "log_target", log_target)
        super().__init__(reduction, size_average, reduce, log_target=log_target)


class PoissonNLLLoss(_Function):
    """exp(input) - target·input: the target counts events."""

    function = "poisson_nll_loss"

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: bool | None = None,
        eps: float = 1e-8,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction, size_average, reduce, log_input=log_input, full=full, eps=eps)

    def forward(self, log_input: Any, target: Any) -> Tensor:
        return super().forward(log_input, target)  # in its place: log_input is an option, too


class GaussianNLLLoss(_Function):
    """(log var + (input - target)²/var)/2, called with input, target and var."""

    function = "gaussian_nll_loss"

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction, full=full, eps=eps)


class TripletMarginLoss(_Function):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), called with the three."""

    function = "triplet_margin_loss"

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction, size_average, reduce, margin=margin, p=p, eps=eps, swap=swap)


class TripletMarginWithDistanceLoss(_Function):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) of any distance, called with the three."""

    function = "triplet_margin_with_distance_loss"

    def __init__(
        self, *, distance_function: Any = None, margin: float = 1.0, swap: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, distance_function=distance_function, margin=margin, swap=swap)


class _Margin(_Function):
    """Those with a margin of 0 by default."""

    def __init__(
        self, margin: float = 0.0, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, size_average, reduce, margin=margin)


class MarginRankingLoss(_Margin):
    """max(0, margin - target·(input1 - input2)), called with input1, input2 and target."""

    function = "margin_ranking_loss"


class CosineEmbeddingLoss(_Margin):
    """1 - cos, or max(0, cos - margin) where the target is -1; called with input1, input2 and target."""

    function = "cosine_embedding_loss"


class HingeEmbeddingLoss(_Function):
    """input, or max(0, margin - input) where the target is -1."""

    function = "hinge_embedding_loss"

    def __init__(
        self, margin: float = 1.0, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, size_average, reduce, margin=margin)


class MultiLabelMarginLoss(_Function):
    """The hinge loss of several classes at once; see multilabel_margin_loss."""

    function = "multilabel_margin_loss"

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction, size_average, reduce)


class MultiMarginLoss(_Function):
    """The hinge loss of several classes: max(0, margin - x_y + x_c)^p, summed and divided by C."""

    function = "multi_margin_loss"

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction, size_average, reduce, p=p, margin=margin, weight=weight)


class CTCLoss(_Function):
    """-log of the probability that labels come out of a sequence's steps. See `fnn.ops.ctc_loss`.

    Called with log_probs (T, N, C), targets, input_lengths and target_lengths.

    >>> import fastnn as fnn
    >>> from fastnn import nn
    >>> steps = fnn.zeros(5, 2, 4).log_softmax(2)
    >>> nn.CTCLoss(reduction="none")(steps, [[1, 2], [3, 3]], [5, 5], [2, 2]).shape
    (2,)
    """

    function = "ctc_loss"

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction, blank=blank, zero_infinity=zero_infinity)
