"""Tables and numbers, as text and as HTML for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import console
from fastnn.console import columns, shown

__all__ = ["Text", "aligned", "decimal", "filled", "html_table", "html_text", "image_tag", "padded", "png"]

LEAST = 10  # characters of a column of words
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
    """Rows of cells as text, as wide as the terminal at most; the first `left` columns hold words, the others numbers.

    >>> print(aligned([("layer", "size"), ("relu", 7)], left=1))
    layer  size
    relu      7
    """
    cells, widths = _fitted([list(map(str, row)) for row in rows], left)
    lines = [[padded(c, w, right=i >= left) for i, (c, w) in enumerate(zip(row, widths, strict=True))] for row in cells]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _fitted(cells: list[list[str]], left: int) -> tuple[list[list[str]], list[int]]:
    """The cells that the terminal has room for, and the columns' widths: words are cut to ten characters at least, then
    the last numbers are left out, with a "…" at the end of the head."""
    mark, room = "", console.width()
    while True:
        widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
        for i in sorted(range(left), key=lambda i: -widths[i]):
            over = sum(widths) + 2 * len(widths) - 2 + len(mark) - room
            widths[i] = max(min(widths[i], LEAST), widths[i] - max(over, 0))
        if sum(widths) + 2 * len(widths) - 2 + len(mark) <= room or len(widths) <= left + 1:
            break
        mark, cells = "  …", [row[:-1] for row in cells]
    cells = [[_cut(c, w) for c, w in zip(row, widths, strict=True)] for row in cells]
    cells[0][-1] = padded(cells[0][-1], widths[-1], right=True) + mark
    return cells, widths


def _cut(text: str, width: int) -> str:
    if columns(text) <= width:
        return text
    while columns(text) >= width:
        text = text[:-1]
    return f"{text}…"


def padded(text: str, width: int, right: bool = False) -> str:
    """The text with blanks after it, or before it, so that a terminal shows it `width` columns wide.

    >>> padded("猫", 3) + "|", padded("7", 3, right=True)
    ('猫 |', '  7')
    """
    blanks = " " * (width - columns(text))
    return blanks + text if right else text + blanks


def filled(rows: Rows) -> list[tuple[Any, ...]]:
    """The rows without the columns that hold nothing below the first row.

    >>> filled([("layer", "dead", "size"), ("tanh", "", "7")])
    [('layer', 'size'), ('tanh', '7')]
    """
    kept = [i for i, column in enumerate(zip(*rows[1:], strict=True)) if any(cell != "" for cell in column)]
    return [tuple(row[i] for i in kept) for row in rows]


def html_table(rows: Rows, caption: str = "", left: int = 0) -> str:
    """An HTML table, its first row the head; the first `left` columns hold words, the others numbers."""
    from html import escape

    def line(row: Sequence[Any], tag: str) -> str:
        sides = ("left" if i < left else "right" for i in range(len(row)))
        cells = zip(row, sides, strict=True)
        return "".join(
            f'<{tag} style="text-align:{side};padding:2px 8px">{escape(shown(c))}</{tag}>' for c, side in cells
        )

    head, *body = rows
    lines = "".join(f"<tr>{line(row, 'td')}</tr>" for row in body)
    title = f'<caption style="text-align:left">{escape(shown(caption))}</caption>' if caption else ""
    return f"<table>{title}<thead><tr>{line(head, 'th')}</tr></thead><tbody>{lines}</tbody></table>"


def html_text(text: str) -> str:
    """Lines in a fixed-width font, as they are."""
    from html import escape

    return f"<pre>{escape(shown(text, keep=chr(10)))}</pre>"


def image_tag(file: bytes, width: int | None = None) -> str:
    """A PNG file as a picture within HTML, scaled without smoothing to so many pixels."""
    from base64 import b64encode

    style = "" if width is None else f' style="width:{width}px;image-rendering:pixelated"'
    return f'<img src="data:image/png;base64,{b64encode(file).decode()}"{style}>'


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of uint8 pixels (H, W), gray, or (H, W, 3), in colour.

    >>> png(np.zeros((2, 3), np.uint8))[:4]
    b'\\x89PNG'
    """
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)  # each without a filter
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
