"""A U-Net whose blocks are checkpointed, with in-place activations, transposed convolutions and the Dice loss."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint


class DoubleConv(nn.Module):
    """(convolution => [BN] => ReLU) * 2"""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        diffY = x2.size()[2] - x1.size()[2]
        diffX = x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [diffX // 2, diffX - diffX // 2, diffY // 2, diffY - diffY // 2])
        return self.conv(torch.cat([x2, x1], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.n_classes = n_classes
        self.inc = DoubleConv(n_channels, 4)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(4, 8))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(8, 16))
        self.up1, self.up2 = Up(16, 8), Up(8, 4)
        self.outc = nn.Conv2d(4, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = checkpoint(self.inc, x, use_reentrant=False)
        x2 = checkpoint(self.down1, x1, use_reentrant=False)
        x3 = checkpoint(self.down2, x2, use_reentrant=False)
        x = checkpoint(self.up1, x3, x2, use_reentrant=False)
        return self.outc(self.up2(x, x1))


def batch_norm_to_group_norm(model):
    for name, module in model._modules.items():
        if len(list(module.children())) > 0:
            model._modules[name] = batch_norm_to_group_norm(module)
        elif isinstance(module, nn.BatchNorm2d):
            model._modules[name] = nn.GroupNorm(2, module.num_features)
    return model


def dice_coeff(input, target, epsilon=1e-6):
    inter = 2 * (input * target).sum(dim=(-1, -2, -3))
    sets_sum = input.sum(dim=(-1, -2, -3)) + target.sum(dim=(-1, -2, -3))
    sets_sum = torch.where(sets_sum == 0, inter, sets_sum)
    return ((inter + epsilon) / (sets_sum + epsilon)).mean()


def run(fill, draw):
    model = fill(batch_norm_to_group_norm(UNet(n_channels=1, n_classes=3)))
    model = model.to(memory_format=torch.channels_last)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, momentum=0.5, foreach=True)
    criterion = nn.CrossEntropyLoss()
    losses = []
    for _ in range(10):
        images = torch.from_numpy(draw.normal(2, 1, 10, 10))
        true_masks = torch.from_numpy(draw.labels(3, 2, 10, 10))
        images = images.to(device="cpu", memory_format=torch.channels_last)
        masks_pred = model(images)
        onehot = F.one_hot(true_masks, model.n_classes).permute(0, 3, 1, 2).to(masks_pred.dtype)
        loss = criterion(masks_pred, true_masks)
        loss += 1 - dice_coeff(F.softmax(masks_pred, dim=1).flatten(0, 1).unsqueeze(1), onehot.flatten(0, 1)[:, None])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses
