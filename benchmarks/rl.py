"""``python -m benchmarks.rl``: the updates of PPO and SAC as compiled steps, against PyTorch's eager ones.

PPO: two tanh networks 64-64, B = 64, clipped ratio, entropy, clipped value loss, norm clipping. SAC: networks 256-256,
B = 256, the critics' step and the actor's step, each with its target or its gradient through the critics. Two threads;
the two packages alternate, and the least time of each counts. Written once for both: `lib` is torch or fastnn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

import fastnn as fnn

THREADS, ROUNDS, STEPS = 2, 40, 10
Update = Callable[[], Any]


def mlp(nn: Any, sizes: list[int], activation: str) -> Any:
    """Linear layers with an activation between them."""
    layers: list[Any] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), getattr(nn, activation)()]
    return nn.Sequential(*layers[:-1])


def ppo_model(lib: Any, heads: bool) -> Any:
    """Log-probabilities of 4 actions and a value of 8 observations: of two networks, or of two heads on one body."""

    class Agent(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            body = lib.nn.Sequential(mlp(lib.nn, [8, 64, 64], "Tanh"), lib.nn.Tanh())
            self.body = body if heads else lib.nn.Identity()
            self.actor = lib.nn.Linear(64, 4) if heads else mlp(lib.nn, [8, 64, 64, 4], "Tanh")
            self.critic = lib.nn.Linear(64, 1) if heads else mlp(lib.nn, [8, 64, 64, 1], "Tanh")

        def forward(self, x: Any) -> Any:
            x = self.body(x)
            return self.actor(x).log_softmax(-1), self.critic(x).view(-1)

    return Agent()


def ppo_loss(lib: Any) -> Callable[[Any, Any], Any]:
    """Clipped surrogate, clipped value loss, entropy."""

    def loss(outputs: Any, targets: Any) -> Any:
        logp, value = outputs
        action, old_logp, advantage, returns, old_value = targets
        ratio = (logp.gather(1, action).squeeze(1) - old_logp).exp()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        policy = lib.max(-advantage * ratio, -advantage * lib.clamp(ratio, 0.8, 1.2)).mean()
        clipped = old_value + lib.clamp(value - old_value, -0.2, 0.2)
        of_value = 0.5 * lib.max((value - returns) ** 2, (clipped - returns) ** 2).mean()
        entropy = -(logp.exp() * logp).sum(-1).mean()
        return policy - 0.01 * entropy + 0.5 * of_value

    return loss


def ppo_batch(rng: np.random.Generator) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Observations, and actions with old log-probabilities, advantages, returns and old values."""
    numbers = [rng.standard_normal(64).astype(np.float32) for _ in range(3)]
    old_logp = (-1.4 + 0.1 * rng.standard_normal(64)).astype(np.float32)
    return rng.standard_normal((64, 8)).astype(np.float32), (rng.integers(0, 4, (64, 1)), old_logp, *numbers)


def ppo(heads: bool) -> tuple[Update, Update]:
    """PyTorch's update and fastnn's."""
    import torch

    x, y = ppo_batch(np.random.default_rng(0))
    model, other = ppo_model(fnn, heads), ppo_model(torch, heads)
    step = fnn.compile(model, ppo_loss(fnn), fnn.optim.Adam(model.parameters(), lr=3e-4, eps=1e-5), clip_norm=0.5)
    optimizer, loss = torch.optim.Adam(other.parameters(), lr=3e-4, eps=1e-5), ppo_loss(torch)
    tensors = torch.from_numpy(x), tuple(map(torch.from_numpy, y))

    def update() -> None:
        value = loss(other(tensors[0]), tensors[1])
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(other.parameters(), 0.5)
        optimizer.step()

    return update, lambda: step(x, y)


def sac_models(lib: Any) -> tuple[Any, Any]:
    """Two critics of 17 observations and 6 actions; an actor that draws actions by the noise it is given."""

    class Critics(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q1, self.q2 = (mlp(lib.nn, [23, 256, 256, 1], "ReLU") for _ in range(2))

        def forward(self, observation: Any, action: Any) -> Any:
            x = lib.cat([observation, action], 1)
            return self.q1(x), self.q2(x)

    class Actor(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = lib.nn.Sequential(mlp(lib.nn, [17, 256, 256], "ReLU"), lib.nn.ReLU())
            self.mean, self.log_std = lib.nn.Linear(256, 6), lib.nn.Linear(256, 6)

        def forward(self, observation: Any, noise: Any) -> Any:
            x = self.body(observation)
            log_std = -5 + 3.5 * (lib.tanh(self.log_std(x)) + 1)
            action = lib.tanh(self.mean(x) + log_std.exp() * noise)
            logp = -0.5 * noise**2 - log_std - 0.9189385 - lib.log(1 - action.pow(2) + 1e-6)
            return action, logp.sum(1, keepdim=True)

    return Critics(), Actor()


def sac_on_policy(lib: Any, actor: Any, critics: Any) -> Any:
    """What the actor's loss looks at: log-probability and the smaller value of the actions that it draws."""

    class OnPolicy(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.actor, self.critics = actor, critics

        def forward(self, observation: Any, noise: Any) -> Any:
            action, logp = self.actor(observation, noise)
            return logp, lib.min(*self.critics(observation, action))

    return OnPolicy()


def sac() -> tuple[Update, Update]:
    """PyTorch's update and fastnn's: the target, the critics' step, the actor's step."""
    import copy

    import torch

    rng = np.random.default_rng(0)
    observation, following = (rng.standard_normal((256, 17)).astype(np.float32) for _ in range(2))
    action, noise, later = (rng.standard_normal((256, 6)).astype(np.float32) for _ in range(3))
    reward = rng.standard_normal((256, 1)).astype(np.float32)

    def of_critics(q: Any, target: Any) -> Any:
        return ((q[0] - target) ** 2).mean() + ((q[1] - target) ** 2).mean()

    def of_actor(outputs: Any, _: Any) -> Any:
        return (0.2 * outputs[0] - outputs[1]).mean()

    critics, actor = sac_models(fnn)
    frozen = copy.deepcopy(critics).requires_grad_(False)
    for mine, live in zip(frozen.parameters(), critics.parameters(), strict=True):
        mine.data = live.data  # the same memory, without gradients of its own
    targets = fnn.compile(sac_on_policy(fnn, actor, copy.deepcopy(critics)))
    q_step = fnn.compile(critics, of_critics, fnn.optim.Adam(critics.parameters(), lr=1e-3))
    pi_step = fnn.compile(sac_on_policy(fnn, actor, frozen), of_actor, fnn.optim.Adam(actor.parameters(), lr=3e-4))

    def own() -> None:
        logp, value = targets(following, later)
        q_step((observation, action), reward + 0.99 * (value - 0.2 * logp))
        pi_step((observation, noise), reward)

    qs, pi = sac_models(torch)
    ahead, now = sac_on_policy(torch, pi, copy.deepcopy(qs)), sac_on_policy(torch, pi, qs)
    q_adam, pi_adam = torch.optim.Adam(qs.parameters(), lr=1e-3), torch.optim.Adam(pi.parameters(), lr=3e-4)
    o, f, a, n, m, r = map(torch.from_numpy, (observation, following, action, noise, later, reward))

    def other() -> None:
        with torch.no_grad():
            logp, value = ahead(f, m)
            target = r + 0.99 * (value - 0.2 * logp)
        steps = (q_adam, lambda: of_critics(qs(o, a), target)), (pi_adam, lambda: of_actor(now(o, n), r))
        for optimizer, compute in steps:
            optimizer.zero_grad()
            compute().backward()
            optimizer.step()

    return other, own


def least(updates: tuple[Update, ...]) -> list[float]:
    """The least seconds of an update, of each, taken in turns."""
    best = [float("inf")] * len(updates)
    for _ in range(ROUNDS):
        for i, update in enumerate(updates):
            update()
            start = time.perf_counter()
            for _ in range(STEPS):
                update()
            best[i] = min(best[i], (time.perf_counter() - start) / STEPS)
    return best


def main() -> None:
    """Prints a table."""
    import torch

    torch.set_num_threads(THREADS)
    fnn.set_num_threads(THREADS)
    print(f"{'':16s} {'PyTorch':>10s} {'fastnn':>10s}")
    cases = {"PPO": lambda: ppo(False), "PPO, two heads": lambda: ppo(True), "SAC": sac}
    for name, make in cases.items():
        other, own = least(make())
        print(f"{name:16s} {1e6 * other:8.0f}us {1e6 * own:8.0f}us {other / own:6.1f}x", flush=True)


if __name__ == "__main__":
    main()
