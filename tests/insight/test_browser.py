"""What stands in for a browser that is not there: a reason, or a failure where one is required."""

from __future__ import annotations

import pytest
from browser import absent


def test_without_a_browser_tests_are_skipped_or_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", "0"):
        if value is None:
            monkeypatch.delenv("FASTNN_REQUIRE_BROWSER", raising=False)
        else:
            monkeypatch.setenv("FASTNN_REQUIRE_BROWSER", value)
        with pytest.raises(pytest.skip.Exception, match="no Chromium"):
            absent("there is no Chromium")
    monkeypatch.setenv("FASTNN_REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="no Chromium"):
        absent("there is no Chromium")
