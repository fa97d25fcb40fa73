"""What a model was trained on, and so what its inputs and outputs mean: `fit` notes it, and its file keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .prepare import Preparation

__all__ = ["About", "about"]

KINDS = ("classes", "logits", "probabilities", "values")


@dataclass(frozen=True)
class About:
    """What a model was trained on.

    Attributes:
        outputs: what they are: of "classes", one number each, or one for two classes; "logits" or "probabilities" of
            yes, one number each; or "values".
        classes: the classes' names; empty without.
        picture: how a picture becomes an image for this model (see `Preparation`); None where it takes no pictures.
        data: what the training data were called.
        samples: how many they were.
        shape: the shape of one; None if it is several arrays.
        loss: the name of the loss.
        options: what that was made with, where it is one of fastnn's.
        columns: the names of a table's columns, where they had some.
        flat: whether there is one number for each sample in targets (N,) that the model gives as (N, 1).
        named: whether the labels were the classes' names.

    Raises ValueError for outputs of another kind.
    """

    outputs: str
    classes: tuple[str, ...] = ()
    picture: Preparation | None = None
    data: str = "arrays"
    samples: int = 0
    shape: tuple[int, ...] | None = None
    loss: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    flat: bool = False
    named: bool = False

    def __post_init__(self) -> None:
        if self.outputs not in KINDS:
            raise ValueError(f"outputs that are {self.outputs!r}")

    def to_dict(self) -> dict[str, Any]:
        """Numbers, text and containers of them, for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> About:
        """What `to_dict` gave. Raises TypeError or ValueError for anything else."""
        picture = entries.get("picture")
        return cls(**{**entries, "picture": None if picture is None else Preparation(**picture)})


def about(model: Any) -> About | None:
    """What a model was trained on, as `fit` noted, or the file or run that it comes from; None where nobody did.

    >>> import fastnn as fnn
    >>> about(fnn.nn.Linear(3, 4)) is None
    True
    """
    known = getattr(model, "__dict__", {}).get("_about")
    return known if isinstance(known, About) else None
