"""Expressions that join, choose, move, sort and multiply, written once for fastnn and for PyTorch.

Each is a function of the package `t`, its functional module `F`, and tensors a (3, 4), b (3, 4), v (4,), s (2, 3, 4)
and q (4, 4); what it returns is a tensor, or several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import nn, ops

SHAPES = {"a": (3, 4), "b": (3, 4), "v": (4,), "s": (2, 3, 4), "q": (4, 4)}
Expression = Callable[..., Any]


def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def long(t: Any, values: Any) -> Any:
    return t.tensor(values)


INDEX = [[0, 2, 2], [1, 0, 3]]

SINGLE: dict[str, Expression] = {
    # ---- join, cut up
    "cat": lambda t, F, a, b, v, s, q: t.cat([a, b, a], 1),
    "stack": lambda t, F, a, b, v, s, q: t.stack((a, b), dim=-1),
    "hstack": lambda t, F, a, b, v, s, q: t.hstack([a, b]) * t.hstack([v, v]),
    "vstack": lambda t, F, a, b, v, s, q: t.vstack([a, v]),
    "dstack": lambda t, F, a, b, v, s, q: t.dstack([a, b]),
    "column_stack": lambda t, F, a, b, v, s, q: t.column_stack([q, v]),
    "split": lambda t, F, a, b, v, s, q: t.split(a, 3, 1)[1] * a.split([1, 3], dim=1)[0],
    "chunk": lambda t, F, a, b, v, s, q: sum(part.sum() * i for i, part in enumerate(v.chunk(3))),
    "tensor_split": lambda t, F, a, b, v, s, q: t.tensor_split(v, 3)[0] * v.tensor_split([1, 3])[1],
    "unbind": lambda t, F, a, b, v, s, q: s.unbind(1)[2] * t.unbind(s)[1][0],
    "select": lambda t, F, a, b, v, s, q: s.select(2, -1) * t.narrow(s, 2, 1, 2).select(2, 0),
    "where": lambda t, F, a, b, v, s, q: t.where(a > 0, a, b) + a.where(b > a, v),
    "meshgrid": lambda t, F, a, b, v, s, q: (
        t.meshgrid(v, v[:2], indexing="ij")[1] * t.meshgrid(v[:2], v, indexing="xy")[0]
    ),
    "cartesian_prod": lambda t, F, a, b, v, s, q: t.cartesian_prod(v, v[1:]),
    "broadcast_tensors": lambda t, F, a, b, v, s, q: t.broadcast_tensors(a, v)[1] * t.broadcast_to(v, (3, 4)),
    "atleast": lambda t, F, a, b, v, s, q: t.atleast_3d(a) + t.atleast_2d(v).unsqueeze(2) + t.atleast_1d(v.sum()),
    # ---- move, repeat
    "flip": lambda t, F, a, b, v, s, q: t.flip(s, (0, 2)) * a.flip(1) + t.fliplr(a) * t.flipud(b),
    "rot90": lambda t, F, a, b, v, s, q: t.rot90(q) * t.rot90(q, 3, (0, 1)) * t.rot90(q, 2),
    "roll": lambda t, F, a, b, v, s, q: t.roll(a, 1, 1) * a.roll((1, -1), (0, 1)) + t.roll(b, 5),
    "expand": lambda t, F, a, b, v, s, q: v.expand(3, -1) * a + v.expand_as(b).expand(2, 3, 4)[0],
    "repeat": lambda t, F, a, b, v, s, q: a.repeat(2, 1, 2) * v.repeat(2) + t.tile(v, (2,)),
    "repeat_interleave": lambda t, F, a, b, v, s, q: (
        a.repeat_interleave(2, dim=1)[:, ::2] * t.repeat_interleave(v, long(t, [1, 0, 2, 1]))
    ),
    "tril": lambda t, F, a, b, v, s, q: t.tril(s, 1) + a.triu(-1) + t.triu(q)[:3],
    "diagonal": lambda t, F, a, b, v, s, q: t.diagonal(s, 1, 1, 2) * t.diag(q, -1)[:2].sum() + t.diag(a)[:1],
    "diag": lambda t, F, a, b, v, s, q: t.diag(v) @ q + t.diag_embed(a, 0).sum(0),
    "trace": lambda t, F, a, b, v, s, q: t.trace(q) * q.trace(),
    "movedim": lambda t, F, a, b, v, s, q: (
        t.movedim(s, 0, 2) * s.movedim((0, 1), (2, 0)) + s.swapaxes(0, 1).transpose(1, 2)
    ),
    "reshape": lambda t, F, a, b, v, s, q: s.unflatten(2, (2, -1)).flatten(2) * t.ravel(s).view(2, 3, 4),
    "squeeze": lambda t, F, a, b, v, s, q: a.unsqueeze(0).unsqueeze(-1).squeeze((0, 3)) * a[None].squeeze(),
    "pad by zeros": lambda t, F, a, b, v, s, q: t.cat([t.zeros(3, 1, dtype=a.dtype), a], 1),
    # ---- choose
    "index by lists": lambda t, F, a, b, v, s, q: a[[0, 2, 2]] * a[:, [0, 1, 1, 3]] + a[[-1, 0, 1]],
    "index by pairs": lambda t, F, a, b, v, s, q: a[range(3), long(t, [0, 3, 3])] * a[t.arange(3), [1, 1, 2]],
    "index by tensor": lambda t, F, a, b, v, s, q: v[long(t, INDEX)] * s[:, 1, long(t, [3, 0, 0])],
    "index by mask": lambda t, F, a, b, v, s, q: a[a > 0] * 2,
    "index by row mask": lambda t, F, a, b, v, s, q: (
        a[long(t, [True, False, True])][:, 1:] * s[0, long(t, [False, True, True]), 1:]
    ),
    "index, apart": lambda t, F, a, b, v, s, q: (
        s[0, :, long(t, [0, 1, 1])] + s[long(t, [0, 1, 0]), :, long(t, [2, 2, 3])]
    ),
    "index, mixed": lambda t, F, a, b, v, s, q: s[..., long(t, [0, 3])] * s[:, None, 1:2, [1, 0]].squeeze(2),
    "index by a number": lambda t, F, a, b, v, s, q: a[t.tensor(1)] * a[1, t.tensor(2)],
    "gather": lambda t, F, a, b, v, s, q: t.gather(a, 1, long(t, INDEX)) * a.gather(0, long(t, [[0, 2, 2], [1, 1, 0]])),
    "take_along_dim": lambda t, F, a, b, v, s, q: (
        t.take_along_dim(a, long(t, [[0, 2]]), 1) * t.take_along_dim(a, long(t, [3]))[0]
    ),
    "index_select": lambda t, F, a, b, v, s, q: (
        t.index_select(s, 1, long(t, [2, 0, 2])) * s.take(long(t, [0, 23])).sum()
    ),
    "masked_select": lambda t, F, a, b, v, s, q: t.masked_select(a, v > 0) ** 2,
    "masked_fill": lambda t, F, a, b, v, s, q: a.masked_fill(a > 0.3, -2.0) * b.masked_fill(v < 0, 0),
    "masked_scatter": lambda t, F, a, b, v, s, q: a.masked_scatter(a > 0, b) * a,
    "scatter": lambda t, F, a, b, v, s, q: (
        a.scatter(1, long(t, [[0, 2], [1, 3]]), b[:2, :2]) * a.scatter(0, long(t, [[1, 0, 2, 2]]), 7.0)
    ),
    "scatter_add": lambda t, F, a, b, v, s, q: (
        a.scatter_add(1, long(t, [[0, 0, 2], [1, 1, 1]]), b[:2, :3]) * t.scatter_add(v, 0, long(t, [0, 0]), v[:2])
    ),
    "scatter_reduce": lambda t, F, a, b, v, s, q: (
        v.scatter_reduce(0, long(t, [0, 0, 1, 3]), v * 2, "sum")
        * v.scatter_reduce(0, long(t, [0, 0, 1, 1]), b[0], "mean", include_self=False)
    ),
    "scatter_reduce, largest": lambda t, F, a, b, v, s, q: (
        v.scatter_reduce(0, long(t, [0, 0, 1, 1]), b[0], "amax")
        * t.zeros(3, dtype=v.dtype).scatter_reduce(0, long(t, [0, 0, 2, 2]), v[[0, 0, 2, 3]], "amin")[0]
        + v.scatter_reduce(0, long(t, [0, 0, 3, 3]), b[1], "amin", include_self=False)
    ),
    "index_add": lambda t, F, a, b, v, s, q: (
        a.index_add(0, long(t, [0, 2, 2]), b, alpha=2) * b.index_copy(1, long(t, [3, 0]), a[:, :2])
    ),
    "index_fill": lambda t, F, a, b, v, s, q: (
        a.index_fill(1, long(t, [0, 3]), 5.0) * b.index_put((long(t, [0, 1]), long(t, [1, 1])), v[:2])
    ),
    "index_put, added": lambda t, F, a, b, v, s, q: a.index_put((long(t, [0, 0]),), v, accumulate=True),
    # ---- sort
    "sort": lambda t, F, a, b, v, s, q: a.sort(1).values * t.sort(b, 0, descending=True)[0] + t.msort(a),
    "topk": lambda t, F, a, b, v, s, q: (
        a.topk(2, 1).values * t.topk(b, 2, largest=False)[0] + t.kthvalue(a, 2, 1, keepdim=True).values
    ),
    "quantile": lambda t, F, a, b, v, s, q: (
        t.quantile(a, t.tensor([0.1, 0.5, 1.0], dtype=a.dtype), dim=1).sum(0)[:, None]
        * b.quantile(0.3, 0, keepdim=True)
        + v.quantile(0.5, interpolation="higher") * s.quantile(0.25, interpolation="midpoint", keepdim=True).sum()
    ),
    "axis": lambda t, F, a, b, v, s, q: (
        t.cat([a, b], axis=1).cumsum(axis=0)[:, :4] * t.stack((a, b), axis=-1).softmax(axis=-1)[..., 0]
        + a.sort(axis=1).values * t.flip(b, dims=(0,)) * a.permute((1, 0)).reshape((3, 4))
        + a.split(split_size=2, dim=0)[0].unsqueeze(axis=0).squeeze(axis=0).sum()
    ),
    "windows": lambda t, F, a, b, v, s, q: (
        s.unfold(1, 2, 1) * s.mT.unfold(-1, 2, 1).transpose(1, 2) + s.unfold(2, 3, 1).sum()
    ),
    "where of a condition alone": lambda t, F, a, b, v, s, q: a[t.where(a > 0)] * t.where(v > 9)[0].sum(),
    "cumsum": lambda t, F, a, b, v, s, q: s.cumsum(1) * t.cumsum(a, 1) + v.cumsum(-1),
    "ctc_loss": lambda t, F, a, b, v, s, q: F.ctc_loss(
        s.log_softmax(2), t.tensor([[1, 1], [2, 1], [3, 3]]), (2, 2, 1), (1, 2, 1), reduction="sum"
    ),
    "places": lambda t, F, a, b, v, s, q: F.grid_sample(
        s[None], F.affine_grid(q[:2, :3][None] / 3, (1, 1, 3, 2), align_corners=False), align_corners=False
    ),
    "local_response_norm": lambda t, F, a, b, v, s, q: F.local_response_norm(s, 2, 0.5, 0.6),
    "cummax": lambda t, F, a, b, v, s, q: t.cummax(a, 1).values + a.cummin(-1)[0] + t.cummin(b, 0).values,
    "mode": lambda t, F, a, b, v, s, q: a.mode().values.sum() + t.mode(b, 0, True)[0],
    "nanmedian": lambda t, F, a, b, v, s, q: a.nanmedian() + t.nanmedian(t.where(b > 0, b, float("nan")), 1).values,
    "isin": lambda t, F, a, b, v, s, q: t.where(t.isin(a, b[0]), a, b) + t.isin(a, a[0, :2], invert=True) * b,
    "block_diag": lambda t, F, a, b, v, s, q: t.block_diag(a, v, q, a.sum()),
    "diagflat": lambda t, F, a, b, v, s, q: t.diagflat(q, 1)[:5, :5] * v[0] + q.sum().diagflat(),
    "combinations": lambda t, F, a, b, v, s, q: t.combinations(v).sum(1) * t.combinations(v, 2).prod(1),
    "combinations, again": lambda t, F, a, b, v, s, q: t.combinations(v, 3, with_replacement=True),
    "hsplit": lambda t, F, a, b, v, s, q: t.hsplit(a, 2)[1] * a.hsplit([2])[0] + v.hsplit(2)[0][:1],
    "vsplit": lambda t, F, a, b, v, s, q: a.vsplit([1])[0] * t.vsplit(a, 3)[2] + s.dsplit(4)[1].sum(),
    "trapezoid": lambda t, F, a, b, v, s, q: t.trapezoid(a, dim=0) + t.trapezoid(a, b).sum() + t.trapz(a, v).sum(),
    "trapezoid, sums": lambda t, F, a, b, v, s, q: t.cumulative_trapezoid(a, v) * t.cumulative_trapezoid(b, dx=0.5),
    "special": lambda t, F, a, b, v, s, q: t.xlogy(a, b * b) + t.sinc(a) + t.hypot(a, b) + a.copysign(b) + b.i0(),
    "special, of shares": lambda t, F, a, b, v, s, q: t.erfinv(a.tanh()) + t.xlogy(a - a, b * b) + a.hypot(a - a),
    "special, angles": lambda t, F, a, b, v, s, q: t.deg2rad(a) + b.rad2deg() + t.logaddexp2(a, b) + a.sinc(),
    "special, extrema": lambda t, F, a, b, v, s, q: (
        t.fmax(a, b) * t.fmin(a, v) + t.fmax(a, a) + a.detach().heaviside(b.detach()) * b
    ),
    "special, powers": lambda t, F, a, b, v, s, q: (a * a + 1).float_power(b) + t.float_power(a, 2) + t.signbit(a) * b,
    "cumprod": lambda t, F, a, b, v, s, q: s.cumprod(1) + t.cumprod(a, 1),
    "cumprod with zeros": lambda t, F, a, b, v, s, q: t.cumprod(
        a * long(t, [[1, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1]]), 1
    ),
    "logcumsumexp": lambda t, F, a, b, v, s, q: t.logcumsumexp(a * 5, 1) * a.logcumsumexp(0),
    "diff": lambda t, F, a, b, v, s, q: t.diff(a) * a.diff(2, 0)[:1, :3] + t.diff(v, prepend=v[:1])[:3],
    # ---- products
    "einsum, matrices": lambda t, F, a, b, v, s, q: t.einsum("ij,kj->ik", a, b) * t.einsum("ij,ij->i", a, b),
    "einsum, stacks": lambda t, F, a, b, v, s, q: t.einsum("bij,bkj->bik", s, s) + t.einsum("bij,jk->bk", s, q).sum(),
    "einsum, three": lambda t, F, a, b, v, s, q: t.einsum("bij,jk,k->bi", s, q, v) * t.einsum("ij->", a),
    "einsum, diagonal": lambda t, F, a, b, v, s, q: (
        t.einsum("ii->i", q) * t.einsum("ii", q) + t.einsum("iji->ij", q.expand(4, 4, 4).transpose(0, 1)).sum(0)
    ),
    "einsum, ellipsis": lambda t, F, a, b, v, s, q: (
        t.einsum("...ij,jk->...ik", s, q) * t.einsum("...j->...", s)[..., None] + t.einsum("i...,i...", s, a[:1])[:, :1]
    ),
    "einsum, implicit": lambda t, F, a, b, v, s, q: t.einsum("ji,jk", a, b) + t.einsum("ba", q),
    "einsum, outer": lambda t, F, a, b, v, s, q: t.einsum("i,j->ji", v, v) * t.einsum("i,i->i", v, v),
    "bmm": lambda t, F, a, b, v, s, q: t.bmm(s, s.transpose(1, 2)) * s.bmm(s.permute(0, 2, 1)),
    "mm": lambda t, F, a, b, v, s, q: a.mm(q) * t.mv(q, v) + t.dot(v, v) * t.inner(a, q),
    "outer": lambda t, F, a, b, v, s, q: t.outer(v, v) * t.ger(v, v) + t.kron(a[:2, :2], b[:2, :2]),
    "addmm": lambda t, F, a, b, v, s, q: (
        t.addmm(v, a, q, beta=0.5, alpha=2) * t.addmv(v[:3], a, v)[:, None] + b.addmm(a, q)
    ),
    "addr": lambda t, F, a, b, v, s, q: (
        t.addr(q, v, v, alpha=0.3)
        + t.baddbmm(s, s, q.expand(2, 4, 4), beta=2).sum((0, 1))
        + t.addbmm(a, s, q.expand(2, 4, 4)).sum(0)
    ),
    "tensordot": lambda t, F, a, b, v, s, q: (
        t.tensordot(s, q, 1) * t.tensordot(s, a, ([1, 2], [0, 1]))[:, None, None] + t.chain_matmul(a, q, q)
    ),
    "matmul": lambda t, F, a, b, v, s, q: s @ q + (s @ v)[..., None] + t.matmul(v, q) * (v @ v),
    "norm": lambda t, F, a, b, v, s, q: (
        t.norm(a) * a.norm(dim=1) + b.norm(1, 1) * b.norm(3, 1) + t.norm(a, float("inf"), 1) + a.norm(0.5)
    ),
    "norm, all": lambda t, F, a, b, v, s, q: (
        t.norm(s, p="fro", dim=(1, 2)) * s.norm(2, (0, 2), keepdim=True).sum() + s.norm(float("-inf"))
    ),
    "normalize": lambda t, F, a, b, v, s, q: F.normalize(a) * F.normalize(b, dim=0) + F.normalize(a, p=1, dim=-1),
    "cdist": lambda t, F, a, b, v, s, q: t.cdist(a, b) + t.cdist(s, s, p=1)[0] + t.dist(a, b),
    "logsumexp": lambda t, F, a, b, v, s, q: (
        t.logsumexp(a * 100, 1) * s.logsumexp((0, 2)) + s.logsumexp(0, keepdim=True).sum()
    ),
}

# Without a gradient: integers, booleans, places.
CONSTANT: dict[str, Expression] = {
    "argsort": lambda t, F, a, b, v, s, q: (
        a.argsort(1),
        t.argsort(a, dim=0, descending=True),
        a.sort(0).indices,
        a.topk(2).indices,
    ),
    "ties": lambda t, F, a, b, v, s, q: (
        t.sort(t.tensor([2, 1, 2, 1, 2]), stable=True)[1],
        t.sort(t.tensor([2, 1, 2, 1, 2]), stable=True, descending=True)[1],
    ),
    "nonzero": lambda t, F, a, b, v, s, q: (
        t.nonzero(a > 0),
        *(v > 0).nonzero(as_tuple=True),
        t.argwhere(t.tensor([0, 3, 0, 1])),
    ),
    "one_hot": lambda t, F, a, b, v, s, q: (F.one_hot(t.tensor([0, 2, 1])), F.one_hot(t.tensor([[0], [3]]), 5)),
    "bincount": lambda t, F, a, b, v, s, q: (
        t.bincount(t.tensor([0, 3, 3])),
        t.tensor([1, 1]).bincount(minlength=4),
        t.bincount(t.tensor([0, 1, 1, 0]), v),
    ),
    "unique": lambda t, F, a, b, v, s, q: (
        t.unique(t.tensor([3, 1, 3])),
        *t.tensor([[3, 1], [3, 2]]).unique(return_inverse=True, return_counts=True),
        t.unique(t.tensor([[1, 2], [1, 2], [0, 1]]), dim=0),
    ),
    "unique_consecutive": lambda t, F, a, b, v, s, q: t.unique_consecutive(
        t.tensor([1, 1, 2, 1, 1, 1]), return_inverse=True, return_counts=True
    ),
    "searchsorted": lambda t, F, a, b, v, s, q: (
        t.searchsorted(t.tensor([1.0, 2.0, 2.0, 4.0]), t.tensor([[2.0, 5.0]])),
        t.searchsorted(a.sort(1).values, a, right=True),
        t.bucketize(v, t.tensor([-0.5, 0.0, 0.5], dtype=v.dtype)),
    ),
    "integers stay": lambda t, F, a, b, v, s, q: (
        t.tensor([1, 2]).cumsum(0),
        t.tensor([True, True]).cumsum(0),
        t.cat([t.tensor([1]), t.tensor([2])]),
        t.tensor([[1, 2]]).repeat(2, 1),
        t.tensor([1, 2]).flip(0),
        t.tensor([[1, 2], [3, 4]]).mm(t.tensor([[1, 0], [1, 1]])),
        t.tensor([3, 1]).sort().values,
        t.tensor([True, False])[[1, 0, 0]],
        t.tensor([1, 2, 3]).gather(0, t.tensor([2, 2])),
        t.tensor([1, 5]).masked_fill(t.tensor([True, False]), 3),
        t.eye(3).long().tril(),
        t.where(t.tensor([True, False]), t.tensor([1, 2]), t.tensor([3, 4])),
        t.zeros(3, dtype=t.int64).scatter_add(0, t.tensor([0, 0, 2]), t.tensor([1, 2, 3])),
    ),
    "vander": lambda t, F, a, b, v, s, q: (t.vander(v.detach()), t.vander(v.detach(), 3, increasing=True)),
    "indices of triangles": lambda t, F, a, b, v, s, q: (t.tril_indices(3, 4), t.triu_indices(3, 3, offset=1)),
    "histc": lambda t, F, a, b, v, s, q: (t.histc(a, 4, -1, 1), t.histc(v, 3)),
    "histogram": lambda t, F, a, b, v, s, q: (
        *t.histogram(a, 4),
        *t.histogram(a, t.linspace(-1, 1, 4, dtype=a.dtype)),
        *v.detach().histogram(3),
        *t.histogram(a, 3, range=(-1.0, 2.0), weight=b.abs(), density=True),
    ),
}

# In place: the tensor that is returned was written to.
WRITTEN: dict[str, Expression] = {
    "numbers": lambda t, x, y: [x.__setitem__((slice(None), 0), 5.0), x.__setitem__((1, 2), -1)],
    "rows": lambda t, x, y: [x.__setitem__(0, y[1]), x.__setitem__((slice(None), slice(1, 3)), y[:, 2:])],
    "mask": lambda t, x, y: [x.__setitem__(y > 0, 0.0), x.__setitem__(long(t, [True, False, True]), y[:1])],
    "arrays": lambda t, x, y: [x.__setitem__((long(t, [0, 1]), long(t, [3, 3])), y[0, :2]), x.__setitem__([2], y[0])],
    "row and arrays": lambda t, x, y: [x.__setitem__((2, long(t, [0, 3])), y[0, :2])],
    "ellipsis": lambda t, x, y: [x.__setitem__(..., y * 2)],
    "copy_": lambda t, x, y: [x.copy_(y[0])],
    "fill_": lambda t, x, y: [x[:, 1].sum(), x.mul_(2), x.masked_fill_(y > 0, 3.0)],
    "add_": lambda t, x, y: [x.add_(y), x.mul_(y), x.sub_(1), x.div_(2)],
    "scatter_": lambda t, x, y: [
        x.scatter_(1, long(t, [[0], [1], [3]]), y[:, :1]), x.index_fill_(0, long(t, [1]), 2.0)],
    "scatter_add_": lambda t, x, y: [
        x.scatter_add_(1, long(t, [[0], [1], [3]]), y[:, :1]), x.index_add_(0, long(t, [1, 1]), y[:2])],
    "zero_": lambda t, x, y: [x.zero_(), x.add_(y)],
    "tril_": lambda t, x, y: [x.tril_(), x.clamp_(-0.5, 0.5), x.exp_()],
    "index_put_": lambda t, x, y: [x.index_put_((long(t, [0, 2]),), y[:2]), x.index_copy_(1, long(t, [2]), y[:, :1])],
}  # fmt: skip
BY_VALUES = {  # sizes that no plan can know, and ufunc.at
    "index by mask", "index by row mask", "masked_select", "masked_scatter", "where of a condition alone",
    "scatter_reduce, largest",
}  # fmt: skip
COMPILED = [name for name in SINGLE if name not in BY_VALUES]


class Expressed(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.expression = SINGLE[name]
        for key, value in inputs().items():
            setattr(self, key, nn.Parameter(value.astype(np.float32)))

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        y = self.expression(fnn, ops, a=self.a * x, b=self.b, v=self.v, s=self.s, q=self.q)
        return y if y.ndim else y.reshape(1)
