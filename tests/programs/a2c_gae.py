"""A2C with storage written by copy_, masks, advantages backwards in time, minibatches by samplers."""

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data.sampler import BatchSampler, SubsetRandomSampler


def init(module, weight_init, bias_init, gain=1):
    weight_init(module.weight.data, gain=gain)
    bias_init(module.bias.data)
    return module


class FixedCategorical(torch.distributions.Categorical):
    def sample(self):
        return super().sample().unsqueeze(-1)

    def log_probs(self, actions):
        return super().log_prob(actions.squeeze(-1)).view(actions.size(0), -1).sum(-1).unsqueeze(-1)

    def mode(self):
        return self.probs.argmax(dim=-1, keepdim=True)


class AddBias(nn.Module):
    def __init__(self, bias):
        super(AddBias, self).__init__()
        self._bias = nn.Parameter(bias.unsqueeze(1))

    def forward(self, x):
        if x.dim() == 2:
            bias = self._bias.t().view(1, -1)
        else:
            bias = self._bias.t().view(1, -1, 1, 1)
        return x + bias


class Policy(nn.Module):
    def __init__(self, n_in, n_act):
        super().__init__()
        init_ = lambda m: init(m, nn.init.orthogonal_, lambda x: nn.init.constant_(x, 0), np.sqrt(2))  # noqa: E731
        self.actor = nn.Sequential(
            init_(nn.Linear(n_in, 16)), nn.Tanh(), init_(nn.Linear(16, n_act)), AddBias(torch.zeros(n_act))
        )
        self.critic = nn.Sequential(init_(nn.Linear(n_in, 16)), nn.Tanh(), init_(nn.Linear(16, 1)))
        self.train()

    def forward(self, inputs, rnn_hxs, masks):
        raise NotImplementedError

    def evaluate_actions(self, inputs, action):
        dist = FixedCategorical(logits=self.actor(inputs))
        return self.critic(inputs), dist.log_probs(action), dist.entropy().mean(), dist


class RolloutStorage(object):
    def __init__(self, num_steps, num_processes, obs_shape):
        self.obs = torch.zeros(num_steps + 1, num_processes, *obs_shape)
        self.rewards = torch.zeros(num_steps, num_processes, 1)
        self.value_preds = torch.zeros(num_steps + 1, num_processes, 1)
        self.returns = torch.zeros(num_steps + 1, num_processes, 1)
        self.actions = torch.zeros(num_steps, num_processes, 1).long()
        self.masks = torch.ones(num_steps + 1, num_processes, 1)
        self.num_steps, self.step = num_steps, 0

    def to(self, device):
        self.obs = self.obs.to(device)
        return self

    def insert(self, obs, actions, value_preds, rewards, masks):
        self.obs[self.step + 1].copy_(obs)
        self.actions[self.step].copy_(actions)
        self.value_preds[self.step].copy_(value_preds)
        self.rewards[self.step].copy_(rewards)
        self.masks[self.step + 1].copy_(masks)
        self.step = (self.step + 1) % self.num_steps

    def after_update(self):
        self.obs[0].copy_(self.obs[-1])
        self.masks[0].copy_(self.masks[-1])

    def compute_returns(self, next_value, gamma=0.99, gae_lambda=0.95):
        self.value_preds[-1] = next_value
        gae = 0
        for step in reversed(range(self.rewards.size(0))):
            delta = (
                self.rewards[step] + gamma * self.value_preds[step + 1] * self.masks[step + 1] - self.value_preds[step]
            )
            gae = delta + gamma * gae_lambda * self.masks[step + 1] * gae
            self.returns[step] = gae + self.value_preds[step]


def run(fill, draw):
    torch.set_num_threads(1)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    policy = fill(Policy(4, 3))
    policy.to(device)
    optimizer = torch.optim.RMSprop(policy.parameters(), 7e-4, eps=1e-5, alpha=0.99)
    rollouts = RolloutStorage(5, 4, (4,)).to(device)
    rollouts.obs[0].copy_(torch.from_numpy(draw.normal(4, 4)))
    losses = []
    for j in range(10):
        for step in range(5):
            with torch.no_grad():
                value, _, _, dist = policy.evaluate_actions(rollouts.obs[step], rollouts.actions[step])
                assert dist.sample().shape == (4, 1)
                action = dist.mode()
            done = draw.uniform(4) < 0.2
            reward = torch.from_numpy(np.expand_dims(draw.normal(4), 1))
            masks = torch.FloatTensor([[0.0] if done_ else [1.0] for done_ in done])
            rollouts.insert(torch.from_numpy(draw.normal(4, 4)), action, value, reward, masks)
        with torch.no_grad():
            next_value = policy.critic(rollouts.obs[-1]).detach()
        rollouts.compute_returns(next_value)
        obs_shape = rollouts.obs.size()[2:]
        num_steps, num_processes, _ = rollouts.rewards.size()
        values, action_log_probs, dist_entropy, _ = policy.evaluate_actions(
            rollouts.obs[:-1].view(-1, *obs_shape), rollouts.actions.view(-1, 1)
        )
        values = values.view(num_steps, num_processes, 1)
        action_log_probs = action_log_probs.view(num_steps, num_processes, 1)
        advantages = rollouts.returns[:-1] - values
        value_loss = advantages.pow(2).mean()
        action_loss = -(advantages.detach() * action_log_probs).mean()
        optimizer.zero_grad()
        (value_loss * 0.5 + action_loss - dist_entropy * 0.01).backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
        optimizer.step()
        rollouts.after_update()
        losses.append(value_loss.item() + action_loss.item())
        sampler = BatchSampler(SubsetRandomSampler(range(20)), 5, drop_last=True)
        adv = (advantages - advantages.mean()) / (advantages.std() + 1e-5)
        for indices in sampler:
            assert adv.view(-1, 1)[indices].shape == (5, 1)
    return losses
