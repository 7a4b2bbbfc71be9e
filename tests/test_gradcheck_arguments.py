"""What a function may be given: nested arguments, the same array twice, generators, parameters; what may come back.

This file is long because it has a function of its own for each of them.
"""

import os
import subprocess
import sys
import warnings
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import strategies as st

from tinygrad_lite import DtypeError, ShapeError, Tensor, nn, no_grad
from tinygrad_lite.fuzz import OpSpec, fuzz_grad, grad_property, grad_tests, replay, tensors
from tinygrad_lite.gradcheck import check_grad
from tinygrad_lite.gradcheck.nested import flattened, places, rebuilt

State = namedtuple("State", "h c")
X, Y = np.array([1.0, -2.0]), np.array([0.5, 3.0])


def wrong(*args, properties="all", **options):
    """The worst failure of a check, and the report."""
    report = check_grad(*args, raise_error=False, properties=properties, **options)
    return (report.worst.name if report.failures else None), str(report)


def test_nested_arguments_are_gone_through_in_one_order():
    value = {"b": [X, 2], "a": State(Y, (X,)), 3: "text"}
    assert [leaf is x for leaf, x in zip(flattened(value), ("text", Y, X, X, 2), strict=True)] == [True] * 5
    assert places(value) == ["[3]", "['a'][0]", "['a'][1][0]", "['b'][0]", "['b'][1]"]
    doubled = rebuilt(value, lambda leaf: leaf * 2)
    assert list(doubled) == ["b", "a", 3]
    assert isinstance(doubled["a"], State)
    assert (doubled["b"][1], doubled[3]) == (4, "texttext")
    np.testing.assert_array_equal(doubled["a"].h, 2 * Y)


def scaled(x, p):
    return x * p["w"] + p["b"], lambda g: (g * p["w"], {"b": g, "w": g * x})


def scaled_wrongly(x, p):
    return x * p["w"] + p["b"], lambda g: (g * p["w"], {"b": g, "w": -5 * g * x})


def lstm_like(x, state):
    return x * state.h + state.c, lambda g: (g * state.h, State(g * x, g))


def joined(xs, axis):
    ends = np.cumsum([x.shape[axis] for x in xs])[:-1]
    return np.concatenate(xs, axis), lambda g: (list(np.split(g, ends, axis)), None)


def test_arrays_in_dicts_and_named_tuples_are_differentiated():
    p = {"w": X, "b": Y}
    assert check_grad(scaled, X, p)
    name, words = wrong(scaled_wrongly, X, p)
    assert name == "value"
    assert "entry       p['w'][" in words
    assert check_grad(lstm_like, X, State(X, Y))
    assert fuzz_grad(lstm_like, tensors((2,)).map(lambda a: (a, State(a + 1, a - 1))), seed=0, max_examples=20)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_list_of_gradients_beside_none_for_what_is_static(count):
    assert check_grad(joined, [X, Y, X + 1][:count], 0)


def same_or_not(a, b):
    return a * b, lambda g: (2 * g * b if a is b else g * b, g * a)


def test_an_array_that_comes_twice_is_one_still(tmp_path):
    assert check_grad(same_or_not, X, Y)
    report = fuzz_grad(same_or_not, tensors((2,)).map(lambda a: (a, a)), seed=0, raise_error=False)
    assert report.failure.worst.name == "value"
    text = str(check_grad(same_or_not, X, X, raise_error=False, seed=0))
    assert "input       a = " in text
    assert "input       b = " in text
    assert "check_grad(same_or_not, arg0, arg0, " in text
    lines = text.partition("without Hypothesis:\n")[2].splitlines()
    (tmp_path / "again.py").write_text("\n".join(line.strip() for line in lines if line.startswith("      ")))
    assert replay(tmp_path / "again.py").worst.name == "value"


def dropped(x, rng):
    kept = rng.random(x.shape) < 0.5
    return x * kept, lambda g: (g * kept, None)


@pytest.mark.parametrize("rng", [np.random.default_rng(0), np.random.RandomState(0)])
def test_a_generator_given_by_place_starts_from_the_same_state_each_time(rng):
    assert check_grad(dropped, X, rng)


def test_lists_and_dicts_among_the_keywords_are_copied_for_each_call_and_within_tuples_too():
    def counting(x, seen):
        (calls,) = seen.values() if isinstance(seen, dict) else seen
        calls.append(1)
        return x * len(calls), lambda g: g

    for seen in ([[]], {"calls": []}, ([],)):
        assert check_grad(counting, X, kwargs={"seen": seen})


def test_what_a_function_says_about_numbers_is_silenced_and_what_others_say_is_not():
    def strict(x):
        np.seterr(all="raise")  # is not left to the check's own arithmetic
        warnings.warn("from inside", UserWarning, stacklevel=1)
        return x * 1e-3, lambda g: g * 1e-3

    before = np.geterr()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for _ in range(2):
            assert check_grad(strict, np.array([1e-300, 1.0, 1e300]))
            warnings.warn("from outside", UserWarning, stacklevel=1)
    assert [str(one.message) for one in heard] == ["from outside"] * 2
    assert np.geterr() == before


def test_what_is_not_finite_in_an_argument_may_be_left_out_by_the_function():
    def sum_of_finite(x, factor=1.0):
        known = np.isfinite(x)
        return np.where(known, x, 0).sum() ** 2, lambda g: factor * g * known * 2 * np.where(known, x, 0).sum()

    for gap in (np.nan, np.inf, -np.inf):
        x = np.array([gap, 2.0, -0.5])
        assert check_grad(sum_of_finite, x)
        assert wrong(sum_of_finite, x, kwargs={"factor": 1.1})[0] == "value"


def partly_single(x, factor=3.0):
    return (x * 2.0, (x * 3.0).astype(np.float32)), lambda a, b: 2 * a + factor * b.astype(np.float64)


def test_one_of_several_outputs_may_be_of_float32():
    assert fuzz_grad(partly_single, tensors((2,)), seed=3, properties=["value"])
    assert "kink" not in check_grad(partly_single, X).kinds
    assert wrong(partly_single, X, kwargs={"factor": 4.0})[0] == "value"


def test_outputs_of_which_none_or_one_depends_on_the_arguments():
    check_grad(lambda x: (Tensor(np.ones(3)), Tensor(np.zeros(2))), X, backend="tensor")
    assert check_grad(lambda x: (Tensor(np.ones(3)), x * 2.0), X)
    with pytest.raises(DtypeError, match="must return one, or a tuple of them, got dict"):
        check_grad(lambda x: {"out": x}, X, backend="tensor")


def test_a_keyword_called_needs_may_be_something_else():
    def clipped(x, needs=True):
        return x * 2, lambda g: g * 2

    assert check_grad(clipped, X)


def refusing_single(x):
    return x * x, lambda g: g * 2 * x if x.dtype == np.float64 else g / np.zeros(()).astype(int)[()].nothing


def wrong_in_half(x):
    return x * x, lambda g: g * 2 * x * (5 if x.dtype == np.float16 else 1)


def test_a_backward_pass_that_refuses_what_the_forward_pass_takes_is_wrong():
    name, words = wrong(refusing_single, X)
    assert name == "precision"
    assert "the forward pass takes float32, and the backward pass raises AttributeError" in words

    def of_double_only(x):
        if x.dtype != np.float64:
            raise TypeError("float64 only")
        return x * x, lambda g: g * 2 * x

    assert check_grad(of_double_only, X)


def test_of_float16_arguments_the_gradient_is_compared_in_float16():
    report = fuzz_grad(wrong_in_half, tensors(dtype=np.float16, low=-10, high=10), seed=0, raise_error=False)
    assert "the float16 gradient is not that of float64" in str(report)
    right = [lambda x: (x * x, lambda g: g * 2 * x), lambda x: (np.exp(x), lambda g: g * np.exp(x))]
    for rule in right:
        assert fuzz_grad(rule, tensors(dtype=np.float16, low=-10, high=10), seed=0)


def test_a_gradient_that_the_next_backward_pass_overwrites_is_wrong():
    def into_one_buffer(x):
        buffer = np.empty_like(x)
        return x * x, lambda g: np.multiply(g, 2 * x, out=buffer)

    name, words = wrong(into_one_buffer, X)
    assert name == "alias"
    assert "overwritten when the backward pass runs again" in words


def test_an_output_that_the_backward_pass_overwrites_is_wrong():
    def sigmoid(x):
        y = 1 / (1 + np.exp(-x))

        def vjp(g):
            slope = g * y * (1 - y)
            y[...] = 0
            return slope

        return y, vjp

    name, words = wrong(sigmoid, X, properties=["untouched"])
    assert name == "untouched"
    assert "by the backward pass, the output of shape (2,) was written into" in words


def off_by_little(x):
    return np.exp(x), lambda g: g * np.exp(x) * (1 + 1e-9)


def keeps_state(x, calls=[]):  # noqa: B006 - on purpose
    calls.append(1)
    return x * x, lambda g: 3 * g * x + 1e-3 * len(calls)


def test_the_code_of_a_report_has_the_options_that_saw_the_failure(tmp_path):
    name, words = wrong(off_by_little, X, complex_step=True)
    assert name == "value"
    assert "complex_step=True" in words
    assert "x: off by 1e-09 of itself" in words
    assert not replay(check_grad(off_by_little, X, complex_step=True, raise_error=False))
    name, words = wrong(keeps_state, X, properties=["value", "shape"])
    assert name == "value"
    assert "properties=['value', 'shape']" in words
    assert "properties" not in wrong(keeps_state, X)[1]


def test_arrays_of_text_are_written_as_code():
    def named(x, names):
        return x * len(names), lambda g: g * 7

    assert "np.array(['a', 'bc'])" in wrong(named, X, np.array(["a", "bc"]))[1]


def test_two_ops_cannot_have_one_test():
    specs = [OpSpec("a.b", lambda x: (x, lambda g: 2 * g)), OpSpec("a b", lambda x: (x, lambda g: g))]
    with pytest.raises(ShapeError, match="two ops would have the test test_a_b, one of them 'a b'; rename one"):
        grad_tests(specs)
    assert {"test_a_b", "test_c"} <= vars(grad_tests([specs[0], OpSpec("c", specs[1].fn)])).keys()


def test_a_method_is_no_property():
    with pytest.raises(DtypeError, match=r"test_cube is a method; write it as a function, outside of the class"):

        class TestCubes:
            @grad_property(tensors())
            def test_cube(self, x):
                return x**3, lambda g: 3 * g * x**2


def test_a_method_of_an_object_is():
    class Cubes:
        def cube(self, x):
            return x**3, lambda g: 3 * g * x**2

    grad_property(tensors())(Cubes().cube)()
    grad_property(tensors())((np.square, lambda g, x: 2 * g * x))()


def test_options_may_be_arrays_and_what_is_usual_is_not_kept():
    report = check_grad(same_or_not, X, Y, wrt=np.array([0, 1]), kinks="strict", complex_step=True, properties="value")
    assert report.settings.keys() == {"wrt", "kinks", "complex_step", "properties"}
    assert check_grad(same_or_not, X, Y, backend="rule").settings == {}


def test_inferred_arguments_may_be_refused_by_an_arithmetic_error():
    def inverse(x):
        if (np.asarray(x) == 0).any():
            raise ZeroDivisionError("0")
        return 1 / x, lambda g: -g / x**2

    assert fuzz_grad(inverse, seed=0, max_examples=30)


def test_the_module_of_a_file_in_folders_is_named_with_dots():
    command = [sys.executable, "-m", "tinygrad_lite.fuzz", "pkg/sub/ops.py:right"]
    said = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    assert said.returncode == 2
    assert "such as pkg.sub.ops:right, not its file" in said.stderr


def torch_layer(factor, dtype):
    torch = pytest.importorskip("torch", reason="torch is not installed")

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x @ w.T

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return g @ w, factor * g.T @ x

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.weight = torch.nn.Parameter(torch.randn(2, 3, dtype=getattr(torch, dtype)))
            self.norm = torch.nn.BatchNorm1d(2, dtype=getattr(torch, dtype))

        def forward(self, x):
            return self.norm(Product.apply(x, self.weight))

    return Layer()


class Scaled(nn.Parameter):
    """A parameter with an attribute of its own."""

    def __init__(self, data, scale):
        super().__init__(data)
        self.scale = scale


class ScaledBy(nn.Module):
    def __init__(self):
        self.w = Scaled(np.ones(3), 2.0)

    def forward(self, x):
        return x * self.w * self.w.scale


def test_a_module_that_is_checked_stays_as_it_is():
    assert check_grad(ScaledBy(), np.array([1.0, 2.0, 3.0]))
    flat = np.arange(8, dtype=np.float32)  # all weights in one
    model = nn.Linear(3, 2)
    model.weight.data, model.bias.data = flat[:6].reshape(2, 3), flat[6:]
    assert check_grad(model, np.ones((4, 3)))
    with no_grad():
        model.weight -= 1.0
        model.bias -= 1.0
    np.testing.assert_array_equal(flat, np.arange(8) - 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_parameters_of_a_torch_module_are_checked(dtype):
    x = np.random.default_rng(0).normal(size=(4, 3))
    layer = torch_layer(1, dtype)
    before = layer.norm.running_mean.clone()
    assert check_grad(layer, x)
    assert (layer.norm.running_mean == before).all()
    name, words = wrong(torch_layer(5, dtype), x)
    assert name == "value"
    assert "weight: a factor of 5 too much" in words
    assert not fuzz_grad(torch_layer(3, dtype), tensors((4, 3)), seed=0, max_examples=9, shrink=False, raise_error=False)


def test_views_of_torch_that_numpy_does_not_know_and_arrays_among_its_keywords():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert check_grad(lambda x: torch.complex(x, 2 * x).conj().imag, X, backend="torch")

    def masked(x, mask):
        return torch.where(mask, x, 2 * x)

    assert check_grad(masked, X, kwargs={"mask": np.array([True, False])}, backend="torch")


def test_strategies_may_give_dicts_inside_of_a_tuple():
    inputs = st.tuples(tensors((2,)), st.fixed_dictionaries({"w": tensors((2,)), "b": tensors((2,))}))
    assert not fuzz_grad(scaled_wrongly, inputs, seed=0, max_examples=20, raise_error=False)


def test_what_float32_cannot_hold_in_a_product_is_no_error():
    def cell(c, x):
        return c * np.tanh(x), lambda g: (g * np.tanh(x), g * c * (1 - np.tanh(x) ** 2))

    assert check_grad(cell, np.array([-508.26]), np.array([8.544]), cotangent=np.array([1.0]))
