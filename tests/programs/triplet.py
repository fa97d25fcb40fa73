"""An embedding net trained by triplets: normalised embeddings, TripletMarginLoss, cosine similarity to look at."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class EmbeddingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.convnet = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.PReLU(), nn.MaxPool2d(2, stride=2), nn.Conv2d(6, 8, 3), nn.PReLU()
        )
        self.fc = nn.Sequential(nn.Linear(8 * 4 * 4, 16), nn.PReLU(), nn.Linear(16, 3))

    def forward(self, x):
        output = self.convnet(x)
        output = output.view(output.size()[0], -1)
        output = self.fc(output)
        return F.normalize(output, p=2, dim=1)


class TripletNet(nn.Module):
    def __init__(self, embedding_net):
        super().__init__()
        self.embedding_net = embedding_net

    def forward(self, x1, x2, x3):
        return self.embedding_net(x1), self.embedding_net(x2), self.embedding_net(x3)


def run(fill, draw):
    model = fill(TripletNet(EmbeddingNet()))
    criterion = nn.TripletMarginLoss(margin=1.0, p=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(10):
        anchor, positive, negative = (torch.tensor(draw.normal(5, 1, 16, 16)) for _ in range(3))
        a, p, n = model(anchor, positive, negative)
        loss = criterion(a, p, n)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        similarity = F.cosine_similarity(a.detach(), p.detach())
        assert similarity.abs().max().item() <= 1.00001
        losses.append(loss.item())
    return losses
