"""Digits as if they had been read."""

import numpy as np

from experiments.reader.reading import Digit


def one_read(digit, x, y, w=20, h=30, confidence=1.0):
    return Digit((x, y, w, h), digit, confidence, 5, 0.0, np.zeros((28, 28), np.float32))
