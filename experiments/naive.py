"""The layers one number at a time, in plain loops and double precision: slow, and plainly right."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """Inner products: x (n, in_features), weight (out_features, in_features), bias (out_features,) -> (n, out_features)."""
    out = np.zeros((len(x), len(weight)))
    for n in range(len(x)):
        for k in range(len(weight)):
            total = float(bias[k])
            for a, b in zip(x[n].tolist(), weight[k].tolist(), strict=True):
                total += a * b
            out[n, k] = total
    return out


def conv2d(x: Array, weight: Array, bias: Array) -> Array:
    """Cross-correlation: x (n, c_in, h, w), weight (c_out, c_in, kh, kw), bias (c_out,) -> (n, c_out, h_out, w_out)."""
    n, c_in, h, w = x.shape
    c_out, _, kh, kw = weight.shape
    out = np.zeros((n, c_out, h - kh + 1, w - kw + 1))
    pixels, kernels = x.tolist(), weight.tolist()
    for image, channel, top, left in np.ndindex(out.shape):
        total = float(bias[channel])
        for c in range(c_in):
            for i in range(kh):
                for j in range(kw):
                    total += pixels[image][c][top + i][left + j] * kernels[channel][c][i][j]
        out[image, channel, top, left] = total
    return out


def max_pool2d(x: Array, kernel_size: int) -> Array:
    """Take the largest number of each window: x (n, c, h, w) -> (n, c, h_out, w_out)."""
    n, c, h, w = x.shape
    out = np.zeros((n, c, h // kernel_size, w // kernel_size))
    for image, channel, top, left in np.ndindex(out.shape):
        largest = -np.inf
        for i in range(kernel_size):
            for j in range(kernel_size):
                value = float(x[image, channel, top * kernel_size + i, left * kernel_size + j])
                if value > largest:
                    largest = value
        out[image, channel, top, left] = largest
    return out


def relu(x: Array) -> Array:
    """Replace what is below 0 by 0."""
    out = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        if x[place] > 0:
            out[place] = x[place]
    return out
