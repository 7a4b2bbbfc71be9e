"""What may be done to leaves: changed in place, frozen, copied, shared; and that no gradient is lost on the way.

This file is long because there are many ways to get at the array of a leaf, and each has its test.
"""

import copy
import pickle
import threading

import numpy as np
import pytest

import tinygrad_lite.functional as F
from tinygrad_lite import DtypeError, ShapeError, TapeError, Tensor, apply, as_tensor, nn, no_grad, optim

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)


def leaf(data=X):
    return Tensor(data, requires_grad=True)


def test_a_leaf_is_not_changed_while_operations_are_recorded():
    x = leaf()
    with pytest.raises(TapeError, match=r"in place: a leaf that requires a gradient can be changed under no_grad\(\) only"):
        x += 1
    np.testing.assert_array_equal(x.data, X)


def test_in_place_operators_change_the_tensor_and_nothing_that_was_computed_before():
    x, factor = leaf(), leaf(X + 1)
    y = again = x * 1.0
    used, part = y * y, y[0]
    y *= factor
    y += np.ones(X.shape)  # float64: the tensor keeps its dtype
    assert y is again
    assert y.dtype == np.float32
    np.testing.assert_array_equal(part.data, X[0])
    (used.sum() + part.sum() + again.sum()).backward()  # of x^2, x[0] and x factor + 1
    np.testing.assert_array_equal(x.grad, 2 * X + [[1], [0]] + factor.data)
    np.testing.assert_array_equal(factor.grad, X)
    with pytest.raises(ShapeError, match=r"in place: the result has shape \(2, .*the tensor"):
        y += np.ones((2, *X.shape))


@pytest.mark.parametrize("recorded", [True, False])
def test_what_is_summed_up_in_place_is_summed_up_wherever_it_is_known(recorded):
    p, shown = leaf(), Tensor(X)
    with no_grad():
        velocity = [0 * p, p.detach(), as_tensor(X.copy()), Tensor(X)]
        before = [v.data.copy() for v in velocity]
    for v in velocity if recorded else []:
        v += shown
    with no_grad():
        for v in [] if recorded else velocity:
            v += shown
    for v, old in zip(velocity, before, strict=True):
        np.testing.assert_array_equal(v.data, old + X)
    np.testing.assert_array_equal(p.data, X)


def test_what_is_recorded_and_changed_under_no_grad_keeps_its_way_back():
    x = leaf()
    h = x * 2.0
    used = h.exp()
    with no_grad():
        h += Tensor(X, requires_grad=True)  # noise, or a mask
    ((h * h).sum() + used.sum()).backward()  # of (2 x + noise)^2 + e^2x
    np.testing.assert_allclose(x.grad, 2 * 2 * (3 * X) + 2 * np.exp(2 * X), rtol=1e-6)


def test_a_frozen_parameter_that_took_something_in_may_be_loaded_again():
    model = nn.Linear(2, 1)
    model.weight.requires_grad, delta = False, leaf([[1.0, 2.0]])
    before = model.weight.data.copy()
    used = (model(X[:, :2]) * 1.0).sum()
    model.weight += delta
    merged = (model.weight * 3.0).sum()
    model.load_state_dict({"weight": [[5.0, 6.0]], "bias": [7.0]})
    assert model.weight.is_leaf
    merged.backward()
    np.testing.assert_array_equal(delta.grad, [[3, 3]])
    with pytest.raises(TapeError, match="has changed in place"):  # the bias
        used.backward()
    assert not np.array_equal(model.weight.data, before)


def test_what_used_a_buffer_keeps_its_values():
    class Scaled(nn.Module):
        buffers_ = ("factor",)

        def __init__(self, factor):
            self.factor = factor

        def forward(self, x):
            return x * self.factor

    for make in (Tensor, as_tensor):
        model, x = Scaled(make(np.array([2.0, 3.0]))), leaf(np.ones(2))
        y = model(x).sum()
        model.load_state_dict({"factor": np.array([100.0, 100.0])})
        y.backward()
        np.testing.assert_array_equal(x.grad, [2, 3])
        np.testing.assert_array_equal(model.factor.data, [100, 100])


def test_a_sum_that_starts_as_a_constant_is_recorded():
    x, total = leaf(), Tensor(0.0)
    for row in (0, 1):
        total += (x[row] * x[row]).sum()
    total.backward()
    np.testing.assert_array_equal(x.grad, 2 * X)
    assert not total.is_leaf


def test_under_no_grad_leaves_are_changed_in_place():
    p = q = leaf()
    data = p.data
    with no_grad():
        p += 3.0
        p -= np.ones(X.shape)
        p *= 4.0
        p /= Tensor(2.0)
        with pytest.raises(ShapeError, match=r"in place: the result has shape \(2, .*the tensor"):
            p += np.ones((2, *X.shape))
    assert p is q
    assert p.data is data
    assert p.requires_grad
    np.testing.assert_allclose(data, (X + 2) * 2)


def test_constants_are_changed_in_place_and_a_view_of_one_for_itself_alone():
    average, layer = Tensor(np.zeros(2, np.float32)), nn.Linear(2, 2)
    layer.bias.requires_grad = False
    before = layer.bias.data.copy()
    with no_grad():
        for kept in [average]:
            kept *= 0.5
            kept += Tensor([1.0, 2.0], requires_grad=True)
            kept **= 2
        for p in layer.parameters():
            p -= 1
        computed = average.reshape(2, 1)  # of the same memory
        computed += 1
        count = Tensor(np.array([1, 2]))
        with pytest.raises(DtypeError, match="in place: the result has dtype=float32, which does not go into int64"):
            count += 0.5
    np.testing.assert_array_equal(average.data, [1, 4])
    np.testing.assert_array_equal(layer.bias.data, before - 1)
    np.testing.assert_array_equal(computed.data, [[2], [5]])


def test_a_gradient_has_the_shape_and_dtype_of_its_leaf():
    x, z = leaf([1.0, 2.0]), Tensor(np.array([1j, 2.0]), requires_grad=True)
    y = x * z
    (y * y).sum().backward()
    assert (x.grad.dtype, z.grad.dtype) == (np.float32, np.complex128)
    np.testing.assert_allclose(x.grad, [-2, 16])
    x.zero_grad()
    apply(lambda a: (a * 2, lambda g: (g.astype(np.float64) * 2,)), x).sum().backward()
    assert x.grad.dtype == np.float32
    x.zero_grad()
    w = Tensor(np.array([1j], np.complex64), requires_grad=True)
    apply(lambda a: (a * 2, lambda g: (g.astype(np.complex128) * 2j,)), w).sum().backward()
    assert (w.grad.dtype, w.grad.item()) == (np.complex64, 2j)
    apply(lambda a: (a * 2, lambda g: [g * 2]), x).sum().backward()  # a list is as good as a tuple
    np.testing.assert_array_equal(x.grad, [2, 2])
    x.zero_grad()
    (x * 2).sum().backward()
    x.data = np.ones(3, np.float32)
    with pytest.raises(ShapeError, match=r"grad: a gradient of shape \(2,\) came back for a tensor of shape \(3,\)"):
        optim.SGD([x], lr=0.1).step()


@pytest.mark.parametrize("change", ["step", "operator", "load", "average"])
def test_what_used_the_values_before_a_change_in_place_cannot_go_back(change):
    model, x = nn.Linear(3, 1, bias=False), np.ones((2, 3), np.float32)
    optimizer, average = optim.SGD(model.parameters(), lr=0.1), optim.AveragedModel(model)
    model(x).sum().backward()
    used = average.module if change == "average" else model
    first = used.weight.data.copy()
    loss = (used(x) * used.weight.sum()).sum()
    match change:
        case "step":
            optimizer.step()
        case "operator":
            with no_grad():
                used.weight += 1
        case "load":
            used.load_state_dict({"weight": first + 1})
        case "average":
            optimizer.step()
            average.update_parameters(model)
    assert (used.weight.data != first).all()
    before = None if used.weight.grad is None else used.weight.grad.copy()
    for _ in range(2):  # and it changes nothing, so that it may be tried again
        with pytest.raises(TapeError, match="a leaf of this graph has changed in place since it was used"):
            loss.backward()
    np.testing.assert_array_equal(used.weight.grad, before)
    used.zero_grad()
    (used(x) * used.weight.sum()).sum().backward()
    w = used.weight.data.astype(np.float64)
    np.testing.assert_allclose(used.weight.grad, np.full((1, 3), 4 * w.sum()), rtol=1e-5)


def test_a_frozen_leaf_that_was_changed_in_place_cannot_go_back_either():
    x = leaf([1.0, 2.0])
    (3 * x).sum().backward()
    y = (x * x).sum()
    x.requires_grad = False
    with no_grad():
        x *= 5
    x.requires_grad = True
    with pytest.raises(TapeError, match="changed in place"):
        y.backward()
    np.testing.assert_array_equal(x.grad, [3, 3])  # what it had stays


def test_a_leaf_that_changes_during_backward_loses_no_gradient_without_a_word():
    x = leaf([1.0, 2.0])

    def rule(a):
        def vjp(g):
            with no_grad():
                x.__imul__(2)
            return (g,)

        return a * 1, vjp

    with pytest.raises(TapeError, match="changed in place"):
        apply(rule, x).sum().backward()


def test_a_step_that_moves_nothing_leaves_the_graph_alone():
    x, other = leaf([1.0, 2.0]), leaf([1.0])
    y = (x * x).sum()
    optimizer = optim.SGD([x, other], lr=0.1)
    (other * 2).backward()
    optimizer.step()
    y.backward()
    np.testing.assert_array_equal(x.grad, [2, 4])


def test_only_leaves_are_copied_and_pickled():
    x = leaf()
    for same in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), copy.copy(x)):
        assert same is not x
        assert same.requires_grad
        np.testing.assert_array_equal(same.data, X)
    for act in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TapeError, match=r"copy: only tensors .* use x\.detach\(\)"):
            act(x * 2)
        assert act((x * 2).detach()) is not None


def test_a_shallow_copy_shares_the_data_and_not_the_gradient():
    for x in (leaf([1.0, 2.0]), nn.Parameter([1.0, 2.0])):
        (2 * x).sum().backward()
        y = copy.copy(x)
        assert type(y) is type(x)
        assert np.shares_memory(x.data, y.data)
        assert y.grad is None
        (3 * y).sum().backward()
        assert (x.grad.tolist(), y.grad.tolist()) == ([2, 2], [3, 3])
    assert not copy.copy(x.detach()).requires_grad
    with pytest.raises(TapeError, match="copy: only tensors"):
        copy.copy(x * 2)


def test_a_copy_has_the_attributes_of_a_class_of_somebody_s_own():
    class Named(nn.Parameter):
        pass

    x = Named([1.0, 2.0])
    x.name = "gain"
    assert [copy.copy(x).name, copy.deepcopy(x).name] == ["gain", "gain"]


def test_threads_that_share_a_leaf_lose_no_gradient():
    x, g = leaf(np.zeros(300_000)), np.ones(300_000)

    def work():
        for _ in range(20):
            (x * 1.0).backward(g)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (x.grad == 80).all()


def test_elements_are_not_assigned():
    with pytest.raises(TapeError, match="elements cannot be assigned"):
        leaf()[0] = 1.0


def test_lists_of_tensors_do_not_lose_gradients():
    x = leaf()
    for act in (lambda: Tensor([x.sum(), 1.0]), lambda: F.sum([[1.0, x.mean()]]), lambda: as_tensor((x, x))):
        with pytest.raises(DtypeError, match=r"F\.stack"):
            act()
    assert Tensor([x.detach().sum(), 1.0]).tolist() == [X.sum(), 1.0]
    with no_grad():
        assert Tensor([leaf(2.0), 1.0]).tolist() == [2, 1]


def test_a_leaf_that_is_frozen_for_a_while_keeps_its_gradient():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    x.requires_grad = False
    assert x.grad is None
    x.requires_grad = True
    y.backward()
    np.testing.assert_array_equal(x.grad, [2, 4])
    x.requires_grad = False
    x.zero_grad()
    x.requires_grad = True
    assert x.grad is None


def test_frozen_parameters_are_left_alone():
    model = nn.Linear(3, 2)
    model.bias.requires_grad = False
    before = model.bias.data.copy(), model.weight.data.copy()
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    model(np.ones((4, 3), np.float32)).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(model.bias.data, before[0])
    assert (model.weight.data != before[1]).all()
    model.weight.requires_grad = False
    with pytest.raises(DtypeError, match="SGD: params must be leaf Tensors that require a gradient, got none that does"):
        optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(DtypeError, match="got one computed from others"):
        optim.SGD([Tensor([1.0], requires_grad=True) * 2], lr=0.1)


def test_what_was_computed_from_a_constant_keeps_its_values():
    """A rule holds the array itself, and no leaf on the tape could say that it was changed."""
    layer = nn.Linear(2, 1)
    for parameter in layer.parameters():
        parameter.requires_grad = False
    average = optim.AveragedModel(layer)
    before, x = layer.weight.data.copy(), leaf([1.0, 2.0])
    used = [x * layer.weight, average.module(x)]
    constant = Tensor([2.0, 3.0])
    used.append(x * constant)
    with no_grad():
        constant *= 10
    layer.load_state_dict({"weight": before + 1, "bias": layer.bias.data})
    average.update_parameters(layer)
    for y, slope in zip(used, (before[0], before[0], [2.0, 3.0]), strict=True):
        x.zero_grad()
        y.sum().backward()
        np.testing.assert_array_equal(x.grad, slope)
    np.testing.assert_array_equal(constant.data, [20, 30])
    np.testing.assert_array_equal(layer.weight.data, before + 1)


@pytest.mark.parametrize("change", ["step", "operator", "load", "average"])
@pytest.mark.parametrize("how", ["frozen", "detached", "shared", "reshaped", "transposed", "indexed", "a rule's view"])
def test_what_used_a_leaf_as_a_constant_keeps_its_values(how, change):
    """As a generator's loss does that is computed while the discriminator is frozen, which then makes a step before it."""
    model, x = nn.Linear(2, 1, bias=False), leaf([1.0, 2.0])
    average = optim.AveragedModel(model)
    used = average.module if change == "average" else model
    p, before = used.weight, used.weight.data.copy()
    if how == "frozen":
        p.requires_grad = False
        constant = p
    elif how == "detached":
        constant = p.detach()
    elif how == "shared":
        constant = copy.copy(p)
        constant.requires_grad = False
    else:
        with no_grad():
            ways = {"reshaped": lambda: p.reshape(2), "transposed": lambda: p.T, "indexed": lambda: p[0]}
            constant = ways.get(how, lambda: apply(lambda a: (a[:], lambda g: g), p))()
    loss = (x.reshape(constant.shape) * constant).sum()
    p.requires_grad = True
    other = copy.copy(p) if how == "shared" else None
    (used(np.ones((1, 2), np.float32)) * 1.0).sum().backward()
    array = p.data
    match change:
        case "step":
            optim.SGD([p], lr=1.0).step()
        case "operator":
            with no_grad():
                p += 1
        case "load":
            used.load_state_dict({"weight": before + 1})
        case "average":
            with no_grad():
                model.weight += 5
            average.update_parameters(model)
    assert (p.data != before).all()
    loss.backward()
    np.testing.assert_array_equal(x.grad, before[0])
    if other is not None:
        np.testing.assert_array_equal(other.data, before)
    kept = p.data
    with no_grad():
        p += 1
    assert p.data is kept is not array  # a copy once, not at every change


def test_a_constant_that_becomes_a_leaf_is_changed_for_itself_alone():
    x, c = leaf([1.0, 2.0]), Tensor([3.0, 4.0])
    used = (x * c).sum()
    c.requires_grad = True
    used += (x * c).sum()
    y = x.detach()
    y.requires_grad = True
    with no_grad():
        y *= 10
    np.testing.assert_array_equal(x.data, [1, 2])
    used.backward()
    np.testing.assert_array_equal(x.grad, [6, 8])
    np.testing.assert_array_equal(c.grad, [1, 2])
    again = (x * c.detach()).sum()
    with no_grad():
        c *= 10
    again.backward()
    np.testing.assert_array_equal(x.grad, [9, 12])


def test_numpy_does_not_write_into_what_is_recorded():
    x = leaf()
    with pytest.raises(DtypeError, match=r"np\.multiply: would lose the gradient"):
        np.multiply(X, 5, out=x)
