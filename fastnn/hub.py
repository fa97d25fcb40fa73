"""PyTorch's torch.hub and torch.utils.model_zoo, which programs import for weights from the internet."""

from __future__ import annotations

from typing import Any

from fastnn.errors import DataError
from fastnn.habits import no_such_name

__all__ = ["load_state_dict_from_url", "load_url"]


def load_state_dict_from_url(url: str, *_: Any, **__: Any) -> Any:
    """Raises DataError, which says how to come by the weights: such files are pickles, which fastnn never reads."""
    raise DataError(
        f"load_state_dict_from_url: expected weights without pickle, which {url} is: load the model with PyTorch and "
        "convert it by fnn.from_torch, or save it as safetensors and read it by fnn.load"
    )


load_url = load_state_dict_from_url


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.hub", name)
