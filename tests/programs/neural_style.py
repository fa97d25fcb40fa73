"""pytorch/examples' fast_neural_style: instance norm behind reflected borders, Gram matrices of a frozen network."""

from collections import namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F


class ConvLayer(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride, upsample=None):
        super().__init__()
        self.upsample = upsample
        self.reflection_pad = nn.ReflectionPad2d(kernel_size // 2)
        self.conv2d = nn.Conv2d(in_channels, out_channels, kernel_size, stride)
        self.norm = nn.InstanceNorm2d(out_channels, affine=True)

    def forward(self, x):
        if self.upsample:
            x = F.interpolate(x, mode="nearest", scale_factor=self.upsample)
        return self.norm(self.conv2d(self.reflection_pad(x)))


class ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = ConvLayer(channels, channels, 3, 1)
        self.conv2 = ConvLayer(channels, channels, 3, 1)

    def forward(self, x):
        return self.conv2(F.relu(self.conv1(x))) + x


class TransformerNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = ConvLayer(3, 4, 3, 2)
        self.blocks = nn.ModuleList([ResidualBlock(4) for _ in range(2)])
        self.up = ConvLayer(4, 3, 3, 1, upsample=2)

    def forward(self, x):
        y = F.relu(self.down(x))
        for block in self.blocks:
            y = block(y)
        return self.up(y)


class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3))
        for param in self.parameters():
            param.requires_grad = False

    def forward(self, x):
        outputs = []
        for name, layer in self.features._modules.items():
            x = layer(x)
            if name in ("1", "3"):
                outputs.append(x)
        return namedtuple("Outputs", ["shallow", "deep"])(*outputs)


def gram_matrix(y):
    (b, ch, h, w) = y.size()
    features = y.view(b, ch, w * h)
    return features.bmm(features.transpose(1, 2)) / (ch * h * w)


def normalize_batch(batch):
    mean = batch.new_tensor([0.485, 0.456, 0.406]).view(-1, 1, 1)
    std = batch.new_tensor([0.229, 0.224, 0.225]).view(-1, 1, 1)
    batch = batch.div_(255.0)
    return (batch - mean) / std


def run(fill, draw):
    transformer, vgg = fill(TransformerNet()), fill(Features())
    assert "(0-1): 2 x ResidualBlock(" in repr(transformer)
    optimizer = torch.optim.Adam(transformer.parameters(), lr=1e-2)
    style = torch.from_numpy(255 * draw.uniform(3, 8, 8)).repeat(2, 1, 1, 1)
    gram_style = [gram_matrix(y) for y in vgg(normalize_batch(style))]
    losses = []
    for _ in range(10):
        x = torch.from_numpy(255 * draw.uniform(2, 3, 8, 8))
        optimizer.zero_grad()
        y = normalize_batch(transformer(x))
        x = normalize_batch(x)
        features_y, features_x = vgg(y), vgg(x)
        loss = F.mse_loss(features_y.deep, features_x.deep)
        for ft_y, gm_s in zip(features_y, gram_style):
            loss = loss + 100 * F.mse_loss(gram_matrix(ft_y), gm_s[: len(x), :, :])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
