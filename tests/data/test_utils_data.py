"""fastnn.utils.data beside PyTorch's: batches, samplers, splits, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.errors import ArgumentError, ShapeError
from fastnn.utils import data as D

X, Y = np.arange(14, dtype=np.float32).reshape(7, 2), np.arange(7)


class Squares(D.Dataset):
    def __len__(self) -> int:
        return 7

    def __getitem__(self, i: int) -> Any:
        return {"x": X[i], "n": i * i, "name": str(i)}


class Stream(D.IterableDataset):
    def __iter__(self) -> Any:
        return iter(range(5))


def _lists(batches: Any) -> Any:
    if isinstance(batches, (list, tuple)):
        return [_lists(each) for each in batches]
    if isinstance(batches, dict):
        return {key: _lists(each) for key, each in batches.items()}
    return batches.tolist() if hasattr(batches, "tolist") else batches


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 3}, {"batch_size": 3, "drop_last": True}, {}, {"batch_size": 2, "sampler": [6, 0, 3]},
     {"batch_sampler": [[0, 2], [5]]}, {"batch_size": None}, {"batch_size": 2, "num_workers": 0, "pin_memory": False}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["tensors", "subset", "concat"])
def test_batches_are_torchs(kind: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    T = torch.utils.data
    made = []
    for m, wrap in ((D, fnn.Tensor), (T, torch.from_numpy)):
        whole = m.TensorDataset(wrap(X), wrap(Y))
        chosen = {
            "tensors": whole,
            "subset": m.Subset(m.Subset(whole, [6, 5, 4, 3, 2, 1, 0]), range(7)),
            "concat": m.ConcatDataset([m.Subset(whole, [1, 2]), whole]),
        }
        made.append(m.DataLoader(chosen[kind], **options))
    assert len(made[0]) == len(made[1])
    assert _lists(list(made[0])) == _lists(list(made[1]))
    assert _lists(list(made[0])) == _lists(list(made[0]))  # a second epoch


def test_dicts_and_streams() -> None:
    first = next(iter(D.DataLoader(Squares(), batch_size=3)))
    assert _lists(first) == {"x": X[:3].tolist(), "n": [0, 1, 4], "name": ["0", "1", "2"]}
    assert _lists(list(D.DataLoader(Stream(), batch_size=2))) == [[0, 1], [2, 3], [4]]
    assert _lists(list(D.DataLoader(Stream(), batch_size=2, drop_last=True))) == [[0, 1], [2, 3]]
    assert list(D.DataLoader(Squares(), batch_size=2, collate_fn=lambda s: sum(x["n"] for x in s))) == [1, 13, 41, 36]


def test_shuffled_epochs_differ_and_a_seed_repeats_them() -> None:
    loader = D.DataLoader(D.TensorDataset(X, Y), batch_size=3, shuffle=True)
    epochs = []
    for _ in range(2):
        fnn.manual_seed(3)
        epochs.append([[y.tolist() for _, y in loader] for _ in range(4)])
    assert epochs[0] == epochs[1]
    assert len({str(epoch) for epoch in epochs[0]}) > 1
    for epoch in epochs[0]:
        assert sorted(i for batch in epoch for i in batch) == list(range(7))
    for x, y in loader:
        np.testing.assert_array_equal(x.numpy(), X[y.numpy()])
    twice = [
        [y.tolist() for _, y in D.DataLoader(D.TensorDataset(X, Y), 7, True, generator=np.random.default_rng(1))]
        for _ in range(2)
    ]
    assert twice[0] == twice[1]


def test_splits_and_samplers() -> None:
    fnn.manual_seed(0)
    parts = D.random_split(Squares(), [5, 2])
    assert sorted(i for part in parts for i in part.indices) == list(range(7))
    assert [len(part) for part in D.random_split(Squares(), [0.5, 0.5])] == [4, 3]
    drawn = list(D.WeightedRandomSampler([0.0, 1.0, 3.0], 4000))
    assert drawn.count(0) == 0
    assert drawn.count(2) / 4000 == pytest.approx(0.75, abs=0.03)
    assert sorted(D.WeightedRandomSampler([1.0, 1.0, 0.0], 2, replacement=False)) == [0, 1]
    assert len(list(D.RandomSampler(range(3), num_samples=8))) == 8
    assert set(D.RandomSampler(range(3), replacement=True, num_samples=50)) == {0, 1, 2}
    assert sorted(D.SubsetRandomSampler([4, 2, 9])) == [2, 4, 9]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: D.TensorDataset(X, Y[:3]), ShapeError, "tensors of one length"),
        (lambda: D.TensorDataset(), ShapeError, "got none"),
        (lambda: D.DataLoader(Squares(), shuffle=True, sampler=[0]), ArgumentError, "sampler or shuffle"),
        (lambda: D.DataLoader(Squares(), 2, batch_sampler=[[0]]), ArgumentError, "batch_sampler alone"),
        (lambda: D.DataLoader(Stream(), shuffle=True), ArgumentError, "its own order"),
        (lambda: D.DataLoader(Squares(), batch_size=0), ArgumentError, "batch_size to be a positive integer"),
        (lambda: D.DataLoader(3), ArgumentError, "a data set with a length, got int"),
        (lambda: D.random_split(Squares(), [3, 3]), ArgumentError, "with the sum 7"),
        (lambda: D.WeightedRandomSampler([0.0], 1), ArgumentError, "not all of them 0"),
        (
            lambda: D.DataLoader(Squares(), shuffle=True, generator=3).__iter__().__next__(),
            ArgumentError,
            "expected generator=fnn.Generator",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_classes_of_data_take_types_as_pytorchs() -> None:
    class Buckets(D.Sampler[list[int]]):
        def __iter__(self) -> Any:
            yield from ([2, 0], [1])

    rows: D.DataLoader[Any] = D.DataLoader(D.TensorDataset(fnn.arange(3)), batch_sampler=Buckets())
    assert [batch.tolist() for (batch,) in rows] == [[2, 0], [1]]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("count", "replicas"), [(7, 2), (6, 3), (2, 5), (1, 1)])
def test_distributed_samplers_share_out_the_indices_as_pytorchs(count: int, replicas: int, drop_last: bool) -> None:
    torch = pytest.importorskip("torch")
    for rank in range(replicas):
        own, other = (
            data.DistributedSampler(range(count), replicas, rank, shuffle=False, drop_last=drop_last)
            for data in (fnn.utils.data, torch.utils.data)
        )
        assert (list(own), len(own)) == (list(other), len(other))
    shuffled = [
        fnn.utils.data.DistributedSampler(range(count), replicas, r, drop_last=drop_last) for r in range(replicas)
    ]
    epochs = []
    for epoch in range(2):
        for sampler in shuffled:
            sampler.set_epoch(epoch)
        epochs.append([index for sampler in shuffled for index in sampler])
        assert list(shuffled[0]) == list(shuffled[0])
        if not drop_last:
            assert set(epochs[-1]) == set(range(count))
    assert count < 6 or epochs[0] != epochs[1]
    with pytest.raises(ArgumentError, match="rank"):
        fnn.utils.data.DistributedSampler(range(count), replicas, replicas)
