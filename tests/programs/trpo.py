"""Spinning Up's actor with TRPO: conjugate gradients on products with the Hessian, flat parameters, line search."""

import numpy as np
import torch
import torch.nn as nn
from torch.distributions.normal import Normal
from torch.nn.utils import parameters_to_vector, vector_to_parameters


def mlp(sizes, activation, output_activation=nn.Identity):
    layers = []
    for j in range(len(sizes) - 1):
        act = activation if j < len(sizes) - 2 else output_activation
        layers += [nn.Linear(sizes[j], sizes[j + 1]), act()]
    return nn.Sequential(*layers)


def count_vars(module):
    return sum([np.prod(p.shape) for p in module.parameters()])


class Actor(nn.Module):
    def _distribution(self, obs):
        raise NotImplementedError

    def forward(self, obs, act=None):
        pi = self._distribution(obs)
        logp_a = None
        if act is not None:
            logp_a = self._log_prob_from_distribution(pi, act)
        return pi, logp_a


class MLPGaussianActor(Actor):
    def __init__(self, obs_dim, act_dim, hidden_sizes, activation):
        super().__init__()
        log_std = -0.5 * np.ones(act_dim, dtype=np.float32)
        self.log_std = torch.nn.Parameter(torch.as_tensor(log_std))
        self.mu_net = mlp([obs_dim] + list(hidden_sizes) + [act_dim], activation)

    def _distribution(self, obs):
        mu = self.mu_net(obs)
        std = torch.exp(self.log_std)
        return Normal(mu, std)

    def _log_prob_from_distribution(self, pi, act):
        return pi.log_prob(act).sum(axis=-1)


def flat_grad(grads, hessian=False):
    return torch.cat([g.contiguous().view(-1) for g in grads])


def conjugate_gradients(Avp, b, nsteps, residual_tol=1e-10):
    x = torch.zeros(b.size())
    r = b.clone()
    p = b.clone()
    rdotr = torch.dot(r, r)
    for i in range(nsteps):
        _Avp = Avp(p)
        alpha = rdotr / torch.dot(p, _Avp)
        x += alpha * p
        r -= alpha * _Avp
        new_rdotr = torch.dot(r, r)
        betta = new_rdotr / rdotr
        p = r + betta * p
        rdotr = new_rdotr
        if rdotr < residual_tol:
            break
    return x


def run(fill, draw):
    actor = fill(MLPGaussianActor(3, 2, (8,), nn.Tanh))
    v = fill(mlp([3, 8, 1], nn.Tanh))
    print(actor, "\nNumber of parameters: pi: %d, v: %d" % tuple(count_vars(m) for m in [actor, v]))
    vf_optimizer = torch.optim.Adam(v.parameters(), lr=1e-2)
    losses = []
    for epoch in range(6):
        data = {
            k: torch.as_tensor(x)
            for k, x in dict(obs=draw.normal(24, 3), act=draw.normal(24, 2), ret=draw.normal(24)).items()
        }
        adv = data["ret"] - torch.squeeze(v(data["obs"]), -1).detach()
        adv = (adv - adv.mean()) / adv.std()
        with torch.no_grad():
            old_pi, logp_old = actor(data["obs"], data["act"])
        _, logp = actor(data["obs"], data["act"])
        loss = -(torch.exp(logp - logp_old) * adv).mean()
        grad = flat_grad(torch.autograd.grad(loss, actor.parameters()))

        def kl():
            pi, _ = actor(data["obs"])
            return torch.distributions.kl_divergence(old_pi, pi).sum(-1).mean()

        def Fvp(vec):
            grads = torch.autograd.grad(kl(), actor.parameters(), create_graph=True)
            flat_grad_kl = flat_grad(grads)
            kl_v = (flat_grad_kl * vec).sum()
            gg = torch.autograd.grad(kl_v, actor.parameters())
            return flat_grad(gg).data + vec * 0.1

        stepdir = conjugate_gradients(Fvp, -grad, 5)
        shs = 0.5 * (stepdir * Fvp(stepdir)).sum(0, keepdim=True)
        lm = torch.sqrt(shs / 0.01)
        fullstep = stepdir / lm[0]
        prev = parameters_to_vector(actor.parameters())
        for stepfrac in 0.5 ** np.arange(4):
            vector_to_parameters(prev + stepfrac * fullstep, actor.parameters())
            with torch.no_grad():
                if kl() < 0.015:
                    break
        for i in range(2):
            vf_optimizer.zero_grad()
            loss_v = ((v(data["obs"]).squeeze(-1) - data["ret"]) ** 2).mean()
            loss_v.backward()
            vf_optimizer.step()
        losses += [loss.item() + kl().item(), loss_v.item()]
        ent = actor(data["obs"])[0].entropy().mean().item()
        with torch.no_grad():
            a = actor._distribution(torch.as_tensor(draw.normal(3))).sample().numpy()
        clipped = torch.as_tensor(logp.gt(0.5) | logp.lt(-0.5), dtype=torch.float32)
        print(f"kl {kl().item():.5f} ent {ent:.3f} {a.shape} clipfrac {clipped.mean().item():.2f}")
    return losses
