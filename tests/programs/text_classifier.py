"""A bag-of-embeddings text classifier and Kim's convolutions over words, side by side."""

import torch
import torch.nn as nn
import torch.nn.functional as F

PAD = 0


class TextClassifier(nn.Module):
    def __init__(self, vocab_size=50, embed_dim=12, num_class=4, kernel_sizes=(2, 3, 4)):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim, padding_idx=PAD)
        self.convs = nn.ModuleList([nn.Conv1d(embed_dim, 6, k) for k in kernel_sizes])
        self.fc = nn.Linear(6 * len(kernel_sizes) + embed_dim, num_class)
        self.init_weights()

    def init_weights(self):
        initrange = 0.5
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.fc.weight.data.uniform_(-initrange, initrange)
        self.fc.bias.data.zero_()

    def forward(self, text):
        mask = (text != PAD).unsqueeze(-1).float()
        embedded = self.embedding(text)
        bag = (embedded * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        x = embedded.permute(0, 2, 1)
        pooled = [F.relu(conv(x)).max(dim=2)[0] for conv in self.convs]
        return self.fc(torch.cat(pooled + [bag], dim=1))


def build(fill, draw):
    model = fill(TextClassifier())
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    batches = []
    for _ in range(10):
        text = torch.tensor(draw.labels(50, 8, 11))
        text[:4, 8:] = PAD
        batches.append((text, torch.tensor(draw.labels(4, 8))))
    return model, criterion, optimizer, batches


def run(fill, draw):
    model, criterion, optimizer, batches = build(fill, draw)
    losses, total_acc = [], 0
    for text, label in batches:
        optimizer.zero_grad()
        predicted_label = model(text)
        loss = criterion(predicted_label, label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()
        total_acc += (predicted_label.argmax(1) == label).sum().item()
        losses.append(loss.item())
    return losses
