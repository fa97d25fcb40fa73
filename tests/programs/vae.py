"""PyTorch's variational autoencoder example."""

import torch
from torch import nn, optim
from torch.nn import functional as F


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(64, 32)
        self.fc21 = nn.Linear(32, 4)
        self.fc22 = nn.Linear(32, 4)
        self.fc3 = nn.Linear(4, 32)
        self.fc4 = nn.Linear(32, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar, eps):
        std = torch.exp(0.5 * logvar)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x, eps):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar, eps)
        return self.decode(z), mu, logvar


def loss_function(outputs, x):
    recon_x, mu, logvar = outputs
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


def build(fill, draw):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = fill(VAE()).to(device)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    batches = []
    for _ in range(10):
        x = torch.from_numpy(draw.uniform(16, 1, 8, 8)).to(device)
        batches.append(((x, torch.from_numpy(draw.normal(16, 4)).to(device)), x))
    return model, loss_function, optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    model.train()
    train_loss = []
    for (data, eps), target in batches:
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data, eps)
        loss = criterion((recon_batch, mu, logvar), target)
        loss.backward()
        train_loss.append(loss.item())
        optimizer.step()
    return train_loss
