"""Every published number reproduces.

Those of README and docs that can be measured again in minutes are within a stated spread.
`python -m benchmarks.reproduce` says which they are, and measures them one by one.
"""

from __future__ import annotations

from benchmarks.reproduce import FIGURES, compared

IN_CI = 0.05


def measure(share: float = 1.0) -> str:
    """How many figures are within their spread.

    In short, those that take seconds, and that all stand where they should.
    """
    for figure in FIGURES:
        figure.published()
    chosen = [figure for figure in FIGURES if not figure.missing() and (share >= 0.5 or figure.quick)]
    results = [compared(figure) for figure in chosen]
    outside = [line for within, line in results if not within]
    assert not outside, "python -m benchmarks.reproduce: outside of the spread\n" + "\n".join(outside)
    return f"{len(results)} of {len(FIGURES)} figures measured again, all within their spread"
