"""PyTorch's REINFORCE example: Categorical policy, discounted returns, a sum of losses per episode."""

from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.distributions import Categorical

eps = np.finfo(np.float32).eps.item()


class Policy(nn.Module):
    def __init__(self):
        super(Policy, self).__init__()
        self.affine1 = nn.Linear(4, 32)
        self.dropout = nn.Dropout(p=0.0)
        self.affine2 = nn.Linear(32, 2)
        self.saved_log_probs = []
        self.rewards = []

    def forward(self, x):
        x = self.affine1(x)
        x = self.dropout(x)
        x = F.relu(x)
        action_scores = self.affine2(x)
        return F.softmax(action_scores, dim=1)


def select_action(policy, state, action):
    state = torch.from_numpy(state).unsqueeze(0)
    probs = policy(state)
    m = Categorical(probs)
    sampled = m.sample()
    assert sampled.item() in (0, 1)
    action = torch.tensor([action])  # the same in every run
    policy.saved_log_probs.append(m.log_prob(action))
    return action.item()


def finish_episode(policy, optimizer):
    R = 0
    policy_loss = []
    returns = deque()
    for r in policy.rewards[::-1]:
        R = r + 0.99 * R
        returns.appendleft(R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + eps)
    for log_prob, R in zip(policy.saved_log_probs, returns):
        policy_loss.append(-log_prob * R)
    optimizer.zero_grad()
    policy_loss = torch.cat(policy_loss).sum()
    policy_loss.backward()
    optimizer.step()
    del policy.rewards[:]
    del policy.saved_log_probs[:]
    return policy_loss.item()


def run(fill, draw):
    policy = fill(Policy())
    optimizer = optim.Adam(policy.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        for action in draw.labels(2, 6):
            select_action(policy, draw.normal(4), int(action))
            policy.rewards.append(float(draw.uniform(1)[0]))
        losses.append(finish_episode(policy, optimizer))
    return losses
