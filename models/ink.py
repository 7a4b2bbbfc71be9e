"""A net that says where on a photographed page ink of digits is: convolutions only, so that pages may be of any size."""

from typing import Any

import numpy as np

import tinygrad_lite.functional as F
from tinygrad_lite import ShapeError, Tensor, nn

STEP = 8  # height and width of its pictures are multiples of this
SEES = 80  # pixels around a square of STEP x STEP, at most, are what it judges its pixels by; a multiple of STEP


def finer(x: Tensor) -> Tensor:
    """Lay each four channels out as squares of 2x2 pixels, (n, 4 c, h, w) -> (n, c, 2 h, 2 w). Source: Shi et al. 2016."""
    n, c, h, w = x.shape
    return x.reshape(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)


def coarser(x: Tensor) -> Tensor:
    """Stack squares of 2x2 pixels in channels: the inverse of `finer`."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


class InkNet(nn.Module):
    """A small U-Net that tells ink from paper, rules, shadows, stains and tables: 109,236 parameters.

    Its first layers work on squares of 2x2 pixels, which costs a quarter; then twice half of the resolution, and there
    convolutions that see wider and wider, for a rule is known by its length. Back at each resolution what it was like
    before is joined. Source: Ronneberger et al. 2015.

    Parameters
    ----------
    rng : numpy.random.Generator
        For the initial weights.

    Examples
    --------
    >>> InkNet(np.random.default_rng(0))(np.zeros((1, 3, 16, 24), np.float32)).shape
    (1, 1, 16, 24)
    """

    def __init__(self, rng: np.random.Generator) -> None:
        def conv(c_in: int, c_out: int, size: int = 3, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
            return nn.Conv2d(c_in, c_out, size, stride=stride, padding=size // 2 * dilation, dilation=dilation, rng=rng)

        self.first1, self.first2 = conv(12, 16), conv(16, 16)
        self.down1, self.down2 = conv(16, 32, stride=2), conv(32, 48, stride=2)
        self.wide1, self.wide2, self.wide3 = (conv(48, 48, dilation=d) for d in (1, 2, 4))
        self.up2, self.join2 = conv(48, 64, 1), conv(48, 32)
        self.up1, self.join1 = conv(32, 64, 1), conv(32, 16)
        self.last = conv(16, 4)

    def forward(self, x: Any) -> Tensor:
        """Pictures (n, 3, h, w), each colour evened out (`experiments.reader.nets.evened`) -> logits of ink (n, 1, h, w)."""
        x = x if isinstance(x, Tensor) else Tensor(x)
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % STEP or x.shape[3] % STEP:
            raise ShapeError(f"InkNet: x must have shape (n, 3, h, w), h and w multiples of {STEP}, got {x.shape}; pad it.")
        half = F.relu(self.first2(F.relu(self.first1(coarser(x)))))
        quarter = F.relu(self.down1(half))
        eighth = F.relu(self.down2(quarter))
        for wide in (self.wide1, self.wide2, self.wide3):
            eighth = eighth + F.relu(wide(eighth))
        quarter = F.relu(self.join2(F.cat([finer(self.up2(eighth)), quarter], 1)))
        half = F.relu(self.join1(F.cat([finer(self.up1(quarter)), half], 1)))
        return finer(self.last(half))
