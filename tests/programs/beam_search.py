"""An LSTM cell as a language model, and a beam search by topk over what it has learnt."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(9, 8)
        self.cell = nn.LSTMCell(8, 8)
        self.out = nn.Linear(8, 9)

    def step(self, tok, h, c):
        h, c = self.cell(self.emb(tok), (h, c))
        return F.log_softmax(self.out(h), -1), h, c


def run(fill, draw):
    m = fill(LM())
    opt = torch.optim.Adagrad(m.parameters(), lr=0.1)
    out = []
    for _ in range(10):
        x = torch.from_numpy(draw.labels(9, 4, 6))
        h = c = torch.zeros(4, 8)
        loss = 0
        for t in range(5):
            lp, h, c = m.step(x[:, t], h, c)
            loss += F.nll_loss(lp, x[:, t + 1])
        opt.zero_grad()
        loss.backward()
        opt.step()
        out.append(loss.item())
    with torch.no_grad():
        K = 3
        seqs = torch.zeros(1, 1, dtype=torch.long)
        scores = torch.zeros(1)
        h = c = torch.zeros(1, 8)
        for t in range(4):
            lp, h, c = m.step(seqs[:, -1], h, c)
            total = scores.unsqueeze(1) + lp
            scores, idx = total.view(-1).topk(K)
            beam = torch.div(idx, lp.size(1), rounding_mode="floor")
            tok = idx % lp.size(1)
            seqs = torch.cat([seqs[beam], tok.unsqueeze(1)], dim=-1)
            h, c = h[beam], c.index_select(0, beam)
        best = seqs[scores.argmax()].tolist()
    return out + [scores.max().item(), float(sum(best))]
