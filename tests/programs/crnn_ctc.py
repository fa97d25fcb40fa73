"""A CRNN reads words from strips: a spatial transformer, convolutions, bidirectional LSTMs, CTC, greedy decoding."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class LabelConverter:
    def __init__(self, alphabet):
        self.alphabet = alphabet + "-"
        self.dict = {char: i + 1 for i, char in enumerate(alphabet)}

    def encode(self, words):
        lengths = [len(word) for word in words]
        return torch.IntTensor([self.dict[char] for char in "".join(words)]), torch.IntTensor(lengths)

    def decode(self, t):
        chars = [self.alphabet[t[i] - 1] for i in range(len(t)) if t[i] != 0 and not (i > 0 and t[i - 1] == t[i])]
        return "".join(chars)


class BidirectionalLSTM(nn.Module):
    def __init__(self, n_in, n_hidden, n_out):
        super().__init__()
        self.rnn = nn.LSTM(n_in, n_hidden, bidirectional=True)
        self.embedding = nn.Linear(n_hidden * 2, n_out)

    def forward(self, input):
        recurrent, _ = self.rnn(input)
        T, b, h = recurrent.size()
        return self.embedding(recurrent.view(T * b, h)).view(T, b, -1)


class CRNN(nn.Module):
    def __init__(self, classes, hidden=6):
        super().__init__()
        self.localization = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(True), nn.AdaptiveAvgPool2d((2, 4)))
        self.fc_loc = nn.Linear(3 * 2 * 4, 6)
        self.cnn = nn.Sequential()
        self.cnn.add_module("conv0", nn.Conv2d(1, 4, 3, 1, 1))
        self.cnn.add_module("relu0", nn.LeakyReLU(0.2, inplace=True))
        self.cnn.add_module("pooling0", nn.MaxPool2d((2, 2), (2, 1), (0, 1)))
        self.cnn.add_module("conv1", nn.Conv2d(4, 6, (4, 2), bias=False))
        self.cnn.add_module("batchnorm1", nn.BatchNorm2d(6))
        self.cnn.add_module("relu1", nn.ReLU(True))
        self.rnn = nn.Sequential(BidirectionalLSTM(6, hidden, hidden), BidirectionalLSTM(hidden, hidden, classes))

    def reset(self):
        self.fc_loc.weight.data.mul_(0.1)
        self.fc_loc.bias.data.copy_(torch.tensor([1, 0, 0, 0, 1, 0], dtype=torch.float))

    def forward(self, x):
        theta = self.fc_loc(self.localization(x).flatten(1)).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        conv = self.cnn(F.grid_sample(x, grid, padding_mode="border", align_corners=False))
        assert conv.size(2) == 1, "the height of conv must be 1"
        return self.rnn(conv.squeeze(2).permute(2, 0, 1))


def run(fill, draw):
    words = ["ab", "cad", "b", "dd"]
    converter = LabelConverter("abcd")
    images = torch.from_numpy(draw.uniform(4, 1, 8, 12)).sub_(0.5).div_(0.5)
    model = fill(CRNN(len(converter.alphabet)))
    model.reset()
    criterion = nn.CTCLoss(zero_infinity=True)
    optimizer = torch.optim.Adadelta(model.parameters(), rho=0.9, lr=1.0)
    text, length = torch.IntTensor(1), torch.IntTensor(1)
    losses = []
    for _ in range(10):
        t, n = converter.encode(words)
        with torch.no_grad():
            text.resize_(t.size()).copy_(t)
            length.resize_(n.size()).copy_(n)
        preds = model(images).log_softmax(2)
        preds_size = torch.IntTensor([preds.size(0)] * len(words))
        cost = criterion(preds, text, preds_size, length)
        model.zero_grad()
        cost.backward()
        optimizer.step()
        losses.append(cost.item())
    best = preds.max(2)[1].transpose(1, 0).contiguous()
    return losses + [float(sum(len(converter.decode(row)) for row in best))]
