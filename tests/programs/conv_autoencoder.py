"""A convolutional autoencoder with transposed convolutions."""

import torch
import torch.nn as nn


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(True),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(True),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(True),
            nn.ConvTranspose2d(8, 1, 2, stride=2),
            nn.Sigmoid(),
        )

    def forward(self, x):
        x = self.encoder(x)
        x = self.decoder(x)
        return x


def build(fill, draw):
    model = fill(Autoencoder())
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    images = [torch.from_numpy(draw.uniform(8, 1, 16, 16)) for _ in range(10)]
    return model, criterion, optimizer, [(x, x) for x in images]


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    outputs, losses = [], []
    for img, _ in batches:
        recon = model(img)
        loss = criterion(recon, img)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        outputs.append((img, recon.detach().cpu().numpy()))
    assert outputs[-1][1].shape == (8, 1, 16, 16)
    return losses
