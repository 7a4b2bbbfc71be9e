"""The engine against its naive twin, and the shapes of graph that small programs do not reach."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tinygrad_lite import Tensor, apply, no_grad, tape
from tinygrad_lite.fuzz.engine import GraphMachine

TestGraph = GraphMachine.TestCase
TestGraph.settings = settings(stateful_step_count=20)


def run(examples=100):
    chosen = settings(max_examples=examples, stateful_step_count=20, database=None, derandomize=True, phases=[Phase.generate])
    run_state_machine_as_test(GraphMachine, settings=chosen)


def is_caught():
    """Whether the machine fails, and by an assertion of its own: a crash of the planted engine would prove nothing."""
    caught = False
    try:
        run(examples=100)
    except* AssertionError:
        caught = True
    return caught


def test_the_right_engine_passes_the_same_run():
    run()


def last_wins(root, cotangent, *only):
    """pytorch 181146, TrenTorch PR 182: a tensor that is used twice keeps the last gradient only."""
    uses, pending, ready = tape._uses(root), {root: cotangent}, [root]
    while ready:
        node = ready.pop()
        g = pending[node]
        if isinstance(node, tape.Leaf):
            node.grad = np.array(g) if node.grad is None else node.grad + g
            continue
        for parent, gradient in zip(node.parents, node.vjp(g), strict=True):
            if parent is not None:
                pending[parent] = gradient
                uses[parent] -= 1
                if not uses[parent]:
                    ready.append(parent)
        node.vjp, node.parents = None, ()


def assigns(root, cotangent, *only):
    """Gradients are assigned and not added up over backward passes."""
    for node in tape._uses(root):
        if isinstance(node, tape.Leaf):
            node.grad = None
    original(root, cotangent, *only)


def not_freed(root, cotangent, *only):
    """The graph is kept after backward."""
    nodes = [(node, node.vjp, node.parents) for node in tape._uses(root) if node.vjp]
    original(root, cotangent, *only)
    for node, vjp, parents in nodes:
        node.vjp, node.parents = vjp, parents


original = tape.backward


@pytest.mark.parametrize("wrong", [last_wins, assigns, not_freed])
def test_wrong_engines_are_caught(wrong, monkeypatch):
    monkeypatch.setattr(tape, "backward", wrong)
    assert is_caught()


def test_a_no_grad_that_forgets_exceptions_is_caught(monkeypatch):
    def leave(self, kind, error, trace):
        before = tape.state.before.pop()
        if kind is None:
            tape.state.recording = before

    monkeypatch.setattr(no_grad, "__exit__", leave)
    try:
        assert is_caught()
    finally:
        tape.state.recording = True


def test_depth_of_50000():
    x = Tensor(np.ones(1), requires_grad=True)
    y = x
    for _ in range(50_000):
        y = y + x * 0.0
    y.backward(np.ones(1))
    np.testing.assert_array_equal(x.grad, [1.0])
    z = x
    for _ in range(50_000):
        z = z + 1.0
    del z  # freeing what was never gone back through must not recurse either


def test_diamonds_with_2_to_the_50_paths_take_linear_time():
    x = Tensor(np.ones(1), requires_grad=True)
    y = x
    for _ in range(50):
        y = (y + y) * 0.5
    y.backward(np.ones(1))
    np.testing.assert_array_equal(x.grad, [1.0])


def test_nothing_is_alive_after_backward():
    class Payload(np.ndarray):
        pass

    x = Tensor(np.ones(3), requires_grad=True)
    kept = np.ones(3).view(Payload)
    seen = weakref.ref(kept)

    def keeping(a, k):
        return a * 2, lambda g: (g * 2 * np.asarray(k),)

    out = apply(lambda a, seen=seen: keeping(a, seen()), x).sum()
    del kept
    gc.disable()
    try:
        assert seen() is not None
        out.backward()
        assert seen() is None, "what a rule keeps for its backward must go when backward has passed"
    finally:
        gc.enable()


def test_the_same_tensor_twice():
    x = Tensor(np.array([3.0, -1.0]), requires_grad=True)
    (x * x).backward(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(x.grad, [6.0, -4.0])


def test_equal_leaves_stay_apart():
    a, b = (Tensor(np.array([2.0]), requires_grad=True) for _ in range(2))
    (a * b * b).backward(np.ones(1))
    assert (a.grad[0], b.grad[0]) == (4.0, 8.0)
