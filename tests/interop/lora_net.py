"""The network whose layers folds.py and peft_side.py adapt."""

import torch

TARGETS = ("embed", "q_proj", "sq", "conv")


class Adapted(torch.nn.Module):
    """What peft adapts: dense layers, square and not, a convolution, an embedding."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(11, 6)
        self.q_proj = torch.nn.Linear(6, 4)
        self.sq = torch.nn.Linear(4, 4)
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.head = torch.nn.Linear(4, 3)
