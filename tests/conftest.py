"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
from browser import browser as browser  # a fixture
from targets import Target, targets

from fastnn import backends

collect_ignore = ["long", "typing"]  # test_promises.py runs the former, test_typing.py lets mypy read the latter

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell script's background job ignores Ctrl-C, and so would every process that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Spread over all cores where the whole suite runs; not where one looks into a few tests, or a debugger does."""
    option = config.option
    whole = config.args_source is config.ArgsSource.TESTPATHS and not (option.keyword or option.usepdb)
    here = config.pluginmanager.has_plugin("xdist") and "PYTEST_XDIST_WORKER" not in os.environ  # and not within it
    if whole and here and option.numprocesses is None:
        option.numprocesses, option.dist = min(len(os.sched_getaffinity(0)), 8), "worksteal"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Docstrings about PyTorch are run where it is installed."""
    if importlib.util.find_spec("torch") is None:
        for item in items:
            if "interop/torch" in item.path.as_posix() and item.path.suffix == ".py":
                item.add_marker(pytest.mark.skip(reason="needs PyTorch"))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from scanning the collected tests, which stay until the end, again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=targets(), ids=str)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Every backend of this installation in turn, native on every instruction set of this CPU."""
    target: Target = request.param
    threads = backends.get_num_threads()
    isa = target.kernels.isa() if target.isa else None
    if target.isa:
        target.kernels.set_isa(target.isa)
    yield target
    if target.isa:
        target.kernels.set_isa(isa)
    backends.set_num_threads(threads)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2024)
