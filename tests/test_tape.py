"""The tape: deep and wide graphs, reuse, accumulation, freeing, threads, no_grad.

This file is long because the tape has one set of promises, each with a small test.
"""

import gc
import inspect
import sys
import threading
import weakref
from contextlib import contextmanager

import numpy as np
import pytest

from tinygrad_lite import DtypeError, ShapeError, TapeError, Tensor, apply, nn, no_grad, optim
from tinygrad_lite import functional as F


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


@contextmanager
def little_room_to_recurse():
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 60)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class Counter:
    """A rule for x * factor that counts how often its vjp is called."""

    def __init__(self):
        self.calls = 0

    def times(self, x, *, factor):
        def vjp(g):
            self.calls += 1
            return (g * factor,)

        return x * factor, vjp


def events_of(function):
    """How many Python and C functions are called: work, without a clock."""
    count = 0

    def see(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


# -- deep and wide -----------------------------------------------------------------------------------------------------


def chain(x, length):
    for _ in range(length):
        x = x + 1.0
    return x


def ladder(x, rungs):
    """Each rung doubles the number of paths; the value stays."""
    for _ in range(rungs):
        x = x * 0.5 + x * 0.5
    return x


def fan(x, width):
    """One tensor used `width` times."""
    total = x
    for _ in range(width):
        total = total + x
    return total


def test_chain_of_50_000_operations_forward_backward_and_deletion():
    x = leaf(2.0)
    with little_room_to_recurse():
        y = chain(x, 50_000)
        y.backward()
        assert (y.item(), x.grad.item()) == (50_002.0, 1.0)
        abandoned = chain(x, 50_000)
        last = weakref.ref(abandoned._node)
        del abandoned, y
    assert last() is None


def test_ladder_of_2_to_the_50_paths_calls_each_rule_once():
    counter, x = Counter(), leaf(1.0)
    y = x
    for _ in range(50):
        y = apply(counter.times, y, factor=1.0) + apply(counter.times, y, factor=1.0)
    y.backward()
    assert x.grad.item() == 2.0**50
    assert counter.calls == 100


@pytest.mark.parametrize("graph", [chain, ladder, fan])
def test_work_grows_linearly(graph):
    def work(size):
        y = graph(leaf(1.0, 2.0), size).sum()
        return events_of(y.backward)

    small, large = work(500), work(2000)
    assert small > 500
    assert large == pytest.approx(4 * small, rel=0.02)


def test_a_node_waits_for_all_that_use_it_however_long_their_ways():
    counter, x = Counter(), leaf(3.0)
    shared = apply(counter.times, x, factor=2.0)
    y = shared + chain(shared, 10) + chain(shared, 1)
    y.backward()
    assert (x.grad.item(), counter.calls) == (6.0, 1)


# -- reuse -------------------------------------------------------------------------------------------------------------


def test_same_tensor_as_both_arguments():
    x = leaf(2.0, -3.0)
    cotangent = np.array([5.0, 7.0])
    for f, slope in [
        (lambda a, b: a + b, 2.0), (lambda a, b: a - b, 0.0), (lambda a, b: a * b, 2 * x.data),
        (lambda a, b: a / b, 0.0), (lambda a, b: F.cat([a, b])[:2] + F.stack([a, b])[1], 2.0),
    ]:  # fmt: skip
        x.zero_grad()
        f(x, x).backward(cotangent)
        np.testing.assert_array_equal(x.grad, slope * cotangent)


def test_matrix_times_itself():
    x = Tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), requires_grad=True)
    g = np.array([[1.0, -1.0], [2.0, 0.5]])
    (x @ x).backward(g)
    np.testing.assert_array_equal(x.grad, g @ x.data.T + x.data.T @ g)


def test_views_of_one_tensor_add_up():
    x = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    weights = np.random.default_rng(0).normal(size=(3, 2))
    y = (x.T * weights).sum() + (x[:, ::-1][:, :1] * 10.0).sum() + (x.reshape(3, 2) * weights).sum() + x[1, 1:].sum()
    y.backward()
    expected = weights.T + weights.reshape(2, 3)
    expected[:, 2] += 10
    expected[1, 1:] += 1
    np.testing.assert_allclose(x.grad, expected, rtol=1e-15)


def test_repeated_indices_collect_every_cotangent():
    x = leaf(1.0, 2.0, 3.0)
    x[np.array([0, 2, 0, 0, -1])].backward(np.array([1.0, 10.0, 100.0, 1000.0, 10_000.0]))
    np.testing.assert_array_equal(x.grad, [1101.0, 0.0, 10_010.0])


def test_intermediate_results_can_be_leaves_of_a_second_graph():
    x = leaf(2.0)
    h = (x * x).detach()
    h.requires_grad = True
    (h * x).backward()
    assert (h.grad.item(), x.grad.item()) == (2.0, 4.0)


# -- gradients ---------------------------------------------------------------------------------------------------------


def test_two_backward_calls_add_up_and_the_first_gradient_is_left_alone():
    x = leaf(1.0, 2.0)
    (x * 3.0).backward(np.array([1.0, 10.0]))
    first = x.grad
    (x * x).backward(np.array([1.0, 1.0]))
    np.testing.assert_array_equal(x.grad, [5.0, 34.0])
    np.testing.assert_array_equal(first, [3.0, 30.0])
    x.zero_grad()
    assert x.grad is None


def test_gradient_of_a_single_number_stays_an_array():
    x = Tensor(2.0, requires_grad=True)
    for _ in range(2):
        (x + x + x).backward()
        assert type(x.grad) is np.ndarray
        assert (x.grad.shape, x.grad.dtype) == ((), np.float32)
    assert x.grad.item() == 6.0


def test_a_vjp_gets_an_array_where_two_numbers_were_added():
    seen = []

    def watch(x):
        return x.copy(), lambda g: (seen.append(type(g)), g)[1:]

    y = apply(watch, Tensor(2.0, requires_grad=True))
    (y + y).backward()
    assert seen == [np.ndarray]


def test_gradients_share_no_memory_with_each_other_the_cotangent_or_the_data():
    a, b, c = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)
    cotangent = np.array([1.0, 1.0])
    (a + b).reshape(2, 1).reshape(2).backward(cotangent)
    (c + 1.0).backward(cotangent)
    arrays = [a.grad, b.grad, c.grad, cotangent, a.data, b.data]
    for i, first in enumerate(arrays):
        for second in arrays[i + 1 :]:
            assert not np.shares_memory(first, second)
    a.grad += 5  # must be writable, and a's own
    np.testing.assert_array_equal(b.grad, [1.0, 1.0])


def test_a_rule_may_give_what_it_keeps_or_what_cannot_be_written():
    kept = np.array([3.0, 4.0])

    class Special(np.ndarray):
        pass

    def frozen():
        array = np.array([3.0, 4.0])
        array.flags.writeable = False
        return array

    for gradient in (lambda: kept, lambda: kept[:], frozen, lambda: Special(2)):
        x = leaf(1.0, 2.0)
        apply(lambda x, gradient=gradient: (x * 1.0, lambda g: (gradient(),)), x).backward(np.ones(2))
        assert type(x.grad) is np.ndarray
        x.grad += 5
    np.testing.assert_array_equal(kept, [3.0, 4.0])


def test_a_gradient_that_nobody_else_holds_is_not_copied():
    places = []

    def fresh(x):
        def vjp(g):
            gradient = g * 2.0
            places.append(gradient.ctypes.data)
            return (gradient,)

        return x * 2.0, vjp

    x = leaf(1.0, 2.0)
    apply(fresh, x).backward(np.ones(2))
    assert x.grad.ctypes.data == places[0]


def test_expanded_cotangents_become_real_arrays():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    x.sum().backward()  # its vjp gives a broadcast view, of which all elements are one
    x.grad[0, 0] = 7.0
    np.testing.assert_array_equal(x.grad, [[7.0, 1.0, 1.0], [1.0, 1.0, 1.0]])


def test_a_leaf_can_be_its_own_cotangent():
    x = leaf(1.0, 2.0)
    (x * 1.0).backward(x.data)
    x.backward(x)
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])
    np.testing.assert_array_equal(x.data, [1.0, 2.0])


def test_nothing_that_rules_were_given_or_gave_is_written_into():
    """Every array on the way is made read-only, so that a write raises."""

    def frozen(x):
        def vjp(g):
            g.flags.writeable = False
            return (g,)

        out = x * 1.0
        out.flags.writeable = False
        return out, vjp

    def freeze(x):
        return apply(frozen, x)

    rng = np.random.default_rng(0)
    x = Tensor(rng.normal(size=(2, 2, 6, 6)), requires_grad=True)
    w = Tensor(rng.normal(size=(3, 2, 3, 3)), requires_grad=True)
    x.data.flags.writeable = w.data.flags.writeable = False
    h = freeze(F.relu(freeze(F.conv2d(freeze(x), freeze(w), padding=1))))
    h = freeze(F.max_pool2d(h, 2)) + freeze(F.avg_pool2d(h, 2))
    h = freeze(h.flatten(1))
    h = freeze(F.linear(h, Tensor(rng.normal(size=(7, h.shape[1])))))
    h = freeze(h @ Tensor(rng.normal(size=(7, 7))))
    h = h + freeze(h) * 2.0 + h
    loss = F.cross_entropy(freeze(h), np.array([0, 5]))
    cotangent = np.array(2.0)
    cotangent.flags.writeable = False
    loss.backward(cotangent)
    assert np.isfinite(x.grad).all()
    assert np.abs(w.grad).max() > 0


def test_dtypes_are_kept_whatever_the_cotangent_has():
    x = leaf(1.0, 2.0, dtype=np.float32)
    y = x.double() * 3.0
    y.backward(np.array([1, 2]))
    assert (x.grad.dtype, x.grad.tolist()) == (np.float32, [3.0, 6.0])


def test_leaves_that_need_none_get_none():
    x, constant, unused = leaf(1.0), Tensor([2.0], dtype=np.float64), leaf(1.0)
    (x * constant).backward()
    assert (x.grad.item(), constant.grad, unused.grad) == (2.0, None, None)


def test_a_rule_may_give_none_or_no_tuple():
    def first_only(a, b):
        return a * b, lambda g: (g * b, None)

    def bare(a):
        return a * 3.0, lambda g: g * 3.0

    a, b = leaf(2.0), leaf(5.0)
    apply(first_only, a, b * 1.0).backward()
    apply(bare, a).backward()
    assert (a.grad.item(), b.grad) == (8.0, None)


@pytest.mark.parametrize(("array", "use"), [
    (np.array([2, 0, 2]), lambda x, i: x[i].sum(dim=0)), (np.array([2, 0, 2]), lambda x, i: x[:, i].sum(dim=0)),
    (np.array([[True, False, True]] * 3), lambda x, m: x[m].sum()), (np.array([True, False, True]), lambda x, m: x[1, m]),
    (np.array([[True, False, True]] * 3), lambda x, m: F.where(m, x, 2.0)),
    (np.array([[True, False, True]] * 3), lambda x, m: F.where(m, 2.0, x)),
    (np.array([2, 0, 2]), F.cross_entropy), (np.array([2, 0, 2]), F.nll_loss),
    (np.array([2, 0, 2]), lambda x, t: nn.CrossEntropyLoss()(x, t)),
])  # fmt: skip
def test_indices_and_conditions_may_be_changed_before_backward(array, use):
    x, y = (Tensor(np.arange(9.0).reshape(3, 3), requires_grad=True) for _ in range(2))
    changed = array.copy()
    for tensor, given in ((x, changed), (y, array)):
        out = use(tensor, given)
        changed[...] = 1
        out.backward(np.random.default_rng(0).normal(size=out.shape))
    np.testing.assert_array_equal(x.grad, y.grad)


# -- freeing -----------------------------------------------------------------------------------------------------------


def test_second_backward_says_that_the_graph_is_freed():
    x = leaf(1.0)
    y = x * 2.0
    y.backward()
    with pytest.raises(TapeError, match=r"already gone through once and has been freed; compute the result again"):
        y.backward()
    assert x.grad.item() == 2.0


def test_a_graph_that_shares_a_freed_part_says_so_and_changes_nothing():
    x = leaf(1.0)
    shared = x * 2.0
    (shared * 3.0).backward()
    with pytest.raises(TapeError, match="has been freed"):
        (shared * 4.0 + x).backward()
    assert x.grad.item() == 6.0


def test_a_freed_result_is_no_leaf():
    y = leaf(1.0) * 2.0
    y.backward()
    assert not y.is_leaf
    with pytest.raises(TapeError, match="only a leaf"):
        y.grad = np.ones(1)


def test_backward_frees_the_arrays_that_rules_kept():
    x = leaf(1.0, 2.0)
    h = x.exp()
    kept = weakref.ref(h.data)
    y = (h * h).sum()
    del h
    assert kept() is not None
    y.backward()
    assert kept() is None


@pytest.mark.parametrize("walked", [True, False])
def test_nodes_go_without_the_garbage_collector(walked):
    gc.collect()
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        h = x * 2.0
        y = (h * x + h).sum()
        nodes = [weakref.ref(t._node) for t in (h, y)]
        if walked:
            y.backward()
        del h, y
        assert [node() for node in nodes] == [None, None]
    finally:
        gc.enable()


def test_the_tape_keeps_nothing_of_a_training_loop():
    gc.collect()
    model = nn.Linear(3, 2, rng=np.random.default_rng(0))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    counts = []
    for _ in range(5):
        optimizer.zero_grad()
        (model(np.ones((4, 3), np.float32)) ** 2).mean().backward()
        optimizer.step()
        counts.append(sum(type(o).__name__ == "Node" for o in gc.get_objects()))
    assert len(set(counts)) == 1


# -- errors ------------------------------------------------------------------------------------------------------------


def test_a_rule_that_fails_leaves_the_gradients_as_they_were():
    def failing(x):
        def vjp(g):
            raise ZeroDivisionError("in a rule")

        return x * 1.0, vjp

    x, y = leaf(1.0), leaf(2.0)
    (x * 7.0).backward()
    loss = apply(failing, x * 2.0) + y  # y, made later, has its gradient before the rule fails
    with pytest.raises(ZeroDivisionError, match="in a rule"):
        loss.backward()
    assert (x.grad.item(), y.grad) == (7.0, None)


def test_wrong_number_of_gradients_is_counted():
    def product(a, b):
        return a * b, lambda g: (g * b,)

    with pytest.raises(TapeError, match=r"vjp of product must return one gradient for each of its 2 array arguments, got 1"):
        apply(product, leaf(1.0), leaf(2.0)).backward()


@pytest.mark.parametrize("leaf_itself", [True, False])
def test_gradients_of_the_wrong_shape_are_told_with_rule_and_place(leaf_itself):
    def scaled(a, b):
        return a * b, lambda g: (g * b, (g * a).sum(axis=0) if wrong else None)

    a, b, wrong = leaf(1.0, 2.0, 3.0), leaf(2.0, 2.0, 2.0), True
    words = r"vjp of scaled gave a gradient of shape \(\) for argument 1, expected the argument's shape \(3,\); sum over"
    with pytest.raises(TapeError, match=words):
        apply(scaled, a, b if leaf_itself else b * 2).backward(np.ones(3))
    assert (a.grad, b.grad) == (None, None)
    assert "made by scaled" in repr(apply(scaled, a, b))
    apply(scaled, a, Tensor(b.data)).backward(np.ones(3))  # what nobody wants is not looked at
    wrong = False
    apply(scaled, a * 1, b * 2).backward(np.ones(3))
    np.testing.assert_array_equal(a.grad, [6.0, 6.0, 6.0])

    def mean(a):
        return a.mean(), lambda g: (g / a.size,)

    with pytest.raises(TapeError, match=r"vjp of mean gave a gradient of shape \(\) for argument 0, expected .* \(3,\)"):
        apply(mean, a * 2).backward()


def test_a_rule_may_write_into_copies_of_a_cotangent_and_give_numbers_where_they_have_no_axes():
    def positive(x):
        hidden = ~(x > 0)

        def vjp(g):
            h = g.copy()
            h[hidden] = 0
            return (h,)

        return np.maximum(x, 0), vjp

    def twice(x):
        return 2.0 * x.item(), lambda g: 2.0 * g.item()

    x = Tensor(1.5, requires_grad=True)
    (apply(positive, x) * 2.0).backward()
    apply(twice, x.reshape(1).reshape(())).backward()
    assert (x.grad.item(), x.grad.dtype) == (4.0, np.float32)


def test_a_rule_gives_one_array():
    for kind, sizes in ((tuple, (2, 3)), (list, (2, 2))):

        def halves(x, kind=kind, sizes=sizes):
            return kind([x[: sizes[0]], x[: sizes[1]]]), lambda g: (g,)

        with pytest.raises(
            DtypeError, match=rf"apply: the output of halves must be one array, got a {kind.__name__} of 2; join"
        ):
            apply(halves, leaf(1.0, 2.0, 3.0))
    for nothing in (None, "abc", {}):
        with pytest.raises(DtypeError, match="apply: the output of <lambda> must be an array of numbers, got"):
            apply(lambda x, out=nothing: (out, lambda g: g), leaf(1.0))


# -- no_grad -----------------------------------------------------------------------------------------------------------


def records():
    return (leaf(1.0) * 2.0).requires_grad


def test_no_grad_nested():
    block = no_grad()
    with block:
        with no_grad(), block:
            assert not records()
        assert not records()
    assert records()


def test_no_grad_ends_with_an_exception():
    with pytest.raises(ZeroDivisionError), no_grad():
        1 / 0  # noqa: B018
    assert records()


def test_no_grad_without_brackets():
    @no_grad
    def double(x):
        """Twice."""
        return 2 * x

    x = Tensor([1.0], requires_grad=True)
    assert not double(x).requires_grad
    assert double.__doc__ == "Twice."
    assert (2 * x).requires_grad


def test_no_grad_refuses_what_runs_later():
    def later():
        yield

    async def much_later():
        yield

    for wrong in (later, much_later, 3, "with"):
        with pytest.raises(DtypeError, match="no_grad: decorates functions that are no generators, got"):
            no_grad()(wrong)


def test_one_no_grad_shared_by_threads_that_overlap():
    block, x = no_grad(), Tensor([1.0], requires_grad=True)
    inside, outside = threading.Event(), threading.Event()
    found = []

    def first():
        with block:
            inside.set()
            outside.wait()  # the other one has entered meanwhile, and leaves later
            found.append((2 * x).requires_grad)
        found.append((2 * x).requires_grad)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with no_grad(), block:
        outside.set()
        thread.join()
    found.append((2 * x).requires_grad)
    assert found == [False, True, True]


def test_no_grad_blocks_that_end_in_another_order():
    x = Tensor([1.0], requires_grad=True)
    one, other = no_grad(), no_grad()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert not (2 * x).requires_grad
    other.__exit__(None, None, None)
    assert (2 * x).requires_grad


def test_no_grad_as_decorator():
    @no_grad()
    def inner(depth, *, fail=False):
        """Words."""
        if fail:
            raise ZeroDivisionError
        return records() or (depth > 0 and inner(depth - 1))

    assert inner(3) is False
    assert records()
    with pytest.raises(ZeroDivisionError):
        inner(0, fail=True)
    assert records()
    assert (inner.__name__, inner.__doc__) == ("inner", "Words.")


def test_no_grad_is_for_one_thread():
    seen = {}
    inside, looked = threading.Event(), threading.Event()

    def other():
        with no_grad():
            seen["in the block"] = records()
            inside.set()
            looked.wait()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    seen["beside it"] = records()
    looked.set()
    thread.join()
    assert seen == {"in the block": False, "beside it": True}


def test_a_leaf_made_under_no_grad_works_afterwards():
    with no_grad():
        x = leaf(3.0)
    (x * x).backward()
    assert x.grad.item() == 6.0


def test_backward_under_no_grad_is_refused():
    y = leaf(1.0) * 2.0
    with no_grad(), pytest.raises(TapeError, match=r"called under no_grad\(\)"):
        y.backward()
    with no_grad():
        z = leaf(1.0) * 2.0
    with pytest.raises(TapeError, match="does not require a gradient"):
        z.backward()


def test_cotangent_is_needed_and_of_the_right_shape():
    x = leaf(1.0, 2.0, 3.0)
    with pytest.raises(ShapeError, match=r"a tensor of 3 elements \(shape=\(3,\)\) needs a cotangent"):
        (x * 1.0).backward()
    with pytest.raises(ShapeError, match=r"cotangent must have shape \(3,\), got \(1, 3\)"):
        (x * 1.0).backward(np.ones((1, 3)))
    assert x.grad is None


# -- threads -----------------------------------------------------------------------------------------------------------


def trained_weights(seed, steps=60):
    rng = np.random.default_rng(seed)
    model = nn.Sequential(nn.Linear(5, 16, rng=rng), nn.Tanh(), nn.Dropout(0.2, rng=rng), nn.Linear(16, 3, rng=rng))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    x, targets = rng.normal(size=(32, 5)).astype(np.float32), rng.integers(0, 3, 32)
    for step in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), targets).backward()
        optimizer.step()
        if step % 7 == 0:
            with no_grad():
                model(x)
    return model.state_dict()


def test_two_threads_train_two_models_as_one_after_the_other():
    results = {}
    start = threading.Barrier(2)
    interval = sys.getswitchinterval()

    def train(seed):
        start.wait()
        results[seed] = trained_weights(seed)

    sys.setswitchinterval(1e-5)  # as many changes of thread as possible
    try:
        threads = [threading.Thread(target=train, args=(seed,)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for seed in (1, 2):
        for name, value in trained_weights(seed).items():
            np.testing.assert_array_equal(results[seed][name], value, err_msg=f"seed {seed}, {name}")
