"""`fastnn train`: what it says, writes, keeps and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.cli import main
from fastnn.train import History

LINEAR = ("train", "--model", "linear", "--epochs", "1")


def test_it_says_what_it_does_and_writes_what_came_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = fnn.get_num_threads()
    path = tmp_path / "m.json"
    try:
        assert main([*LINEAR, "--seed", "3", "--threads", "1", "--json", str(path)]) == 0
    finally:
        fnn.set_num_threads(threads)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "data     digits: 1,437 training images 1×28×28, 360 test images"
    assert out[1] == "model    linear: 7,850 parameters, 10 classes"
    assert out[2] == (
        "recipe   1 epoch, batches of 16, SGD with Nesterov momentum 0.9, weight decay 0.0005, "
        "learning rate 0.02 / (1 + epochs done / 3)², images moved at random"
    )
    assert out[3].startswith(f"kernels  {fnn.backends.name()}")
    assert out[3].endswith("threads: 1")
    assert out[5].split()[0] == "1"
    result = json.loads(path.read_text())
    expected = {"dataset": "digits", "model": "linear", "epochs": 1, "seed": 3, "threads": 1}
    assert expected.items() <= result.items()
    assert result["backend"] == fnn.backends.name()
    assert result["isa"] == fnn.backends.describe()["isa"]
    assert result["test_accuracy"] > 0.7
    assert result["images_per_second"] == pytest.approx(1437 / result["train_seconds"])
    assert out[6].startswith(f"test accuracy {100 * result['test_accuracy']:.2f} % (360 images")


def test_a_run_holds_the_weights_that_were_measured(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main([*LINEAR, "--val", "0.1", "--out", str(run), "--json", str(tmp_path / "m.json")]) == 0
    names = {"weights.safetensors", "checkpoint.safetensors", "config.json", "history.jsonl", "history.csv"}
    assert {path.name for path in run.iterdir()} == names
    model, config, history = fnn.load_run(run)
    result = json.loads((tmp_path / "m.json").read_text())
    assert fnn.evaluate(model, "digits").accuracy == result["test_accuracy"]
    assert history[0].val_accuracy == result["val_accuracy"] is not None
    assert (config["val"], config["images"]) == (0.1, 1437 - 144)


def test_equal_seeds_give_equal_files_on_any_number_of_threads(tmp_path: Path) -> None:
    if fnn.backends.name() == "jit":
        pytest.skip("the promise is the native kernels'; BLAS, under the reference, keeps it for this model")
    threads = fnn.get_num_threads()
    files = []
    try:
        for n in ("1", "2", "3"):
            assert main([*LINEAR, "--seed", "1", "--threads", n, "--out", str(tmp_path / n)]) == 0
            files.append((tmp_path / n / "weights.safetensors").read_bytes())
    finally:
        fnn.set_num_threads(threads)
    assert files[0] == files[1] == files[2]


def test_a_run_that_goes_on_equals_one_that_never_stopped(tmp_path: Path) -> None:
    """Also for a longer run than was first asked for, and with augmentation and validation."""
    first = ("train", "--model", "linear", "--seed", "4", "--val", "0.1", "--augment", "--batch-size", "100")
    assert main([*first, "--epochs", "2", "--out", str(tmp_path / "straight")]) == 0
    assert main([*first, "--epochs", "1", "--out", str(tmp_path / "resumed")]) == 0
    assert main(["train", "--resume", "--epochs", "2", "--out", str(tmp_path / "resumed")]) == 0
    kept = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("straight", "resumed")]
    assert kept[0] == kept[1]
    losses = [
        [(r.train_loss, r.val_loss, r.lr) for r in History.load(tmp_path / name / "history.csv")]
        for name in ("straight", "resumed")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2


def test_a_folder_that_is_not_empty_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    assert main([*LINEAR, "--out", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert main([*LINEAR, "--out", str(tmp_path), "--force"]) == 0
    assert (tmp_path / "mine.txt").read_text() == "precious"
    before = (tmp_path / "weights.safetensors").read_bytes()
    assert main([*LINEAR, "--out", str(tmp_path)]) == 2
    assert main([*LINEAR, "--out", str(tmp_path), "--force", "--seed", "9"]) == 0
    assert (tmp_path / "weights.safetensors").read_bytes() != before


def test_resume_wants_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_refused(2, [*LINEAR, "--out", str(tmp_path / "run"), "--resume"], "--resume: there is no run in", capsys)
    assert not (tmp_path / "run").exists()


def test_a_training_says_where_its_model_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(LINEAR) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the model is not kept: add --out RUN to keep it"
    assert main([*LINEAR, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"kept in {tmp_path}: ")


@pytest.mark.parametrize(
    "other", [("--model", "mlp"), ("--seed", "1"), ("--lr", "0.5"), ("--val", "0.2"), ("--augment",), ("mnist",)]
)
def test_a_resumed_run_keeps_its_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: tuple[str, ...]
) -> None:
    assert main([*LINEAR, "--no-augment", "--out", str(tmp_path / "run")]) == 0
    assert main(["train", *other, "--resume", "--out", str(tmp_path / "run")]) == 2
    assert "was started with" in capsys.readouterr().err


def test_a_folder_of_images_by_class(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for label, value in (("dark", 20), ("light", 220)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(10):
            picture = np.full((6, 6), value + i, np.uint8)
            image.fromarray(picture).save(tmp_path / "pictures" / label / f"{i}.png")
    run = tmp_path / "run"
    code = main(["train", str(tmp_path / "pictures"), "--model", "linear", "--epochs", "5", "--lr", "0.1"
                 , "--out", str(run), "--no-augment", "--json", str(tmp_path / "m.json")])  # fmt: skip
    assert code == 0
    assert json.loads((tmp_path / "m.json").read_text())["test_accuracy"] == 1.0
    assert fnn.load_run(run)[1]["classes"] == ["dark", "light"]
    assert main(["eval", str(run)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "whole number of at least 1"),
        (["--lr", "nan"], "number above 0"),
        (["--size", "4x"], "expected H or HxW, as 32 or 32x48"),
        (["--size", "big"], "expected H or HxW, as 32 or 32x48"),
        (["--val", "1"], "between 0 and 1"),
        (["--seed", "-1"], "from 0 to"),
        (["--model", "alexnet"], "invalid choice"),
        (["--threads", "none"], "whole number"),
        (["--resume", "--force", "--out", "x"], "not allowed with"),
        (["--epocs", "3"], "unrecognized arguments: --epocs: did you mean '--epochs'?"),
        (["--model", "cmn"], "did you mean 'cnn'?"),
        (["--nonsense"], "unrecognized"),
    ],
)
def test_nonsense_is_exit_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def check_refused(code: int, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("fastnn: ")
    assert len(error.splitlines()) == 1


def test_other_refusals_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FASTNN_DATA_DIR", raising=False)
    file = tmp_path / "file"
    file.write_text("")

    def refused(code: int, message: str, *arguments: Any) -> None:
        check_refused(code, [*LINEAR, *map(str, arguments)], message, capsys)

    refused(2, "need --out", "--resume")
    refused(2, "expected a folder", "--out", file)
    refused(3, "no-such-data", "no-such-data")
    refused(3, "--data-dir", "mnist", "--data-dir", tmp_path)
    refused(3, "--json", "--json", tmp_path / "no" / "m.json")
    refused(3, "--json", "--json", tmp_path)
    refused(3, "file", "--out", file / "below")
    refused(3, "folder of a run", "--out", tmp_path, "--resume")
    refused(2, "at most 256 threads", "--threads", 100_000)
    refused(2, "for image files", "--size", 8)


def test_the_command_says_what_the_system_says_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main([*LINEAR, "--out", str(tmp_path / "file" / "below")]) == 3
    assert "[Errno" not in capsys.readouterr().err
    assert main(["eval", str(tmp_path / "none")]) == 3
    error = capsys.readouterr().err
    assert "no such folder" in error
    assert "[Errno" not in error


def test_an_unknown_option_is_answered_with_the_usage_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--modle", "cnn"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: fastnn train ")


def test_a_run_that_has_more_epochs_than_asked_for_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", "--model", "linear", "--no-augment", "--epochs", "2", "--out", str(run)]) == 0
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    capsys.readouterr()
    assert main(["train", "--resume", "--epochs", "1", "--out", str(run)]) == 0
    assert f"the run in {run} already has 2 epochs: nothing is trained" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_weights_without_a_checkpoint_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main([*LINEAR, "--out", str(run)]) == 0
    (run / "checkpoint.safetensors").unlink()
    before = (run / "weights.safetensors").read_bytes()
    capsys.readouterr()
    check_refused(2, ["train", "--resume", "--epochs", "2", "--out", str(run)], "no checkpoint.safetensors", capsys)
    assert (run / "weights.safetensors").read_bytes() == before


def test_pictures_of_several_sizes_are_resized_by_default_and_as_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")
    for label, value in (("dark", 20), ("light", 220)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(5):
            image.fromarray(np.full((6 + i, 6, 3), value, np.uint8)).save(tmp_path / f"pictures/{label}/{i}.png")
    run = str(tmp_path / "run")
    train = [*LINEAR, "--no-augment", "--out", run]
    with pytest.warns(UserWarning, match="resized to 8×6, their median: size=.* or --size HxW chooses another"):
        assert main([train[0], str(tmp_path / "pictures"), *train[1:]]) == 0
    assert fnn.load_run(run)[1]["image_shape"] == [3, 8, 6]
    assert main(["eval", run]) == 0
    assert main(["predict", run, str(tmp_path / "pictures" / "dark" / "0.png")]) == 0
    assert "[resized from 6×6]" in capsys.readouterr().out
    assert main(["train", "--resume", "--epochs", "2", "--out", run]) == 0
    assert main([train[0], str(tmp_path / "pictures"), *train[1:], "--size", "4x5", "--gray", "--force"]) == 0
    assert fnn.load_run(run)[1]["image_shape"] == [1, 4, 5]
    assert main(["eval", run]) == 0
    assert main(["eval", run, str(tmp_path / "pictures"), "--size", "4x5", "--gray"]) == 0
    assert main(["train", "--resume", "--epochs", "2", "--out", run]) == 0
    capsys.readouterr()
    check_refused(2, ["train", "--resume", "--size", "9", "--out", run], "was started with --size", capsys)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--data", "the data set is named by itself, without --data"),
        ("--epoch", "did you mean '--epochs'?"),
    ],
)
def test_options_are_written_out(option: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--data was taken for --data-dir, and the digits were trained on."""
    with pytest.raises(SystemExit) as stop:
        main(["train", option, "3"])
    assert stop.value.code == 2
    said = "usage: fastnn train --help lists the options\nfastnn train: error: unrecognized arguments:"
    assert capsys.readouterr().err == f"{said} {option}: {hint}\n"


def test_classes_of_very_different_sizes_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL")
    from PIL import Image

    for name, count in (("rare", 2), ("common", 30)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (8, 8), i if name == "rare" else 200).save(tmp_path / "pictures" / name / f"{i}.png")
    run = str(tmp_path / "run")
    assert main(["train", str(tmp_path / "pictures"), "--model", "linear", "--epochs", "1", "--out", run]) == 0
    said = capsys.readouterr().out
    assert "classes  from 2 samples (rare) to 24 (common): accuracy shows little of how the small ones do\n" in said
    assert "classes  no test images of rare: the test says nothing about them\n" in said
    assert main(["eval", run]) == 0
    assert "\nno test images of rare\n" in capsys.readouterr().out
    for i in range(2):
        (tmp_path / "test" / "rare").mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 200).save(tmp_path / "test" / "rare" / f"{i}.png")
    (tmp_path / "test" / "common").symlink_to(tmp_path / "pictures" / "common")
    assert main(["eval", run, str(tmp_path / "test")]) == 0
    # Pictures of one kind have one answer: of the two classes one is right throughout.
    assert (
        "classes from 2 samples (rare) to 30 (common): balanced accuracy 50.00 %, by class" in capsys.readouterr().out
    )
