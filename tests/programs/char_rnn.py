"""PyTorch's name classifier: a recurrent cell by hand, one-hot letters, parameters updated without an optimiser."""

import torch
import torch.nn as nn


class RNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super(RNN, self).__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, input, hidden):
        combined = torch.cat((input, hidden), 1)
        hidden = torch.tanh(self.i2h(combined))
        output = self.h2o(hidden)
        output = self.softmax(output)
        return output, hidden

    def initHidden(self):
        return torch.zeros(1, self.hidden_size)


def lineToTensor(letters):
    tensor = torch.zeros(len(letters), 1, 26)
    for li, letter in enumerate(letters):
        tensor[li][0][letter] = 1
    return tensor


def train(rnn, criterion, category_tensor, line_tensor, learning_rate=0.05):
    hidden = rnn.initHidden()
    rnn.zero_grad()
    for i in range(line_tensor.size()[0]):
        output, hidden = rnn(line_tensor[i], hidden)
    loss = criterion(output, category_tensor)
    loss.backward()
    for p in rnn.parameters():
        p.data.add_(p.grad.data, alpha=-learning_rate)
    return output, loss.item()


def run(fill, draw):
    rnn = fill(RNN(26, 16, 4))
    criterion = nn.NLLLoss()
    losses = []
    for i in range(10):
        category_tensor = torch.tensor([i % 4], dtype=torch.long)
        output, loss = train(rnn, criterion, category_tensor, lineToTensor(draw.labels(26, 4 + i % 3)))
        top_n, top_i = output.topk(1)
        assert 0 <= top_i[0].item() < 4
        losses.append(loss)
    return losses
