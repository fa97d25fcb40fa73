"""IMPALA's learner: V-trace targets and an LSTM whose state is cleared where an episode has ended."""

import collections

import torch
from torch import nn
from torch.nn import functional as F

VTrace = collections.namedtuple("VTrace", "vs pg_advantages")


def action_log_probs(policy_logits, actions):
    return -F.nll_loss(
        F.log_softmax(torch.flatten(policy_logits, 0, -2), dim=-1), torch.flatten(actions), reduction="none"
    ).view_as(actions)


@torch.no_grad()
def from_importance_weights(log_rhos, discounts, rewards, values, bootstrap_value):
    rhos = torch.exp(log_rhos)
    clipped_rhos = torch.clamp(rhos, max=1.0)
    values_t_plus_1 = torch.cat([values[1:], torch.unsqueeze(bootstrap_value, 0)], dim=0)
    deltas = clipped_rhos * (rewards + discounts * values_t_plus_1 - values)
    acc = torch.zeros_like(bootstrap_value)
    result = []
    for t in range(discounts.shape[0] - 1, -1, -1):
        acc = deltas[t] + discounts[t] * torch.clamp(rhos, max=1.0)[t] * acc
        result.append(acc)
    result.reverse()
    vs = torch.add(torch.stack(result), values)
    vs_t_plus_1 = torch.cat([vs[1:], (torch.ones_like(vs[0]) * bootstrap_value).unsqueeze(0)], dim=0)
    return VTrace(vs=vs, pg_advantages=clipped_rhos * (rewards + discounts * vs_t_plus_1 - values))


class Agent(nn.Module):
    def __init__(self, features, num_actions):
        super(Agent, self).__init__()
        self.num_actions = num_actions
        self.fc = nn.Linear(features, 12)
        size = self.fc.out_features + num_actions + 1
        self.core = nn.LSTM(size, size, 2)
        for names in self.core._all_weights:
            for name in filter(lambda n: "bias" in n, names):
                bias = getattr(self.core, name)
                bias.data[bias.size(0) // 4 : bias.size(0) // 2].fill_(1.0)
        self.policy = nn.Linear(size, num_actions)
        self.baseline = nn.Linear(size, 1)

    def initial_state(self, batch_size):
        return tuple(torch.zeros(self.core.num_layers, batch_size, self.core.hidden_size) for _ in range(2))

    def forward(self, inputs, core_state):
        T, B, *_ = inputs["frame"].shape
        x = torch.flatten(inputs["frame"], 0, 1).to(self.fc.weight.dtype) / 255.0
        x = F.relu(self.fc(x))
        last = F.one_hot(inputs["last_action"].view(T * B), self.num_actions).to(x.dtype)
        reward = torch.clamp(inputs["reward"], -1, 1).view(T * B, 1)
        core_input = torch.cat([x, reward, last], dim=-1).view(T, B, -1)
        outputs = []
        notdone = (~inputs["done"]).to(x.dtype)
        core_state = tuple(s.to(x.dtype) for s in core_state)
        for each, nd in zip(core_input.unbind(), notdone.unbind()):
            nd = nd.view(1, -1, 1)
            core_state = tuple(nd * s for s in core_state)
            output, core_state = self.core(each.unsqueeze(0), core_state)
            outputs.append(output)
        core_output = torch.flatten(torch.cat(outputs), 0, 1)
        logits = self.policy(core_output).view(T, B, self.num_actions)
        return dict(policy_logits=logits, baseline=self.baseline(core_output).view(T, B)), core_state


def run(fill, draw):
    T, B, A = 5, 3, 4
    model = fill(Agent(6, A))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.005, momentum=0, eps=0.01, alpha=0.99)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - min(epoch * T * B, 300) / 300)
    losses = []
    for _ in range(10):
        batch = dict(
            frame=torch.from_numpy(draw.bytes(T + 1, B, 6)),
            reward=torch.from_numpy(draw.normal(T + 1, B)),
            done=torch.from_numpy(draw.uniform(T + 1, B)) < 0.3,
            last_action=torch.from_numpy(draw.labels(A, T + 1, B)),
            action=torch.from_numpy(draw.labels(A, T + 1, B)),
            policy_logits=torch.from_numpy(draw.normal(T + 1, B, A)),
        )
        outputs, _ = model(batch, model.initial_state(B))
        bootstrap_value = outputs["baseline"][-1]
        batch = {key: tensor[1:] for key, tensor in batch.items()}
        outputs = {key: tensor[:-1] for key, tensor in outputs.items()}
        target, behavior = (action_log_probs(each["policy_logits"], batch["action"]) for each in (outputs, batch))
        discounts = (~batch["done"]).to(target.dtype) * 0.99
        rewards = torch.clamp(batch["reward"], -1, 1)
        vtrace = from_importance_weights(target - behavior, discounts, rewards, outputs["baseline"], bootstrap_value)
        logits = outputs["policy_logits"]
        cross_entropy = F.nll_loss(
            F.log_softmax(torch.flatten(logits, 0, 1), dim=-1),
            target=torch.flatten(batch["action"], 0, 1),
            reduction="none",
        ).view_as(vtrace.pg_advantages)
        pg_loss = torch.sum(cross_entropy * vtrace.pg_advantages.detach())
        baseline_loss = 0.5 * torch.sum((vtrace.vs - outputs["baseline"]) ** 2)
        entropy_loss = torch.sum(F.softmax(logits, dim=-1) * F.log_softmax(logits, dim=-1))
        total_loss = pg_loss + 0.5 * baseline_loss + 0.0006 * entropy_loss
        optimizer.zero_grad()
        total_loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 40.0)
        optimizer.step()
        scheduler.step()
        losses.append(total_loss.item())
    return losses
