"""Tensor: how it is made, how it looks, and how it lives with Python and NumPy."""

import copy
import operator
import tracemalloc

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import DtypeError, ShapeError, Tensor, as_tensor, no_grad
from tinygrad_lite.nn import Parameter

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)


def leaf(data=X):
    return Tensor(data, requires_grad=True)


# -- making ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "dtype", "shape"), [
    (1, "float32", ()), (2.5, "float32", ()), ([1, 2], "float32", (2,)), ([[1, 2.5]], "float32", (1, 2)), ([], "float32", (0,)),
    ([[], []], "float32", (2, 0)), (True, "bool", ()), (range(3), "float32", (3,)), (np.float64(1), "float64", ()),
    (np.arange(3), "int64", (3,)), (np.ones(2), "float64", (2,)), ([np.float64(1), np.float64(2)], "float64", (2,)),
    (Tensor(np.ones(2)), "float64", (2,)), (np.ones(2, np.uint8), "uint8", (2,)),
])  # fmt: skip
def test_dtype_and_shape(data, dtype, shape):
    x = Tensor(data)
    assert (str(x.dtype), x.shape, x.ndim, x.size) == (dtype, shape, len(shape), int(np.prod(shape)))
    assert (x.grad, x.requires_grad, x.is_leaf) == (None, False, True)


def test_data_are_copied_in_and_seen_through():
    array = X.copy()
    x = Tensor(array)
    array[0, 0] = 99
    assert x.data[0, 0] == 1
    assert x.numpy() is x.data
    assert np.shares_memory(x.detach().data, x.data)
    assert Tensor([1, 2], dtype=np.int32).dtype == np.int32


def test_attributes():
    x = leaf()
    assert x.T.shape == (3, 2)
    assert (len(x), x.tolist(), x[1, 2].item()) == (2, X.tolist(), 6.0)
    assert (float(x[0, 1]), int(x[0, 1]), bool(x[0, 1] > 1)) == (2.0, 2, True)
    assert x.detach().requires_grad is False
    assert (x * 2).is_leaf is False


def test_setting_a_gradient():
    x = leaf()
    x.grad = np.ones((2, 3))
    assert x.grad.dtype == np.float32
    x.grad = None
    assert x.grad is None


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tensor", "words"), [
    (Tensor([1, 2]), "Tensor([1., 2.])"),
    (Tensor(np.array([1, 2])), "Tensor([1, 2], dtype=int64)"),
    (Tensor([1.0], requires_grad=True), "Tensor([1.], requires_grad=True)"),
    (leaf() @ leaf().T, "Tensor([[14., 32.],\n        [32., 77.]], made by matmul)"),
    (Parameter(2.0), "Parameter(2., requires_grad=True)"),
    (Tensor(np.zeros((0, 3))), "Tensor([], dtype=float64, shape=(0, 3))"),
])  # fmt: skip
def test_repr(tensor, words):
    assert repr(tensor) == words


def test_repr_of_a_large_tensor_is_short():
    words = repr(Tensor(np.zeros((100, 100))))
    assert len(words) < 600
    assert "shape=(100, 100)" in words


# -- Python ------------------------------------------------------------------------------------------------------------


def test_going_through_a_tensor():
    first, second = leaf()
    assert [first.tolist(), second.tolist()] == X.tolist()
    assert [v.item() for v in first] == [1.0, 2.0, 3.0]
    x = leaf()
    total = sum(row.sum() * (i + 1) for i, row in enumerate(x))
    total.backward()
    np.testing.assert_array_equal(x.grad, [[1, 1, 1], [2, 2, 2]])
    assert 4.0 in leaf()[1]
    assert 7.0 not in leaf()[1]


def test_comparisons_give_truth_values():
    x = leaf()
    for compare in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
        for other in (3, 3.0, X[::-1], Tensor(X[::-1])):
            found = compare(x, other)
            assert (found.dtype, found.requires_grad) == (bool, False)
            np.testing.assert_array_equal(found.data, compare(X, np.asarray(other)))
    assert x != None  # noqa: E711
    assert x not in [None, "a"]


def test_tensors_can_be_keys():
    x, y = Tensor(1.0), Tensor(1.0)
    assert len({x, y, x}) == 2
    assert {x: "x", y: "y"}[x] == "x"


@pytest.mark.parametrize("other", ["words", [1.0, 2.0, 3.0], None, {}])
def test_foreign_operands_are_left_to_python(other):
    for act in (operator.add, operator.mul, operator.matmul, operator.lt):
        with pytest.raises(TypeError, match="Tensor"):
            act(leaf(), other)


def test_one_number_is_formatted_and_an_integer_is_an_index():
    loss = leaf().sum()
    assert f"{loss:.3f} {loss}" == f"{loss.item():.3f} {loss!r}"
    with pytest.raises(ShapeError, match="needs a tensor of one element"):
        f"{leaf():.3f}"
    assert "abc"[Tensor(np.array(2))] == "c"
    assert list(range(Tensor(np.array(2)))) == [0, 1]
    with pytest.raises(TypeError, match="Tensor: only integers can be an index or a count, got dtype=float32"):
        range(Tensor(2.0))


def test_deep_copies():
    x = leaf()
    x.sum().backward()
    y = copy.deepcopy(x)
    y.data += 1
    assert (x.data[0, 0], y.grad.tolist()) == (1.0, [[1.0] * 3] * 2)


# -- NumPy -------------------------------------------------------------------------------------------------------------

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]


@pytest.mark.parametrize("act", OPERATORS)
@pytest.mark.parametrize("other", [
    X[::-1] / 2, X[:1], np.float32(2), np.float64(2), np.int64(2), 2, 2.0, np.array(2, np.float32), np.array([1, 2, 3])
], ids=repr)  # fmt: skip
def test_numpy_and_numbers_on_either_side(act, other):
    for a, b in ((leaf(), other), (other, leaf())):
        found = act(a, b)
        assert type(found) is Tensor
        assert (found.dtype, found.requires_grad) == (np.float32, True)
        wide = [as_tensor(side).data.astype(np.float64) for side in (a, b)]
        np.testing.assert_allclose(found.data, act(*wide), rtol=1e-6)
        found.sum().backward()
        assert (a if isinstance(a, Tensor) else b).grad.shape == X.shape


def test_array_times_matrix_is_a_tensor():
    x = leaf()
    for y in (X.T @ x, np.matmul(X.T, x)):
        assert (type(y), y.dtype, y.requires_grad) == (Tensor, np.float32, True)
        np.testing.assert_array_equal(y.data, X.T @ X)


def test_results_are_never_object_arrays():
    for y in (
        X + leaf(),
        np.ones(3, np.float32) * leaf()[0],
        np.float32(2) ** leaf(),
        np.equal(X, leaf()),
        np.add(X, Tensor(X)),
    ):
        assert type(y) is Tensor
        assert y.dtype != object


def test_conversion_to_arrays():
    x = Tensor(X)
    assert np.shares_memory(np.asarray(x), x.data)
    assert not np.shares_memory(np.array(x), x.data)
    assert np.asarray(x, np.float64).dtype == np.float64
    np.testing.assert_array_equal(leaf().numpy(), X)
    with no_grad():
        np.testing.assert_array_equal(np.asarray(leaf()), X)
    assert np.arange(10)[Tensor(np.array([3, 4]))].tolist() == [3, 4]


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tanh", "abs", "negative"])
def test_ufuncs_with_a_rule_stay_on_the_tape(name):
    x = leaf()
    y = getattr(np, name)(x)
    assert y.requires_grad
    np.testing.assert_allclose(y.data, getattr(np, name)(X), rtol=1e-6)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum"])
def test_ufuncs_of_two_stay_on_the_tape(name):
    for arguments in ((leaf(), X[:1]), (X[:1], leaf()), (leaf(), 2.0)):
        y = getattr(np, name)(*arguments)
        assert y.requires_grad
        np.testing.assert_allclose(y.data, getattr(np, name)(*[as_tensor(a).data for a in arguments]), rtol=1e-6)


@pytest.mark.parametrize("call", [
    np.square, np.sin, np.sum, np.mean, np.linalg.norm, np.argsort, lambda x: np.dot(x, X.T),
    lambda x: np.where(X > 1, x, X),
    lambda x: np.stack([x, X]), lambda x: np.add(x, X, out=X.copy()),
    lambda x: np.multiply.outer(X, x), lambda x: np.clip(x, 0, 1), np.asarray, lambda x: np.array([x, x]),
])  # fmt: skip
def test_numpy_never_drops_a_gradient_silently(call):
    with pytest.raises(DtypeError, match=r"np\.\w+: would lose the gradient .* x\.detach\(\)"):
        call(leaf())
    np.testing.assert_array_equal(np.asarray(call(Tensor(X))), np.asarray(call(X)))  # without a gradient NumPy may have it


def test_functions_take_arrays_lists_and_numbers():
    assert F.relu([-1, 2]).tolist() == [0.0, 2.0]
    assert F.maximum(0, np.array([-1.0, 1.0])).tolist() == [0.0, 1.0]
    assert F.sum(X).item() == 21.0
    with no_grad():
        assert F.matmul(X, X.T).shape == (2, 2)


# -- indexing ----------------------------------------------------------------------------------------------------------

A = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("key", [
    0, -1, (1, 2), slice(None, None, -1), (slice(None), slice(2, 0, -1)), (..., 1), (None, 0, ..., None), [1, 0, 1],
    (slice(None), [0, -1]),
    np.array([[0, 1], [1, 1]]), (np.array([0, 1, 0]), slice(None), np.array([3, 3, 3])), A > 11, (np.array([True, False]), 1),
    np.int64(1),
    np.array(1), [], np.zeros((2, 3), bool), (np.array([[0], [1]]), np.array([0, 2])), True,
], ids=repr)  # fmt: skip
def test_indexing_is_numpys_and_its_gradient_counts_the_picks(key):
    x = Tensor(A, requires_grad=True)
    key_for_numpy = np.array(key, int) if isinstance(key, list) else key
    y = x[key]
    np.testing.assert_array_equal(y.data, A[key_for_numpy])
    cotangent = np.random.default_rng(0).normal(size=y.shape)
    y.backward(cotangent)
    expected = np.zeros(24)
    for place, g in zip(np.arange(24).reshape(A.shape)[key_for_numpy].ravel(), cotangent.ravel(), strict=True):
        expected[place] += g
    np.testing.assert_allclose(x.grad.ravel(), expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64])
def test_rows_may_be_picked_by_small_integers(dtype):
    x = Tensor(np.ones((100, 50)), requires_grad=True)
    x[np.array([99, 3, 99], dtype)].sum().backward()
    np.testing.assert_array_equal(x.grad.sum(axis=1), 50 * np.bincount([99, 3, 99], minlength=100))


@pytest.mark.parametrize("width", [3, 600])  # short rows and long ones
def test_picked_rows_collect_what_flows_to_them(width):
    x = Tensor(np.zeros((4, width)), requires_grad=True)
    cotangent = np.random.default_rng(0).normal(size=(2, 3, width))
    x[np.array([[1, -1, 1], [0, 3, 1]])].backward(cotangent)
    expected = np.stack([cotangent[1, 0], cotangent[0, 0] + cotangent[0, 2] + cotangent[1, 2], np.zeros(width),
                         cotangent[0, 1] + cotangent[1, 1]])  # fmt: skip
    np.testing.assert_allclose(x.grad, expected, rtol=1e-14, atol=1e-15)


def test_a_number_has_no_rows():
    for key in ([0, -1], np.array([0])):
        with pytest.raises(ShapeError, match="too many indices"):
            Tensor(5.0)[key]
    with pytest.raises(ShapeError, match="index 5 is out of bounds"):
        Tensor(np.zeros((0, 2)))[np.array([5])]


def test_a_few_rows_cost_no_copy_of_the_whole():
    x = Tensor(np.zeros((3000, 500), np.float32), requires_grad=True)
    for whole, limit in ((x.T, 100_000), (x[:, ::2], 100_000)):
        tracemalloc.start()
        whole[[0, 1]]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < limit
    wide = Tensor(np.zeros((2, 500_000), np.float32), requires_grad=True)
    cotangent = np.ones((1, 500_000), np.float32)
    tracemalloc.start()
    wide[[0]].backward(cotangent)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * wide.data.nbytes


def test_tensors_as_indices():
    x = Tensor(A, requires_grad=True)
    np.testing.assert_array_equal(x[Tensor(np.array([1, 1]))].data, A[[1, 1]])
    np.testing.assert_array_equal(x[x > 5].data, A[A > 5])
    np.testing.assert_array_equal(x[:, F.argmax([0.0, 2.0, 1.0])].data, A[:, 1])
