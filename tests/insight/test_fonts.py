"""Names that Matplotlib's own font has no glyphs for are drawn in one that is installed, or said to be boxes."""

import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib import font_manager
from matplotlib.text import Text

from fastnn import insight
from fastnn.insight import fonts

NAME = "圆猫"


@pytest.fixture(autouse=True)
def only_dejavu(monkeypatch):
    """Whatever the machine has."""
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", [entry for entry in manager.ttflist if entry.name == "DejaVu Sans"])
    monkeypatch.setattr(fonts, "_told", set())
    fonts._having.cache_clear()
    yield
    fonts._having.cache_clear()


def matrix():
    return insight.confusion_matrix(np.array([[3, 0], [1, 4]]), ("cat", NAME))


def test_boxes_are_said_once_in_our_words(tmp_path):
    with pytest.warns(UserWarning, match=f"no installed font has {NAME[0]} {NAME[1]}: boxes") as told:
        matrix().save(tmp_path / "a.png")
    assert len(told) == 1  # and none of Matplotlib's, one for each glyph
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix().save(tmp_path / "a.png")


def test_an_installed_font_that_has_the_characters_is_taken(tmp_path):
    path = tmp_path / "squares.ttf"
    _font(path, NAME)
    font_manager.fontManager.addfont(str(path))
    drawing = matrix()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing.save(tmp_path / "a.png")
        drawing.save(tmp_path / "b.png")
    families = {t.get_text(): t.get_fontfamily() for t in drawing.findobj(Text)}
    assert families[NAME] == ["sans-serif", "Squares"]
    assert families["cat"] == ["sans-serif"]


def _font(path, characters):
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(point)
    pen.closePath()
    square = pen.glyph()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(c): "square" for c in characters})
    font.setupGlyf({".notdef": square, "square": square})
    font.setupHorizontalMetrics({".notdef": (800, 0), "square": (800, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
