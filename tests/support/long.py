"""Which tests `pytest` leaves to `pytest -m ""`, so that it takes minutes: see `markers` in pyproject.toml."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def draws(numbers: Iterable[int], few: int) -> list[Any]:
    """Seeds for a test of random cases: some always, spread over all, and the others with the long tests."""
    every = list(numbers)
    step = len(every) / few
    always = {every[int(i * step)] for i in range(few)}
    return [n if n in always else pytest.param(n, marks=pytest.mark.long) for n in every]
