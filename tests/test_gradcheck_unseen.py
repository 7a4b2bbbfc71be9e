"""What rules of other people's have shown of the checker: errors that it did not see, and alarms where all was right."""

import numpy as np
import pytest
from scipy import special
from scipy.linalg import expm

from tinygrad_lite import DtypeError
from tinygrad_lite.fuzz import fuzz_grad, tensors
from tinygrad_lite.gradcheck import check_grad


def wrong(*args, **options):
    """Whether the check fails; what it says of it."""
    report = check_grad(*args, raise_error=False, **options)
    return "" if report else str(report)


def unit(x, missing=True):
    n = np.sqrt((x * x).sum(-1, keepdims=True))
    y = x / n
    return y, lambda g: (g - y * (g * y).sum(-1, keepdims=True)) / (1 if missing else n)


@pytest.mark.parametrize("seed", range(5))
def test_the_cotangent_is_not_what_users_draw_their_input_with(seed):
    x = np.random.default_rng(seed).standard_normal((3, 4))  # as a cotangent it would give the gradient 0
    assert wrong(unit, x, seed=seed)
    assert not wrong(lambda x: unit(x, missing=False), x, seed=seed)


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e-8, 1e-10])
def test_arguments_of_very_different_size_are_at_no_kink(size):
    def force(a, r, factor=-2.0):
        return a / r**2, lambda g: (g / r**2, g * factor * a / r**3)

    rng = np.random.default_rng(5)
    a, r = size * rng.standard_normal(3), rng.uniform(1, 2, 3)
    assert not wrong(force, a, r)
    for factor in (0.0, -1.0, -2.2, 2.0):
        assert wrong(force, a, r, kwargs={"factor": factor}), factor


@pytest.mark.parametrize("tiny", [5e-324, 1e-310, 1e-300])
def test_numbers_next_to_nothing_have_neighbours_too(tiny):
    def size(x, factor=3.0):
        return np.abs(x), lambda g: factor * g * np.sign(x)

    assert "the gradient is not the slope" in wrong(size, np.array([tiny, 1.0]))
    assert not wrong(size, np.array([tiny, 1.0]), kwargs={"factor": 1.0})


def margin(x, sign=1):
    """Largest less the second largest; of equal ones as a stable sort puts them."""
    order = np.argsort(-x, kind="stable")

    def vjp(g):
        g_x = np.zeros_like(x)
        g_x[order[0]] = g
        g_x[order[1]] = -sign * g
        return g_x

    return x[order[0]] - x[order[1]], vjp


def inner_mean(x, last=-1):
    """The mean of all but the smallest and the largest."""
    order = np.argsort(x, kind="stable")

    def vjp(g):
        g_x = np.zeros_like(x)
        g_x[order[1:last]] = g / (len(x) - 2)
        return g_x

    return x[order[1:-1]].mean(), vjp


@pytest.mark.parametrize("n", [3, 8, 12])
@pytest.mark.parametrize(("function", "error"), [(margin, {"sign": -1}), (inner_mean, {"last": None})])
def test_of_equal_elements_any_order_is_right(function, error, n):
    assert not any(wrong(function, np.zeros(n), seed=seed) for seed in range(12))
    assert wrong(function, np.zeros(n), kwargs=error)


def smallest(x, factor=1.0):
    """The smallest number clipped to 0..1: only where all of them are above 0 is there a slope."""
    clipped, first = np.clip(x, 0, 1), np.zeros_like(x)
    first[clipped.argmin()] = factor
    return clipped.min(), lambda g: g * first * ((x >= 0) & (x <= 1))


def largest(x, factor=1.0):
    """The largest number, or 0: only where all of them are below 0 is there a slope, of which at 0 the half is taken."""
    at, first = x.max(), np.zeros_like(x)
    first[x.argmax()] = factor
    return min(at, 0.0), lambda g: g * first * (0.5 if at == 0 else at < 0)


@pytest.mark.parametrize(("function", "factor"), [(smallest, 1.2), (largest, 2.2)])
def test_a_slope_that_is_only_where_many_inputs_go_one_way_is_seen(function, factor):
    assert not any(wrong(function, np.zeros(n), seed=n) for n in (3, 6, 12))
    assert wrong(function, np.zeros(6), kwargs={"factor": factor})


def test_a_way_back_that_solves_or_iterates_is_linear_but_for_its_last_digits():
    def matrix_exponential(a):  # the block [a', g; 0, a'] has the gradient in its corner
        n = len(a)

        def vjp(g):
            block = np.block([[a.T, g], [np.zeros((n, n)), a.T]])
            return expm(block)[:n, n:].astype(a.dtype)

        return expm(a), vjp

    fuzz_grad(matrix_exponential, tensors((3, 3), low=-3, high=3), max_examples=30, seed=0)

    def squashed(x, scale):
        return np.sin(x), lambda g: np.tanh(scale * g) / scale * np.cos(x)

    assert "linear" in wrong(squashed, np.ones(3), kwargs={"scale": 1e-3})


def test_a_workspace_that_the_next_call_overwrites_is_seen():
    space = np.empty(3)

    def silu(x, own=False):
        s = np.empty_like(x) if own else space
        s[...] = special.expit(x)
        return x * s, lambda g: g * (s + x * s * (1 - s))

    x = np.array([0.5, -1.0, 2.0])
    assert "it keeps state" in wrong(silu, x)
    assert not wrong(silu, x, kwargs={"own": True})


def test_a_complex_output_is_refused():
    def turned(x):
        return 1j * x * x, lambda g: 0 * x

    with pytest.raises(DtypeError, match=r"turned: its output is complex, and only real ones can be checked; take \.real"):
        check_grad(turned, np.ones(3))


@pytest.mark.parametrize(("forward", "what"), [
    (lambda x: (x**2, {"x": x}), "output 1 is a dict"),
    (lambda x: "a", "output 0 is a str"),
    (lambda x: [np.array([x, None], object)], "output 0 is an array of dtype object"),
])  # fmt: skip
def test_an_output_that_is_no_array_of_numbers_is_refused(forward, what):
    def backward(g, x):
        return 2 * g * x

    words = f"must return arrays of numbers, but {what}; what only the backward pass needs stays inside"
    with pytest.raises(DtypeError, match=words):
        check_grad((forward, backward), np.ones(2))
    with pytest.raises(DtypeError, match=words):
        fuzz_grad((forward, backward), seed=0)  # whose inputs are inferred


def test_at_0_the_gradients_of_lengths_may_be_those_of_any_direction():
    matrices = np.random.default_rng(0).standard_normal((2, 6, 6))

    def lengths(x, factor=1.0):  # at 0 as if the one had come along the first axis, and the other gone
        y = matrices @ x
        n = np.sqrt((y * y).sum(-1))
        first = matrices[:, :, 0] / np.sqrt((matrices[:, :, 0] ** 2).sum(-1, keepdims=True))
        unit = y / n[:, None] if n.all() else factor * first * [[1], [-1]]
        return n, lambda g: np.einsum("k,ki,kij->j", g, unit, matrices)

    assert not any(wrong(lengths, np.zeros(6), seed=seed) for seed in range(5))
    assert wrong(lengths, np.zeros(6), kwargs={"factor": 1.1})


def test_rounding_at_which_no_two_small_steps_agree_is_no_slope_of_longer_steps_either():
    def divergence(a, b, factor=1.0):  # of softmaxes; where they are equal it is least, and where they are nearly 1 it rounds
        log_p, log_q = (x - special.logsumexp(x, -1, keepdims=True) for x in (a, b))
        p, q = np.exp(log_p), np.exp(log_q)
        kl = (p * (log_p - log_q)).sum(-1, keepdims=True)
        return kl[..., 0], lambda g: (g[..., None] * p * (log_p - log_q - kl), factor * g[..., None] * (q - p))

    a = np.array([[-5.808, 14.344, -15.8], [-13.16, -4.6, 20.784]])
    assert not any(wrong(divergence, a, a.copy(), cotangent=np.array([4.25, 4.25]), seed=seed) for seed in range(8))
    assert wrong(divergence, a, a[:, ::-1].copy(), kwargs={"factor": 1.001})
