"""fit and evaluate, against loops and formulas written out by hand."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.data import Batches, Dataset
from fastnn.errors import ArgumentError, DataError, LabelError, NonFiniteError
from fastnn.train import Callback, Training, evaluate, fit

N, SIDE, K = 48, 4, 3


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    state = fnn.random.get_state()
    fnn.manual_seed(7)
    yield
    fnn.random.set_state(state)


@pytest.fixture
def data() -> Dataset:
    """Three kinds of noisy float images that a linear model can tell apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % K
    images = rng.normal(size=(N, 1, SIDE, SIDE)).astype(np.float32)
    images[np.arange(N), 0, labels, :] += 2
    return Dataset(images, labels)


def small_model() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, K))


def loss_by_hand(model: nn.Sequential, data: Dataset) -> tuple[float, np.ndarray]:
    """Mean cross-entropy of the linear model, and the classes found, in float64."""
    weight, bias = (p.data.astype(np.float64) for p in model.parameters())
    logits = data.images.reshape(len(data), -1) @ weight.T + bias
    log_sums = np.log(np.exp(logits).sum(axis=1))
    return float((log_sums - logits[np.arange(len(data)), data.labels]).mean()), logits.argmax(axis=1)


@pytest.mark.parametrize("compile", [False, True])
def test_fit_does_what_a_loop_by_hand_does(data: Dataset, compile: bool) -> None:
    model, twin = small_model(), small_model()
    twin.load_state_dict(model.state_dict())
    fit(
        model,
        data,
        optimizer=optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        epochs=2,
        batch_size=10,
        seed=3,
        verbose=False,
        compile=compile,
    )

    loss_fn, optimizer = nn.CrossEntropyLoss(), optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    batches = Batches(data.images, data.labels, 10, shuffle=True, seed=3)
    for _ in range(2):
        for images, labels in batches:
            loss = loss_fn(twin(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        if compile:  # sums in another order
            np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-5, atol=1e-6)
        else:
            assert ours.data.tobytes() == theirs.data.tobytes()


def test_a_fraction_is_held_out_by_class_and_never_trained_on(data: Dataset) -> None:
    class Look(Callback):
        def on_train_begin(self, training: Training) -> None:
            self.trained = training.batches

    look = Look()
    history = fit(small_model(), data, val=0.25, seed=1, callbacks=[look], verbose=False)
    rest, held = data.split(0.25, seed=1)
    np.testing.assert_array_equal(look.trained.images, rest.images)
    assert np.bincount(held.labels).tolist() == [4, 4, 4]
    assert history[0].val_loss is not None


def test_history_holds_the_true_losses_accuracies_and_rates(data: Dataset) -> None:
    model = small_model()
    still = optim.SGD(model.parameters(), lr=0.0)  # so that the loss during the epoch is the model's loss
    rest, held = data.split(12, seed=0)
    schedule = optim.lr_scheduler.LambdaLR(still, lambda epoch: 1.0)
    (record,) = fit(model, rest, held, optimizer=still, scheduler=schedule, batch_size=7, verbose=False)
    for part, loss, accuracy in (
        (rest, record.train_loss, record.train_accuracy),
        (held, record.val_loss, record.val_accuracy),
    ):
        expected, found = loss_by_hand(model, part)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert accuracy == np.mean(found == part.labels)
    assert (record.epoch, record.lr) == (1, 0.0)
    assert record.images_per_second == pytest.approx(len(rest) / record.seconds)


def test_it_learns(data: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    history = fit(small_model(), (data.images, data.labels), epochs=60, batch_size=8, seed=0)
    assert history[-1].train_accuracy > 0.9 > history[0].train_accuracy
    header, _, table = capsys.readouterr().out.rstrip("\n").partition("\n")
    assert header == "loss: CrossEntropyLoss, for class labels"
    assert table == repr(history)  # epoch by epoch


def test_bytes_are_scaled_alike_in_fit_and_evaluate_whether_normalised_or_not(data: Dataset) -> None:
    images = np.random.default_rng(1).integers(0, 256, (N, 1, SIDE, SIDE), np.uint8)
    plain, normalised = small_model(), nn.Sequential(nn.Normalize(0.0, 1.0), nn.Flatten(), nn.Linear(SIDE * SIDE, K))
    normalised[2].load_state_dict(plain[1].state_dict())
    for model in (plain, normalised):
        fit(model, (images, data.labels), seed=0, verbose=False)
    np.testing.assert_allclose(plain[1].weight.data, normalised[2].weight.data, rtol=1e-5, atol=1e-6)
    floats = Dataset(images.astype(np.float32) / 255, data.labels)
    assert evaluate(plain, (images, data.labels)).loss == pytest.approx(loss_by_hand(plain, floats)[0], rel=1e-5)


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not(data: Dataset) -> None:
    def trained(seed: int) -> bytes:
        fnn.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 8), nn.Dropout(0.5), nn.Linear(8, K))
        fit(model, data, epochs=2, batch_size=16, seed=seed, verbose=False)
        return b"".join(p.data.tobytes() for p in model.parameters())

    assert trained(0) == trained(0)
    assert trained(0) != trained(1)


def test_schedules_by_epoch_and_by_batch(data: Dataset) -> None:
    def rates(make: object, epochs: int) -> list[float]:
        model = small_model()
        optimizer = optim.SGD(model.parameters(), lr=1.0)
        return fit(
            model, data, optimizer=optimizer, scheduler=make(optimizer), epochs=epochs, batch_size=12, verbose=False
        )["lr"]

    assert rates(lambda o: optim.lr_scheduler.StepLR(o, 2, gamma=0.1), 4) == pytest.approx([1, 1, 0.1, 0.1])
    steps = 2 * N // 12
    reference = optim.SGD(small_model().parameters(), lr=1.0)
    cycle = optim.lr_scheduler.OneCycleLR(reference, max_lr=0.1, total_steps=steps + 1)
    by_step = []
    for _ in range(steps):
        by_step.append(reference.param_groups[0]["lr"])
        cycle.step()
    found = rates(lambda o: optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=steps + 1), 2)
    assert found == [by_step[steps // 2 - 1], by_step[-1]]
    plateau = rates(lambda o: optim.lr_scheduler.ReduceLROnPlateau(o, patience=0, mode="max"), 3)  # the loss falls
    assert plateau == pytest.approx([1, 1, 0.1])


def test_regression_has_a_loss_and_no_accuracy() -> None:
    x = np.linspace(-1, 1, 20, dtype=np.float32)[:, np.newaxis]
    model = nn.Sequential(nn.Linear(1, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.3)
    history = fit(model, (x, 2 * x + 1), loss=nn.MSELoss(), optimizer=optimizer, epochs=60, verbose=False)
    assert history[-1].train_loss < 1e-3
    assert history[-1].train_accuracy is None
    result = evaluate(model, (x, 2 * x + 1), loss=nn.MSELoss())
    assert (result.accuracy, result.confusion, result.count) == (None, None, 20)


def test_soft_labels_and_summed_losses(data: Dataset) -> None:
    model = small_model()
    hard = evaluate(model, data)
    soft = evaluate(model, (data.images, np.eye(K, dtype=np.float32)[data.labels]))
    summed = evaluate(model, data, loss=nn.CrossEntropyLoss(reduction="sum"), batch_size=5)
    assert soft.loss == pytest.approx(hard.loss, rel=1e-6)
    assert soft.accuracy == hard.accuracy
    assert summed.loss == pytest.approx(hard.loss, rel=1e-6)


def test_evaluate_counts_who_was_taken_for_whom(data: Dataset) -> None:
    model = small_model()
    result = evaluate(model, data, batch_size=7)
    expected, found = loss_by_hand(model, data)
    confusion = np.zeros((K, K), int)
    for truth, guess in zip(data.labels, found, strict=True):
        confusion[truth, guess] += 1
    np.testing.assert_array_equal(result.confusion, confusion)
    assert result.loss == pytest.approx(expected, rel=1e-5)
    assert result.accuracy == np.trace(confusion) / N
    assert evaluate(model, Batches(data.images, data.labels, 5, shuffle=True)).loss == pytest.approx(result.loss)


def test_each_module_gets_its_mode_back(data: Dataset) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(SIDE * SIDE, K)).eval()
    model[1].training = True
    modes = []
    model.forward = lambda x, whole=model.forward: (modes.append(model.training), whole(x))[1]
    fit(model, data, data, batch_size=N, verbose=False)
    assert modes == [True, False]  # one batch to train on, one to watch by
    assert [m.training for m in model.modules()] == [False, False, True, False]


def test_a_non_finite_loss_is_used_for_no_update(data: Dataset) -> None:
    images = data.images.copy()
    images[20] = np.inf
    model = small_model()
    seen: list[bytes] = []

    class Look(Callback):
        def on_batch_end(self, training: Training) -> None:
            seen.append(training.model[1].weight.data.tobytes())

    batches = Batches(images, data.labels, 8)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="epoch 1, batch 3"):
        fit(model, batches, callbacks=[Look()], verbose=False)
    assert len(seen) == 2
    assert model[1].weight.data.tobytes() == seen[-1]


def test_parameters_that_overflow_in_the_last_update_are_noticed(data: Dataset) -> None:
    model = small_model()
    optimizer = optim.SGD(model.parameters(), lr=1e39)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=r"1\.weight"):
        fit(model, data, optimizer=optimizer, batch_size=N, verbose=False)


def test_a_callback_can_stop_it(data: Dataset) -> None:
    class Stop(Callback):
        ended = 0

        def on_epoch_end(self, training: Training) -> None:
            if training.epoch == 2:
                training.stop("two are enough")

        def on_train_end(self, training: Training) -> None:
            self.ended += 1

    stop = Stop()
    assert len(fit(small_model(), data, epochs=9, callbacks=[stop], verbose=False)) == 2
    assert stop.ended == 1


def test_who_has_begun_is_ended_where_another_cannot_begin(data: Dataset) -> None:
    calls = []

    class Note(Callback):
        def on_train_begin(self, training: Training) -> None:
            calls.append("begun")

        def on_train_end(self, training: Training) -> None:
            calls.append("ended")

    class Fails(Callback):
        def on_train_begin(self, training: Training) -> None:
            raise RuntimeError("no")

        def on_train_end(self, training: Training) -> None:
            calls.append("not begun")

    model = small_model()
    with pytest.raises(RuntimeError, match="no"):
        fit(model, data, callbacks=[Note(), Fails(), Note()], verbose=False)
    assert calls == ["begun", "ended"]


def test_it_runs_in_other_threads(data: Dataset) -> None:
    lengths = []
    thread = threading.Thread(target=lambda: lengths.append(len(fit(small_model(), data, verbose=False))))
    thread.start()
    thread.join()
    assert lengths == [1]


def test_nonsense_is_refused(data: Dataset) -> None:
    model = small_model()
    with pytest.raises(ArgumentError, match="epochs=0"):
        fit(model, data, epochs=0)
    with pytest.raises(ArgumentError, match="optimiser of this model"):
        fit(model, data, optimizer=optim.SGD(small_model().parameters(), lr=0.1))
    with pytest.raises(ArgumentError, match=r"val=0\.5"):
        fit(model, Batches(data.images, data.labels), val=0.5)
    with pytest.raises(ArgumentError, match="training sample"):
        fit(model, (data.images[:0], data.labels[:0]))
    with pytest.raises(ArgumentError, match="at least one sample"):
        evaluate(model, (data.images[:0], data.labels[:0]))
    with pytest.raises(ArgumentError, match="reduction"):
        fit(model, data, loss=nn.CrossEntropyLoss(reduction="none"), verbose=False)
    with pytest.raises(ArgumentError, match="float"):
        fit(model, 0.5)
    with pytest.raises(DataError, match="no-such-data"):
        evaluate(model, "no-such-data")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 1.5}, r"whole number of epochs, got epochs=1\.5"),
        ({"epochs": True}, "epochs=True"),
        ({"optimizer": "adem"}, "one of adam, adamw, rmsprop, sgd, got 'adem'"),
        ({"optimizer": optim.SGD}, "got the class SGD"),
        ({"loss": "msee"}, "got 'msee'"),
        ({"loss": nn.CrossEntropyLoss}, "got the class CrossEntropyLoss"),
        ({"scheduler": optim.lr_scheduler.StepLR}, "got the class StepLR"),
        ({"callbacks": [print]}, "Callback, got an object of type builtin_function_or_method"),
        ({"callbacks": Callback()}, r"callbacks=\[\.\.\.\], got an object of type Callback"),
    ],
)
def test_options_of_the_wrong_kind_are_refused_before_anything_starts(
    data: Dataset, options: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ArgumentError, match=message):
        fit(small_model(), data, **options)
    assert capsys.readouterr().out == ""


def test_models_and_data_of_the_wrong_kind_are_refused(data: Dataset) -> None:
    pairs = list(zip(data.images, data.labels, strict=True))
    for run in (fit, evaluate):
        with pytest.raises(ArgumentError, match="got the class Sequential: make one"):
            run(nn.Sequential, data)
        with pytest.raises(ArgumentError, match="list of 48 pairs"):
            run(small_model(), pairs)
        with pytest.raises(ArgumentError, match="list of 2 pairs"):
            run(small_model(), pairs[:2])


def test_a_schedule_on_another_optimiser_is_refused(data: Dataset) -> None:
    model = small_model()
    one, other = (optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    schedule = optim.lr_scheduler.StepLR(other, 1)
    with pytest.raises(ArgumentError, match="it changes another optimiser"):
        fit(model, data, optimizer=one, scheduler=schedule)
    with pytest.raises(ArgumentError, match="that optimiser was not given"):
        fit(model, data, scheduler=schedule)


def test_a_label_without_an_output_is_named_by_its_index_before_any_update(data: Dataset) -> None:
    labels = data.labels.copy()
    labels[31] = K
    model = small_model()
    before = model[1].weight.data.copy()
    message = f"labels 0 to {K - 1}, .* got {K} at index 31 of the data"
    with pytest.raises(LabelError, match=message):
        fit(model, (data.images, labels), batch_size=5, seed=0, verbose=False)
    np.testing.assert_array_equal(model[1].weight.data, before)
    with pytest.raises(LabelError, match=message):
        evaluate(model, (data.images, labels))


class Writing(nn.Module):
    """A forward that scales what it is given in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        x.mul_(0.5)
        x[:, 0] = 0
        return self.layer(x)


def write_label(outputs: Any, y: Any) -> Any:
    y[y == 1] = -100
    return nn.CrossEntropyLoss()(outputs, y)


@pytest.mark.parametrize("compiled", [True, False])
def test_forward_and_loss_may_write_into_what_they_are_given(compiled: bool) -> None:
    """Data to watch by were halved in every epoch, and what evaluate and predict were given in every call."""
    x, y = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32), np.arange(6) % 2
    given, labels, model = x.copy(), y.copy(), Writing()
    options: Any = {"compile": compiled}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        fnn.fit(model, fnn.data.Batches(given, labels, 3), (given, labels), epochs=2, verbose=False, **options)
        fnn.fit(model, fnn.data.Batches(given, labels, 3), epochs=1, loss=write_label, verbose=False, **options)
        losses = [fnn.evaluate(model, (given, labels), **options).loss for _ in range(2)]
        fnn.evaluate(model, (given, labels), loss=write_label, **options)
        fnn.predict(model, given, **options)
        fnn.insight.sharpness(model, (given, labels))
    np.testing.assert_array_equal(given, x)
    np.testing.assert_array_equal(labels, y)
    assert losses[0] == losses[1]
