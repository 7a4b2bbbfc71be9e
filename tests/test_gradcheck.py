"""The oracle against functions with known derivatives, and check_grad against right and wrong rules.

This file is long because each promise of check_grad has a small test.
"""

import math
import subprocess
import sys

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import Tensor
from tinygrad_lite.errors import DtypeError, GradientError, ShapeError
from tinygrad_lite.fuzz.project import SPECS
from tinygrad_lite.gradcheck import check_grad, directional, lay_out
from tinygrad_lite.gradcheck.layout import LAYOUTS, array_code, layout_of
from tinygrad_lite.ops import activation
from tinygrad_lite.ops.norm import layer_norm

KNOWN = {
    "exp": (math.exp, math.exp),
    "sin": (lambda x: math.sin(50 * x), lambda x: 50 * math.cos(50 * x)),
    "cube": (lambda x: x**3, lambda x: 3 * x * x),
    "inverse": (lambda x: 1 / x, lambda x: -1 / x**2),
    "log": (lambda x: math.log(x) if x > 0 else math.nan, lambda x: 1 / x),
    "sqrt": (lambda x: math.sqrt(x) if x > 0 else math.nan, lambda x: 0.5 / math.sqrt(x)),
    "offset": (lambda x: math.exp(x) + 1e6, math.exp),
    "steep": (lambda x: math.atan(100 * x), lambda x: 100 / (1 + 1e4 * x * x)),
    "near a kink": (lambda x: max(x - 0.5, 0), lambda x: float(x > 0.5)),
    "tiny kink": (lambda x: x * x + 1e-6 * max(x - 0.5, 0), lambda x: 2 * x + 1e-6 * (x > 0.5)),
    "two kinks": (lambda x: math.copysign(max(abs(x) - 1e-3, 0), x), lambda x: float(abs(x) > 1e-3)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_error_estimate_holds(name):
    function, derivative = KNOWN[name]
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.uniform(0.01, 4, 150), 10 ** rng.uniform(-5, 2, 150)])
    wrong, sizes = 0, []
    for x in points:
        slope = directional(lambda t, x=x: function(x + t), scale=min(max(x, 1e-3), 1), magnitude=abs(function(x)))
        assert slope.kind in ("smooth", "kink")
        if slope.kind == "smooth":
            exact = derivative(x)
            wrong += abs(slope.value - exact) > slope.error
            sizes.append(slope.error / max(abs(exact), 1e-3))
    assert wrong == 0
    assert np.median(sizes) < (1e-2 if name == "offset" else 1e-6)


@pytest.mark.parametrize(
    ("function", "kind", "left", "right"),
    [
        (lambda t: max(t, 0), "kink", 0, 1),
        (abs, "kink", -1, 1),
        (lambda t: t * t + 3 * t + abs(t), "kink", 2, 4),
        (lambda t: max(t, 0) + max(-t, 0) * 2 + math.sin(t), "kink", -1, 2),
        (lambda t: 1e-6 * abs(t) + math.cos(t), "kink", -1e-6, 1e-6),
        (lambda t: abs(t - 1e-12), "kink", -1, 1),
    ],
)
def test_kinks_have_two_slopes(function, kind, left, right):
    slope = directional(function, magnitude=1.0)
    assert slope.kind == kind
    assert (slope.left, slope.right) == (pytest.approx(left, rel=1e-3), pytest.approx(right, rel=1e-3))


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda t: float(t > 0), "jump"),
        (math.floor, "jump"),
        (lambda t: math.sqrt(abs(t)), "jump"),
        (lambda t: math.copysign(abs(t) ** (1 / 3), t), "jump"),
        (lambda t: math.sqrt(t) if t >= 0 else math.nan, "edge"),
        (lambda t: math.log(t) if t > 0 else -math.inf, "edge"),
        (lambda t: math.asin(1 + t) if t <= 0 else math.nan, "edge"),
        (lambda t: math.sin(1 / t) * t if t else 0.0, "unresolved"),
    ],
)
def test_jumps_edges_and_chaos_are_not_called_smooth(function, kind):
    slope = directional(function, magnitude=1.0)
    assert slope.kind == kind
    assert not slope.decided


def sine32(x):
    return np.sin(x.astype(np.float32)).astype(np.float64), lambda g: g * np.cos(x)


def matmul(a, b):
    return a @ b, lambda g: (g @ b.T, a.T @ g)


def matmul_off(a, b):
    return a @ b, lambda g: (g @ b.T, a.T @ g * (1 + 1e-6))


def relu(x):
    return np.maximum(x, 0), lambda g: g * (x > 0)


def relu_two(x):
    return np.maximum(x, 0), lambda g: g * ((x > 0) + 2.0 * (x == 0))


def maximum(a, b):
    return np.maximum(a, b), lambda g: (g * (a > b) + g * 0.5 * (a == b), g * (b > a) + g * 0.5 * (a == b))


def maximum_both(a, b):
    return np.maximum(a, b), lambda g: (g * (a >= b), g * (b >= a))


def take(x, index):
    def vjp(g):
        g_x = np.zeros_like(x)
        np.add.at(g_x, index, g)
        return g_x, None

    return x[index], vjp


def two_outputs(x):
    return (np.sin(x), x.sum()), lambda g: g[0] * np.cos(x) + g[1]


RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 3)), RNG.standard_normal((3, 4))
TIES = np.array([0.0, 1.0, 1.0, -2.0])


@pytest.mark.parametrize(
    ("rule", "inputs"),
    [
        (matmul, (A, B)),
        (relu, (TIES,)),
        (maximum, (TIES, TIES.copy())),
        (maximum, (TIES, np.array([0.0, 1.0, 1.0 + 6e-5, -2.0]))),
        (take, (A, np.array([0, 1, 1, -1]))),
        (two_outputs, (A,)),
        (sine32, (A,)),
        ((lambda x: x * x, lambda g, x: 2 * g * x), (A,)),
        (matmul, (lay_out(A, "F"), lay_out(B, "reversed"))),
        (matmul, (np.zeros((0, 3)), B)),
        (relu, (np.array(0.0),)),
        (relu, (2.5,)),
        (matmul, (A.astype(np.float32), B.astype(np.float32))),
    ],
)
def test_right_gradients_pass(rule, inputs):
    assert check_grad(rule, *inputs)


@pytest.mark.parametrize(
    ("rule", "inputs", "match"),
    [
        (matmul_off, (A, B), "b: off by 1e-06 of itself"),
        (relu_two, (TIES,), "kink or tie"),
        (maximum_both, (TIES, TIES.copy()), "each argument gets the full gradient"),
        (lambda x: (x.sum(), lambda g: np.full(x.shape, -g)), (A,), "the sign is wrong"),
        (lambda x: (x.mean(), lambda g: np.full(x.shape, g)), (A,), "number of entries"),
        (lambda x: (x.T, lambda g: g.reshape(x.shape)), (A,), "transpose of the right one"),
        (lambda x: (np.sqrt((x * x).sum()), lambda g: g * x / np.sqrt((x * x).sum())), (0 * A,), "not finite"),
        (lambda x: (2 * x, lambda g: np.full(x.shape, 2.0)), (A,), "cotangent is ignored"),
        (lambda x: (2 * x, lambda g: (2 * g).astype(np.float32)), (A,), "dtype float32"),
        (lambda x: (2 * x, lambda g: (2 * g).sum(0)), (A,), r"shape \(3,\)"),
        (lambda x: (x * 1, lambda g: np.multiply(g, 2, out=g)), (A,), "written into"),
        (lambda x, y: (x + y, lambda g: (h := 1 * g, h)), (A, A), "shares memory"),
        (lambda x, y: (x + y, lambda g: g), (A, A), "1 gradient"),
        (lambda x: (2 * x, lambda g: 2 * np.ravel(g, "K").reshape(x.shape)), (lay_out(A, "F"),), "layout"),
    ],
)
def test_wrong_gradients_fail_and_say_why(rule, inputs, match):
    with pytest.raises(GradientError, match=match):
        check_grad(rule, *inputs)


def test_a_diagnosis_says_no_more_than_was_seen():
    def last_alone(x):
        return np.array([1.0, 3 * x[0]]), lambda g: 2 * g[1:]

    said = str(check_grad(last_alone, np.ones(1), cotangent=np.array([0.0, 1.0]), raise_error=False))
    # and not that the cotangent is ignored: ones in its place differ only where nothing depends on x
    assert "a factor of 1.5 is missing" in said, said

    def nearly(x):
        return x[0] - 0.9 * x[1], lambda g: g * np.array([1 + 9e-8, -0.9 * (1 - 9e-8)])

    said = str(check_grad(nearly, np.ones(2), raise_error=False))
    assert "every entry alone is allowed, the sum is not: small errors that add up" in said, said

    def scaled(x, factors):
        return 3 * x, lambda g: 3 * g * np.array(factors)

    for factors, words in (
        ([0.5], "a factor of 2 is missing"),
        ([1e-9], "1 of 1 entries wrong"),  # no factor that anybody forgot; nor is one entry "all by the same number"
        ([1.0, 1.0, 0.25], "some entries are right and some too small"),
        ([0.5, 0.75, 0.25], "3 of 3 entries wrong"),
    ):
        said = str(check_grad(scaled, np.ones(len(factors)), kwargs={"factors": factors}, raise_error=False))
        assert words in said, said


def test_one_thousandth_in_one_entry_is_seen():
    x, w = RNG.standard_normal((20, 30)), RNG.standard_normal((30, 10))
    for trial in range(20):
        where = RNG.integers(20), RNG.integers(30)

        def off(a, b, where=where):
            def vjp(g):
                g_a = g @ b.T
                g_a[where] *= 1.001
                return g_a, a.T @ g

            return a @ b, vjp

        assert not check_grad(off, x, w, seed=trial, raise_error=False)


def test_composites_at_kinks_are_noted_and_rules_fail():
    def kinked(x):  # is the identity, but relu(x) - relu(-x) with slope 0 at 0 says 0 there
        return np.maximum(x, 0) - np.maximum(-x, 0), lambda g: g * ((x > 0) * 1.0 + (x < 0))

    with pytest.raises(GradientError, match="value"):
        check_grad(kinked, TIES)
    report = check_grad(kinked, TIES, kinks="report")
    assert report
    assert "no subgradient" in report.notes[0]


def test_the_snippet_shows_the_failure_again():
    report = check_grad(maximum_both, lay_out(TIES, "reversed"), TIES.copy(), raise_error=False)
    code = str(report).split("without Hypothesis:\n")[1]
    with pytest.raises(GradientError, match="maximum_both"):
        exec("\n".join(line.strip() for line in code.splitlines()), {})
    assert len(str(report).splitlines()) < 25


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (0, 2), (3,), (2, 3)])
def test_array_code_makes_the_array_again(layout, shape):
    array = lay_out(RNG.standard_normal(shape).astype(np.float32), layout)
    again = eval(array_code(array), {"np": np, "lay_out": lay_out})
    assert again.dtype == array.dtype
    assert layout_of(again) == layout_of(array)
    np.testing.assert_array_equal(again, array)


def test_arguments_are_checked():
    with pytest.raises(ShapeError, match=r"cotangent has shape \[\(2, 2\)\], the output \[\(2, 4\)\]"):
        check_grad(matmul, A, B, cotangent=np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"wrt='c' is none of .*\['a', 'b'\]"):
        check_grad(matmul, A, B, wrt=["c"])
    with pytest.raises(TypeError, match=r"must return \(output, vjp\)"):
        check_grad(lambda x: 2 * x, A)
    assert check_grad(matmul_off, A, B, wrt=["a"])


def test_no_hypothesis_is_needed():
    code = "import sys; import tinygrad_lite.gradcheck; sys.exit('hypothesis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def straight_through(slope):
    return lambda x: (np.round(x), lambda g: slope * g)


def test_a_surrogate_says_whose_gradient_is_meant():
    x = np.array([0.2, 1.7, -3.1])
    with pytest.raises(GradientError):
        check_grad(straight_through(1.0), x)
    assert check_grad(straight_through(1.0), x, surrogate=lambda x: x)
    report = check_grad(straight_through(1.01), x, surrogate=np.positive, raise_error=False)
    assert "a factor of 1.01" in str(report)
    assert "surrogate=" in str(report)
    with pytest.raises(GradientError, match=r"surrogate gives shape \[\(\)\], it itself \[\(3,\)\]"):
        check_grad(straight_through(1.0), x, surrogate=np.sum)


def needing(wrong):
    def rule(a, b, *, needs=(True, True)):
        def vjp(g):
            if wrong == "none":
                return g * b if needs == (True, True) else None, g * a if needs[1] else None
            return g * b if needs[0] else None, (g if wrong == "other" and not needs[0] else g * a) if needs[1] else None

        return a * b, vjp

    return rule


def test_needs_must_not_change_what_is_asked_for():
    a, b = np.array([1.5, 2.0]), np.array([-1.0, 0.5])
    assert check_grad(needing(""), a, b)
    with pytest.raises(GradientError, match=r"with needs=\(True, False\) there is no gradient"):
        check_grad(needing("none"), a, b)
    with pytest.raises(GradientError, match=r"with needs=\(False, True\) the gradient is another"):
        check_grad(needing("other"), a, b)


def test_second_derivatives_by_complex_step_are_checked():
    x = np.array([0.7, -1.3])
    report = check_grad(cube(), x, order=2)
    assert sum(report.kinds.values()) > sum(check_grad(cube(), x).kinds.values())
    assert check_grad(activation.gelu, x, order=2)
    assert check_grad(F.softmax, x, kwargs={"dim": 0}, order=2)
    assert check_grad(lambda a, b: (a @ b, lambda g: (g @ b.T, a.T @ g)), A, B, order=2)

    def conjugated(x):  # right for real numbers, wrong as a function of complex ones
        return x * x, lambda g: 2 * g * np.conj(x)

    with pytest.raises(GradientError, match=r"gradient of .*conjugated(.|\n)*order=2"):
        check_grad(conjugated, x, order=2)
    with pytest.raises(GradientError, match="drops the imaginary part of complex input"):
        check_grad(lambda x: (x * x, lambda g: (2 * g * x).real), x, order=2)
    with pytest.raises(ValueError, match="order must be 1 or 2, got 3"):
        check_grad(cube(), x, order=3)


def test_integers_alone_have_no_gradient():
    with pytest.raises(TypeError, match=r"nothing to differentiate, .*int64.*use astype\(np.float64\)"):
        check_grad(cube(), np.arange(3))


def cube(slope=3.0):
    return lambda x: (x * x * x, lambda g: (g * slope * x * x,))


def test_complex_step_sees_what_no_difference_quotient_can():
    x = np.array([0.7, -1.3])
    wrong = cube(3 * (1 + 1e-9))
    assert check_grad(wrong, x)  # below what the numeric slope is allowed
    with pytest.raises(GradientError, match="slope"):
        check_grad(wrong, x, complex_step=True)
    assert check_grad(cube(), x, complex_step=True)


def test_complex_step_allows_for_terms_that_cancel():
    x, ones = np.random.default_rng(0).standard_normal((3, 4)), np.ones(4)
    assert check_grad(layer_norm, x, ones, 0 * ones, cotangent=x, complex_step=True)  # a gradient of 1e-6 of its terms


@pytest.mark.parametrize("argument", range(3))
def test_complex_step_of_one_argument_alone(argument):
    rng = np.random.default_rng(0)
    given = rng.standard_normal((3, 4)), rng.standard_normal(4), rng.standard_normal(4)

    def wrong(*arrays):
        out, vjp = layer_norm(*arrays)
        return out, lambda g: [grad * (1 + 1e-9 * (i == argument)) for i, grad in enumerate(vjp(g))]

    assert check_grad(layer_norm, *given, wrt=[argument], complex_step=True)
    with pytest.raises(GradientError, match="slope"):
        check_grad(wrong, *given, wrt=[argument], complex_step=True)


def test_complex_step_is_not_asked_where_it_is_not_valid():
    def real_part(x):  # loses the imaginary part without a word
        return x.real**2 + 0j * x, lambda g: (2 * g * x,)

    def size(x):
        return np.abs(x), lambda g: (g * np.sign(x),)

    def refuses(x):
        return np.hypot(x, 1.0), lambda g: (g * x / np.hypot(x, 1.0),)

    for rule in (real_part, size, refuses):
        assert check_grad(lambda x, rule=rule: (np.real(rule(x)[0]) if rule is real_part else rule(x)[0], rule(x)[1]),
                          np.array([0.7, -1.3]), complex_step=True)  # fmt: skip


@pytest.mark.parametrize(
    "rule", [activation.sigmoid, activation.gelu, activation.silu, activation.elu, activation.softplus, activation.tanh]
)
def test_the_projects_own_rules_agree_with_the_complex_step(rule):
    assert check_grad(rule, np.random.default_rng(0).standard_normal((3, 4)), complex_step=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("x", [-103.0, -100.0, -95.0, -744.0, -720.0])
def test_numbers_next_to_nothing_may_differ_from_the_reference_in_their_last_bit(x, dtype):
    silu = next(spec for spec in SPECS if spec.name == "activation.silu")
    assert check_grad(silu.fn, np.array(x, dtype), reference=silu.reference, properties=["forward"], raise_error=False)


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf")])
def test_a_slope_needs_a_distance(scale):
    with pytest.raises(ShapeError, match="directional: scale must be a positive number, got"):
        directional(abs, scale=scale)


def test_a_gradient_of_another_shape_is_called_so_and_not_infinite():
    def product(x, w):
        return x * w, lambda g: (g * w, g * x)

    report = check_grad(product, np.array([2.0, 3.0]), np.array(1.5), raise_error=False)
    assert {failure.name for failure in report.failures} == {"shape"}
    assert "gradient has shape (2,), its argument ()" in str(report)
    assert not check_grad(product, np.array([2.0, 3.0]), np.array(1.5), properties=["value"], raise_error=False)


def test_a_surrogate_that_is_no_function_is_refused():
    with pytest.raises(DtypeError, match="check_grad: surrogate must be a function, got 5"):
        check_grad(lambda x: (x, lambda g: g), np.ones(2), surrogate=5)


def test_a_tensor_is_no_array_to_check_at():
    with pytest.raises(DtypeError, match=r"no argument .* is a float array \(got \['Tensor'\]\).*of a Tensor its \.data"):
        check_grad(lambda x: x * x, Tensor([1.0]))
