"""Where a check is hard: very large and very small inputs, sums that cancel, rounding inside; where nothing can be decided."""

import numpy as np
import pytest
from scipy import special

import tinygrad_lite.functional as F
from tinygrad_lite import GradientError, ShapeError, TapeError, Tensor, nn
from tinygrad_lite.fuzz import fuzz_grad
from tinygrad_lite.gradcheck import Target, check_grad
from tinygrad_lite.gradcheck.check import Point, Verdict
from tinygrad_lite.hessian import hessian, hvp

FUNCTIONS = {
    "3 x": (lambda x: 3 * x, lambda x: np.full_like(x, 3)),
    "1 / x": (lambda x: 1 / x, lambda x: -1 / x**2),
    "log": (np.log, lambda x: 1 / x),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "square": (np.square, lambda x: 2 * x),
}


def rule(function, slope, factor=1.0):
    return lambda x: (function(x), lambda g: (factor * g * slope(x),))


@pytest.mark.parametrize(("name", "largest"), [("3 x", 1e15), ("1 / x", 1e4), ("log", 1e10), ("sqrt", 1e15), ("square", 1e15)])
def test_inputs_of_any_size(name, largest):
    for size in (1e-9, 1e-5, 1e-3, 1.0, 1e3, 1e6, 1e8, 1e10, 1e11, 1e15):
        if size > largest:
            break
        x = np.array([1.3, 0.7]) * size
        report = check_grad(rule(*FUNCTIONS[name]), x)
        assert report, (size, report)
        assert not check_grad(rule(*FUNCTIONS[name], 3.0), x, raise_error=False), size
        with pytest.raises(GradientError, match="slope"):
            check_grad(rule(*FUNCTIONS[name], 1.02), x)


@pytest.mark.parametrize(("second", "kept"), [("unresolved", "smooth"), ("smooth", "smooth"), ("kink", "kink")])
def test_a_second_look_over_other_distances_counts_if_it_decides(monkeypatch, second, kept):
    point = Point(Target(rule(*FUNCTIONS["square"]), (np.array([1e6]),)), [0])
    u, v = [np.ones(1)], [np.ones(1)]
    slope, stretches = point.slope(u, v, point.gradients(v)), []

    def compare(*_):
        stretches.append(point.stretch)
        return Verdict(slope, 1.0, 1.0, 0.5, "faint" if len(stretches) == 1 else second)

    monkeypatch.setattr(point, "_compare", compare)
    assert point.compare(u, v, []).kind == kept
    assert stretches == [1.0, 1e6]
    assert point.stretch == 1.0


def test_a_slope_in_the_shadow_of_a_large_constant_is_undecided():
    def far_up(x):
        return np.asarray(1e12 + (x * x).sum()), lambda g: (6 * g * x,)

    report = check_grad(far_up, np.array([0.7, -1.3]))
    assert not report
    assert not report.failures
    assert "nothing could be decided about the gradient: in none of the directions (10 unresolved)" in str(report)


def test_where_nothing_can_be_decided_is_not_right():
    def outside(x):
        return np.log(x), lambda g: (5 * g,)

    report = check_grad(outside, np.array([-1.0]))
    assert not report
    assert "the function is not finite here" in str(report)
    square = rule(*FUNCTIONS["square"], 7.0)
    assert not check_grad(square, np.ones(2), cotangent=np.zeros(2), properties=["value"])
    assert not check_grad(square, np.ones(2), probes=0, full=False, properties=["value"])
    assert check_grad(square, np.ones(2), properties=["shape"])  # no slope was asked for
    assert check_grad(square, np.ones((0, 2)))  # nor is there any
    assert not check_grad(F.sum, np.ones((0, 2))).kinds


def test_what_names_nothing_to_check_is_refused():
    for options, words in (({"wrt": []}, "wrt must name"), ({"properties": []}, "properties must name"),
                           ({"probes": -1}, "probes must be at least 0"), ({"order": 3}, "order must be 1 or 2")):  # fmt: skip
        with pytest.raises(ShapeError, match=words):
            check_grad(rule(*FUNCTIONS["square"]), np.ones(2), **options)


def test_sums_that_cancel_do_not_depend_on_the_memory_layout():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.standard_normal((5, 3))
        x -= x.mean()
        for function, reference in ((F.sum, lambda x: x.T.copy().sum()), (F.mean, np.mean)):
            assert check_grad(function, x, reference=reference)


def test_an_output_that_does_depend_on_the_layout_is_still_seen():
    def second_in_memory(x):
        return x.ravel("K")[1:2] * 1.0, lambda g: (np.pad(g, (1, x.size - 2)).reshape(x.shape),)

    report = check_grad(second_in_memory, np.arange(6.0).reshape(2, 3), raise_error=False)
    assert "layout" in {failure.name for failure in report.failures}


@pytest.mark.parametrize("seed", range(6))
def test_rounding_inside_a_function_is_no_wrong_gradient(seed):
    def entropy(x):
        p = F.softmax(x, -1)
        return -(p * F.log(p)).sum()

    assert check_grad(entropy, np.array([1, 25.1, 1]), seed=seed)  # log(1 - 7e-11)


def test_rounding_inside_is_no_wrong_gradient_of_longer_steps_either():
    def divergence(a, b):  # smallest where both are equal, so that its gradient is 0 there
        log_p, log_q = (x - special.logsumexp(x, -1, keepdims=True) for x in (a, b))
        p, q = np.exp(log_p), np.exp(log_q)
        kl = (p * (log_p - log_q)).sum(-1, keepdims=True)
        return kl[..., 0], lambda g: (g[..., None] * p * (log_p - log_q - kl), g[..., None] * (q - p))

    x = np.array([[-5.808, 14.344, -15.8], [-13.16, -4.6, 20.784]])
    assert check_grad(divergence, x, x.copy(), cotangent=np.array([7.25, 7.25]), seed=215)


def test_a_flat_stair_of_float32_is_no_slope():
    def sigmoid(factor):
        def rule(x):
            decay = np.exp(-np.abs(x))
            return (1 / (1 + np.exp(-x.astype(np.float32)))).astype(x.dtype), lambda g: factor * g * decay / (1 + decay) ** 2

        return rule

    x = np.array([-2.952, -1.112, 14.472])
    assert not check_grad(sigmoid(1), x, cotangent=np.array([0.0, 0.0, 1.0]), seed=2, raise_error=False).failures
    with pytest.raises(GradientError, match="slope"):  # the next stair of such a slope would be near
        check_grad(sigmoid(1e3), np.array([14.472]))


def test_what_saturates_is_decided_at_large_inputs_too():
    tanh = rule(np.tanh, lambda x: 1 - np.tanh(x) ** 2)
    for x in (18.0, 100.0, 1e6):
        report = check_grad(tanh, np.array([x]))
        assert report.decided == 1, (x, report)


def test_steps_that_are_no_rounding_are_no_slope():
    x = np.random.default_rng(0).standard_normal(4)
    with pytest.raises(GradientError, match="slope"):  # the slope of the coarse steps, of none of the fine ones
        check_grad(lambda x: (np.round(x, 5), lambda g: (g,)), x)


def test_a_small_slope_that_is_wrong_is_still_seen():
    tail = np.array([-20.0])
    with pytest.raises(GradientError, match="slope"):  # 2e-9, as small as what rounding inside may hide
        check_grad(lambda x: (np.exp(x), lambda g: (1.1 * g * np.exp(x),)), tail)


def test_numbers_in_between_that_are_larger_than_any_seen_are_no_lack_of_linearity():
    for temperature in (0.00631, 0.01, 0.03):
        assert check_grad(lambda x, t: F.softmax(x / t, -1), np.ones(3), np.array(temperature))
    x, first = np.array([1.0, -1.0, 0.631]), np.array([1.0, 0.0, 0.0])
    assert check_grad(lambda x, t: F.softmax(x / t, -1), x, np.array(0.01), cotangent=first)

    def sign_of_the_cotangent(x):
        return x * 1.0, lambda g: (np.abs(g) * np.sign(g.sum()),)

    def rounded(x):
        return x * 1.0, lambda g: (g.astype(np.float32).astype(np.float64),)

    report = check_grad(rounded, np.ones(3), raise_error=False)  # by less than a value may be off
    assert [failure.name for failure in report.failures] == ["linear"]
    report = check_grad(sign_of_the_cotangent, np.ones(3), cotangent=np.array([1.0, 2.0, 0.5]), seed=3, raise_error=False)
    assert "linear" in {failure.name for failure in report.failures}


def test_a_saturated_attention_loses_digits_and_is_linear():
    def attention(q, k, v):
        p = np.exp(k @ q - (k @ q).max())
        p /= p.sum()

        def vjp(g):
            scores = p * (v @ g - p @ (v @ g))  # 1e-7, with the rounding of a 100, and 1000 times that goes to q
            return scores @ k, np.outer(scores, q), np.outer(p, g)

        return p @ v, vjp

    rng = np.random.default_rng(0)
    for seed in range(20):
        k, v = np.array([[1000.0, 600.0], [-600.0, 650.0]]), 100 * rng.standard_normal((2, 2))
        q = np.array([0.0, 0.4])  # scores 240 and 260
        assert check_grad(attention, q, k, v, seed=seed), seed

    def rounded(x):
        return x * x, lambda g: (2 * x * g.astype(np.float32),)

    report = check_grad(rounded, np.full(3, 1000.0), raise_error=False)  # as little, but with small numbers too
    assert [failure.name for failure in report.failures] == ["linear"]

    def large_ones_are_clipped(x):
        return x * 2, lambda g: (np.where(x > 100, np.maximum(2 * g, -3), 2 * g),)

    report = check_grad(large_ones_are_clipped, np.full(3, 1000.0), cotangent=np.full(3, -2.0), raise_error=False)
    assert "linear" in {failure.name for failure in report.failures}


def test_gradients_of_others_are_left_alone():
    model, x = nn.Linear(3, 1).to(np.float64), np.ones((2, 3))
    hvp(lambda z: (model(z) ** 2).sum(), x, x)
    hessian(lambda z: (model(z) ** 2).sum(), x)
    check_grad(lambda z: F.tanh(model(z)), x)
    check_grad(lambda z: (F.tanh(model(z)), z * 2), x, order=2)
    assert model.weight.grad is None
    kept, asked = Tensor([1.0], requires_grad=True), Tensor([2.0], requires_grad=True)
    (kept * asked).backward(inputs=asked)
    assert kept.grad is None
    assert asked.grad == [1.0]
    (kept * asked).backward(inputs=[kept, asked])
    assert (kept.grad, asked.grad) == ([2.0], [2.0])
    for wrong in ([kept * 2], [Tensor([1.0])], [kept, kept], [1]):
        with pytest.raises(TapeError, match="inputs must be leaves that require a gradient"):
            (kept * asked).backward(inputs=wrong)


def test_a_module_takes_the_inputs_dtype():
    model = nn.Linear(3, 2)
    assert check_grad(model, np.random.default_rng(0).standard_normal((4, 3)))
    assert model.weight.dtype == np.float32


def test_a_function_that_refuses_numbers_near_by_is_judged_by_those_it_takes():
    def root(x, factor=1.0):
        if (x < 0).any():
            raise ValueError("no root of a negative number")
        return np.sqrt(x), lambda g: (factor * g / (2 * np.sqrt(x)),)

    x = np.array([1.0, 1e-3])
    assert check_grad(root, x, properties=["value"])
    report = check_grad(root, x, kwargs={"factor": 1.5}, properties=["value"], raise_error=False)
    assert {failure.name for failure in report.failures} == {"value"}

    def total(x):
        if (x > 1).any():
            raise ValueError("above 1")
        return np.asarray(x.sum()), lambda g: (np.full_like(x, g),)

    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.standard_normal((5, 3))
        x -= x.mean()
        assert check_grad(total, x / x.max(), properties=["layout"])

    def of_whole_numbers(x):
        if (x % 1).any():
            raise ValueError("whole numbers only")
        return total(x)

    # what refuses all numbers near by may still be wrong
    report = check_grad(
        of_whole_numbers, np.ones(3), properties=["forward"], reference=lambda x: 2 * x.sum(), raise_error=False
    )
    assert {failure.name for failure in report.failures} == {"forward"}


@pytest.mark.parametrize("seed", [0, 1])
def test_steps_are_right_where_they_are_flat_and_jumps_do_not_count_against_them(seed):
    def floor(x):
        return np.floor(x), lambda g: np.zeros_like(g)

    report = fuzz_grad(floor, seed=seed, raise_error=False)
    assert report
    assert report.kinds["jump"] > 20
    assert not fuzz_grad(lambda x: (np.floor(x), lambda g: g), seed=seed, raise_error=False)


def test_truth_values_have_the_gradient_0():
    x = np.random.default_rng(0).normal(size=5)
    assert check_grad(lambda a: (a > 0, lambda g: 0.0 * g), x)
    assert not check_grad(lambda a: (a > 0, lambda g: 1.0 * g), x, raise_error=False)


def test_outside_of_its_domain_the_way_back_may_refuse():
    def slogdet(x):
        return np.linalg.slogdet(x)[1], lambda g: g * np.linalg.inv(x).T

    assert not check_grad(slogdet, np.zeros((2, 2)), raise_error=False).failures
    assert check_grad(slogdet, np.array([[2.0, 1.0], [0.5, 3.0]]))
    assert check_grad(lambda x: (np.sqrt(x), lambda g: g / np.zeros((2, 3))), np.ones(4), raise_error=False).failures
