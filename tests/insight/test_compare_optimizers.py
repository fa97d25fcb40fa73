"""Optimisers from one start: their paths by the formulas, on surfaces with known minima, and on a network."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tqdm

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError
from fastnn.insight.surfaces import SURFACES, Surface

DATA = fnn.data.load("digits", split="train").subset(slice(200))


def test_on_a_ravine_the_paths_are_those_of_the_formulas() -> None:
    """½ (x² + 100 y²) has the gradient (x, 100 y)."""
    result = fnn.compare_optimizers("ravine", steps=30)
    paths = {path.name: path for path in result.paths}
    assert list(paths) == ["SGD", "momentum", "Nesterov", "Adam", "RMSprop", "Rprop", "Adagrad"]
    curvature, start = np.array([1.0, 100.0]), np.array([-9.0, 2.5])
    rates = SURFACES["ravine"].rates
    steps = np.arange(31)[:, None]
    np.testing.assert_allclose(paths["SGD"].coordinates, start * (1 - rates["SGD"] * curvature) ** steps, rtol=1e-9)
    for name in ("momentum", "Nesterov"):
        w, v, places = start.copy(), np.zeros(2), [start]
        for _ in range(30):
            g = curvature * w
            v = 0.9 * v + g
            w = w - rates[name] * (g + 0.9 * v if name == "Nesterov" else v)
            places.append(w)
        np.testing.assert_allclose(paths[name].coordinates, places, rtol=1e-9, atol=1e-12)
    for path in result.paths:
        x, y = path.coordinates.T
        np.testing.assert_allclose(path.losses, 0.5 * (x**2 + 100 * y**2), rtol=1e-12)
        assert path.times.tolist() == list(range(31))


@pytest.mark.parametrize(
    ("name", "minimum", "least"),
    [("ravine", (0, 0), 0), ("rosenbrock", (1, 1), 0), ("beale", (3, 0.5), 0), ("saddle", (0, 1), -0.25)],
)
def test_surfaces_are_what_they_say(name: str, minimum: tuple[float, float], least: float) -> None:
    surface = SURFACES[name]
    assert surface.function(*minimum) == least
    slope = fnn.numeric_gradient(lambda w: surface.function(w[0], w[1]), np.array(minimum, float))
    np.testing.assert_allclose(slope, 0, atol=1e-5)
    result = fnn.compare_optimizers(name, steps=1)
    x, y = (axis.values for axis in result.axes)
    assert result.losses[70, 20] == pytest.approx(surface.function(x[20], y[70]))
    (low, high), (bottom, top) = surface.window
    assert (x[0], x[-1], y[0], y[-1]) == (low, high, bottom, top)


@pytest.mark.parametrize("name", list(SURFACES))
def test_each_optimiser_gets_lower_and_stays_on_the_picture_for_most_of_its_way(name: str) -> None:
    result = fnn.compare_optimizers(name)
    for path in result.paths:
        assert path.losses[-1] < 0.2 * path.losses[0], path.name
        assert np.isfinite(result.heights(path.coordinates)).mean() > 0.9, path.name


def test_on_the_ravine_each_has_its_habit() -> None:
    """Plain descent jumps from side to side, momentum runs past the minimum, Nesterov's look-ahead less far."""
    result = fnn.compare_optimizers("ravine")
    paths = {path.name: path.coordinates for path in result.paths}
    ends = {path.name: path.losses[-1] for path in result.paths}
    assert ends["SGD"] > 1000 * ends["momentum"] > 5000 * ends["Nesterov"]
    turns = {name: int((np.diff(np.sign(places[:20, 1])) != 0).sum()) for name, places in paths.items()}
    assert turns["SGD"] == 19
    assert turns["Adagrad"] == 0
    assert paths["SGD"][:, 0].max() <= 0
    assert paths["momentum"][:, 0].max() > paths["Nesterov"][:, 0].max() > 0.5
    for one, other in itertools.combinations(paths.values(), 2):  # no line hides another: on the way down they differ
        apart = np.linalg.norm(one[:10, None] - other[None], axis=2).min(axis=1)
        assert apart.max() > 0.2


def test_a_surface_and_optimisers_of_ones_own() -> None:
    bowl = Surface("a bowl", "f(x, y) = x² + y²", lambda x, y: x**2 + y**2, (1.0, 2.0), ((-3, 3), (-3, 3)))
    chosen = {"slow": lambda params: optim.SGD(params, lr=0.1), "too fast": lambda params: optim.SGD(params, lr=1e3)}
    result = fnn.compare_optimizers(bowl, optimizers=chosen, steps=200, start=(2.0, 0.0))
    slow, fast = result.paths
    np.testing.assert_allclose(slow.coordinates[:, 0], 2 * 0.8 ** np.arange(201), rtol=1e-9)
    assert len(fast.times) < 100  # it ends where it becomes infinite
    assert np.isfinite(fast.losses).all()


def test_on_a_network_all_start_from_one_model_and_it_stays(tmp_path: Path) -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 10))
    before, state = {name: a.copy() for name, a in model.state_dict().items()}, fnn.random.get_state()
    chosen: Any = {
        "SGD": lambda params: optim.SGD(params, lr=0.05),
        "Adam": lambda params: optim.Adam(params, lr=0.002),
        "still": lambda params: optim.SGD(params, lr=0.0),
    }
    result = fnn.compare_optimizers(model, DATA, optimizers=chosen, epochs=1, batch_size=20, points=5, progress=False)
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    assert fnn.random.get_state() == state
    sgd, adam, still = result.paths
    start = fnn.evaluate(model, DATA).loss
    assert sgd.losses[0] == adam.losses[0] == start
    assert (still.losses == start).all()
    np.testing.assert_allclose(sgd.coordinates[0], adam.coordinates[0])
    assert min(sgd.losses[-1], adam.losses[-1]) == result.centre
    assert result.explained is not None
    result.save(tmp_path / "c.npz")
    assert [path.name for path in fnn.landscape.load(tmp_path / "c.npz").paths] == ["SGD", "Adam", "still"]


def test_on_a_network_it_says_who_trains_and_paths_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Bar(tqdm.tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "file": io.StringIO(), "disable": options["disable"] is True})

        def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
            shown.append(s)

    monkeypatch.setattr("tqdm.tqdm", Bar)
    model = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 10))
    chosen: Any = {"one": lambda params: optim.SGD(params, lr=0.05), "two": lambda params: optim.Adam(params)}
    options: Any = {"optimizers": chosen, "epochs": 1, "batch_size": 5, "points": 3}
    whole = fnn.compare_optimizers(model, DATA, **options)
    assert shown == ["one", "two"]
    monkeypatch.setattr("fastnn.insight.compare.PATHS_BYTES", 2 * 10 * 4 * 7850)  # ten states for each
    thinned = fnn.compare_optimizers(model, DATA, **options, progress=False)
    for one, other in zip(whole.paths, thinned.paths, strict=True):
        assert len(one.times) > 40
        assert 5 <= len(other.times) <= 12
        np.testing.assert_array_equal(other.losses, one.losses[np.isin(one.times, other.times)])


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("himmelblau",), {}),
        (("ravine",), {"steps": 0}),
        (("ravine", DATA), {}),
        (("ravine",), {"points": 5}),
        ((nn.Linear(2, 2),), {}),
        ((nn.Linear(2, 2), DATA), {"steps": 5}),
        (("ravine",), {"start": (np.inf, 0)}),
        (("ravine",), {"start": 1}),
        (("ravine",), {"start": ("a", "b")}),
        (("ravine",), {"epochs": 3}),
        (("ravine",), {"optimizers": {}}),
        (("ravine",), {"optimizers": ["SGD"]}),
        (("ravine",), {"optimizers": {"SGD": "SGD"}}),
        (("ravine",), {"optimizers": {"SGD": optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)}}),
        ((5,), {}),
        ((nn.Linear(2, 2), DATA), {"epochs": 0}),
        ((nn.Linear(2, 2), DATA), {"optimizers": {}}),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: Any, options: Any) -> None:
    with pytest.raises(ArgumentError, match="expect"):
        fnn.compare_optimizers(*arguments, **options)
