"""PPO with one body and two heads, log-probabilities gathered by hand, several epochs over shuffled minibatches."""

import torch
import torch.nn as nn
import torch.nn.functional as F

CLIP_NORM = 0.5


class ActorCritic(nn.Module):
    def __init__(self, num_inputs, num_outputs, hidden_size=32):
        super(ActorCritic, self).__init__()
        self.body = nn.Sequential(nn.Linear(num_inputs, hidden_size), nn.Tanh(), nn.Linear(hidden_size, hidden_size))
        self.pi = nn.Linear(hidden_size, num_outputs)
        self.v = nn.Linear(hidden_size, 1)
        for p in self.v.parameters():
            nn.init.zeros_(p)

    def forward(self, x):
        h = torch.tanh(self.body(x))
        return F.log_softmax(self.pi(h), dim=-1), self.v(h).squeeze(-1)


def loss_fn(outputs, targets):
    logp_all, value = outputs
    action, old_logp, adv, ret = targets
    logp = logp_all.gather(1, action.unsqueeze(1)).squeeze(1)
    ratio = torch.exp(logp - old_logp)
    surr1 = ratio * adv
    surr2 = torch.clamp(ratio, 1.0 - 0.2, 1.0 + 0.2) * adv
    actor_loss = -torch.min(surr1, surr2).mean()
    critic_loss = F.smooth_l1_loss(value, ret)
    entropy = -(logp_all.exp() * logp_all).sum(-1).mean()
    return actor_loss + 0.5 * critic_loss - 0.01 * entropy


def build(fill, draw):
    model = fill(ActorCritic(6, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    obs, act = torch.as_tensor(draw.normal(64, 6)), torch.as_tensor(draw.labels(3, 64))
    adv, ret = torch.as_tensor(draw.normal(64)), torch.as_tensor(draw.normal(64))
    with torch.no_grad():
        logp, _ = model(obs)
        logp = logp[torch.arange(64), act]
    adv = (adv - adv.mean()) / (adv.std(unbiased=False) + 1e-8)
    batches = []
    for _ in range(10):
        mb = torch.from_numpy(draw.permutation(64))[:32]
        batches.append((obs[mb], (act[mb], logp[mb], adv[mb], ret[mb])))
    return model, loss_fn, optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    losses = []
    for state, targets in batches:
        loss = criterion(model(state), targets)
        optimizer.zero_grad()
        loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=CLIP_NORM)
        optimizer.step()
        assert grad_norm.item() > 0
        losses.append(loss.item())
    return losses
