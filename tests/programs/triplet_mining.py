"""Batch-hard, batch-all and semi-hard triplets by masks, and prototypical networks."""

from itertools import combinations

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def pairwise_distances(embeddings, squared=False):
    dot_product = torch.matmul(embeddings, embeddings.t())
    square_norm = torch.diag(dot_product)
    distances = square_norm.unsqueeze(0) - 2.0 * dot_product + square_norm.unsqueeze(1)
    distances[distances < 0] = 0
    if not squared:
        mask = distances.eq(0).float()
        distances = distances + mask * 1e-16
        distances = (1.0 - mask) * torch.sqrt(distances)
    return distances


def get_triplet_mask(labels):
    indices_equal = torch.eye(labels.size(0), dtype=torch.bool, device=labels.device)
    indices_not_equal = ~indices_equal
    i_not_equal_j = indices_not_equal.unsqueeze(2)
    i_not_equal_k = indices_not_equal.unsqueeze(1)
    j_not_equal_k = indices_not_equal.unsqueeze(0)
    distinct_indices = (i_not_equal_j & i_not_equal_k) & j_not_equal_k
    label_equal = labels.unsqueeze(0) == labels.unsqueeze(1)
    valid_labels = ~label_equal.unsqueeze(1) & label_equal.unsqueeze(2)
    return valid_labels & distinct_indices


def batch_hard(labels, embeddings, margin):
    d = pairwise_distances(embeddings)
    same = (labels[None, :] == labels[:, None]) & ~torch.eye(len(labels)).bool()
    hardest_positive_dist, _ = (same.float() * d).max(1, keepdim=True)
    max_anchor_negative_dist, _ = d.max(1, keepdim=True)
    anchor_negative_dist = d + max_anchor_negative_dist * (labels[None, :] == labels[:, None]).float()
    hardest_negative_dist, _ = anchor_negative_dist.min(1, keepdim=True)
    tl = hardest_positive_dist - hardest_negative_dist + margin
    tl[tl < 0] = 0
    return tl.mean()


def batch_all(labels, embeddings, margin):
    d = pairwise_distances(embeddings)
    triplet_loss = d.unsqueeze(2) - d.unsqueeze(1) + margin
    mask = get_triplet_mask(labels)
    triplet_loss = mask.float() * triplet_loss
    triplet_loss[triplet_loss < 0] = 0
    num_positive = triplet_loss[triplet_loss > 1e-16].size(0)
    return triplet_loss.sum() / (num_positive + 1e-16), num_positive / (mask.sum() + 1e-16)


def semihard(labels, embeddings):
    labels = labels.cpu().data.numpy()
    distance_matrix = pairwise_distances(embeddings, squared=True).cpu().detach()
    triplets = []
    for label in set(labels):
        label_mask = labels == label
        label_indices = np.where(label_mask)[0]
        if len(label_indices) < 2:
            continue
        negative_indices = np.where(np.logical_not(label_mask))[0]
        ap = np.array(list(combinations(label_indices, 2)))
        ap_distances = distance_matrix[ap[:, 0], ap[:, 1]]
        for anchor_positive, ap_distance in zip(ap, ap_distances):
            loss_values = (
                ap_distance
                - distance_matrix[torch.LongTensor(np.array([anchor_positive[0]])), torch.LongTensor(negative_indices)]
                + 1.0
            )
            loss_values = loss_values.data.cpu().numpy()
            hard_negative = np.argmax(loss_values)
            if loss_values[hard_negative] > 0:
                triplets.append([anchor_positive[0], anchor_positive[1], negative_indices[hard_negative]])
    return torch.LongTensor(np.array(triplets))


def prototypical_loss(input, target, n_support):
    target_cpu, input_cpu = target.to("cpu"), input.to("cpu")
    classes = torch.unique(target_cpu)
    n_classes = len(classes)
    n_query = target_cpu.eq(classes[0].item()).sum().item() - n_support
    support_idxs = list(map(lambda c: target_cpu.eq(c).nonzero()[:n_support].squeeze(1), classes))
    prototypes = torch.stack([input_cpu[idx_list].mean(0) for idx_list in support_idxs])
    query_idxs = torch.stack(list(map(lambda c: target_cpu.eq(c).nonzero()[n_support:], classes))).view(-1)
    query_samples = input_cpu[query_idxs]
    n, m, d = query_samples.size(0), prototypes.size(0), query_samples.size(1)
    x = query_samples.unsqueeze(1).expand(n, m, d)
    y = prototypes.unsqueeze(0).expand(n, m, d)
    dists = torch.pow(x - y, 2).sum(2)
    log_p_y = F.log_softmax(-dists, dim=1).view(n_classes, n_query, -1)
    target_inds = torch.arange(0, n_classes).view(n_classes, 1, 1).expand(n_classes, n_query, 1).long()
    loss_val = -log_p_y.gather(2, target_inds).squeeze().view(-1).mean()
    _, y_hat = log_p_y.max(2)
    acc_val = y_hat.eq(target_inds.squeeze(2)).float().mean()
    return loss_val, acc_val


def run(fill, draw):
    net = fill(nn.Sequential(nn.Linear(5, 16), nn.PReLU(), nn.Linear(16, 4)))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 8, gamma=0.1, last_epoch=-1)
    losses = []
    for i in range(10):
        x, y = torch.from_numpy(draw.normal(20, 5)), torch.arange(4).repeat_interleave(5)
        emb = F.normalize(net(x), p=2, dim=-1)
        all_loss, fraction = batch_all(y, emb, 0.5)
        triplets = semihard(y, emb)
        ap = (emb[triplets[:, 0]] - emb[triplets[:, 1]]).pow(2).sum(1)
        an = (emb[triplets[:, 0]] - emb[triplets[:, 2]]).pow(2).sum(1)
        proto, acc = prototypical_loss(emb, y, 2)
        loss = batch_hard(y, emb, 0.3) + all_loss + F.relu(ap - an + 1.0).mean() + proto
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        print(
            "[{}] {:.3f} mined {} acc {:.2f} frac {:.3f} lr {}".format(
                i, loss.item(), len(triplets), acc, fraction, scheduler.get_last_lr()
            )
        )
    return losses
