"""What fit shows: a bar on a terminal, lines elsewhere, and the table of the epochs on standard output."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import tqdm

from fastnn import nn
from fastnn.train import fit, progress
from fastnn.train.callbacks import Training

DATA = np.zeros((40, 6), np.float32), np.arange(40) % 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def train(**options: object) -> None:
    fit(nn.Sequential(nn.Linear(6, 2)), DATA, epochs=2, batch_size=10, **options)


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    train(verbose="epoch")
    train()
    assert screen.getvalue() == ""  # two epochs of a millisecond
    capsys.readouterr()
    monkeypatch.setattr(progress, "SECONDS_BEFORE_BAR", 0.0)

    class Eager(tqdm.tqdm):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, mininterval=0, **options)

    monkeypatch.setattr(tqdm, "tqdm", Eager)
    train()
    drawn = screen.getvalue()
    assert "epoch 1/2" in drawn
    assert "epoch 2/2" in drawn
    assert "/40" in drawn
    assert "samples/s" in drawn
    assert "loss 0." in drawn
    assert len(capsys.readouterr().out.splitlines()) == 4  # the loss, the header and a row for each epoch


def test_lines_elsewhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    train()
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 8  # a batch each
    assert lines[4].startswith("epoch 2/2: 10 of 40 samples, ")
    assert "samples/s, loss 0." in lines[4]
    assert lines[4].endswith(" s left")
    assert len(shown.out.splitlines()) == 4


def test_lines_are_rare(capsys: pytest.CaptureFixture[str]) -> None:
    train()
    assert capsys.readouterr().err == ""


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    train(verbose=False)
    assert capsys.readouterr() == ("", "")


def test_time_left_follows_from_the_rate() -> None:
    from fastnn.data import Batches

    training = Training(None, None, None, Batches(np.zeros((1000, 1)), np.zeros(1000), 100), epochs=3)
    training.epoch, training.images, training.seconds, training.loss = 2, 200, 4.0, 0.25
    assert progress.progress_line(training) == "epoch 2/3: 200 of 1,000 samples, 50 samples/s, loss 0.2500, 16 s left"


def test_numbers_that_are_not_scaled_and_losses_that_evaluate_has_not_are_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    x, y = np.array([[-47_000.0, 1.0], [3.0, 2.0]] * 8), np.arange(16) % 2
    hint = "samples have numbers up to 4.7e+04: nn.Normalize.of(x) as the first layer would scale them\n"
    smoothed = "labels are smoothed by 0.1 in the losses below, but not in those of evaluate\n"
    plain, scaled = nn.Linear(2, 2), nn.Sequential(nn.Normalize.of(x), nn.Linear(2, 2))
    for model, data, loss, said in (
        (plain, x, "cross_entropy", hint),
        (plain, x / 100, "cross_entropy", ""),
        (scaled, x, "cross_entropy", ""),
        (nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)), x, "cross_entropy", ""),
        (scaled, x, nn.CrossEntropyLoss(label_smoothing=0.1), smoothed),
    ):
        fit(model, data, y, loss=loss)
        assert capsys.readouterr().out.partition("epoch")[0] == said
