"""Tables and numbers, as text and as HTML for notebooks."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from fastnn.console import shown

__all__ = ["Text", "aligned", "decimal", "html_table", "html_text", "image_tag"]

Rows = Sequence[Sequence[Any]]


class Text(str):
    """A text that a prompt and a notebook show as it is, without quotes and escapes.

    >>> Text("one\\ntwo")
    one
    two
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html_text(self)


def decimal(value: float | None) -> str:
    """A number in at most nine characters: four decimals, or four significant digits where these say too little.

    >>> decimal(0.25), decimal(0.000012345), decimal(1234567.0), decimal(None)
    ('0.2500', '1.234e-05', '1.235e+06', '-')
    """
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 1000 else f"{value:.4g}"


def aligned(rows: Rows, left: int) -> str:
    """Rows of cells as text; the first `left` columns hold words, the others numbers.

    >>> print(aligned([("layer", "size"), ("relu", 7)], left=1))
    layer  size
    relu      7
    """
    cells = [list(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in cells
    )


def html_table(rows: Rows, caption: str = "", left: int = 0) -> str:
    """An HTML table, its first row the head; the first `left` columns hold words, the others numbers."""

    def line(row: Sequence[Any], tag: str) -> str:
        sides = ("left" if i < left else "right" for i in range(len(row)))
        cells = zip(row, sides, strict=True)
        return "".join(f'<{tag} style="text-align:{side}">{html.escape(shown(c))}</{tag}>' for c, side in cells)

    head, *body = rows
    lines = "".join(f"<tr>{line(row, 'td')}</tr>" for row in body)
    title = f'<caption style="text-align:left">{html.escape(shown(caption))}</caption>' if caption else ""
    return f"<table>{title}<thead><tr>{line(head, 'th')}</tr></thead><tbody>{lines}</tbody></table>"


def html_text(text: str) -> str:
    """Lines in a fixed-width font, as they are."""
    return f"<pre>{html.escape(shown(text, keep=chr(10)))}</pre>"


def image_tag(png: bytes, width: int | None = None) -> str:
    """A PNG file as a picture within HTML, scaled without smoothing to so many pixels."""
    style = "" if width is None else f' style="width:{width}px;image-rendering:pixelated"'
    return f'<img src="data:image/png;base64,{b64encode(png).decode()}"{style}>'
