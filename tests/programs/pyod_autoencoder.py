"""An autoencoder for outliers in the style of PyOD: layers by add_module, decision scores by distance."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class PyODDataset(Dataset):
    def __init__(self, X, y=None, mean=None, std=None):
        super(PyODDataset, self).__init__()
        self.X = X
        self.mean = mean
        self.std = std

    def __len__(self):
        return self.X.shape[0]

    def __getitem__(self, idx):
        if torch.is_tensor(idx):
            idx = idx.tolist()
        sample = (self.X[idx, :] - self.mean) / self.std
        return torch.from_numpy(sample), idx


class InnerAutoencoder(nn.Module):
    def __init__(self, n_features, hidden_neurons=(16, 8), dropout_rate=0.0, batch_norm=True):
        super(InnerAutoencoder, self).__init__()
        self.layers_neurons_ = [n_features, *hidden_neurons]
        self.encoder = nn.Sequential()
        self.decoder = nn.Sequential()
        for idx, layer in enumerate(self.layers_neurons_[:-1]):
            if batch_norm:
                self.encoder.add_module("batch_norm" + str(idx), nn.BatchNorm1d(self.layers_neurons_[idx]))
            self.encoder.add_module("linear" + str(idx), nn.Linear(layer, self.layers_neurons_[idx + 1]))
            self.encoder.add_module("relu" + str(idx), nn.ReLU())
            self.encoder.add_module("dropout" + str(idx), nn.Dropout(dropout_rate))
        self.layers_neurons_decoder_ = self.layers_neurons_[::-1]
        for idx, layer in enumerate(self.layers_neurons_decoder_[:-1]):
            self.decoder.add_module("linear" + str(idx), nn.Linear(layer, self.layers_neurons_decoder_[idx + 1]))
            if idx < len(self.layers_neurons_decoder_) - 2:
                self.decoder.add_module("relu" + str(idx), nn.ReLU())

    def forward(self, x):
        x = self.encoder(x)
        x = self.decoder(x)
        return x


def run(fill, draw):
    X = draw.normal(100, 12)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    train_set = PyODDataset(X=X, mean=np.mean(X, axis=0), std=np.std(X, axis=0))
    train_loader = DataLoader(train_set, batch_size=20, shuffle=False)
    model = fill(InnerAutoencoder(12)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    loss_fn = torch.nn.MSELoss()
    losses = []
    for epoch in range(2):
        for data, data_idx in train_loader:
            data = data.to(device)
            loss = loss_fn(data, model(data))
            model.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    model.eval()
    outlier_scores = np.zeros([X.shape[0]])
    with torch.no_grad():
        for data, data_idx in train_loader:
            recon = model(data).cpu().numpy()
            outlier_scores[data_idx] = np.sqrt(np.sum(np.square(recon - data.cpu().numpy()), axis=1))
    return [*losses, float(outlier_scores.mean())]
