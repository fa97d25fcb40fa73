"""Batches, orders, splits, statistics and augmentation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastnn.random
from fastnn.data import Augment, Batches, Dataset, stratified_split
from fastnn.data.split import order_of
from fastnn.errors import ArgumentError, DTypeError, LabelError, ShapeError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 1, 4, 4), dtype=np.uint8)
LABELS = np.arange(10)


def labels_of(batches):
    return [labels.tolist() for _, labels in batches]


# --- batches ---


def test_in_order_the_last_batch_is_kept():
    batches = Batches(IMAGES, LABELS, 4)
    assert len(batches) == 3
    assert labels_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_in_order_the_last_batch_is_dropped():
    batches = Batches(IMAGES, LABELS, 4, drop_last=True)
    assert len(batches) == 2
    assert labels_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(labels_of(Batches(IMAGES, LABELS, 5, drop_last=True))) == 2


@given(n=st.integers(0, 40), batch_size=st.integers(1, 45), shuffle=st.booleans(), seed=st.integers(0, 2**64 - 1))
def test_an_epoch_shows_every_image_once_beside_its_label(n, batch_size, shuffle, seed):
    images = np.arange(n)[:, np.newaxis] * 7
    batches = Batches(images, np.arange(n), batch_size, shuffle=shuffle, seed=seed)
    pairs = list(batches)
    assert len(pairs) == len(batches)
    assert sorted(label for _, labels in pairs for label in labels) == list(range(n))
    assert all((x[:, 0] == 7 * y).all() for x, y in pairs)


def test_shuffling_depends_on_seed_and_epoch_alone():
    first = Batches(IMAGES, LABELS, 3, shuffle=True, seed=5)
    again = Batches(IMAGES, LABELS, 3, shuffle=True, seed=5)
    epochs = [labels_of(first) for _ in range(3)]
    np.random.default_rng(1).random(100)
    assert [labels_of(again) for _ in range(3)] == epochs
    assert epochs[0] != epochs[1] != epochs[2]
    assert labels_of(Batches(IMAGES, LABELS, 3, shuffle=True, seed=6)) != epochs[0]


def test_order_does_not_depend_on_the_batch_size():
    orders = [
        np.concatenate(labels_of(Batches(IMAGES, LABELS, size, shuffle=True, seed=5))).tolist() for size in (1, 3, 10)
    ]
    assert orders[0] == orders[1] == orders[2]


def test_training_is_resumed_by_setting_the_epoch():
    whole = Batches(IMAGES, LABELS, 3, shuffle=True, seed=5)
    epochs = [labels_of(whole) for _ in range(4)]
    resumed = Batches(IMAGES, LABELS, 3, shuffle=True, seed=5)
    resumed.epoch = 2
    assert [labels_of(resumed) for _ in range(2)] == epochs[2:]
    assert resumed.order(3).tolist() == np.concatenate(epochs[3]).tolist()


def philox4x64(key, counter):
    """Philox4x64-10 of Salmon et al. 2011 (doi:10.1145/2063384.2063405), written down once more in Python."""
    mask = 2**64 - 1
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * counter[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * counter[2], 2**64)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
    return counter


def test_philox_gives_the_known_answers_of_random123():
    assert philox4x64([0, 0], [0, 0, 0, 0])[:2] == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC]
    assert philox4x64([2**64 - 1] * 2, [2**64 - 1] * 4)[:2] == [0x87B092C3013FE90B, 0x438C3C67BE8D0224]


def test_the_order_of_a_seed_is_that_of_philox_words():
    """So that it never changes: runs are repeated by their seed. NumPy counts up before each block of four words."""
    words = [word for block in (1, 2, 3) for word in philox4x64([2**64 - 5, 1], [block, 7, 0, 0])]
    expected = sorted(range(10), key=words.__getitem__)
    assert Batches(IMAGES, LABELS, shuffle=True, seed=2**64 - 5).order(7).tolist() == expected


def test_without_a_seed_the_order_follows_manual_seed():
    orders = []
    for seed in (3, 3, 4):
        fastnn.random.manual_seed(seed)
        orders.append(Batches(IMAGES, LABELS, shuffle=True).order(0).tolist())
    assert orders[0] == orders[1] != orders[2]


def test_without_anything_random_no_number_is_drawn():
    fastnn.random.manual_seed(0)
    before = fastnn.random.get_state()
    Batches(IMAGES, LABELS)
    assert fastnn.random.get_state() == before


def test_first_positions_are_uniform():
    """Over 2000 epochs each of 10 samples comes first about 200 times: chi-square, 9 degrees of freedom, p = 1e-4."""
    batches = Batches(IMAGES, LABELS, shuffle=True, seed=1)
    firsts = np.bincount([batches.order(epoch)[0] for epoch in range(2000)], minlength=10)
    assert ((firsts - 200) ** 2 / 200).sum() < 33.7


def test_in_order_batches_are_views_and_shuffled_ones_are_not():
    assert np.shares_memory(next(iter(Batches(IMAGES, LABELS, 4)))[0], IMAGES)
    assert not np.shares_memory(next(iter(Batches(IMAGES, LABELS, 4, shuffle=True, seed=0)))[0], IMAGES)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((IMAGES, LABELS[:9]), {}, ShapeError, r"samples \(10, 1, 4, 4\) and labels \(9,\)"),
        ((np.uint8(0), LABELS), {}, ShapeError, r"samples \(\) and labels \(10,\)"),
        ((IMAGES, LABELS, 0), {}, ArgumentError, "at least 1, got 0"),
        ((IMAGES, LABELS, 2.5), {}, ArgumentError, "at least 1, got 2.5"),
        ((IMAGES, LABELS), {"shuffle": True, "seed": 0.5}, ArgumentError, "whole seed from 0 .* got 0.5"),
        ((IMAGES, LABELS, 11), {"drop_last": True}, ArgumentError, "got 10 samples for batches of 11"),
        ((IMAGES, LABELS), {"shuffle": True, "seed": -1}, ArgumentError, "seed from 0 .* got -1"),
        ((IMAGES, LABELS), {"shuffle": True, "seed": 2**64}, ArgumentError, "seed from 0 .* got 18446744073709551616"),
    ],
)
def test_batches_refuse(arguments, options, error, message):
    with pytest.raises(error, match=message):
        list(Batches(*arguments, **options))


# --- splits ---


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=60),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**64 - 1),
)
def test_split_is_stratified_and_complete(labels, share, seed):
    labels = np.array(labels)
    count = min(max(round(share * len(labels)), 1), len(labels) - 1)
    rest, held = stratified_split(labels, count, seed)
    assert len(held) == count
    assert np.array_equal(np.sort(np.concatenate([rest, held])), np.arange(len(labels)))
    assert (np.diff(rest) > 0).all()
    assert (np.diff(held) > 0).all()
    for label in np.unique(labels):
        share_of_class = (labels == label).sum() * count / len(labels)
        assert abs((labels[held] == label).sum() - share_of_class) < 1


def test_split_depends_on_the_seed():
    labels = np.repeat([0, 1], 50)
    splits = [stratified_split(labels, 0.3, seed)[1].tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]
    assert len(splits[0]) == 30


def test_split_of_labels_that_are_no_classes():
    rest, held = stratified_split(np.linspace(0, 1, 20), 0.25)
    assert (len(rest), len(held)) == (15, 5)
    assert len(stratified_split(np.eye(10), 3)[1]) == 3


@pytest.mark.parametrize("held", [0, 10, -1, 0.0, 1.0, 1.5, -0.1, 0.01])
def test_split_refuses_an_empty_part(held):
    with pytest.raises(ArgumentError, match="from 1 to 9 of 10 samples, got"):
        stratified_split(LABELS, held)


# --- data sets ---


def test_dataset_keeps_arrays_and_fills_in_classes():
    whole = Dataset(IMAGES, [0, 1, 2, 3, 4] * 2)
    assert whole.images is IMAGES
    assert whole.labels.dtype == np.int64
    assert whole.classes == ("0", "1", "2", "3", "4")
    assert whole.image_shape == (1, 4, 4)
    assert len(whole) == 10


def test_dataset_of_soft_one_hot_and_real_labels():
    soft = np.full((10, 3), 1 / 3)
    assert Dataset(IMAGES, soft).labels.dtype == np.float64
    assert Dataset(IMAGES, soft).classes == ("0", "1", "2")
    assert Dataset(IMAGES, np.eye(10, dtype=int)).labels.dtype == np.float32
    assert Dataset(IMAGES, np.linspace(0, 1, 10)).classes == ()
    assert Dataset(IMAGES, np.arange(10) % 2 == 0).labels.tolist() == [1, 0] * 5


@pytest.mark.parametrize(
    ("images", "labels", "classes", "error", "message"),
    [
        (IMAGES, LABELS[:3], (), ShapeError, "each of 10 samples, got 3"),
        (np.zeros(10), LABELS, (), ShapeError, r"shape \(10,\)"),
        (IMAGES.astype(np.int32), LABELS, (), DTypeError, "uint8 or floating images, got int32"),
        (IMAGES, LABELS - 1, (), LabelError, "from -1 to 8"),
        (IMAGES, LABELS, "abc", LabelError, "labels 0 to 2, got labels from 0 to 9"),
        (IMAGES, LABELS[:, np.newaxis], (), LabelError, r"got int64 \(10, 1\)"),
        (IMAGES, ["cat"] * 10, ("dog",), LabelError, "expected labels among 'dog', got 'cat'"),
    ],
)
def test_dataset_refuses(images, labels, classes, error, message):
    with pytest.raises(error, match=message):
        Dataset(images, labels, classes)


def test_subset_and_split_keep_images_beside_labels_and_all_classes():
    whole = Dataset(IMAGES, LABELS, "abcdefghij", "letters")
    rest, held = whole.split(0.3, seed=2)
    assert (len(rest), len(held)) == (7, 3)
    assert rest.classes == held.classes == tuple("abcdefghij")
    assert held.name == "letters"
    for part in (rest, held, whole.subset(LABELS > 4)):
        np.testing.assert_array_equal(part.images, IMAGES[part.labels])


def test_statistics_of_bytes_are_those_of_pixels_divided_by_255():
    images = np.random.default_rng(1).integers(0, 256, (2100, 3, 5, 4), dtype=np.uint8)
    images[:, 2] = 51
    mean, std = Dataset(images, np.zeros(2100, int)).statistics()
    pixels = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std[:2], pixels.std(axis=(0, 2, 3))[:2], rtol=1e-12)
    assert std[2] == 1.0


def test_statistics_of_floats_are_theirs():
    images = np.random.default_rng(1).normal(3, 2, (50, 2, 3, 3)).astype(np.float32)
    mean, std = Dataset(images, np.zeros(50, int)).statistics()
    np.testing.assert_allclose(mean, images.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, images.std(axis=(0, 2, 3)), rtol=1e-6)
    assert len(Dataset(images.reshape(50, -1), np.zeros(50, int)).statistics()[0]) == 1


def test_statistics_of_nothing_are_refused():
    with pytest.raises(ShapeError, match="at least one image"):
        Dataset(IMAGES[:0], LABELS[:0]).statistics()


# --- augmentation ---


def augmented(images, seed=0, **options):
    return Augment(**options)(images, np.random.default_rng(seed))


def test_shift_moves_by_whole_pixels_and_brings_in_zeros():
    image = np.arange(1, 17, dtype=np.uint8).reshape(1, 1, 4, 4)
    padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)))
    moves = {padded[0, 0, y : y + 4, x : x + 4].tobytes() for y in range(3) for x in range(3)}
    seen = {moved.tobytes() for moved in augmented(np.repeat(image, 300, axis=0), shift=1)}
    assert seen == moves


def test_flip_mirrors_about_half_of_the_images():
    images = np.repeat(IMAGES[:1], 400, axis=0)
    flipped = augmented(images, flip=True)
    mirrored = (flipped == images[..., ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (flipped == images).all(axis=(1, 2, 3))).all()
    assert 150 < mirrored.sum() < 250


class FixedAngle:
    """Stands for a generator whose angles are all the same; shifts and reflections are random."""

    def __init__(self, angle):
        self.angle = angle
        generator = np.random.default_rng(0)
        self.integers, self.random = generator.integers, generator.random

    def uniform(self, low, high, size):
        return np.full(size, self.angle)


def test_rotation_by_a_right_angle_is_exact():
    images = np.random.default_rng(2).integers(0, 256, (3, 2, 5, 5), dtype=np.uint8)
    np.testing.assert_array_equal(Augment(rotate=90)(images, FixedAngle(90)), np.rot90(images, -1, axes=(2, 3)))


def test_rotation_by_zero_degrees_agrees_with_whole_pixels():
    images = np.random.default_rng(3).integers(0, 256, (200, 3, 6, 7), dtype=np.uint8)
    slid = Augment(shift=2, flip=True)(images, FixedAngle(0.0))
    rotated = Augment(shift=2, rotate=30, flip=True)(images, FixedAngle(0.0))
    np.testing.assert_array_equal(rotated, slid)


def test_rotation_interpolates_between_pixels():
    """A vertical ramp turned by a becomes cos(a) * y - sin(a) * x, away from the edges; computed here in float64."""
    y, x = np.mgrid[-10:11, -10:11].astype(np.float64)
    ramp = (y + 20).astype(np.float32).reshape(1, 1, 21, 21)
    angle = np.deg2rad(25.0)
    turned = Augment(rotate=30)(ramp, FixedAngle(25.0))[0, 0]
    expected = np.cos(angle) * y - np.sin(angle) * x + 20
    inside = np.hypot(y, x) < 10
    np.testing.assert_allclose(turned[inside], expected[inside], atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"shift": 2}, {"flip": True}, {"rotate": 15.0}, {"shift": 1, "rotate": 9, "flip": True}]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_augmentation_is_seeded_and_leaves_its_input_alone(options, dtype):
    images = np.random.default_rng(4).integers(0, 256, (200, 3, 8, 6), dtype=np.uint8).astype(dtype)
    images.flags.writeable = False
    first, again, other = (augmented(images, seed, **options) for seed in (1, 1, 2))
    assert first.dtype == dtype
    assert first.shape == images.shape
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != images).any()
    assert first.max() <= images.max()


def test_no_augmentation_changes_nothing():
    np.testing.assert_array_equal(augmented(IMAGES), IMAGES)
    assert augmented(IMAGES[:0], shift=2, rotate=5).shape == (0, 1, 4, 4)


@pytest.mark.parametrize(
    "options", [{"shift": -1}, {"rotate": -0.5}, {"rotate": float("nan")}, {"rotate": float("inf")}]
)
def test_augment_refuses_options(options):
    with pytest.raises(ArgumentError, match="at least 0, got"):
        Augment(**options)


def test_augment_refuses_what_is_no_image():
    with pytest.raises(ShapeError, match=r"\(N, C, H, W\) to augment, got \(10, 16\)"):
        augmented(IMAGES.reshape(10, 16), shift=1)


def test_batches_augment_by_seed_epoch_and_batch():
    images = np.random.default_rng(5).integers(0, 256, (50, 1, 9, 9), dtype=np.uint8)

    def epoch(seed, number):
        batches = Batches(images, np.arange(50), 16, seed=seed, augment=Augment(shift=2, rotate=20))
        batches.epoch = number
        return np.concatenate([x for x, _ in batches])

    np.testing.assert_array_equal(epoch(0, 1), epoch(0, 1))
    assert (epoch(0, 0) != epoch(0, 1)).any()
    assert (epoch(0, 0) != epoch(1, 0)).any()
    same = Batches(images[[0] * 32], np.arange(32), 16, seed=0, augment=Augment(shift=2, rotate=20))
    first, second = (x for x, _ in same)
    assert (first != second).any()


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
@pytest.mark.parametrize("bits", [1, 8, 64])
def test_random_words_are_sorted_as_a_stable_sort_does(n, bits):
    """Also words of which many are equal, or differ in the lowest bits alone."""
    words = np.random.Philox(n).random_raw(n) >> np.uint64(64 - bits)
    order = order_of(words)
    assert order.dtype == np.int64
    assert order.tolist() == sorted(range(n), key=lambda i: (int(words[i]), i))


@pytest.mark.parametrize("make", [np.ascontiguousarray, np.asfortranarray, lambda x: x[::-1], lambda x: x[:, ::2]])
def test_shuffled_batches_of_arrays_in_any_layout(make):
    images = make(np.arange(84.0).reshape(21, 4))
    for x, y in Batches(images, np.arange(21), 5, shuffle=True, seed=3):
        assert x.tolist() == [images[i].tolist() for i in y]
        assert not np.may_share_memory(x, images)
