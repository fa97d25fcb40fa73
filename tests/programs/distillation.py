"""Knowledge distillation: a frozen teacher, KL divergence at a temperature, and the labels."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 6))

    def forward(self, x):
        return self.layers(x)


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(20, 16)
        self.fc2 = nn.Linear(16, 6)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


def distillation_loss(y, targets, T=4.0, alpha=0.7):
    labels, teacher_scores = targets
    soft = nn.KLDivLoss(reduction="batchmean")(F.log_softmax(y / T, dim=1), F.softmax(teacher_scores / T, dim=1))
    return soft * (T * T * 2.0 * alpha) + F.cross_entropy(y, labels) * (1.0 - alpha)


def build(fill, draw):
    teacher, student = fill(Teacher()), fill(Student())
    teacher.eval()
    for p in teacher.parameters():
        p.requires_grad = False
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    batches = []
    for _ in range(10):
        data, labels = torch.tensor(draw.normal(16, 20)), torch.tensor(draw.labels(6, 16))
        with torch.no_grad():
            scores = teacher(data)
        batches.append((data, (labels, scores)))
    return student, distillation_loss, optimizer, batches


def run(fill, draw):
    student, criterion, optimizer, batches = build(fill, draw)
    losses = []
    for data, targets in batches:
        optimizer.zero_grad()
        loss = criterion(student(data), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
