"""What fastnn prints: it arrives on every terminal, and needs none."""

from __future__ import annotations

import sys
import unicodedata
from typing import Any, TextIO

__all__ = ["shown"]

_LIKE = str.maketrans({"×": "x", "·": ".", "–": "-", "—": "-", "…": "...", "‖": "|", "’": "'", "²": "2", "Σ": "sum "})
_HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # control, direction, halves of pairs, unassigned, line ends


def shown(text: Any, keep: str = "") -> str:
    r"""`text` so that printing it does nothing but show it: what a name of a file or a class may hold besides letters,
    such as terminal commands, line ends, changes of direction and bytes that are no text, is escaped; but not `keep`.

    >>> print(shown("cat\x1b[2J\n"), shown("caf\udce9"), shown("naïve 猫"))
    cat\x1b[2J\n caf\xe9 naïve 猫
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _HARMFUL else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
