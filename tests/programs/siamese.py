"""A siamese network with contrastive loss on pairwise distances."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim


class SiameseNetwork(nn.Module):
    def __init__(self):
        super(SiameseNetwork, self).__init__()
        self.cnn1 = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=5, stride=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2, stride=2),
            nn.Conv2d(4, 8, kernel_size=3),
            nn.ReLU(inplace=True),
        )
        self.fc1 = nn.Sequential(nn.Linear(8 * 2 * 2, 16), nn.ReLU(inplace=True), nn.Linear(16, 4))

    def forward_once(self, x):
        output = self.cnn1(x)
        output = output.view(output.size()[0], -1)
        return self.fc1(output)

    def forward(self, input1, input2):
        return self.forward_once(input1), self.forward_once(input2)


class ContrastiveLoss(torch.nn.Module):
    def __init__(self, margin=2.0):
        super(ContrastiveLoss, self).__init__()
        self.margin = margin

    def forward(self, outputs, label):
        output1, output2 = outputs
        euclidean_distance = F.pairwise_distance(output1, output2, keepdim=True)
        return torch.mean(
            (1 - label) * torch.pow(euclidean_distance, 2)
            + label * torch.pow(torch.clamp(self.margin - euclidean_distance, min=0.0), 2)
        )


def build(fill, draw):
    net = fill(SiameseNetwork())
    optimizer = optim.Adam(net.parameters(), lr=0.0005)
    batches = []
    for _ in range(10):
        img0, img1 = torch.from_numpy(draw.uniform(6, 1, 20, 20)), torch.from_numpy(draw.uniform(6, 1, 20, 20))
        batches.append(((img0, img1), torch.from_numpy(draw.labels(2, 6, 1)).float()))
    return net, ContrastiveLoss(), optimizer, batches


def run(fill, draw):
    net, criterion, optimizer, batches = build(fill, draw)
    counter, loss_history = [], []
    for i, ((img0, img1), label) in enumerate(batches, 0):
        optimizer.zero_grad()
        output1, output2 = net(img0, img1)
        loss_contrastive = criterion((output1, output2), label)
        loss_contrastive.backward()
        optimizer.step()
        counter.append(i)
        loss_history.append(loss_contrastive.item())
    return loss_history
