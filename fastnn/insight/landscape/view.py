"""A landscape in the browser."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fastnn.files import write_atomically

from .result import Landscape

__all__ = ["view"]


def view(result: Landscape, path: str | os.PathLike[str] | None = None, *, show: bool = True) -> Path:
    """Write the interactive page of a landscape as one HTML file, open it, and return where it is.

    A surface that can be turned, or contours; plain or log scale; the loss under the pointer; the paths, which can be
    played. A line gives its curve. The file holds everything, some 2 MB, and needs no network, but a browser of 2023 or
    newer.

    Args:
        path: the file; None makes one in the folder for temporary files.
        show: whether the browser opens it.

    Raises MissingExtraError without plotly (``pip install "fastnn-cpu[plot]"``). OSError: the file cannot be written.
    """
    from fastnn.insight.viewer import page

    content = page(result).encode()
    if path is None:
        handle, path = tempfile.mkstemp(prefix="landscape-", suffix=".html")
        os.close(handle)
    write_atomically(path, content)
    if show:
        import webbrowser

        webbrowser.open(Path(path).resolve().as_uri())
    return Path(path)
