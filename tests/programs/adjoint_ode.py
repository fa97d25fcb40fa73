"""A neural ODE whose gradients come by the adjoint method: a Function that integrates backwards in time."""

import torch
import torch.nn as nn


def rk4_step(f, t, dt, y):
    k1 = f(t, y)
    k2 = f(t + dt / 3, y + dt * k1 / 3)
    k3 = f(t + dt * 2 / 3, y + dt * (k2 - k1 / 3))
    k4 = f(t + dt, y + dt * (k1 - k2 + k3))
    return (k1 + 3 * (k2 + k3) + k4) * dt * 0.125


def odeint(func, y0, t):
    if isinstance(y0, tuple):
        shapes, sizes = [y.shape for y in y0], [y.numel() for y in y0]

        def flat(t, y):
            parts = func(t, tuple(p.view(s) for p, s in zip(y.split(sizes), shapes)))
            return torch.cat([d.reshape(-1) for d in parts])

        solution = odeint(flat, torch.cat([y.reshape(-1) for y in y0]), t)
        return tuple(s.view(len(t), *shape) for s, shape in zip(solution.split(sizes, dim=1), shapes))
    solution = torch.empty(len(t), *y0.shape, dtype=y0.dtype, device=y0.device)
    solution[0] = y = y0
    for j, (t0, t1) in enumerate(zip(t[:-1], t[1:]), 1):
        y = y + rk4_step(func, t0, t1 - t0, y)
        solution[j] = y
    return solution


class OdeintAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, func, y0, t, *adjoint_params):
        ctx.func = func
        with torch.no_grad():
            y = odeint(func, y0, t)
        ctx.save_for_backward(t, y, *adjoint_params)
        return y

    @staticmethod
    def backward(ctx, grad_y):
        func = ctx.func
        t, y, *adjoint_params = ctx.saved_tensors
        adjoint_params = tuple(adjoint_params)

        def augmented_dynamics(t, state):
            y, adj_y = state[0], state[1]
            with torch.enable_grad():
                t = t.detach().requires_grad_(True)
                y = y.detach().requires_grad_(True)
                dy = func(t, y)
                vjps = torch.autograd.grad(dy, (y, *adjoint_params), -adj_y, allow_unused=True, retain_graph=True)
            vjps = [torch.zeros_like(p) if v is None else v for p, v in zip((y, *adjoint_params), vjps)]
            return (dy, *vjps)

        with torch.no_grad():
            state = [y[-1], grad_y[-1]] + [torch.zeros_like(p) for p in adjoint_params]
            for i in range(len(t) - 1, 0, -1):
                state = [a[1] for a in odeint(augmented_dynamics, tuple(state), t[i - 1 : i + 1].flip(0))]
                state[0] = y[i - 1]
                state[1] += grad_y[i - 1]
        return None, state[1], None, *state[2:]


class ODEFunc(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        self.nfe = 0

    def forward(self, t, y):
        self.nfe += 1
        return self.net(y**3)


def run(fill, draw):
    true_A = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
    t = torch.linspace(0.0, 0.4, 3)
    func = fill(ODEFunc())
    optimizer = torch.optim.Adam(func.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        y0 = torch.from_numpy(draw.normal(6, 2)).clamp_(-1.5, 1.5)
        with torch.no_grad():
            true_y = odeint(lambda t, y: torch.mm(y**3, true_A), y0, t)
        optimizer.zero_grad()
        pred_y = OdeintAdjoint.apply(func, y0, t, *func.parameters())
        loss = torch.mean((pred_y - true_y) ** 2)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert func.nfe == 10 * (2 * 4 + 2 * 4)
    return losses
