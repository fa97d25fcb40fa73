"""The coefficients of Burgers' equation from data: a physics-informed network, trained by Adam and then LBFGS."""

from collections import OrderedDict

import torch


class DNN(torch.nn.Module):
    def __init__(self, layers):
        super(DNN, self).__init__()
        found = []
        for i in range(len(layers) - 2):
            found.append(("layer_%d" % i, torch.nn.Linear(layers[i], layers[i + 1])))
            found.append(("activation_%d" % i, torch.nn.Tanh()))
        found.append(("layer_%d" % (len(layers) - 2), torch.nn.Linear(layers[-2], layers[-1])))
        self.layers = torch.nn.Sequential(OrderedDict(found))

    def forward(self, x):
        return self.layers(x)


class PhysicsInformedNN:
    def __init__(self, X, u, dnn, device="cpu"):
        dtype = next(dnn.parameters()).dtype
        self.lb = torch.tensor(X.min(0), dtype=dtype)
        self.ub = torch.tensor(X.max(0), dtype=dtype)
        # one graph of a cast for all iterations
        self.x = torch.tensor(X[:, 0:1], requires_grad=True, dtype=torch.float64).to(dtype).to(device)
        self.t = torch.tensor(X[:, 1:2], requires_grad=True, dtype=torch.float64).to(dtype).to(device)
        self.u = torch.tensor(u, dtype=dtype)
        self.lambda_1 = torch.nn.Parameter(torch.tensor([0.0], dtype=dtype))
        self.lambda_2 = torch.nn.Parameter(torch.tensor([-6.0], dtype=dtype))
        self.dnn = dnn
        self.dnn.register_parameter("lambda_1", self.lambda_1)
        self.dnn.register_parameter("lambda_2", self.lambda_2)
        self.optimizer = torch.optim.LBFGS(
            self.dnn.parameters(), lr=1.0, max_iter=3, max_eval=8, history_size=10, line_search_fn="strong_wolfe"
        )
        self.optimizer_Adam = torch.optim.Adam(self.dnn.parameters())
        self.losses = []

    def net_u(self, x, t):
        X = torch.cat([x, t], dim=1)
        return self.dnn(2.0 * (X - self.lb) / (self.ub - self.lb) - 1.0)

    def net_f(self, x, t):
        u = self.net_u(x, t)
        ones = torch.ones_like(u)
        u_t = torch.autograd.grad(u, t, grad_outputs=ones, retain_graph=True, create_graph=True)[0]
        u_x = torch.autograd.grad(u, x, grad_outputs=ones, retain_graph=True, create_graph=True)[0]
        u_xx = torch.autograd.grad(u_x, x, grad_outputs=ones, retain_graph=True, create_graph=True)[0]
        return u_t + self.lambda_1 * u * u_x - torch.exp(self.lambda_2) * u_xx

    def loss(self):
        return torch.mean((self.u - self.net_u(self.x, self.t)) ** 2) + torch.mean(self.net_f(self.x, self.t) ** 2)

    def closure(self):
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        return loss

    def train(self, iterations):
        for _ in range(iterations):
            loss = self.loss()
            self.optimizer_Adam.zero_grad()
            loss.backward()
            self.optimizer_Adam.step()
            self.losses.append(loss.item())
        for _ in range(2):
            self.losses.append(self.optimizer.step(self.closure).item())


def run(fill, draw):
    X = draw.uniform(40, 2) * 2 - 1
    model = PhysicsInformedNN(X, -X[:, :1] * X[:, 1:] ** 2, fill(DNN([2, 8, 8, 1])))
    model.train(9)
    return model.losses
