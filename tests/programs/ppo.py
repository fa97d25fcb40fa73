"""PPO's update as in CleanRL: two tanh networks, clipped ratio, entropy, value loss, norm clipping."""

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.distributions.categorical import Categorical

CLIP_NORM = 0.5


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.critic = nn.Sequential(
            layer_init(nn.Linear(obs_dim, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 1), std=1.0),
        )
        self.actor = nn.Sequential(
            layer_init(nn.Linear(obs_dim, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, n_actions), std=0.01),
        )

    def get_value(self, x):
        return self.critic(x)

    def get_action_and_value(self, x, action=None):
        logits = self.actor(x)
        probs = Categorical(logits=logits)
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)

    def forward(self, x, action):
        return self.get_action_and_value(x, action)[1:]


def ppo_loss(outputs, targets, clip_coef=0.2, ent_coef=0.01, vf_coef=0.5):
    newlogprob, entropy, newvalue = outputs
    logprobs, advantages, returns, values = targets
    logratio = newlogprob - logprobs
    ratio = logratio.exp()

    mb_advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

    # Policy loss
    pg_loss1 = -mb_advantages * ratio
    pg_loss2 = -mb_advantages * torch.clamp(ratio, 1 - clip_coef, 1 + clip_coef)
    pg_loss = torch.max(pg_loss1, pg_loss2).mean()

    # Value loss
    newvalue = newvalue.view(-1)
    v_loss_unclipped = (newvalue - returns) ** 2
    v_clipped = values + torch.clamp(newvalue - values, -clip_coef, clip_coef)
    v_loss_clipped = (v_clipped - returns) ** 2
    v_loss_max = torch.max(v_loss_unclipped, v_loss_clipped)
    v_loss = 0.5 * v_loss_max.mean()

    entropy_loss = entropy.mean()
    return pg_loss - ent_coef * entropy_loss + v_loss * vf_coef


def build(fill, draw):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    agent = fill(Agent(4, 2)).to(device)
    optimizer = optim.Adam(agent.parameters(), lr=2.5e-4, eps=1e-5)
    batches = []
    for _ in range(10):
        obs, action = torch.from_numpy(draw.normal(64, 4)), torch.from_numpy(draw.labels(2, 64))
        logprob = torch.from_numpy(-0.3 - draw.uniform(64))
        advantages, returns, values = (torch.from_numpy(draw.normal(64)) for _ in range(3))
        batches.append(((obs, action), (logprob, advantages, returns, values)))
    return agent, ppo_loss, optimizer, batches


def run(fill, draw):
    agent, criterion, optimizer, batches = build(fill, draw)
    losses, clipfracs = [], []
    for (obs, action), targets in batches:
        _, newlogprob, entropy, newvalue = agent.get_action_and_value(obs, action.long())
        loss = criterion((newlogprob, entropy, newvalue), targets)
        with torch.no_grad():
            ratio = (newlogprob - targets[0]).exp()
            clipfracs += [((ratio - 1.0).abs() > 0.2).float().mean().item()]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), CLIP_NORM)
        optimizer.step()
        losses.append(loss.item())
    assert 0.0 <= np.mean(clipfracs) <= 1.0
    return losses
