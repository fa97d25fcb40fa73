"""Fonts for what Matplotlib's own has no glyphs for, such as Chinese names of classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["completed"]

LATIN = 0x2FF  # the last code of the letters that every font has
USELESS = ("last resort", "lastresort", "color emoji", "adobe blank", "blank")  # boxes, bitmaps, nothing
FIRST = ("noto sans cjk", "source han sans", "noto sans", "dejavu sans")  # of several, these
_told: set[str] = set()  # the characters that a warning has named


@contextmanager
def completed(drawing: Figure) -> Iterator[None]:
    """Context for drawing a figure, each of whose texts gets, beside its own font, installed ones for what that lacks.

    Warns once of characters that no installed font has: Matplotlib draws boxes for them, and warns of each.
    """
    from matplotlib.font_manager import findfont
    from matplotlib.text import Text

    absent: set[str] = set()
    for text in drawing.findobj(Text):
        beyond = {c for c in text.get_text() if ord(c) > LATIN and not c.isspace()}
        if not beyond:
            continue
        font = text.get_fontproperties()
        known = _characters(str(findfont(font)))
        found, missing = _having(frozenset(c for c in beyond if ord(c) not in known))
        absent |= missing
        text.set_fontfamily([*dict.fromkeys((*font.get_family(), *found))])
    if absent - _told:
        _told.update(absent)
        some = " ".join(sorted(absent)[:12]) + (" ..." if len(absent) > 12 else "")
        warnings.warn(
            f"no installed font has {some}: boxes are drawn instead; Debian's package fonts-noto-cjk, for example, has "
            "Chinese, Japanese and Korean",
            stacklevel=3,
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield


@cache
def _characters(path: str) -> frozenset[int]:
    """Codes of the characters that a font's file has; none for one that cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@cache
def _having(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The families of installed fonts that have these characters between them, and those that none has."""
    from matplotlib import font_manager

    def rank(entry: Any) -> tuple[int, bool, bool, str]:
        name = entry.name.lower()
        preferred = next((i for i, first in enumerate(FIRST) if name.startswith(first)), len(FIRST))
        return preferred, entry.style != "normal", entry.weight not in (400, "normal", "regular"), name

    left, found = set(characters), []
    for entry in sorted(font_manager.fontManager.ttflist, key=rank):
        if not left:
            break
        if any(word in entry.name.lower() for word in USELESS):
            continue
        has = {c for c in left if ord(c) in _characters(entry.fname)}
        if has:
            left -= has
            found.append(entry.name)
    return tuple(found), frozenset(left)
