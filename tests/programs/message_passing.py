"""Message passing written as PyG does inside: MessagePassing base, degree, segment softmax; GATv2, GIN, SAGE."""

import inspect

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import BatchNorm1d, Linear, Parameter, ReLU, Sequential


def maybe_num_nodes(index, n=None):
    return n if n is not None else int(index.max()) + 1 if index.numel() > 0 else 0


def scatter(src: Tensor, index: Tensor, dim_size: int, reduce: str = "sum") -> Tensor:
    size = src.size()[:0] + (dim_size,) + src.size()[1:]
    if reduce in ("sum", "add"):
        return src.new_zeros(size).scatter_add_(0, index.view([-1] + [1] * (src.dim() - 1)).expand_as(src), src)
    if reduce == "mean":
        count = src.new_zeros(dim_size).scatter_add_(0, index, src.new_ones(src.size(0))).clamp(min=1)
        return scatter(src, index, dim_size) / count.view([-1] + [1] * (src.dim() - 1))
    idx = index.view([-1] + [1] * (src.dim() - 1)).expand_as(src)
    return src.new_zeros(size).scatter_reduce_(0, idx, src, reduce=f"a{reduce}", include_self=False)


def softmax(src: Tensor, index: Tensor, num_nodes: int) -> Tensor:
    src_max = scatter(src.detach(), index, num_nodes, reduce="max")
    out = (src - src_max.index_select(0, index)).exp()
    out_sum = scatter(out, index, num_nodes) + 1e-16
    return out / out_sum.index_select(0, index)


def add_self_loops(edge_index, num_nodes):
    loop = torch.arange(0, num_nodes, dtype=torch.long, device=edge_index.device).unsqueeze(0).repeat(2, 1)
    return torch.cat([edge_index, loop], dim=1)


class MessagePassing(torch.nn.Module):
    def __init__(self, aggr="add"):
        super().__init__()
        self.aggr = aggr
        self._params = list(inspect.signature(self.message).parameters)

    def propagate(self, edge_index, size=None, **kwargs):
        out = {"index": edge_index[1]}
        for name in self._params:
            if name[-2:] in ("_i", "_j"):
                data = kwargs[name[:-2]]
                out[name] = data.index_select(0, edge_index[1 if name.endswith("_i") else 0])
            elif name not in out:
                out[name] = kwargs.get(name, size)
        msg = self.message(**{k: out[k] for k in self._params})
        return scatter(msg, edge_index[1], size, self.aggr)

    def message(self, x_j):
        return x_j


class GATv2Conv(MessagePassing):
    def __init__(self, in_c, out_c, heads=2, slope=0.2):
        super().__init__(aggr="add")
        self.h, self.c, self.slope = heads, out_c, slope
        self.lin_l, self.lin_r = Linear(in_c, heads * out_c), Linear(in_c, heads * out_c)
        self.att, self.bias = Parameter(torch.empty(1, heads, out_c)), Parameter(torch.empty(heads * out_c))
        torch.nn.init.xavier_uniform_(self.att), torch.nn.init.zeros_(self.bias)

    def forward(self, x, edge_index):
        x_l, x_r = self.lin_l(x).view(-1, self.h, self.c), self.lin_r(x).view(-1, self.h, self.c)
        edge_index = add_self_loops(edge_index, x.size(0))
        e = F.leaky_relu(x_l[edge_index[0]] + x_r[edge_index[1]], self.slope)
        alpha = softmax((e * self.att).sum(dim=-1), edge_index[1], x.size(0))
        self._alpha = alpha
        return self.propagate(edge_index, size=x.size(0), x=x_l, alpha=alpha).view(-1, self.h * self.c) + self.bias

    def message(self, x_j: Tensor, alpha: Tensor) -> Tensor:
        return x_j * alpha.unsqueeze(-1)


class GINConv(MessagePassing):
    def __init__(self, nn, train_eps=True):
        super().__init__(aggr="add")
        self.nn, self.eps = nn, Parameter(torch.zeros(1))

    def forward(self, x, edge_index):
        return self.nn((1 + self.eps) * x + self.propagate(edge_index, size=x.size(0), x=x))


class SAGEConv(MessagePassing):
    def __init__(self, in_c, out_c, aggr):
        super().__init__(aggr=aggr)
        self.lin_l, self.lin_r = Linear(in_c, out_c), Linear(in_c, out_c, bias=False)

    def forward(self, x, edge_index):
        out = self.propagate(edge_index, size=x.size(0), x=x)
        return F.normalize(self.lin_l(out) + self.lin_r(x), p=2.0, dim=-1)


class Net(torch.nn.Module):
    def __init__(self, in_c, hid, classes):
        super().__init__()
        self.gat, self.sage, self.sagemax = (
            GATv2Conv(in_c, hid // 2),
            SAGEConv(hid, hid, "mean"),
            SAGEConv(hid, hid, "max"),
        )
        self.gin = GINConv(Sequential(Linear(hid, hid), BatchNorm1d(hid), ReLU(), Linear(hid, hid)))
        self.lin = torch.nn.LazyLinear(classes)

    def forward(self, x, edge_index, batch):
        h1 = F.elu(self.gat(x, edge_index))
        h2 = self.sagemax(self.sage(h1, edge_index).relu(), edge_index)
        h3 = self.gin(h2, edge_index).relu_()
        n = int(batch.max()) + 1
        pool = torch.cat(
            [scatter(h1, batch, n, "mean"), scatter(h3, batch, n, "max"), scatter(h3, batch, n, "min")], -1
        )
        return self.lin(F.dropout(pool, p=0.0, training=self.training))


def collate(graphs):
    xs, es, ys, b, off = [], [], [], [], 0
    for i, (x, e, y) in enumerate(graphs):
        xs.append(x), es.append(e + off), ys.append(y), b.append(torch.full((x.shape[0],), i, dtype=torch.int64))
        off += x.shape[0]
    return torch.cat(xs), torch.cat(es, 1).contiguous(), torch.tensor(ys), torch.cat(b)


def run(fill, draw):
    graphs = []
    for _ in range(40):
        n = 5 + int(draw.labels(5))
        A = np.triu(draw.uniform(n, n) < 0.4, 1)
        e = torch.tensor(np.array(np.nonzero(A | A.T)), dtype=torch.long)
        deg = torch.zeros(n).scatter_add_(0, e[0], torch.ones(e.size(1)))
        graphs.append(
            (
                torch.cat(
                    [
                        F.one_hot(deg.long().clamp_(max=7), 8).to(torch.get_default_dtype()),
                        torch.from_numpy(draw.uniform(n, 2)),
                    ],
                    1,
                ),
                e,
                int(A.sum() > n),
            )
        )
    model = Net(10, 8, 2)
    model(*[collate(graphs[:2])[i] for i in (0, 1, 3)])
    model = fill(model)
    optimizer = torch.optim.Adamax(model.parameters(), lr=0.01, weight_decay=5e-4)
    losses = []
    for step in range(10):
        x, e, y, b = collate(graphs[step * 4 : step * 4 + 4])
        model.train()
        optimizer.zero_grad()
        out = model(x, e, b)
        loss = F.nll_loss(F.log_softmax(out, dim=1), y, weight=torch.tensor([1.0, 0.8]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item() + model.gat._alpha.max().item())
    return losses
