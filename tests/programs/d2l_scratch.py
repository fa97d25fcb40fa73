"""Chapters of d2l.ai: regression and softmax from scratch, corr2d, masked attention and losses."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import data


def linreg(X, w, b):
    return torch.matmul(X, w) + b


def squared_loss(y_hat, y):
    return (y_hat - y.reshape(y_hat.shape)) ** 2 / 2


def sgd(params, lr, batch_size):
    with torch.no_grad():
        for param in params:
            param -= lr * param.grad / batch_size
            param.grad.zero_()


def softmax(X):
    X_exp = torch.exp(X)
    partition = X_exp.sum(1, keepdim=True)
    return X_exp / partition


def cross_entropy(y_hat, y):
    return -torch.log(y_hat[range(len(y_hat)), y])


def accuracy(y_hat, y):
    if len(y_hat.shape) > 1 and y_hat.shape[1] > 1:
        y_hat = y_hat.argmax(axis=1)
    cmp = y_hat.type(y.dtype) == y
    return float(cmp.type(y.dtype).sum())


def corr2d(X, K):
    h, w = K.shape
    Y = torch.zeros((X.shape[0] - h + 1, X.shape[1] - w + 1))
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] = (X[i : i + h, j : j + w] * K).sum()
    return Y


class FixedHiddenMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.rand_weight = torch.rand((8, 8), requires_grad=False)
        self.linear = nn.Linear(8, 8)

    def forward(self, X):
        X = self.linear(X)
        X = F.relu(torch.mm(X, self.rand_weight) + 1)
        X = self.linear(X)
        while X.abs().sum() > 1:
            X /= 2
        return X.sum()


def sequence_mask(X, valid_len, value=0):
    maxlen = X.size(1)
    mask = torch.arange((maxlen), dtype=torch.float32, device=X.device)[None, :] < valid_len[:, None]
    X[~mask] = value
    return X


def masked_softmax(X, valid_lens):
    if valid_lens is None:
        return nn.functional.softmax(X, dim=-1)
    shape = X.shape
    if valid_lens.dim() == 1:
        valid_lens = torch.repeat_interleave(valid_lens, shape[1])
    else:
        valid_lens = valid_lens.reshape(-1)
    X = sequence_mask(X.reshape(-1, shape[-1]), valid_lens, value=-1e6)
    return nn.functional.softmax(X.reshape(shape), dim=-1)


class AdditiveAttention(nn.Module):
    def __init__(self, key_size, query_size, num_hiddens, dropout):
        super(AdditiveAttention, self).__init__()
        self.W_k = nn.Linear(key_size, num_hiddens, bias=False)
        self.W_q = nn.Linear(query_size, num_hiddens, bias=False)
        self.w_v = nn.Linear(num_hiddens, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries, keys, values, valid_lens):
        queries, keys = self.W_q(queries), self.W_k(keys)
        features = queries.unsqueeze(2) + keys.unsqueeze(1)
        features = torch.tanh(features)
        scores = self.w_v(features).squeeze(-1)
        self.attention_weights = masked_softmax(scores, valid_lens)
        return torch.bmm(self.dropout(self.attention_weights), values)


class MaskedSoftmaxCELoss(nn.CrossEntropyLoss):
    def forward(self, pred, label, valid_len):
        weights = torch.ones_like(label)
        weights = sequence_mask(weights, valid_len)
        self.reduction = "none"
        unweighted_loss = super(MaskedSoftmaxCELoss, self).forward(pred.permute(0, 2, 1), label)
        return (unweighted_loss * weights).mean(dim=1)


def run(fill, draw):
    losses = []
    true_w, true_b = torch.tensor([2, -3.4]), 4.2
    X = torch.from_numpy(draw.normal(40, 2))
    y = (torch.matmul(X, true_w) + true_b).reshape((-1, 1))
    w = torch.normal(0, 0.01, size=(2, 1), requires_grad=True)
    w.data = torch.from_numpy(draw.normal(2, 1))
    b = torch.zeros(1, requires_grad=True)
    for epoch in range(3):
        indices = list(range(40))
        for i in range(0, 40, 10):
            j = torch.tensor(indices[i : min(i + 10, 40)])
            loss = squared_loss(linreg(X[j], w, b), y[j])
            loss.sum().backward()
            sgd([w, b], 0.1, 10)
        with torch.no_grad():
            train_l = squared_loss(linreg(X, w, b), y)
            print(f"epoch {epoch + 1}, loss {float(train_l.mean()):f}")
            losses.append(float(train_l.mean()))
    print(f"error in estimating w: {abs(float((true_w - w.reshape(true_w.shape)).norm())):.2f}")
    W, bb = torch.from_numpy(draw.normal(6, 3)).requires_grad_(), torch.zeros(3, requires_grad=True)
    dataset = data.TensorDataset(*(torch.from_numpy(draw.normal(24, 2, 3)), torch.from_numpy(draw.labels(3, 24))))
    for Xb, yb in data.DataLoader(dataset, 8, shuffle=False):
        loss = cross_entropy(softmax(torch.matmul(Xb.reshape((-1, W.shape[0])), W) + bb), yb)
        loss.mean().backward()
        sgd([W, bb], 0.1, 1)
        losses.append(float(loss.sum()))
        losses.append(accuracy(softmax(torch.matmul(Xb.reshape((-1, 6)), W)), yb) + 1)
    K = torch.tensor([[1.0, -1.0]])
    Xc = torch.ones((6, 8))
    Xc[:, 2:6] = 0
    Y = corr2d(Xc, K).reshape((1, 1, 6, 7))
    conv2d = fill(nn.Conv2d(1, 1, kernel_size=(1, 2), bias=False))
    for i in range(4):
        Y_hat = conv2d(Xc.reshape((1, 1, 6, 8)))
        loss = (Y_hat - Y) ** 2
        conv2d.zero_grad()
        loss.sum().backward()
        conv2d.weight.data[:] -= 3e-2 * conv2d.weight.grad
        losses.append(loss.sum().item())
    print(conv2d.weight.data.reshape((1, 2)).shape, FixedHiddenMLP()(torch.rand(2, 8)).shape)
    att = fill(AdditiveAttention(2, 5, 8, 0.0))
    queries, keys = torch.from_numpy(draw.normal(2, 1, 5)), torch.ones((2, 10, 2))
    values = torch.arange(40, dtype=torch.get_default_dtype()).reshape(1, 10, 4).repeat(2, 1, 1)
    out = att(queries, keys, values, torch.tensor([2, 6]))
    losses.append(out.sum().item())
    loss = MaskedSoftmaxCELoss()
    losses += loss(
        torch.from_numpy(draw.normal(3, 4, 10)), torch.ones((3, 4), dtype=torch.long), torch.tensor([4, 2, 0])
    ).tolist()[:2]
    P = torch.zeros((1, 10, 6))
    Xp = torch.arange(10, dtype=torch.float32).reshape(-1, 1) / torch.pow(
        10000, torch.arange(0, 6, 2, dtype=torch.float32) / 6
    )
    P[:, :, 0::2] = torch.sin(Xp)
    P[:, :, 1::2] = torch.cos(Xp)
    losses.append(P.abs().sum().item() if draw.dtype == "float32" else 1.0)
    A = torch.arange(20, dtype=torch.float32).reshape(5, 4)
    B = A.clone()
    before = id(B)
    B[:] = A + B
    B += A
    print(
        id(B) == before,
        A.sum(axis=[0, 1]),
        (A / A.sum(axis=1, keepdims=True)).sum(axis=0),
        A.cumsum(axis=0)[-1],
        A.T.shape,
        torch.abs(A).sum(),
    )
    return losses
