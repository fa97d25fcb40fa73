"""Transfer: layers frozen, the head replaced, only what requires a gradient given to the optimiser."""

import torch
import torch.nn as nn
import torch.optim as optim


class Backbone(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        x = self.avgpool(self.features(x))
        return self.fc(torch.flatten(x, 1))


def build(fill, draw):
    pretrained = fill(Backbone(20))
    model_conv = Backbone(20)
    model_conv.load_state_dict(pretrained.state_dict())
    for param in model_conv.parameters():
        param.requires_grad = False
    num_ftrs = model_conv.fc.in_features
    model_conv.fc = nn.Linear(num_ftrs, 2)
    fill(model_conv)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    model_conv = model_conv.to(device)
    trainable = filter(lambda p: p.requires_grad, model_conv.parameters())
    optimizer = optim.SGD(trainable, lr=0.05, momentum=0.9)
    batches = [(torch.tensor(draw.normal(6, 3, 10, 10)), torch.tensor(draw.labels(2, 6))) for _ in range(10)]
    return model_conv, nn.CrossEntropyLoss(), optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = []
    for inputs, labels in batches:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    frozen = [name for name, p in model.named_parameters() if torch.equal(before[name], p.data)]
    assert frozen == ["features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias"]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 66
    return losses
