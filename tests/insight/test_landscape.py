"""Landscapes: closed forms, directions by their definitions, principal components by NumPy's SVD, and nothing moved."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import landscape, nn
from fastnn.errors import ArgumentError, DataError, ShapeError, StateError
from fastnn.insight.landscape.directions import coordinates, filter_normalised, principal_components, random_direction
from fastnn.insight.landscape.meter import Meter, averaging, put_back
from fastnn.train import ParameterPath, RecordPath

RNG = np.random.default_rng(7)
X, Y = RNG.normal(size=(40, 3)).astype(np.float32), RNG.normal(size=(40, 1)).astype(np.float32)
IMAGES = RNG.integers(0, 256, (50, 1, 12, 12), dtype=np.uint8), np.arange(50) % 4


def quadratic() -> tuple[nn.Module, Callable[[np.ndarray, np.ndarray], Any]]:
    """A linear model, and its mean squared error on X, Y in float64 as a function of weight (3,) and bias (1,)."""
    fnn.manual_seed(3)

    def loss(weight: np.ndarray, bias: np.ndarray) -> Any:
        return np.mean((X.astype(np.float64) @ weight.astype(np.float64) + bias - Y[:, 0]) ** 2)

    return nn.Linear(3, 1), loss


def normed(seed: int = 1) -> nn.Sequential:
    fnn.manual_seed(seed)
    model = nn.Sequential(
        nn.Normalize(0.4, 0.3), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 4)
    )
    model(IMAGES[0])  # so that the running statistics are not those of the beginning
    return model.eval()


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.state_dict().items()}


# ---- losses on the grid ---------------------------------------------------------------------------------------------


def test_a_line_and_a_plane_of_a_quadratic_model_are_its_closed_form() -> None:
    model, loss = quadratic()
    w, b = (array.copy() for array in (model.weight.data, model.bias.data))
    d = {"weight": np.array([[1.0, -2.0, 0.5]]), "bias": np.array([0.25])}
    p = {"weight": np.array([[0.0, 1.0, 3.0]])}  # the bias stays
    line = landscape.line(model, (X, Y), d, points=9, loss=nn.MSELoss(), progress=False)
    expected = [loss(w[0] + t * d["weight"][0], b + t * d["bias"]) for t in np.linspace(-1, 1, 9)]
    np.testing.assert_allclose(line.losses, expected, rtol=2e-6)
    plane = landscape.plane(model, (X, Y), (d, p), points=(5, 4), extent=((-1, 1), (0, 2)), loss=nn.MSELoss())
    assert plane.losses.shape == (4, 5)
    for i, s in enumerate(np.linspace(0, 2, 4)):
        for j, t in enumerate(np.linspace(-1, 1, 5)):
            wanted = loss(w[0] + t * d["weight"][0] + s * p["weight"][0], b + t * d["bias"])
            assert plane.losses[i, j] == pytest.approx(wanted, rel=2e-6)
    assert plane.accuracies is None


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("batch_size", [256, 16])
def test_the_centre_is_what_evaluate_gives(compile: bool, batch_size: int) -> None:
    model = normed()
    result = landscape.plane(model, IMAGES, points=3, compile=compile, batch_size=batch_size, progress=False)
    wanted = fnn.evaluate(model, IMAGES, compile=compile, batch_size=batch_size)
    assert result.losses[1, 1] == result.centre == wanted.loss
    assert result.accuracies is not None
    assert result.accuracies[1, 1] == wanted.accuracy


@pytest.mark.parametrize("points", [3, 7, 13, 25, 51, 99])
def test_the_middle_is_exactly_zero(points: int) -> None:
    model, _ = quadratic()
    line = landscape.line(model, (X, Y), "random", points=points, loss=nn.MSELoss(), progress=False)
    values = line.axes[0].values
    assert values[points // 2] == 0
    np.testing.assert_allclose(values, np.linspace(-1, 1, points), atol=1e-15)
    assert line.losses[points // 2] == fnn.evaluate(model, (X, Y), loss=nn.MSELoss()).loss


def test_towards_another_model_it_is_the_interpolation(tmp_path: Path) -> None:
    one, other = normed(1), normed(2)
    for name, buffer in other.named_buffers():
        buffer[...] = one.state_dict()[name]  # they are kept on the way
    between = landscape.line(one, IMAGES, other, points=3, extent=(0, 1), progress=False)
    assert between.losses[0] == fnn.evaluate(one, IMAGES).loss
    assert between.losses[2] == pytest.approx(fnn.evaluate(other, IMAGES).loss, rel=1e-4)
    (tmp_path / "run").mkdir()
    fnn.weights.save(other, tmp_path / "run" / "weights.safetensors")
    again = landscape.line(one, IMAGES, tmp_path / "run", points=3, extent=(0, 1), progress=False)
    np.testing.assert_array_equal(again.losses, between.losses)


@pytest.mark.parametrize("points", [2, 3, 5, 7, 25, 51])
def test_towards_another_model_both_are_on_the_grid(points: int) -> None:
    one, other = quadratic()[0], quadratic()[0]
    other.weight.data[...] += 1
    measured = landscape.line(one, (X, Y), other, points=points, loss=nn.MSELoss(), progress=False)
    values = measured.axes[0].values.tolist()
    assert len(values) == points
    assert {0.0, 1.0} <= set(values)
    expected = fnn.evaluate(other, (X, Y), loss=nn.MSELoss()).loss
    assert measured.losses[values.index(1)] == pytest.approx(expected, rel=1e-5)
    if points >= 25:
        assert values[0] == pytest.approx(-0.25, abs=0.04)
        assert values[-1] == pytest.approx(1.25, abs=0.04)
    plane = landscape.plane(one, (X, Y), (other, "random"), points=points, loss=nn.MSELoss(), progress=False)
    assert (plane.axes[0].values.tolist(), plane.axes[1].values[-1]) == (values, 1)


def test_images_that_no_layer_normalises_are_put_on_the_scale_of_evaluate() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    result = landscape.line(model, IMAGES, points=1, extent=(0, 1), progress=False)
    assert result.losses[0] == fnn.evaluate(model, IMAGES).loss


def test_a_larger_data_set_is_sampled_by_class() -> None:
    part = landscape.sample(IMAGES, 8)
    assert np.bincount(part.labels).tolist() == [2, 2, 2, 2]
    model = normed()
    result = landscape.plane(model, IMAGES, points=1, images=8, extent=(0, 1), progress=False)
    assert result.centre == fnn.evaluate(model, part).loss
    assert landscape.sample(IMAGES, 50).images is IMAGES[0]


def test_losses_that_are_no_numbers_are_reported_as_such() -> None:
    model, _ = quadratic()
    huge = {"weight": np.full((1, 3), 3e38, np.float32)}
    line = landscape.line(model, (X, Y), huge, points=3, loss=nn.MSELoss(), progress=False)
    assert np.isfinite(line.losses).tolist() == [False, True, False]


# ---- directions -----------------------------------------------------------------------------------------------------


def test_filters_of_a_filter_normalised_direction_are_as_long_as_the_models() -> None:
    model = normed()
    parameters = {name: parameter.data for name, parameter in model.named_parameters()}
    vector = filter_normalised(parameters, np.random.default_rng(0))
    for name, array in parameters.items():
        if array.ndim == 1:  # biases and batch norm
            assert not vector[name].any()
        else:
            rows = array.reshape(len(array), -1), vector[name].reshape(len(array), -1)
            np.testing.assert_allclose(*(np.linalg.norm(row, axis=1) for row in rows), rtol=1e-6)
    other = filter_normalised(parameters, np.random.default_rng(1))
    assert not np.array_equal(vector["1.weight"], other["1.weight"])


def test_a_random_direction_is_as_long_as_all_parameters() -> None:
    parameters = {"a": np.full((4, 5), 3.0, np.float32), "b": np.zeros(7, np.float32)}
    vector = random_direction(parameters, np.random.default_rng(0))
    length = np.sqrt(sum((array.astype(np.float64) ** 2).sum() for array in vector.values()))
    assert length == pytest.approx(3 * np.sqrt(20), rel=1e-6)
    assert vector["b"].any()


def test_seeds_give_directions() -> None:
    model = normed()
    first, again, other = (
        landscape.line(model, IMAGES, points=3, seed=seed, progress=False).losses for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_principal_components_are_those_of_the_svd() -> None:
    rows = RNG.normal(size=(9, 70_000)) * np.geomspace(1, 100, 9)[:, None]  # more columns than are taken at a time
    components, explained = principal_components(rows, 3)
    centred = rows - rows.mean(axis=0)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(components @ vectors[:3].T), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(explained, (values**2 / (values**2).sum())[:3], rtol=1e-9)
    assert ((rows[-1] - rows[0]) @ components.T > 0).all()


def test_coordinates_of_a_point_in_the_plane_and_of_one_above_it() -> None:
    first, second, up = np.eye(5)[0], np.eye(5)[0] + np.eye(5)[1], np.eye(5)[4]  # not orthogonal
    origin = np.arange(5.0)
    rows = np.stack([origin + 2 * first - 3 * second, origin + 0.5 * second + 7 * up])
    places, distances = coordinates(rows, origin, [first, second])
    np.testing.assert_allclose(places, [[2, -3], [0, 0.5]], atol=1e-12)
    np.testing.assert_allclose(distances, [0, 7], atol=1e-7)


@pytest.mark.parametrize(
    ("directions", "error", "words"),
    [
        ("steepest", ArgumentError, "'random', 'filter', 'pca'"),
        ("pca", ArgumentError, "RecordPath"),
        ({"weight": np.zeros((1, 3))}, ArgumentError, "two directions"),
        (("filter",), ArgumentError, "expected 2 directions, got 1"),
        (({"wait": np.zeros((1, 3))}, "filter"), StateError, "weight, bias, got wait"),
        (({"weight": np.zeros((3, 1))}, "filter"), ShapeError, r"\(1, 3\), got \(3, 1\)"),
        ((nn.Conv2d(1, 1, 3), "filter"), ShapeError, r"weight of shape \(1, 3\)"),
        ((nn.Linear(4, 2), "filter"), ShapeError, r"architecture, with weight of shape \(1, 3\), got \(2, 4\)"),
        ((nn.Sequential(nn.Linear(3, 1)), "filter"), StateError, "without weight, bias"),
    ],
)
def test_directions_that_do_not_fit_are_refused(directions: Any, error: type[Exception], words: str) -> None:
    model, _ = quadratic()
    with pytest.raises(error, match=words):
        landscape.plane(model, (X, Y), directions, points=3, loss=nn.MSELoss())


@pytest.mark.parametrize(
    "options",
    [
        {"points": -1}, {"points": 0}, {"points": 2.5}, {"extent": 0}, {"extent": (1, -1)}, {"extent": "a"},
        {"extent": np.inf}, {"images": 0}, {"images": "all"}, {"batch_norm": "new"}, {"seed": -1}, {"seed": 0.5},
        {"path": "run"}, {"path": {"a": "run"}},
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    model, _ = quadratic()
    for measure, directions in ((landscape.plane, "random"), (landscape.line, "random")):
        with pytest.raises(ArgumentError, match="expected"):
            measure(model, (X, Y), directions, loss=nn.MSELoss(), **options)


def test_vectors_alone_have_no_filters() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(np.ones(3, np.float32))

        def forward(self, x: Any) -> Any:
            return x * self.weight

    with pytest.raises(ArgumentError, match="'random'"):
        landscape.line(Scale(), (X, X), loss=nn.MSELoss())
    assert landscape.line(Scale(), (X, X), "random", points=3, loss=nn.MSELoss()).losses[1] == 0


# ---- nothing is moved for good --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", ["keep", "recompute"])
@pytest.mark.parametrize("how", ["to its end", "an error", "an exception", "SIGINT", "two SIGINTs", "SIGTERM"])
def test_every_bit_is_put_back(how: str, batch_norm: str) -> None:
    model = normed().train()
    model[1].weight.data[0, 0, 0, :2] = [-0.0, 1e-42]  # what w + 0·d would not keep, and a subnormal
    before, handler, calls = bits(model), signal.getsignal(signal.SIGTERM), 0
    cross_entropy = nn.CrossEntropyLoss()

    def loss(outputs: Any, labels: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            assert bits(model) != before
            if how == "an error":
                raise ValueError("in the middle")
            if how == "an exception":
                raise KeyboardInterrupt
            for _ in range(how.count("SIGINT") + how.count("two")):
                signal.raise_signal(signal.SIGINT)
            if how == "SIGTERM":
                signal.raise_signal(signal.SIGTERM)
        return cross_entropy(outputs, labels)

    def terminated(*_: Any) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, terminated)
    try:
        expected: Any = {"an error": ValueError, "SIGTERM": SystemExit}.get(how, KeyboardInterrupt)
        measure = lambda: landscape.plane(model, IMAGES, points=5, loss=loss, batch_norm=batch_norm, progress=False)  # noqa: E731
        if how == "to its end":
            measure()
        else:
            with pytest.raises(expected):
                measure()
        assert signal.getsignal(signal.SIGTERM) is terminated
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert bits(model) == before
    assert [module.training for module in model.modules()] == [True] * 7
    assert model[2].momentum == 0.1


def test_signals_wait_until_all_is_put_back() -> None:
    """Also where they come while the first array is put back."""

    class Loud(np.ndarray):
        def __setitem__(self, key: Any, value: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            super().__setitem__(key, value)

    class Two(nn.Module):
        def state_dict(self, prefix: str = "") -> dict[str, np.ndarray]:
            return {"a": arrays[0].view(Loud), "b": arrays[1]}

    def moved() -> None:
        with put_back(Two()) as interrupts:
            for array in arrays:
                array[...] = 5
            signal.raise_signal(signal.SIGINT)  # is only noted
            interrupts.heed()

    arrays = np.ones(2), np.ones(3)
    with pytest.raises(KeyboardInterrupt):
        moved()
    assert [array.tolist() for array in arrays] == [[1, 1], [1, 1, 1]]


def test_at_the_centre_the_parameters_have_their_bits() -> None:
    """A negative zero too, which w + 0·d would turn into a positive one."""
    model = normed()
    model[1].weight.data[0, 0, 0, 0] = -0.0
    before, seen = bits(model), []
    cross_entropy = nn.CrossEntropyLoss()

    def loss(outputs: Any, labels: Any) -> Any:
        seen.append(bits(model) == before)
        return cross_entropy(outputs, labels)

    landscape.plane(model, IMAGES, points=3, loss=loss, progress=False)
    assert seen == [True] + [i == 4 for i in range(9)]  # w* first, then the grid


def test_statistics_are_recomputed_from_the_images() -> None:
    model = normed()
    dataset = landscape.sample(IMAGES)
    norm = model[2]
    with put_back(model), averaging([norm]) as averaged:
        meter = Meter(model, dataset, nn.CrossEntropyLoss(), averaged, 25, True)
        model[1].weight.data[...] *= 1.5
        meter()
        inputs = model[1](model[0](dataset.images)).data.astype(np.float64)
        halves = [inputs[:25], inputs[25:]]
        np.testing.assert_allclose(norm.running_mean, np.mean([h.mean(axis=(0, 2, 3)) for h in halves], 0), rtol=1e-4)
        variances = np.mean([h.var(axis=(0, 2, 3), ddof=1) for h in halves], 0)
        np.testing.assert_allclose(norm.running_var, variances, rtol=1e-4)
        assert not norm.training


def test_kept_statistics_are_the_models_own() -> None:
    """Scaled weights, but the statistics of before: not what recomputing gives, which undoes the scale."""
    model = normed()
    d = {"1.weight": model[1].weight.data.copy(), "1.bias": model[1].bias.data.copy()}
    kept, new = (
        landscape.line(model, IMAGES, d, points=3, batch_norm=how, progress=False).losses
        for how in ("keep", "recompute")
    )
    assert kept[1] != kept[2]
    assert new[1] == pytest.approx(new[2], rel=1e-4)


# ---- paths ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, ParameterPath]:
    model, record = normed().train(), RecordPath(per_epoch=3)
    optimizer = fnn.optim.SGD(model.parameters(), lr=0.1)
    fnn.fit(model, IMAGES, optimizer=optimizer, epochs=2, batch_size=10, seed=0, callbacks=[record], verbose=False)
    return model, record.path


def test_a_path_lies_where_its_states_are(trained: tuple[nn.Module, ParameterPath]) -> None:
    model, path = trained
    result = landscape.plane(model, IMAGES, path=path, points=7, progress=False)
    (way,) = result.paths
    names = [name for name, _ in model.named_parameters()]
    rows = np.stack([np.concatenate([state[name].ravel() for name in names]) for state in path]).astype(np.float64)
    _, values, vectors = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    seen = rows - rows[-1]
    np.testing.assert_allclose(np.abs(way.coordinates), np.abs(seen @ vectors[:2].T), atol=1e-5)
    left = seen - (seen @ vectors[:2].T) @ vectors[:2]
    np.testing.assert_allclose(way.distances, np.linalg.norm(left, axis=1), atol=1e-4)
    np.testing.assert_allclose(result.explained, (values**2 / (values**2).sum())[:2], rtol=1e-5)
    assert way.explained == result.explained
    for axis, column in zip(result.axes, way.coordinates.T, strict=True):  # all of it is on the picture, and 0
        assert axis.values[0] < column.min() <= column.max() < axis.values[-1]
        assert 0 in axis.values
    i, j = (int(np.flatnonzero(axis.values == 0)[0]) for axis in reversed(result.axes))
    assert result.losses[i, j] == result.centre


def test_losses_on_a_path_are_those_of_its_models(trained: tuple[nn.Module, ParameterPath]) -> None:
    """With the running statistics of then."""
    model, path = trained
    way = landscape.trajectory(model, IMAGES, path, progress=False)
    other = normed(9)
    for state, loss in zip(path, way.losses, strict=True):
        other.load_state_dict(state)
        assert fnn.evaluate(other, IMAGES).loss == loss
    assert way.times.tolist() == [0, 1 / 5, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2]


def test_several_paths_share_one_plane(trained: tuple[nn.Module, ParameterPath]) -> None:
    model, path = trained
    result = landscape.plane(model, IMAGES, path={"one": path, "half": path[:4]}, points=3, progress=False)
    assert [way.name for way in result.paths] == ["one", "half"]
    np.testing.assert_array_equal(result.paths[1].coordinates, result.paths[0].coordinates[:4])
    with pytest.raises(ArgumentError, match="spans 2 directions, got 2 points"):
        landscape.plane(model, IMAGES, path=path[:2], points=3)
    with pytest.raises(StateError, match="expected a path with"):
        landscape.plane(nn.Linear(3, 1), (X, Y), path=path, loss=nn.MSELoss())


# ---- files ----------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_read_back_bit_for_bit(tmp_path: Path, trained: tuple[nn.Module, ParameterPath]) -> None:
    model, path = trained
    result = landscape.plane(model, IMAGES, path=path, points=4, progress=False)
    result.losses[0, 0] = np.inf
    result.save(tmp_path / "l.npz")
    again = landscape.load(tmp_path / "l.npz")
    assert again.losses.tobytes() == result.losses.tobytes()
    assert again.accuracies is not None
    assert result.accuracies is not None
    assert again.accuracies.tobytes() == result.accuracies.tobytes()
    for axis, before in zip(again.axes, result.axes, strict=True):
        assert (axis.label, axis.explained) == (before.label, before.explained)
        assert axis.values.tobytes() == before.values.tobytes()
    assert (again.centre, again.title, again.about, again.time) == (
        result.centre, result.title, result.about, result.time,
    )  # fmt: skip
    for name in ("times", "coordinates", "losses", "distances"):
        assert getattr(again.paths[0], name).tobytes() == getattr(result.paths[0], name).tobytes()
    assert repr(again) == repr(result)


def test_what_is_no_landscape_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    for name in ("text.npz", "other.npz", "none.npz"):
        with pytest.raises(DataError, match=name):
            landscape.load(tmp_path / name)
