"""The Nature DQN's convolutional network on frames of bytes, double DQN loss, hard target updates."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class QNetwork(nn.Module):
    def __init__(self, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(4, 8, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(8, 16, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16, 64),
            nn.ReLU(),
            nn.Linear(64, n_actions),
        )

    def forward(self, x):
        return self.network(x / 255.0)


def build(fill, draw):
    q_network, target_network = fill(QNetwork(4)), fill(QNetwork(4))
    optimizer = torch.optim.Adam(q_network.parameters(), lr=1e-4)
    batches = []
    for step in range(10):
        frames, next_frames = torch.as_tensor(draw.bytes(4, 4, 36, 36)), torch.as_tensor(draw.bytes(4, 4, 36, 36))
        actions, rewards = torch.as_tensor(draw.labels(4, 4, 1)), torch.as_tensor(draw.normal(4))
        with torch.no_grad():
            target_max, _ = target_network(next_frames).max(dim=1)
            td_target = rewards.flatten() + 0.99 * target_max
        batches.append((frames, (actions, td_target)))
    return q_network, td_loss, optimizer, batches


def td_loss(q_values, targets):
    actions, td_target = targets
    old_val = q_values.gather(1, actions).squeeze()
    return F.mse_loss(td_target, old_val)


def run(fill, draw):
    q_network, criterion, optimizer, batches = build(fill, draw)
    losses = []
    for frames, targets in batches:
        loss = criterion(q_network(frames), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
