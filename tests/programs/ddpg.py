"""DDPG/TD3's update: deterministic actor, twin critics, delayed policy, polyak averaging in place."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F


class Actor(nn.Module):
    def __init__(self, state_dim, action_dim, max_action):
        super(Actor, self).__init__()
        self.l1 = nn.Linear(state_dim, 24)
        self.l2 = nn.Linear(24, 24)
        self.l3 = nn.Linear(24, action_dim)
        self.max_action = max_action

    def forward(self, state):
        a = F.relu(self.l1(state))
        a = F.relu(self.l2(a))
        return self.max_action * torch.tanh(self.l3(a))


class Critic(nn.Module):
    def __init__(self, state_dim, action_dim):
        super(Critic, self).__init__()
        self.l1, self.l2 = nn.Linear(state_dim + action_dim, 24), nn.Linear(24, 1)
        self.l4, self.l5 = nn.Linear(state_dim + action_dim, 24), nn.Linear(24, 1)

    def forward(self, state, action):
        sa = torch.cat([state, action], 1)
        q1 = self.l2(F.relu(self.l1(sa)))
        q2 = self.l5(F.relu(self.l4(sa)))
        return q1, q2

    def Q1(self, state, action):
        return self.l2(F.relu(self.l1(torch.cat([state, action], 1))))


def run(fill, draw):
    actor, critic = fill(Actor(5, 2, 2.0)), fill(Critic(5, 2))
    actor_target, critic_target = copy.deepcopy(actor), copy.deepcopy(critic)
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=1e-3)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    tau = 0.05
    losses = []
    for it in range(10):
        state, next_state = torch.FloatTensor(draw.normal(16, 5)), torch.FloatTensor(draw.normal(16, 5))
        if draw.double:
            state, next_state = state.double(), next_state.double()
        action, reward = torch.tensor(draw.normal(16, 2)), torch.tensor(draw.normal(16, 1))
        not_done = 1.0 - torch.tensor(draw.labels(2, 16, 1))
        with torch.no_grad():
            noise = (torch.tensor(draw.normal(16, 2)) * 0.2).clamp(-0.5, 0.5)
            next_action = (actor_target(next_state) + noise).clamp(-2.0, 2.0)
            target_Q1, target_Q2 = critic_target(next_state, next_action)
            target_Q = torch.min(target_Q1, target_Q2)
            target_Q = reward + not_done * 0.99 * target_Q
        current_Q1, current_Q2 = critic(state, action)
        critic_loss = F.mse_loss(current_Q1, target_Q) + F.mse_loss(current_Q2, target_Q)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        losses.append(critic_loss.item())
        if it % 2 == 0:
            actor_loss = -critic.Q1(state, actor(state)).mean()
            actor_optimizer.zero_grad()
            actor_loss.backward()
            actor_optimizer.step()
            for param, target_param in zip(critic.parameters(), critic_target.parameters()):
                target_param.data.copy_(tau * param.data + (1 - tau) * target_param.data)
            with torch.no_grad():
                for p, p_targ in zip(actor.parameters(), actor_target.parameters()):
                    p_targ.data.mul_(1 - tau)
                    p_targ.data.add_(tau * p.data)
    return losses
