"""d2l.ai's single-shot detector: anchors, their assignment to boxes, offsets, and suppression of overlapping boxes."""

import torch
import torch.nn as nn
import torch.nn.functional as F

SIZES, RATIOS = [0.3, 0.5], [1.0, 2.0]


def multibox_prior(data, sizes, ratios):
    in_height, in_width = data.shape[-2:]
    boxes_per_pixel = len(sizes) + len(ratios) - 1
    size_tensor, ratio_tensor = torch.tensor(sizes), torch.tensor(ratios)
    center_h, center_w = (torch.arange(in_height) + 0.5) / in_height, (torch.arange(in_width) + 0.5) / in_width
    shift_y, shift_x = torch.meshgrid(center_h, center_w, indexing="ij")
    shift_y, shift_x = shift_y.reshape(-1), shift_x.reshape(-1)
    w = torch.cat((size_tensor * torch.sqrt(ratio_tensor[0]), sizes[0] * torch.sqrt(ratio_tensor[1:])))
    h = torch.cat((size_tensor / torch.sqrt(ratio_tensor[0]), sizes[0] / torch.sqrt(ratio_tensor[1:])))
    manipulations = torch.stack((-w, -h, w, h)).T.repeat(in_height * in_width, 1) / 2
    grid = torch.stack([shift_x, shift_y, shift_x, shift_y], dim=1).repeat_interleave(boxes_per_pixel, dim=0)
    return (grid + manipulations).unsqueeze(0)


def box_iou(boxes1, boxes2):
    def area(boxes):
        return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

    upper_left = torch.max(boxes1[:, None, :2], boxes2[:, :2])
    lower_right = torch.min(boxes1[:, None, 2:], boxes2[:, 2:])
    inters = (lower_right - upper_left).clamp(min=0).prod(2)
    return inters / (area(boxes1)[:, None] + area(boxes2) - inters)


def assign(ground_truth, anchors, iou_threshold=0.5):
    num_anchors, num_boxes = anchors.shape[0], ground_truth.shape[0]
    jaccard = box_iou(anchors, ground_truth)
    found = torch.full((num_anchors,), -1, dtype=torch.long)
    max_ious, indices = torch.max(jaccard, dim=1)
    found[torch.nonzero(max_ious >= iou_threshold).reshape(-1)] = indices[max_ious >= iou_threshold]
    for _ in range(num_boxes):
        max_idx = torch.argmax(jaccard)
        box_idx, anc_idx = (max_idx % num_boxes).long(), (max_idx / num_boxes).long()
        found[anc_idx] = box_idx
        jaccard[:, box_idx] = torch.full((num_anchors,), -1.0)
        jaccard[anc_idx, :] = torch.full((num_boxes,), -1.0)
    return found


def to_center(boxes):
    return torch.cat(((boxes[:, 2:] + boxes[:, :2]) / 2, boxes[:, 2:] - boxes[:, :2]), axis=1)


def targets(anchors, labels):
    offsets, masks, classes = [], [], []
    for label in labels:
        found = assign(label[:, 1:], anchors)
        mask = (found >= 0).type(anchors.dtype).unsqueeze(-1).repeat(1, 4)
        true = torch.nonzero(found >= 0)
        class_labels, assigned = torch.zeros(len(anchors), dtype=torch.long), torch.zeros((len(anchors), 4))
        class_labels[true] = label[found[true], 0].long() + 1
        assigned[true] = label[found[true], 1:]
        own, other = to_center(anchors), to_center(assigned)
        xy = 10 * (other[:, :2] - own[:, :2]) / own[:, 2:]
        offset = torch.cat([xy, 5 * torch.log(1e-6 + other[:, 2:] / own[:, 2:])], axis=1) * mask
        offsets.append(offset.reshape(-1))
        masks.append(mask.reshape(-1))
        classes.append(class_labels)
    return torch.stack(offsets), torch.stack(masks), torch.stack(classes)


def nms(boxes, scores, iou_threshold):
    order, keep = torch.argsort(scores, dim=-1, descending=True), []
    while order.numel() > 0:
        i = order[0]
        keep.append(i)
        if order.numel() == 1:
            break
        iou = box_iou(boxes[i, :].reshape(-1, 4), boxes[order[1:], :].reshape(-1, 4)).reshape(-1)
        order = order[torch.nonzero(iou <= iou_threshold).reshape(-1) + 1]
    return torch.tensor(keep)


class TinySSD(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes
        for i, channels in enumerate((3, 4)):
            block = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
            setattr(self, f"blk_{i}", block)
            setattr(self, f"cls_{i}", nn.Conv2d(4, 3 * (num_classes + 1), kernel_size=3, padding=1))
            setattr(self, f"bbox_{i}", nn.Conv2d(4, 3 * 4, kernel_size=3, padding=1))

    def forward(self, x):
        anchors, classes, boxes = [], [], []
        for i in range(2):
            x = getattr(self, f"blk_{i}")(x)
            anchors.append(multibox_prior(x, SIZES, RATIOS))
            classes.append(torch.flatten(getattr(self, f"cls_{i}")(x).permute(0, 2, 3, 1), start_dim=1))
            boxes.append(torch.flatten(getattr(self, f"bbox_{i}")(x).permute(0, 2, 3, 1), start_dim=1))
        classes = torch.cat(classes, dim=1)
        return torch.cat(anchors, dim=1), classes.reshape(len(x), -1, self.num_classes + 1), torch.cat(boxes, dim=1)


def run(fill, draw):
    net = fill(TinySSD(1))
    trainer = torch.optim.SGD(net.parameters(), lr=0.05, weight_decay=5e-4)
    labels = torch.tensor([[[0, 0.1, 0.1, 0.5, 0.6]], [[0, 0.4, 0.3, 0.9, 0.9]]])
    losses = []
    for _ in range(8):
        x = torch.from_numpy(draw.normal(2, 3, 8, 8))
        trainer.zero_grad()
        anchors, classes, boxes = net(x)
        offsets, masks, wanted = targets(anchors.squeeze(0), labels)
        of_class = F.cross_entropy(classes.reshape(-1, 2), wanted.reshape(-1), reduction="none").reshape(2, -1).mean(1)
        of_box = F.l1_loss(boxes * masks, offsets * masks, reduction="none").mean(1)
        loss = (of_class + of_box).mean()
        loss.backward()
        trainer.step()
        losses.append(loss.item())
    scores = F.softmax(classes, dim=2)[0, :, 1].detach()
    keep = nms(anchors[0], scores, 0.3)
    return [*losses, float(len(keep)), scores[keep].sum().item()]
