"""Tensor: how it is made, how it looks, and how it lives with Python and NumPy."""

import copy
import operator

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
    (Tensor(np.ones(2)), "float64", (2,)), ([True, False], "bool", (2,)), (np.ones(2, np.uint8), "uint8", (2,)),
])  # fmt: skip
def test_dtype_and_shape(data, dtype, shape):
    x = Tensor(data)
    assert (str(x.dtype), x.shape, x.ndim, x.size) == (dtype, shape, len(shape), int(np.prod(shape)))
    assert (x.grad, x.requires_grad, x.is_leaf) == (None, False, True)


def test_pythons_numbers_keep_their_digits_in_the_dtype_that_is_asked_for():
    assert Tensor([0.1, 1e300], dtype=np.float64).tolist() == [0.1, 1e300]
    assert Tensor(16_777_217, dtype=np.int64).item() == 16_777_217
    x = Tensor(X, requires_grad=True, dtype=np.float64)
    (x * 1).backward([[0.1] * 3] * 2)
    assert x.grad.tolist() == [[0.1] * 3] * 2
    x.grad = [[0.3] * 3] * 2
    assert x.grad.tolist() == [[0.3] * 3] * 2
    assert F.maximum([0.1, 3.0], Tensor([0.0, 9.0], dtype=np.float64)).tolist() == [0.1, 9.0]
    assert F.mse_loss(np.array([0.1]), [0.1]).item() == 0


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
    constant = Tensor(X)
    constant.grad = None  # as a loop over parameters does, of which some are frozen
    assert constant.grad is None


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


def test_masks_are_joined_and_turned():
    x = leaf()
    low, even = x < 4, X % 2 == 0
    for found, expected in [
        (low & even, (X < 4) & even),
        (even | low, (X < 4) | even),
        (even & low, (X < 4) & even),
        (low ^ even, (X < 4) ^ even),
        (~low, X >= 4),
    ]:
        assert (type(found), found.dtype, found.requires_grad) == (Tensor, bool, False)
        np.testing.assert_array_equal(found.data, expected)
    assert x[~low].tolist() == [4, 5, 6]
    assert (Tensor(np.array([6, 5])) & 3).tolist() == [2, 1]
    with pytest.raises(
        DtypeError, match=r"bitwise_or: needs truth values or integers, got \['bool', 'float32'\]; compare first"
    ):
        low | x
    with pytest.raises(ShapeError, match=r"bitwise_and: shapes \(2, 3\) and \(4,\) do not broadcast"):
        low & np.ones(4, bool)
    with pytest.raises(TypeError, match="unsupported operand"):
        low & "words"
    with pytest.raises(ShapeError, match="-1 does not fit into dtype=uint8"):
        Tensor(np.array([6, 5], np.uint8)) & -1
    again = low
    low &= even
    low |= X == 3
    low ^= X == 1
    assert low is again
    np.testing.assert_array_equal(low.data, (X < 4))


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
    np.square, np.arctan, np.sum, np.mean, np.linalg.norm, np.argsort, lambda x: np.dot(x, X.T),
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
