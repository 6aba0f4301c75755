#!/usr/bin/env python3
"""Trains the demo's network on real data: scikit-learn's copy of the UCI handwritten digits
(1797 images of 8x8 pixels, part of the scikit-learn package).

    python3 demo/train.py     (needs torch, numpy, scikit-learn; about ten seconds)

Writes demo/digits.pt (a state_dict) and demo/samples.npz: 16 held-out images with their
labels and the logits PyTorch computed for them. Both are committed.
"""

import pathlib

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent


class Digits(nn.Module):
    """[N,1,8,8] pixels in 0..1 to 10 logits."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 24, 3, padding=1, stride=2)
        self.bn2 = nn.BatchNorm2d(24)
        self.fc1 = nn.Linear(24 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels)
    order = torch.randperm(len(x))
    held, used = order[:360], order[360:]

    net = Digits()
    steps = 25
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(steps):
        net.train()
        for batch in used[torch.randperm(len(used))].split(64):
            loss = nn.functional.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        right = (net(x[held]).argmax(1) == y[held]).float().mean().item()
        logits = net(x[held[:16]])
    print(f"{right:.1%} of {len(held)} held-out digits right, "
          f"{sum(p.numel() for p in net.parameters())} parameters")
    if right < 0.97:
        raise SystemExit("the network did not learn")
    torch.save(net.state_dict(), HERE / "digits.pt")
    np.savez(HERE / "samples.npz", images=x[held[:16]].numpy(), labels=y[held[:16]].numpy(),
             logits=logits.numpy())


if __name__ == "__main__":
    main()
