"""A net for two touching digits at once: LeNet, deeper and on a wider picture. It says what they are, and where."""

from typing import Any

import numpy as np

import tinygrad_lite.functional as F
from tinygrad_lite import Tensor, nn

WIDTH = 40  # of its pictures, pixels; they are 28 high


class PairNet(nn.Module):
    """Four convolutions and two linear layers: what two touching digits are, the left one and the right one, and where.

    conv 20@5x5, ReLU, max-pool 2; conv 50@5x5, ReLU, max-pool 2; conv 64@3x3, ReLU; conv 64@3x3, ReLU, its input added;
    linear 1792 -> 256, ReLU; linear 256 -> 2 x 11. Without the two 3x3 layers it learns less from as many examples.
    A pair need not be cut to be read, and strokes that both digits share belong to both.

    Parameters
    ----------
    rng : numpy.random.Generator
        For the initial weights, and for dropout.
    dropout : float in [0, 1], default 0
        Probability of dropping a unit before the last layer while training.

    Examples
    --------
    >>> logits, edges = PairNet(np.random.default_rng(0))(np.zeros((3, 1, 28, 40), np.float32))
    >>> logits.shape, edges.shape
    ((3, 2, 10), (3, 2))
    """

    def __init__(self, rng: np.random.Generator, dropout: float = 0.0) -> None:
        self.conv1 = nn.Conv2d(1, 20, 5, rng=rng)
        self.conv2 = nn.Conv2d(20, 50, 5, rng=rng)
        self.conv3 = nn.Conv2d(50, 64, 3, padding=1, rng=rng)
        self.conv4 = nn.Conv2d(64, 64, 3, padding=1, rng=rng)
        self.fc1 = nn.Linear(1792, 256, rng=rng)
        self.fc2 = nn.Linear(256, 22, rng=rng)
        self.dropout = nn.Dropout(dropout, rng=rng)

    def forward(self, x: Any) -> tuple[Tensor, Tensor]:
        """Images (n, 1, 28, 40), pixels / 255 -> logits (n, 2, 10), edges (n, 2).

        The edges are where the left digit ends and where the right one begins, 0 being the pair's left end and 1 its right
        end; the two may overlap.
        """
        for conv in (self.conv1, self.conv2):
            x = F.relu(F.max_pool2d(conv(x), 2))  # in this order as in LeNet.forward
        x = F.relu(self.conv3(x))
        x = x + F.relu(self.conv4(x))
        x = F.relu(self.fc1(F.flatten(x, 1)))
        both = self.fc2(self.dropout(x)).reshape(-1, 2, 11)
        return both[..., :10], both[..., 10]
