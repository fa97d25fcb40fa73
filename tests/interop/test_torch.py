"""Models and weights from PyTorch and back: the same names, the same predictions, the same gradients."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn

torch = pytest.importorskip("torch")
functional = torch.nn.functional
theirs = torch.nn


def both_ways(module: Any, *inputs: Any) -> Any:
    """fastnn's model, after predictions and states of both translations have been compared with PyTorch's own."""
    model = fnn.from_torch(module, inputs)
    assert list(model.state_dict()) == list(module.state_dict())
    again = fnn.to_torch(model).eval()
    assert list(again.state_dict()) == list(module.state_dict())
    with torch.no_grad():
        expected, got = module.eval()(*inputs), again(*inputs)
    for one, other in zip(flat(expected), flat(got), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
    return model


def flat(value: Any) -> list[Any]:
    return [part for each in value for part in flat(each)] if isinstance(value, (tuple, list)) else [value]


class Block(theirs.Module):
    """torchvision's BasicBlock: in place, and a downsample that may be None."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = theirs.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = theirs.BatchNorm2d(out)
        self.relu = theirs.ReLU(inplace=True)
        self.conv2 = theirs.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = theirs.BatchNorm2d(out)
        shortcut = theirs.Sequential(theirs.Conv2d(channels, out, 1, stride, bias=False), theirs.BatchNorm2d(out))
        self.downsample = shortcut if stride > 1 else None

    def forward(self, x: Any) -> Any:
        identity = x
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(theirs.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = theirs.Conv2d(1, 8, 3, padding=1)
        self.layers = theirs.Sequential(Block(8, 8, 1), Block(8, 16, 2))
        self.pool = theirs.AdaptiveAvgPool2d((1, 1))
        self.fc = theirs.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        x = self.pool(self.layers(functional.relu(self.stem(x))))
        return self.fc(functional.dropout(torch.flatten(x, 1), 0.5, self.training))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_a_residual_network_and_its_gradients() -> None:
    module, x = ResNet(), torch.randn(4, 1, 12, 12)
    module(x)  # running statistics that are not those of the start
    model = both_ways(module, x)
    assert type(model).__name__ == "FromTorch"
    module.eval()
    labels = torch.tensor([1, 2, 3, 4])
    functional.cross_entropy(module(x), labels).backward()
    nn.CrossEntropyLoss()(model.eval()(x.numpy()), labels.numpy()).backward()
    for (name, one), (other_name, other) in zip(module.named_parameters(), model.named_parameters(), strict=True):
        assert name == other_name
        np.testing.assert_allclose(other.grad, one.grad.numpy(), rtol=1e-3, atol=1e-5)


def test_modes_follow() -> None:
    model = fnn.from_torch(ResNet())
    x = np.ones((64, 1, 8, 8), np.float32)
    assert not np.array_equal(model(x).numpy()[:1], model(x).numpy()[1:2])  # dropout
    model.eval()
    assert np.array_equal(model(x).numpy(), model(x).numpy())
    back = fnn.to_torch(model.train())
    assert back.training
    rows = back(torch.as_tensor(x)).detach()
    assert not torch.equal(rows[0], rows[1])
    assert not fnn.to_torch(model.eval()).training


class Noisy(theirs.Module):
    """Steps of its own in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = theirs.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        if self.training:
            return self.fc(x) + torch.randn_like(x)
        return self.fc(x)


def test_steps_of_training_alone() -> None:
    x = torch.ones(2, 4)
    model = both_ways(Noisy(), x)
    again = copy.deepcopy(fnn.to_torch(model))
    assert torch.equal(again.eval()(x), again(x))
    assert not torch.equal(again.train()(x), again(x))
    both_ways(again, x)
    model.train()
    assert not np.array_equal(model(x.numpy()).numpy(), model(x.numpy()).numpy())


def test_it_compiles_saves_and_loads(tmp_path: Path) -> None:
    model = fnn.from_torch(ResNet()).eval()
    x = np.random.default_rng(0).normal(size=(8, 1, 12, 12)).astype(np.float32)
    before = model(x).numpy()
    fnn.save(model, tmp_path / "m.fnn")
    assert np.array_equal(fnn.load(tmp_path / "m.fnn")(x).numpy(), before)
    step = fnn.compile(model.train(), nn.CrossEntropyLoss(), fnn.optim.SGD(model.parameters(), lr=0.05))
    losses = [float(step(x, np.arange(8))) for _ in range(20)]
    assert losses[-1] < losses[0]


class Attention(theirs.Module):
    """Causal self-attention with a mask that is a buffer, a parameter of its own, and tied weights."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embedding = theirs.Embedding(20, width)
        self.place = theirs.Parameter(torch.randn(1, 50, width))
        self.query = theirs.Linear(width, width)
        self.norm = theirs.LayerNorm(width)
        self.out = theirs.Linear(width, 20, bias=False)
        self.out.weight = self.embedding.weight
        self.register_buffer("mask", torch.tril(torch.ones(50, 50)), persistent=False)

    def forward(self, tokens: Any, scale: Any = None) -> Any:
        n, t = tokens.shape
        x = self.embedding(tokens) + self.place[:, :t]
        q = self.query(x).view(n, t, 4, -1).transpose(1, 2)
        scores = (q @ q.transpose(-2, -1)) / math.sqrt(q.size(-1))
        scores = scores.masked_fill(self.mask[:t, :t] == 0, float("-inf"))
        y = (functional.softmax(scores, dim=-1) @ q).transpose(1, 2).contiguous().view(n, t, -1)
        if scale is not None:
            y = y * scale
        return self.out(self.norm(x + y))


def test_attention_with_tied_weights() -> None:
    model = both_ways(Attention(), torch.randint(0, 20, (2, 7)))
    assert model.out.weight is model.embedding.weight
    back = fnn.to_torch(model)
    assert back.out.weight is back.embedding.weight
    assert model(np.ones((3, 5), np.int64)).shape == (3, 5, 20)  # other sizes than those of the example


class Recurrent(theirs.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = theirs.LSTM(5, 6, 2, batch_first=True, bidirectional=True)
        self.blocks = theirs.ModuleList([theirs.Linear(12, 12) for _ in range(3)])
        self.shared = self.blocks[0]
        self.predict = theirs.Linear(12, 2)  # a name that is a method of fastnn's modules
        self.loss = theirs.CTCLoss()  # which forward does not use, and fastnn does not have

    def forward(self, x: Any) -> Any:
        y, (h, _) = self.lstm(x)
        y = torch.cat([y[:, -1], h.mean(dim=0).repeat(1, 2)], 1).chunk(2, 1)[0]
        for block in self.blocks:
            assert y.size(1) == 12
            y = y + torch.tanh(block(y))
        return self.predict(self.shared(y)), h


def test_tuples_lists_and_shared_modules() -> None:
    model = both_ways(Recurrent(), torch.randn(3, 4, 5))
    assert model.shared is model.blocks[0]


class Branching(theirs.Module):
    """A part that takes a flag, which has to be traced with its caller."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Part()

    def forward(self, x: Any) -> Any:
        return self.part(x, twice=True) + self.part(x, False) + torch.zeros(x.size(0), 1)


class Part(theirs.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = theirs.Parameter(torch.randn(4))
        self.inner = theirs.Linear(4, 4)

    def forward(self, x: Any, twice: bool) -> Any:
        return self.inner(x * self.weight) * 2 if twice else x


class InPlace(theirs.Module):
    def forward(self, x: Any) -> Any:
        assert x.dim() == 2, "rows"
        y = x * 1
        z = functional.relu(y, inplace=True)
        y.add_(1)
        y *= 2
        return y + z.clamp(min=0.5)


torch.fx.wrap("shifted")


def shifted(x: Any, by: int) -> Any:
    return x + torch.ones(x.size(0), 1) * by if by > 1 else x


class Inner(theirs.Module):
    def forward(self, x: Any) -> Any:
        return shifted(x, 2)


class Outer(theirs.Module):
    """A size of the input, in a part that is traced within another trace, in a function that is closed to torch.fx."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Any) -> Any:
        return self.inner(x) * 2


@pytest.mark.parametrize("module", [Branching(), InPlace(), Outer()], ids=lambda m: type(m).__name__)
def test_flags_and_writing_in_place(module: Any) -> None:
    both_ways(module, torch.randn(3, 4))


LAYERS: list[tuple[Any, tuple[int, ...]]] = [
    (theirs.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (2, 4, 9)),
    (theirs.Conv2d(2, 4, (3, 5), padding="same", padding_mode="reflect"), (2, 2, 8, 8)),
    (theirs.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1, bias=False), (2, 4, 5, 5)),
    (theirs.BatchNorm1d(4, affine=False), (5, 4)),
    (theirs.BatchNorm2d(3, track_running_stats=False), (2, 3, 4, 4)),
    (theirs.InstanceNorm2d(3, affine=True), (2, 3, 4, 4)),
    (theirs.GroupNorm(2, 4), (2, 4, 5)),
    (theirs.LayerNorm((3, 4), bias=False), (2, 3, 4)),
    (theirs.RMSNorm(4), (2, 4)),
    (theirs.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 3, 8, 8)),
    (theirs.AvgPool2d(2, count_include_pad=False, padding=1), (2, 3, 8, 8)),
    (theirs.AvgPool1d(2), (2, 3, 8)),
    (theirs.AdaptiveMaxPool2d((2, None)), (2, 3, 8, 8)),
    (theirs.GRU(4, 3, bias=False), (5, 2, 4)),
    (theirs.RNN(4, 3, nonlinearity="relu", batch_first=True), (2, 5, 4)),
    (theirs.PReLU(3), (2, 3)),
    (theirs.Softplus(beta=2), (2, 3)),
    (theirs.LeakyReLU(0.3), (2, 3)),
    (theirs.GELU("tanh"), (2, 3)),
    (theirs.Hardtanh(-2, 3), (2, 3)),
    (theirs.GLU(1), (2, 4)),
    (theirs.LogSoftmax(dim=1), (2, 4)),
    (theirs.Upsample(scale_factor=2, mode="bilinear", align_corners=True), (2, 3, 4, 4)),
    (theirs.ZeroPad2d((1, 2, 0, 1)), (2, 3, 4, 4)),
    (theirs.PixelShuffle(2), (2, 4, 3, 3)),
    (theirs.Unflatten(1, (2, 2)), (3, 4)),
    (theirs.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu", norm_first=True), (2, 5, 8)),
    (theirs.TransformerEncoder(theirs.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2), (2, 5, 8)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=[type(layer).__name__ for layer, _ in LAYERS])
def test_layers_with_options(layer: Any, shape: tuple[int, ...]) -> None:
    both_ways(layer, torch.randn(shape))


@pytest.mark.parametrize("training", [True, False])
def test_layers_within_layers_keep_their_modes(training: bool) -> None:
    """A dropout that is in training mode in a transformer in eval mode would change each prediction."""
    module = theirs.Transformer(8, 2, 1, 1, 16).train(training)
    module.encoder.layers[0].dropout1.train(not training)
    model = fnn.from_torch(module)
    modes = {path: each.training for path, each in module.named_modules()}
    assert {path: each.training for path, each in model.named_modules() if path in modes} == modes


def test_a_transformer() -> None:
    transformer = theirs.Transformer(8, 2, 1, 1, 16, batch_first=True)
    both_ways(transformer, torch.randn(2, 5, 8), torch.randn(2, 3, 8))


def test_every_layer_without_arguments_has_its_twin() -> None:
    for name in nn.__all__:
        layer = getattr(theirs, name, None)
        if not isinstance(layer, type) or name.endswith(("Loss", "max", "min", "Module", "Parameter", "Transformer")):
            continue
        if name.startswith("Lazy"):
            continue
        try:
            module = layer()
        except TypeError:
            continue
        assert type(fnn.from_torch(module)).__name__ == name
        assert type(fnn.to_torch(getattr(nn, name)())).__name__ == name


# ---- what cannot be translated ---------------------------------------------------------------------------------------


class Wild(theirs.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def test_all_that_is_missing_is_named_with_its_path() -> None:
    module = theirs.Sequential(
        theirs.Conv3d(1, 1, 1), theirs.Sequential(theirs.ReLU(), theirs.LPPool1d(2, 2)), Wild(torch.fft.fft)
    )
    with pytest.raises(fnn.errors.GraphError) as caught:
        fnn.from_torch(module)
    for said in (
        "0: fastnn has no layer Conv3d",
        "1.1: fastnn has no layer LPPool1d",
        "2: fastnn has no function",
    ):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x if x.sum() > 0 else -x, "control flow"),
        (lambda x: functional.lp_pool1d(x, 2, 2), "function F.lp_pool1d"),
        (lambda x: x.to_sparse(), "method to_sparse"),
        (lambda x: x.grad, "attribute grad"),
        (lambda x: np.tanh(x), "trace"),
        (lambda x: x.to(torch.complex64), "complex64"),
    ],
)
def test_one_sentence_for_a_forward_that_cannot_be_translated(function: Any, said: str) -> None:
    outer = theirs.Sequential(theirs.Linear(2, 2), Wild(function))
    with pytest.raises(fnn.FastnnError, match=rf"cannot translate 1: .*{said}"):
        fnn.from_torch(outer)


def test_other_mistakes() -> None:
    with pytest.raises(fnn.FastnnError, match=r"expected a torch.nn.Module .* got Linear"):
        fnn.from_torch(nn.Linear(2, 2))
    with pytest.raises(fnn.FastnnError, match="LazyLinear has no weights yet"):
        fnn.from_torch(theirs.LazyLinear(2))
    hooked = theirs.Linear(2, 2)
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    with pytest.raises(fnn.FastnnError, match="Linear has hooks"):
        fnn.from_torch(hooked)

    class Doubled(theirs.Module):
        def forward(self, weight: Any) -> Any:
            return 2 * weight

    owned = theirs.Linear(2, 2)
    torch.nn.utils.parametrize.register_parametrization(owned, "weight", Doubled())
    with pytest.raises(fnn.FastnnError, match=r"weight is computed by Doubled.*remove_parametrizations"):
        fnn.from_torch(owned)
    drawn = Wild(lambda x: x + torch.rand(2))  # which a trace keeps as it was
    with pytest.raises(fnn.FastnnError, match="agree within"):
        fnn.from_torch(drawn, torch.ones(2, 2))


def test_a_forward_that_was_replaced() -> None:
    changed = theirs.Dropout(0.5)
    changed.forward = lambda x: x + 1  # type: ignore[method-assign]
    both_ways(changed, torch.ones(2, 2))


class Maxout(theirs.Module):
    """The largest of three pieces, by an attribute of what `max` gives, and its place."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces = theirs.Linear(4, 6)

    def forward(self, x: Any) -> Any:
        best = self.pieces(x).reshape(-1, 2, 3).max(2)
        return best.values + best.indices


@pytest.mark.parametrize("bias", [True, False])
def test_cells_in_a_loop_come_back_with_their_biases(bias: bool) -> None:
    class Unrolled(theirs.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.lstm = theirs.GRUCell(4, 5, bias=bias), theirs.LSTMCell(5, 3, bias=bias)

        def forward(self, x: Any) -> Any:
            h, state = x.new_zeros(x.shape[0], 5), None
            for t in range(3):
                h = self.gru(x[:, t], h)
                state = self.lstm(h, state)
            return state[0]

    both_ways(Unrolled(), torch.randn(2, 3, 4))


def test_values_and_indices_are_attributes() -> None:
    both_ways(Maxout(), torch.randn(2, 4))


class Causal(theirs.Module):
    """Attention under a mask of infinities that a submodule holds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = theirs.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.held = theirs.Module()
        for owner in (self, self.held):
            owner.register_buffer("mask", torch.triu(torch.full((3, 3), -math.inf), 1))
        self.head = theirs.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(x, self.mask + self.held.mask)[:, -1])


def test_a_model_with_a_mask_of_infinities_trains_and_becomes_c(tmp_path: Path) -> None:
    x = torch.randn(6, 3, 4)
    model = both_ways(Causal(), x)
    fnn.interop.export_c(model, tmp_path / "model.c", (3, 4))
    before = model.head.weight.data.copy()
    fnn.fit(model, x.numpy(), np.arange(6) % 2, batch_size=3, verbose=False)
    assert np.isfinite(model.head.weight.data).all()
    assert not np.array_equal(model.head.weight.data, before)
    model.held.mask[0, 1] = np.nan
    with pytest.raises(fnn.errors.NonFiniteError, match=r"buffer held\.mask"):
        fnn.interop.export_c(model, tmp_path / "model.c", (3, 4))


def test_a_trace_leaves_torch_compile_as_it_was() -> None:
    """A trace replaces functions of torch; torch.compile's modules, which keep what they find there, come before."""
    program = (
        "import torch, fastnn as fnn\n"
        "assert 'torch._dynamo' not in __import__('sys').modules\n"
        "class Own(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.relu(x).max(1)[0] if x.dim() else torch.nn.functional.relu(x)\n"
        "fnn.from_torch(torch.nn.Sequential(Own()), torch.ones(2, 3))\n"
        "from torch._dynamo.utils import common_constant_types\n"
        "assert all(isinstance(each, type) for each in common_constant_types)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
