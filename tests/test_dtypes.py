"""Integers beside floats: results are as wide and as exact as the floats are."""

import numpy as np

import tinygrad_lite.functional as F
from tinygrad_lite import Tensor


def test_quotients_of_integers_beside_wider_floats_keep_their_digits():
    large = np.array([16777217])
    quotient = Tensor(large) / Tensor([1.0], dtype=np.float64)
    assert (quotient.dtype, quotient.item()) == (np.float64, 16777217)
    assert (np.array([16777217.0]) / Tensor(np.array([1]))).item() == 16777217
    assert F.mse_loss(large, np.array([16777216.0])).item() == 1
    assert (Tensor(np.array([1])) / Tensor(np.float16(2.0))).dtype == np.float16
    assert (Tensor(np.array([1])) / Tensor(np.array([2]))).dtype == np.float32
    assert F.mse_loss(np.array([1]), np.array([3])).dtype == np.float32
    assert F.linear(np.zeros((2, 3, 0)), np.zeros((4, 0)), np.ones(4)).tolist() == [[[1.0] * 4] * 3] * 2
