"""What the bits of a training depend on is kept with it; when it goes on under other conditions, that is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import backends, nn, optim
from fastnn.cli import main
from fastnn.data import Augment, Batches
from fastnn.train import Checkpoint, ResumeWarning

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random((24, 1, 4, 4), np.float32), np.arange(24) % 3
USUAL: dict[str, Any] = {
    "images": IMAGES, "batch": 8, "shuffle": True, "drop": False, "augment": None, "p": 0.5, "smoothing": 0.0,
    "lr": 0.125, "decay": 0.0, "step": 1, "compile": True,
}  # fmt: skip


def fit(folder: Path, epochs: int, **changes: Any) -> bytes:
    o = {**USUAL, **changes}
    fnn.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Dropout(o["p"]))
    batches = Batches(
        o["images"], LABELS, o["batch"], shuffle=o["shuffle"], seed=2, drop_last=o["drop"], augment=o["augment"]
    )
    optimizer = optim.SGD(model.parameters(), lr=o["lr"], weight_decay=o["decay"])
    fnn.fit(
        model,
        batches,
        loss=nn.CrossEntropyLoss(label_smoothing=o["smoothing"]),
        optimizer=optimizer,
        scheduler=optim.lr_scheduler.StepLR(optimizer, o["step"]),
        epochs=epochs,
        compile=o["compile"],
        callbacks=[Checkpoint(folder, resume=True)],
        verbose=False,
    )
    return model[1].weight.data.tobytes()


def test_a_training_that_goes_on_as_it_was_is_told_nothing(tmp_path: Path) -> None:
    threads = fnn.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tmp_path, 1)
        try:
            fnn.set_num_threads(threads + 1)
            fit(tmp_path, 2)
        finally:
            fnn.set_num_threads(threads)
        fit(tmp_path, 3, augment=None, lr=np.float64(0.125))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch": 6}, "batch size: 8 then, 6 now"),
        ({"images": IMAGES + np.float32(1e-3)}, "data: "),
        ({"shuffle": False}, "order: shuffled then, as it is now"),
        ({"batch": 7, "drop": True}, "an incomplete batch: kept then, dropped now"),
        ({"augment": Augment(shift=1)}, "augmentation: none then, Augment"),
        ({"p": 0.25}, r"model: p=0\.5 then, p=0\.25 now"),
        ({"smoothing": 0.5}, r"loss: label_smoothing=0\.0 then, label_smoothing=0\.5 now"),
        ({"lr": 0.25}, r"optimizer: .*0\.125 then, .*0\.25 now"),
        ({"decay": 0.5}, r"optimizer: .*weight_decay"),
        ({"step": 2}, "scheduler: step_size=1 then, step_size=2 now"),
    ],
)
def test_other_options_make_another_result(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    fit(tmp_path, 1)
    with pytest.warns(ResumeWarning, match=f"the result will be another .*{said}") as found:
        fit(tmp_path, 2, **changes)
    assert len(found) == 1
    assert "\n" not in str(found[0].message)


def test_another_seed_than_the_run_was_begun_with_is_said_not_to_count(tmp_path: Path) -> None:
    def run(epochs: int, seed: int | None) -> None:
        keep = Checkpoint(tmp_path, resume=True)
        fnn.fit(nn.Linear(16, 3), IMAGES.reshape(24, 16), LABELS, epochs=epochs, seed=seed, callbacks=[keep])

    run(1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(2, 1)
        run(3, None)
    with pytest.warns(ResumeWarning, match="goes on by seed=1, with which it was begun, not by seed=2"):
        run(4, 2)


def test_steps_that_are_not_compiled_differ_in_rounding(tmp_path: Path) -> None:
    fit(tmp_path, 1)
    with pytest.warns(ResumeWarning, match="will differ in rounding .*steps: compiled then, operator by operator now"):
        fit(tmp_path, 2, compile=False)


def test_functions_and_objects_are_told_by_what_they_are_not_by_where_they_lie(tmp_path: Path) -> None:
    class Moves:
        def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
            return images

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for epochs in (1, 2):
            fit(tmp_path / "object", epochs, augment=Moves())
            fit(tmp_path / "function", epochs, augment=lambda images, generator: images)


def test_a_checkpoint_that_knows_of_no_conditions_goes_on(tmp_path: Path) -> None:
    fit(tmp_path, 1)
    path = tmp_path / "checkpoint.safetensors"
    arrays, note = fnn.weights.load_with_note(path)
    state = json.loads(note or "")
    del state["conditions"]
    fnn.weights.save(arrays, path, note=json.dumps(state))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tmp_path, 2)


TRAIN = ("train", "--model", "linear", "--no-augment")


def test_the_command_resumes_operator_by_operator_what_was_begun_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ("train", "--model", "lenet5", "--no-augment", "--batch-size", "200", "--eager")
    assert main([*model, "--epochs", "2", "--out", str(tmp_path / "straight")]) == 0
    assert main([*model, "--epochs", "1", "--out", str(tmp_path / "resumed")]) == 0
    assert json.loads((tmp_path / "resumed" / "config.json").read_text())["eager"] is True
    capsys.readouterr()
    assert main(["train", "--resume", "--epochs", "2", "--out", str(tmp_path / "resumed")]) == 0
    assert "note" not in capsys.readouterr().out
    kept = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("straight", "resumed")]
    assert kept[0] == kept[1]
    assert main(["train", "--resume", "--no-eager", "--epochs", "3", "--out", str(tmp_path / "resumed")]) == 2
    assert "was started with --eager, got --no-eager" in capsys.readouterr().err


def test_the_command_says_that_the_machine_is_another(tmp_path: Path) -> None:
    """In one line, on another instruction set and with other kernels; the run can still be gone on with."""
    kinds = [] if backends.name() == "reference" else [("FASTNN_BACKEND", "reference", "kernels")]
    isas = backends.describe()["isas"]
    if len(isas) > 1:
        now = backends.describe()["isa"]
        kinds.append(("FASTNN_ISA", next(isa for isa in isas if isa != now), "instruction set"))
    for name, value, said in kinds:
        run = tmp_path / name
        assert main([*TRAIN, "--epochs", "1", "--out", str(run)]) == 0
        command = [sys.executable, "-m", "fastnn", "train", "--resume", "--epochs", "2", "--out", str(run)]
        environment = {**os.environ, name: value}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        (note,) = [line for line in result.stdout.splitlines() if line.startswith("note")]
        assert "results will differ in rounding" in note
        assert f"{said}: " in note
        assert f"then, {value} now" in note
        assert result.stderr.count("Warning") == 0


def test_the_command_refuses_other_images_of_the_same_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")

    def draw(shift: int) -> None:
        for label, value in (("dark", 20), ("light", 220)):
            (tmp_path / "pictures" / label).mkdir(parents=True, exist_ok=True)
            for i in range(10):
                picture = np.full((6, 6), value + i + shift, np.uint8)
                image.fromarray(picture).save(tmp_path / "pictures" / label / f"{i}.png")

    draw(0)
    run = str(tmp_path / "run")
    assert main(["train", str(tmp_path / "pictures"), *TRAIN[1:], "--epochs", "1", "--out", run]) == 0
    draw(1)
    capsys.readouterr()
    assert main(["train", "--resume", "--epochs", "2", "--out", run]) == 3
    assert "got others, as many" in capsys.readouterr().err
