"""Mistakes that users make, each with what it is called: test_messages.py keeps what fastnn says to them.

Each call gets an empty folder and raises; `main(...)` of the command prints to standard error instead. Nothing here
depends on the machine, on the backend or on what optional packages are there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fnn
import fastnn.nn.functional as F
from fastnn import nn, optim, train
from fastnn.cli import main
from fastnn.data import Batches, load
from fastnn.optim import lr_scheduler as schedules

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
IMAGES = np.zeros((2, 1, 4, 4), np.float32)
LABELS = np.array([0, 1])
DATA = ROWS, LABELS


class Random(nn.Module):
    def forward(self, x: Any) -> Any:
        return x + fnn.rand_like(x)


class Rows(nn.Module):
    def forward(self, x: Any) -> Any:
        return fnn.stack([row * 2 for row in x])


class Sinc(nn.Module):
    class Own(fnn.Function):
        @staticmethod
        def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
            return np.sinc(x)

    def forward(self, x: Any) -> Any:
        return self.Own.apply(x)


Calls = dict[str, Callable[[Path], Any]]


def t(*shape: int, grad: bool = True) -> fnn.Tensor:
    return fnn.Tensor(np.ones(shape, np.float32), requires_grad=grad)


def linear() -> nn.Linear:
    fnn.manual_seed(0)
    return nn.Linear(3, 2)


def sgd(**options: Any) -> optim.SGD:
    return optim.SGD([nn.Parameter([1.0])], **{"lr": 0.1, **options})


def step(loss: Any = None, **options: Any) -> Any:
    model = linear()
    return fnn.compile(model, loss or nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), **options)


def fit(data: Any = DATA, model: Any = None, **options: Any) -> Any:
    return fnn.fit(linear() if model is None else model, data, verbose=False, **options)


class Model(nn.Module):
    """A model whose forward is a function of its input."""

    def __init__(self, forward: Callable[[Any], Any]) -> None:
        super().__init__()
        self.linear, self.function = linear(), forward

    def forward(self, x: Any) -> Any:
        return self.function(self.linear(x))


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def changed_before_backward() -> None:
    model = linear()
    loss = nn.Sequential(model, nn.Tanh(), nn.Linear(2, 1))(t(2, 3)).sum()
    with fnn.no_grad():
        model.weight += 1
    loss.backward()


class KeepsMore(fnn.Function):
    """Its forward keeps what is neither an input nor the output."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x * x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return 3 * ctx.saved_tensors[0] * grad


def twice(x: Any) -> None:
    y = (x * x).sum()
    y.backward()
    y.backward()


def in_place(x: Any) -> None:
    x += 1


def set_entry(x: Any) -> None:
    x[0] = 1


def assign(target: Any, name: str, value: Any) -> None:
    setattr(target, name, value)


TENSOR: Calls = {
    "lists of unequal lengths": lambda _: fnn.Tensor([[1.0], "a"]),
    "text": lambda _: fnn.Tensor(["a"]),
    "complex numbers": lambda _: fnn.Tensor([1j]),
    "a shape in the place of data": lambda _: fnn.Tensor((2, 3), 4),
    "a gradient for integers": lambda _: fnn.Tensor([1, 2], requires_grad=True),
    "einsum of too many dimensions": lambda _: fnn.einsum("ijk->i", ROWS),
    "fnn.device": lambda _: fnn.zeros(1, device=fnn.device("cuda")),
    "an unknown name": lambda _: fnn.nonsense,
    "cuda": lambda _: t(2).cuda(),
    "to cuda": lambda _: t(2).to("cuda:0"),
    "to another type": lambda _: t(2).to("meters"),
    "half": lambda _: t(2).half(),
    "a type that does not exist here": lambda _: t(2).astype(np.complex64),
    "item of many": lambda _: t(2).item(),
    "the truth of many": lambda _: bool(t(2)),
    "data of another shape": lambda _: assign(t(2), "data", ROWS),
    "a gradient of another shape": lambda _: assign(t(2), "grad", ROWS),
    "floats into integers": lambda _: assign(fnn.Tensor([1]), "data", [0.5]),
    "np.asarray": lambda _: np.asarray(t(2)),
    "np.exp": lambda _: np.exp(t(2)),
    "np.concatenate": lambda _: np.concatenate([t(2), t(2)]),
    "a Tensor of a tensor": lambda _: fnn.Tensor(t(2) * 2),
    "copying what is on the tape": lambda _: (t(2) * 2).__getstate__(),
    "no gradient for what an operator made": lambda _: (t(2) * 2).requires_grad_(False),
}

BACKWARD: Calls = {
    "nothing to differentiate": lambda _: t(2, grad=False).sum().backward(),
    "no scalar": lambda _: (t(2) * 2).backward(),
    "a start of another shape": lambda _: (t(2) * 2).backward(ROWS),
    "twice": lambda _: twice(t(2)),
    "no second derivative": lambda _: KeepsMore.apply(t(2)).sum().backward(create_graph=True),
    "a gradient that nothing flows to": lambda _: fnn.autograd.grad(t(2).sum(), t(2)),
    "a gradient of what needs none": lambda _: fnn.autograd.grad(t(2).sum(), t(2, grad=False)),
    "a weight that was changed": lambda _: changed_before_backward(),
    "in place on a parameter": lambda _: in_place(t(2)),
    "entries of a parameter": lambda _: set_entry(t(2)),
    "entries that are not there": lambda _: set_entry(fnn.Tensor(np.zeros((0, 2)))),
}

OPERATORS: Calls = {
    "add": lambda _: t(2) + t(3),
    "text added": lambda _: t(2) + "a",
    "matmul": lambda _: t(2, 3) @ t(2, 3),
    "matmul of stacks": lambda _: t(2, 2, 3) @ t(4, 3, 1),
    "matmul with a number": lambda _: fnn.matmul(t(2), 2.0),
    "reshape": lambda _: t(2, 3).reshape(4, -1),
    "reshape to floats": lambda _: t(2, 3).reshape(2.0, 3),
    "permute": lambda _: t(2, 3).permute(0, 0),
    "transpose": lambda _: t(2, 3).transpose(0, 2),
    "t": lambda _: t(2, 3, 4).t(),
    "flatten": lambda _: fnn.flatten(t(2, 3), 1, 0),
    "an index": lambda _: t(2)[5],
    "sum over what is not there": lambda _: t(2).sum(1),
    "sum over a flag": lambda _: t(2).sum(True),
    "sum over one twice": lambda _: t(2, 3).sum((0, 0)),
    "max of nothing": lambda _: fnn.Tensor([]).max(),
    "var by position": lambda _: t(2).var(0, 0),
    "clamp": lambda _: t(2).clamp(),
    "cat": lambda _: fnn.cat([t(2, 3), t(2, 4)]),
    "cat of nothing": lambda _: fnn.cat([]),
    "stack": lambda _: fnn.stack([t(2), t(3)]),
    "where": lambda _: fnn.where(t(2), 1.0, 0.0),
    "softmax": lambda _: F.softmax(t(2, 3), 2),
    "dropout": lambda _: F.dropout(t(2), 1.5),
    "linear": lambda _: F.linear(t(2, 4), t(2, 3)),
    "linear of one image of another size": lambda _: F.linear(t(4), t(2, 3)),
    "linear of images": lambda _: F.linear(t(2, 1, 4, 4), t(2, 16)),
    "conv2d of other channels": lambda _: F.conv2d(t(1, 2, 4, 4), t(1, 1, 3, 3)),
    "conv2d of a small image": lambda _: F.conv2d(t(1, 1, 2, 2), t(1, 1, 3, 3)),
    "conv2d of raw images": lambda _: F.conv2d(IMAGES.astype(np.uint8), t(1, 1, 3, 3)),
    "max_pool2d": lambda _: F.max_pool2d(IMAGES, 5),
    "a window": lambda _: F.avg_pool2d(IMAGES, "2"),
    "batch_norm by eps": lambda _: F.batch_norm(ROWS, np.zeros(3), np.ones(3), None, None, 1e-5),
    "batch_norm of nothing": lambda _: F.batch_norm(ROWS, None, None),
    "batch_norm of one": lambda _: F.batch_norm(ROWS[:1], None, None, training=True),
    "normalize other channels": lambda _: fnn.ops.normalize_channels(ROWS, np.zeros(2), np.ones(2)),
}

LOSSES: Calls = {
    "a label too large": lambda _: F.cross_entropy(ROWS, [0, 3]),
    "labels of floats": lambda _: F.cross_entropy(ROWS, [0.0, 1.0]),
    "too few labels": lambda _: F.cross_entropy(ROWS, [0]),
    "labels of text": lambda _: F.cross_entropy(ROWS, ["a", "b"]),
    "label_smoothing": lambda _: nn.CrossEntropyLoss(label_smoothing=2),
    "reduction": lambda _: nn.MSELoss(reduction="avg"),
    "probabilities": lambda _: F.binary_cross_entropy(ROWS, ROWS),
    "shapes": lambda _: F.mse_loss(ROWS, LABELS),
}

LAYERS: Calls = {
    "sizes": lambda _: nn.Linear(0, 2),
    "a size of text": lambda _: nn.Linear("3", 2),
    "device": lambda _: nn.Linear(3, 2, device="cuda"),
    "dtype": lambda _: nn.Linear(3, 2, dtype=np.float64),
    "groups": lambda _: nn.Conv2d(3, 4, 3, groups=2),
    "stride 0": lambda _: nn.Conv2d(1, 1, 3, stride=0),
    "padding": lambda _: nn.Conv2d(1, 1, 3, padding="full"),
    "padding same": lambda _: nn.Conv2d(1, 1, 3, 2, padding="same"),
    "images without channels": lambda _: nn.Conv2d(1, 1, 3)(IMAGES[:, 0]),
    "padding of a pool": lambda _: nn.MaxPool2d(2, padding=2),
    "adaptive": lambda _: nn.AdaptiveMaxPool2d(7, return_indices=True),
    "p": lambda _: nn.Dropout(-0.1),
    "approximate": lambda _: nn.GELU("erf"),
    "Normalize": lambda _: nn.Normalize([0.5], [0.0]),
    "Normalize other channels": lambda _: nn.Normalize([0.1, 0.2], [1, 1])(IMAGES),
    "BatchNorm1d of images": lambda _: nn.BatchNorm1d(1)(IMAGES),
    "BatchNorm1d of one": lambda _: nn.BatchNorm1d(3)(ROWS[:1]),
    "Unflatten": lambda _: nn.Unflatten(1, (2, 2))(ROWS),
    "deep inside": lambda _: nn.Sequential(nn.Flatten(), nn.Sequential(nn.ReLU(), nn.Linear(5, 2)))(IMAGES),
    "a layer that is a class": lambda _: nn.Sequential(nn.ReLU),
    "layers in a list": lambda _: nn.Sequential([nn.ReLU()]),
    "no forward": lambda _: nn.Module()(ROWS),
    "a forward without return": lambda _: Model(lambda h: None)(ROWS),
    "a parameter replaced by an array": lambda _: assign(linear(), "weight", ROWS),
    "a name with a dot": lambda _: nn.Module().add_module("a.b", nn.ReLU()),
    "a state that lacks": lambda _: linear().load_state_dict({"weight": np.ones((2, 4)), "other": ROWS}),
    "a state that is a file": lambda _: linear().load_state_dict("weights.safetensors"),
    "a model on cuda": lambda _: linear().cuda(),
    "a model of integers": lambda _: linear().to("int64"),
    "nn.LPPool1d": lambda _: nn.LPPool1d(),
    "init of a bias": lambda _: nn.init.xavier_uniform_(nn.Parameter([1.0])),
    "init of a layer": lambda _: nn.init.zeros_(linear()),
    "init mode": lambda _: nn.init.kaiming_normal_(linear().weight, mode="fan"),
    "gain": lambda _: nn.init.calculate_gain("swish"),
}

OPTIMISERS: Calls = {
    "a model": lambda _: optim.SGD(linear(), lr=0.1),
    "one parameter": lambda _: optim.SGD(linear().weight, lr=0.1),
    "no parameters": lambda _: optim.SGD([], lr=0.1),
    "arrays": lambda _: optim.SGD([ROWS], lr=0.1),
    "twice": lambda _: optim.SGD([linear().weight] * 2, lr=0.1),
    "a negative rate": lambda _: sgd(lr=-1),
    "a rate of text": lambda _: sgd(lr="0.1"),
    "nesterov": lambda _: sgd(nesterov=True),
    "betas": lambda _: optim.Adam([nn.Parameter([1.0])], betas=(0.9, 1.0)),
    "an unknown option": lambda _: optim.Adam([nn.Parameter([1.0])], learning_rate=0.1),
    "an option of a group misspelt": lambda _: optim.SGD([{"params": [nn.Parameter([1.0])], "momentums": 1}], lr=0.1),
    "a group without parameters": lambda _: sgd().add_param_group({"lr": 1}),
    "a penalty on biases alone": lambda _: sgd(l2=0.1),
    "a state that is a file": lambda _: sgd().load_state_dict("file"),
    "a state of others": lambda _: sgd().load_state_dict(optim.SGD(linear().parameters()).state_dict()),
    "GradientDescent without a closure": lambda _: optim.GradientDescent([nn.Parameter([1.0])]).step(),
    "optim.Muon": lambda _: optim.Muon,
    "step_size": lambda _: schedules.StepLR(sgd(), 1.0),
    "step_size of half": lambda _: schedules.StepLR(sgd(), 1.5),
    "last_epoch": lambda _: schedules.StepLR(sgd(), 3, last_epoch=4),
    "a schedule without an optimiser": lambda _: schedules.ExponentialLR(0.1, 0.9),
    "lr_lambda": lambda _: schedules.LambdaLR(sgd(), 0.5),
    "OneCycleLR without its steps": lambda _: schedules.OneCycleLR(sgd(), 0.1),
    "OneCycleLR too far": lambda _: [
        s := schedules.OneCycleLR(sgd(momentum=0.9), 0.1, 2),
        s.step(),
        s.step(),
        s.step(),
    ],
    "a factor above 1": lambda _: schedules.ReduceLROnPlateau(sgd(), factor=2),
    "a plateau's mode": lambda _: schedules.ReduceLROnPlateau(sgd(), "lowest"),
}

PLANS: Calls = {
    "no model": lambda _: fnn.compile("cnn"),
    "no loss": lambda _: fnn.compile(linear(), optimizer=sgd()),
    "another optimiser": lambda _: fnn.compile(linear(), nn.CrossEntropyLoss(), sgd())(*DATA),
    "disable": lambda _: fnn.compile(linear(), disable="winogard"),
    "clip_norm": lambda _: step(clip_norm=0),
    "accumulate": lambda _: step(accumulate=0),
    "frozen": lambda _: fnn.compile(linear(), nn.CrossEntropyLoss(), frozen=True),
    "GradientDescent": lambda _: fnn.compile(
        linear(), nn.CrossEntropyLoss(), optim.GradientDescent([nn.Parameter([1.0])])
    ),
    "a loss of many": lambda _: step(nn.CrossEntropyLoss(reduction="none"))(*DATA),
    "a value that is read": lambda _: fnn.compile(Model(lambda h: h * h.item()))(ROWS),
    "a parameter by NumPy": lambda _: fnn.compile(Model(lambda h: h * np.exp(t(2))))(ROWS),
    "a label": lambda _: step()(ROWS, np.array([0, 2])),
    "other features": lambda _: step()(IMAGES, LABELS),
    "a loss that is not finite": lambda _: step()(np.full((2, 3), np.inf, np.float32), LABELS),
    "no batch": lambda _: fnn.compile(linear())(1.0),
    "out": lambda _: fnn.compile(linear())(ROWS, out=np.zeros((2, 2))),
    "describe too early": lambda _: fnn.compile(linear()).describe(),
    "run_epoch": lambda _: step().run_epoch(ROWS, LABELS[:1]),
    "an index of run_epoch": lambda _: step().run_epoch(ROWS, LABELS, [0, 2]),
}

DATASETS: Calls = {
    "a misspelt name": lambda _: load("mnits"),
    "a folder that is gone": lambda p: load(f"{p}/gone", size=(8, 8)),
    "an empty folder": lambda p: load(p),
    "one class": lambda p: load(with_files(p, "cat/0.png", "cat/1.png", "cat/2.png")),
    "a class that the training lacks": lambda p: load(
        with_files(p, "train/cat/0.png", "train/dog/0.png", "test/fish/0.png"), split="test"
    ),
    "a table for a list of images": lambda p: load(with_files(p, "x.csv", content="a,b,c\n1,2,3\n") / "x.csv"),
    "a list of images that are gone": lambda p: load(with_files(p, "x.csv", content="0.png,cat\n") / "x.csv"),
    "a part": lambda _: load("digits", split="validation"),
    "raw": lambda _: load("mnist", raw=True),
    "size": lambda _: load("digits", size=(8, 8)),
    "three arrays": lambda _: load((ROWS, LABELS, LABELS)),
    "arrays of other lengths": lambda _: load((ROWS, LABELS[:1])),
    "a share of nothing": lambda _: load(DATA).split(0.2),
    "a share above 1": lambda _: load(DATA).split(1.5),
    "batches of none": lambda _: Batches(ROWS, LABELS, 0),
    "batches of other lengths": lambda _: Batches(ROWS, LABELS[:1]),
    "the only batch dropped": lambda _: Batches(ROWS, LABELS, 8, drop_last=True),
}

TRAINING: Calls = {
    "no model": lambda _: fit(model="cnn"),
    "epochs": lambda _: fit(epochs=0),
    "epochs of text": lambda _: fit(epochs="3"),
    "val of half an image": lambda _: fit(val=0.2),
    "pairs": lambda _: fit(list(zip(ROWS, LABELS, strict=True)) * 2),
    "a class of optimisers": lambda _: fit(optimizer=optim.SGD),
    "another optimiser": lambda _: fit(optimizer=sgd()),
    "another schedule": lambda _: fit(scheduler=schedules.StepLR(sgd(), 1)),
    "a loss by an unknown name": lambda _: fit(loss="mze"),
    "callbacks": lambda _: fit(callbacks=train.EarlyStopping()),
    "batch_size": lambda _: fit(batch_size="all"),
    "labels": lambda _: fit((ROWS, np.array([0, 5]))),
    "labels in evaluate": lambda _: fnn.evaluate(linear(), (ROWS, np.array([0, 5]))),
    "validation without": lambda _: fit(callbacks=[train.EarlyStopping()]),
    "patience": lambda _: train.EarlyStopping(patience=0),
    "monitor": lambda _: train.EarlyStopping("loss"),
    "a loss that is not finite": lambda _: fit((np.full((2, 3), np.nan, np.float32), LABELS)),
    "text in a table": lambda _: fnn.fit(linear(), np.array([[1, "a"], [2, "b"]], object), [0, 1]),
    "a gap in a table": lambda _: fnn.predict(linear(), np.array([[1.0, 2, None]], object)),
    "a gap in labels": lambda _: fnn.fit(linear(), ROWS, ["a", None]),
    "one value for three outputs": lambda _: fnn.fit(nn.Linear(3, 3), ROWS, np.array([0.5, 2.0])),
    "no targets": lambda _: fnn.fit(linear(), ROWS),
    "an unknown metric": lambda _: fnn.evaluate(linear(), ROWS, LABELS, metrics=["maee"]),
    "metrics of nothing": lambda _: fit(metrics=["mae"]),
    "weights of no class": lambda _: fit(class_weight={9: 2.0}),
    "weights of too few": lambda _: fit(sample_weight=[1.0]),
    "no images": lambda _: fnn.evaluate(linear(), (ROWS[:0], LABELS[:0])),
    "predict of a picture": lambda p: fnn.predict(linear(), p / "a.png"),
    "predict of one row": lambda _: fnn.predict(linear(), ROWS[0]),
    "predict_proba of values": lambda _: fnn.predict_proba(nn.Linear(3, 1), ROWS),
    "a run that is not there": lambda p: fnn.load_run(p / "run"),
    "no run": lambda p: fnn.load_run(p),
    "a damaged run": lambda p: [written(p / "config.json", b"{"), fnn.load_run(p)],
    "weights that are not there": lambda p: fnn.weights.load(p / "w.safetensors"),
    "weights that are none": lambda p: fnn.weights.load(written(p / "w.safetensors", b"hello, world")),
    "weights into no folder": lambda p: fnn.weights.save(linear(), p / "gone" / "w.safetensors"),
    "weights of text": lambda p: fnn.weights.save({"a": np.array(["b"])}, p / "w.safetensors"),
    "no weights": lambda p: fnn.weights.save(3, p / "w.safetensors"),
}

INSIGHT: Calls = {
    "gradcheck": lambda _: fnn.gradcheck(3, ROWS),
    "gradcheck without a gradient": lambda _: fnn.gradcheck(lambda x: x.detach(), ROWS),
    "numeric_gradient": lambda _: fnn.numeric_gradient(lambda x: x, ROWS),
    "graph": lambda _: fnn.graph(t(2)),
    "signal_report": lambda _: fnn.signal_report(3, ROWS, LABELS),
    "diagnose": lambda _: fnn.diagnose([1, 2]),
    "landscape": lambda _: fnn.landscape.line(3, DATA),
    "landscape of directions": lambda _: fnn.landscape.line(linear(), DATA, "up", progress=False),
    "landscape of points": lambda _: fnn.landscape.plane(linear(), DATA, points=0, progress=False),
    "a landscape's name": lambda p: fnn.landscape.load(written(p / "l.npz", b"no")),
    "compare_optimizers": lambda _: fnn.compare_optimizers("hill"),
    "filters": lambda _: fnn.insight.filters(linear()),
    "export of no model": lambda p: fnn.interop.export_c(len, p / "m.c"),
    "export without a shape": lambda p: fnn.interop.export_c(nn.Linear(3, 2), p / "m.c"),
    "export of another shape": lambda p: fnn.interop.export_c(nn.Linear(3, 2), p / "m.c", (4,)),
    "export under a name": lambda p: fnn.interop.export_c(nn.Linear(3, 2), p / "m.c", (3,), name="my-model"),
    "export of a random operator": lambda p: fnn.interop.export_c(Random(), p / "m.c", (3,)),
    "export with samples": lambda p: fnn.interop.export_c(nn.Linear(3, 2), p / "m.c", (3,), int8=IMAGES),
    "ONNX of no model": lambda p: fnn.onnx.export(len, p / "m.onnx"),
    "ONNX without a shape": lambda p: fnn.onnx.export(nn.Linear(3, 2), p / "m.onnx"),
    "ONNX under other names": lambda p: fnn.onnx.export(nn.ReLU(), p / "m.onnx", (3,), input_names=["a", "b"]),
    "ONNX of each sample": lambda p: fnn.onnx.export(Rows(), p / "m.onnx", (3,)),
    "ONNX of an own operator": lambda p: fnn.onnx.export(nn.Sequential(Sinc()), p / "m.onnx", (3,)),
    "threads": lambda _: fnn.set_num_threads(0),
    "manual_seed": lambda _: fnn.manual_seed(-1),
}

COMMANDS: Calls = {
    "no command": lambda _: main([]),
    "an unknown option": lambda _: main(["train", "digits", "--learning-rate", "1"]),
    "a data set": lambda p: main(["train", "mnits", "--out", f"{p}/run"]),
    "a model": lambda p: main(["train", "digits", "--model", "vgg", "--out", f"{p}/run"]),
    "epochs": lambda p: main(["train", "digits", "--epochs", "0", "--out", f"{p}/run"]),
    "a rate": lambda p: main(["train", "digits", "--lr", "fast", "--out", f"{p}/run"]),
    "a share": lambda p: main(["train", "digits", "--val", "2", "--out", f"{p}/run"]),
    "a folder that is gone": lambda p: main(["train", f"{p}/gone", "--size", "8x8", "--out", f"{p}/run"]),
    "export by no run": lambda p: main(["export", f"{p}/run", f"{p}/model.c"]),
    "export to another format": lambda p: main(["export", f"{p}/run", f"{p}/model.pb"]),
    "no run": lambda p: main(["eval", f"{p}/run"]),
    "an empty run": lambda p: main(["eval", f"{p}"]),
    "predict without a run": lambda p: main(["predict", f"{p}/image.png"]),
    "predict by no run": lambda p: main(["predict", f"{p}/run", f"{p}/image.png"]),
    "resume without a folder": lambda _: main(["train", "digits", "--resume"]),
    "a file in the way": lambda p: [written(p / "run", b""), main(["train", "digits", "--out", f"{p}/run"])],
}

ALL = {
    "tensor": TENSOR, "backward": BACKWARD, "operator": OPERATORS, "loss": LOSSES, "layer": LAYERS,
    "optimiser": OPTIMISERS, "plan": PLANS, "data": DATASETS, "training": TRAINING, "insight": INSIGHT,
    "command": COMMANDS,
}  # fmt: skip
PROVOCATIONS: Calls = {f"{area}: {name}": call for area, calls in ALL.items() for name, call in calls.items()}


def with_files(folder: Path, *names: str, content: str = "") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def emptied(folder: Path) -> Path:
    """The folder, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
