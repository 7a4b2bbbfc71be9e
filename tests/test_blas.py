"""A product in pieces is the product, and is cut only where OpenBLAS is quicker at pieces."""

import itertools

import numpy as np
import pytest

from tinygrad_lite import _blas

LAYOUTS = ("rows", "columns", "rows of a wider one")


@pytest.fixture
def small_kernels(monkeypatch):
    """As with AVX-512, for products of a few numbers."""
    monkeypatch.setattr(_blas, "has_small_kernels", lambda: True)
    monkeypatch.setattr(_blas, "_piece", _blas._piece.__wrapped__)  # it remembers what it found with the true sizes
    for name, value in {"SMALL": 60, "DOTS": 12, "SUMMANDS": 3, "VECTOR": 2, "UNROLLED": 2}.items():
        monkeypatch.setattr(_blas, name, value)


@pytest.fixture
def calls(monkeypatch):
    """Shapes of the factors that np.matmul gets."""
    shapes, matmul = [], np.matmul

    def spy(a, b, **out):
        shapes.append((a.shape, b.shape))
        return matmul(a, b, **out)

    monkeypatch.setattr(np, "matmul", spy)
    return shapes


def laid_out(array, layout):
    if layout == "columns":
        return np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "rows":
        return array
    wider = np.zeros((*array.shape[:-1], array.shape[-1] + 3), array.dtype)
    wider[..., :-3] = array
    return wider[..., :-3]


@pytest.mark.parametrize(("first", "second", "result"), list(itertools.product(LAYOUTS, repeat=3)))
@pytest.mark.parametrize(
    ("n", "k", "m"),
    [(2, 5, 13), (2, 5, 12), (13, 5, 2), (12, 5, 2), (20, 7, 20), (1, 9, 30), (30, 9, 1), (3, 0, 50), (9, 40, 9)],
)
def test_the_pieces_make_up_the_product(small_kernels, first, second, result, n, k, m):
    rng = np.random.default_rng(0)
    for lead_a, lead_b in (((), ()), ((2, 1), (2, 3)), ((2, 3), (2, 3)), ((0, 3), (0, 3))):
        a, b = rng.normal(size=(*lead_a, n, k)), rng.normal(size=(*lead_b, k, m))
        out = laid_out(np.full((*np.broadcast_shapes(lead_a, lead_b), n, m), np.nan), result)
        _blas.product(laid_out(a, first), laid_out(b, second), out)
        np.testing.assert_allclose(out, a @ b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("n", "k", "m", "first", "second", "pieces"),
    [
        (50, 500, 800, "rows", "rows", [((1, 50, 500), (25, 500, 32))]),  # conv2 forward: 800 thousand multiply-adds each
        (50, 500, 80, "rows", "rows", [((1, 50, 500), (5, 500, 16))]),  # of ten images: 32 would leave a rest
        (100, 250, 800, "columns", "rows", [((1, 100, 250), (25, 250, 32))]),  # back to the image
        (500, 800, 50, "rows", "columns", [((20, 24, 800), (1, 800, 50)), ((20, 800), (800, 50))]),  # its weights' gradient
        (500, 80, 50, "rows", "columns", [((500, 80), (80, 50))]),  # too few summands
        (10, 500, 500, "rows", "columns", [((1, 10, 500), (4, 500, 112)), ((10, 500), (500, 52))]),  # a wide one
        (10, 100, 500, "columns", "columns", [((10, 100), (100, 500))]),  # of no dot products, and small as it is
        (500, 800, 100, "rows", "rows", [((41, 12, 800), (1, 800, 100)), ((8, 800), (800, 100))]),  # fc1
        (20, 25, 1200, "rows", "rows", [((20, 25), (25, 1200))]),  # small as it is
        (500, 800, 800, "rows", "rows", [((500, 800), (800, 800))]),  # no short side
        (50, 500, 8000, "rows", "rows", [((50, 500), (500, 8000))]),  # the rows of a narrow piece would lie too far apart
        (20, 25, 8000, "rows", "rows", [((1, 20, 25), (4, 25, 2000))]),  # not of a wide one
    ],
)
def test_pieces_are_small_to_openblas(monkeypatch, calls, n, k, m, first, second, pieces):
    a, b = laid_out(np.zeros((n, k), np.float32), first), laid_out(np.zeros((k, m), np.float32), second)
    monkeypatch.setattr(_blas, "has_small_kernels", lambda: True)
    _blas.product(a, b, np.empty((n, m), np.float32))
    assert calls == pieces
    calls.clear()
    monkeypatch.setattr(_blas, "has_small_kernels", lambda: False)
    _blas.product(a, b, np.empty((n, m), np.float32))
    assert calls == [((n, k), (k, m))]


@pytest.mark.parametrize(("first", "second"), [("f", "F"), ("F", "f"), ("F", "F"), ("i", "i"), ("f", "d")])
def test_other_numbers_than_floats_of_one_precision_are_left_whole(monkeypatch, calls, first, second):
    monkeypatch.setattr(_blas, "has_small_kernels", lambda: True)
    _blas.product(np.ones((50, 500), first), np.ones((500, 800), second), np.empty((50, 800), np.result_type(first, second)))
    assert calls == [((50, 500), (500, 800))]
