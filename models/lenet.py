"""LeNet for 28x28 digits, in the origin's form."""

from typing import Any

import numpy as np

import tinygrad_lite.functional as F
from tinygrad_lite import Tensor, _check, nn

PARAMETERS = 431_080


class LeNet(nn.Module):
    """Two convolutions with pooling and two fully connected layers: 431,080 parameters.

    conv 20@5x5, ReLU, max-pool 2; conv 50@5x5, ReLU, max-pool 2; linear 800 -> 500, ReLU; linear 500 -> 10.

    Parameters
    ----------
    rng : numpy.random.Generator
        For the initial weights, and for dropout.
    relu_after_conv : bool, default True
        False gives Caffe's LeNet, which has a ReLU after the first linear layer only.
    dropout : float in [0, 1], default 0
        Probability of dropping a unit before the last layer while training.

    Notes
    -----
    Source: LeCun et al. 1998, in the form of Caffe's examples/mnist.

    Examples
    --------
    >>> LeNet(np.random.default_rng(0))(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 10)
    """

    def __init__(self, rng: np.random.Generator, relu_after_conv: bool = True, dropout: float = 0.0) -> None:
        self.conv1 = nn.Conv2d(1, 20, 5, rng=rng)
        self.conv2 = nn.Conv2d(20, 50, 5, rng=rng)
        self.fc1 = nn.Linear(800, 500, rng=rng)
        self.fc2 = nn.Linear(500, 10, rng=rng)
        self.dropout = nn.Dropout(dropout, rng=rng)
        self.relu_after_conv = _check.flag("LeNet", "relu_after_conv", relu_after_conv)
        assert self.parameter_count() == PARAMETERS

    def forward(self, x: Any) -> Tensor:
        """Images (n, 1, 28, 28), pixels / 255 -> logits (n, 10)."""
        for conv in (self.conv1, self.conv2):
            x = F.max_pool2d(conv(x), 2)
            if self.relu_after_conv:  # after pooling: the same numbers and gradients, from a quarter as many pixels
                x = F.relu(x)
        x = F.relu(self.fc1(F.flatten(x, 1)))
        logits: Tensor = self.fc2(self.dropout(x))
        return logits

    def activations(self, x: Any) -> dict[str, Tensor]:
        """Give every layer's output in evaluation by name, "fc2" being the logits: forward's, but for ReLU before pooling.

        "features" is what the last layer sees, (n, 500). Without ReLU after the convolutions relu1 is conv1, and relu2 conv2.
        """
        steps: dict[str, Tensor] = {}
        for i, conv in enumerate((self.conv1, self.conv2), 1):
            steps[f"conv{i}"] = x = conv(x)
            steps[f"relu{i}"] = x = F.relu(x) if self.relu_after_conv else x
            steps[f"pool{i}"] = x = F.max_pool2d(x, 2)
        steps["fc1"] = x = self.fc1(F.flatten(x, 1))
        steps["features"] = x = F.relu(x)
        steps["fc2"] = self.fc2(x)
        return steps
