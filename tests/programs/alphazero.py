"""AlphaZero's residual network with policy and value heads, and its loss."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class ResBlock(nn.Module):
    def __init__(self, num_hidden):
        super().__init__()
        self.conv1 = nn.Conv2d(num_hidden, num_hidden, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(num_hidden)
        self.conv2 = nn.Conv2d(num_hidden, num_hidden, kernel_size=3, padding=1)
        self.bn2 = nn.BatchNorm2d(num_hidden)

    def forward(self, x):
        residual = x
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += residual
        x = F.relu(x)
        return x


class AlphaZeroNet(nn.Module):
    def __init__(self, board=6, actions=7, num_resBlocks=2, num_hidden=8):
        super().__init__()
        self.startBlock = nn.Sequential(
            nn.Conv2d(3, num_hidden, kernel_size=3, padding=1), nn.BatchNorm2d(num_hidden), nn.ReLU()
        )
        self.backBone = nn.ModuleList([ResBlock(num_hidden) for i in range(num_resBlocks)])
        self.policyHead = nn.Sequential(
            nn.Conv2d(num_hidden, 4, kernel_size=3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * board * board, actions),
        )
        self.valueHead = nn.Sequential(
            nn.Conv2d(num_hidden, 3, kernel_size=3, padding=1),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3 * board * board, 1),
            nn.Tanh(),
        )

    def forward(self, x):
        x = self.startBlock(x)
        for resBlock in self.backBone:
            x = resBlock(x)
        policy = self.policyHead(x)
        value = self.valueHead(x)
        return policy, value


def loss_fn(outputs, targets):
    out_policy, out_value = outputs
    policy_targets, value_targets = targets
    policy_loss = -torch.sum(policy_targets * F.log_softmax(out_policy, dim=1)) / policy_targets.size()[0]
    value_loss = torch.sum((value_targets - out_value.view(-1)) ** 2) / value_targets.size()[0]
    return policy_loss + value_loss


def build(fill, draw):
    model = fill(AlphaZeroNet())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    batches = []
    for _ in range(10):
        policy = torch.softmax(torch.tensor(draw.normal(8, 7)), dim=1)
        batches.append((torch.tensor(draw.normal(8, 3, 6, 6)), (policy, torch.tensor(draw.uniform(8)) * 2 - 1)))
    return model, loss_fn, optimizer, batches


@torch.no_grad()
def search(model, state):
    policy, value = model(state.unsqueeze(0))
    policy = torch.softmax(policy, axis=1).squeeze(0).cpu().numpy()
    return policy, value.item()


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    losses = []
    for state, targets in batches:
        model.eval()
        policy, _ = search(model, state[0])
        assert abs(policy.sum() - 1) < 1e-5
        model.train()
        loss = criterion(model(state), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
