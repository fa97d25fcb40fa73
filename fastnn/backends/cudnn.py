"""PyTorch's settings of a GPU's library, which programs make before they pick a device: taken and without effect."""

from __future__ import annotations

__all__ = ["allow_tf32", "benchmark", "deterministic", "enabled", "is_available"]

benchmark = False
deterministic = True
enabled = False
allow_tf32 = False


def is_available() -> bool:
    """False."""
    return False
