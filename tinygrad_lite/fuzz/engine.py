"""A state machine over the engine: random programs of Tensors, beside a naive twin that sums over all paths."""

import itertools
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from tinygrad_lite.errors import TapeError
from tinygrad_lite.gradcheck.layout import Array
from tinygrad_lite.tape import no_grad, state
from tinygrad_lite.tensor import Tensor, apply

VALUES = st.sampled_from((0.0, 1.0, -1.0, 0.5, 2.0)).flatmap(lambda a: st.sampled_from((1.0, -2.0, 0.25)).map(lambda b: (a, b)))
MOSTLY = st.sampled_from((True, True, True, False))
OPERATIONS: dict[str, tuple[Any, Any]] = {  # a op b, and its partial derivatives, element by element
    "add": (Tensor.__add__, lambda a, b: (np.ones(2), np.ones(2))),
    "sub": (Tensor.__sub__, lambda a, b: (np.ones(2), -np.ones(2))),
    "mul": (Tensor.__mul__, lambda a, b: (b, a)),
    "maximum": (Tensor.maximum, lambda a, b: ((a > b) + 0.5 * (a == b), (b > a) + 0.5 * (a == b))),
}


class _Boom(Exception):  # noqa: N818 - it is no error of ours
    """An error inside a rule."""


def _exploding(a: Array) -> Any:
    raise _Boom


def _exploding_backward(a: Array) -> Any:
    def vjp(g: Array) -> Array:
        raise _Boom

    return a * 1, vjp


@dataclass(eq=False)
class Twin:
    """A tensor and what it should be: its value, its parents with the partial derivatives, and a leaf's gradient."""

    tensor: Any  # a Tensor, or None once its last name is gone
    value: Array
    parents: list[tuple["Twin", Array]] = field(default_factory=list)
    grad: Array | None = None
    leaf: bool = False
    tracked: bool = True
    freed: bool = False
    bomb: bool = False
    unknown: bool = False  # perhaps freed: an error came while it was gone through

    def ancestors(self) -> set["Twin"]:
        found, stack = {self}, [self]
        while stack:
            fresh = [parent for parent, _ in stack.pop().parents if parent not in found]
            found.update(fresh)
            stack.extend(fresh)
        return found

    def paths(self, cotangent: Array) -> list[tuple["Twin", Array]]:
        """Every path to a leaf, with the product of the partial derivatives along it."""
        if self.leaf:
            return [(self, cotangent)]
        return list(itertools.chain.from_iterable(p.paths(cotangent * partial) for p, partial in self.parents))


class GraphMachine(RuleBasedStateMachine):
    """Programs of leaves, operations, views, no_grad, exceptions and backward passes; see the invariants."""

    tensors = Bundle("tensors")

    @initialize(target=tensors, values=VALUES)
    def first_leaf(self, values: tuple[float, float]) -> Twin:
        return self._leaf(values, True)

    def __init__(self) -> None:
        super().__init__()
        self.leaves: list[Twin] = []
        state.recording = True  # whatever a wrong engine left behind in the run before

    @rule(target=tensors, values=VALUES, requires_grad=MOSTLY)
    def new_leaf(self, values: tuple[float, float], requires_grad: bool) -> Twin:
        return self._leaf(values, requires_grad)

    def _leaf(self, values: tuple[float, float], requires_grad: bool) -> Twin:
        array = np.array(values)
        twin = Twin(Tensor(array, requires_grad=requires_grad), array.copy(), leaf=requires_grad, tracked=requires_grad)
        array[:] = 99.0  # what is done to the caller's array later must not matter
        if requires_grad:
            self.leaves.append(twin)
        return twin

    @rule(target=tensors, name=st.sampled_from(sorted(OPERATIONS)), a=tensors, recording=MOSTLY)
    def combine_with_itself(self, name: str, a: Twin, recording: bool) -> Twin:
        return self._combined(name, a, a, recording)

    @rule(target=tensors, name=st.sampled_from(sorted(OPERATIONS)), a=tensors, b=tensors, recording=MOSTLY)
    def combine(self, name: str, a: Twin, b: Twin, recording: bool) -> Twin:
        return self._combined(name, a, b, recording)

    @rule(target=tensors, name=st.sampled_from(sorted(OPERATIONS)), a=tensors, values=VALUES)
    def combine_with_a_new_leaf(self, name: str, a: Twin, values: tuple[float, float]) -> Twin:
        """Gradients of several leaves, which drawing from the bundle alone seldom gives."""
        return self._combined(name, a, self._leaf(values, True), True)

    def _combined(self, name: str, a: Twin, b: Twin, recording: bool) -> Twin:
        operate, partials = OPERATIONS[name]
        if recording:
            out = operate(a.tensor, b.tensor)
        else:
            with no_grad(), no_grad():
                out = operate(a.tensor, b.tensor)
        twin = Twin(out, operate(Tensor(a.value), Tensor(b.value)).data, tracked=recording and (a.tracked or b.tracked))
        if twin.tracked:
            pairs = zip((a, b), partials(a.value, b.value), strict=True)
            twin.parents = [(parent, np.asarray(partial, float)) for parent, partial in pairs if parent.tracked]
        assert out.requires_grad == twin.tracked, "an operation is recorded exactly when it should be"
        return twin

    @rule(target=tensors, a=tensors, how=st.sampled_from(("reshape", "repeat", "detach", "bomb")))
    def unary(self, a: Twin, how: str) -> Twin:
        if how == "detach":
            return Twin(a.tensor.detach(), a.value.copy(), tracked=False)
        if how == "bomb":
            return Twin(
                apply(_exploding_backward, a.tensor), a.value, [(a, np.ones(2))] * a.tracked, tracked=a.tracked, bomb=True
            )
        if how == "reshape":
            out = a.tensor.reshape(2, 1).reshape(2)
            return Twin(out, a.value, [(a, np.ones(2))] * a.tracked, tracked=a.tracked)
        out = a.tensor[np.array([0, 0])]  # the first element twice: a repeated index
        value = a.value[[0, 0]]
        return Twin(out + 0 * a.tensor, value, [(_First(a), np.ones(2))] * a.tracked, tracked=a.tracked)

    @rule(a=tensors)
    def exception_inside(self, a: Twin) -> None:
        try:
            with no_grad():
                apply(_exploding, a.tensor)
        except _Boom:
            pass
        assert (Tensor(1.0, requires_grad=True) * 2).requires_grad, "recording goes on after an exception inside no_grad"

    @rule(root=tensors, seed=st.integers(0, 99))
    def backward(self, root: Twin, seed: int) -> None:
        cotangent = np.round(np.random.default_rng(seed).standard_normal(2), 2)
        reached = root.ancestors()
        before = cotangent.copy()
        if any(twin.unknown for twin in reached):
            return
        bombs = any(twin.bomb for twin in reached)
        if not root.tracked or any(twin.freed for twin in reached):
            self._refused(root, cotangent, (TapeError, _Boom) if bombs else TapeError)
            return
        if bombs:
            self._refused(root, cotangent, _Boom)
            for twin in reached:  # how much was freed before the error is the engine's business
                twin.unknown = not twin.leaf
            return
        nodes: list[Any] = [weakref.ref(twin.tensor._node) for twin in reached if not twin.leaf and twin.tensor is not None]
        root.tensor.backward(cotangent)
        np.testing.assert_array_equal(cotangent, before, "backward must not write into its cotangent")
        for leaf, g in root.paths(cotangent):
            leaf.grad = g if leaf.grad is None else leaf.grad + g
        for twin in reached:
            twin.freed = not twin.leaf
        assert all(node() is None or not node().parents for node in nodes), "a freed node keeps nothing alive"

    def _refused(self, root: Twin, cotangent: Array, error: type[Exception] | tuple[type[Exception], ...]) -> None:
        try:
            root.tensor.backward(cotangent)
        except error:
            return
        raise AssertionError(f"backward should have raised {error}")

    @rule(a=tensors)
    def zero_grad(self, a: Twin) -> None:
        if a.leaf:
            a.tensor.zero_grad()
            a.grad = None

    @rule(gone=consumes(tensors))
    def delete(self, gone: Twin) -> None:
        """Drop the last name of a tensor: what was computed from it must still work."""
        if not gone.leaf:
            gone.tensor = None

    @invariant()
    def gradients_are_those_of_the_twin(self) -> None:
        for leaf in self.leaves:
            if leaf.grad is None:
                assert leaf.tensor.grad is None
            else:
                assert isinstance(leaf.tensor.grad, np.ndarray), "a gradient is an array, not a scalar"
                np.testing.assert_allclose(leaf.tensor.grad, leaf.grad, rtol=1e-12, atol=1e-12 * (1 + np.abs(leaf.grad).max()))

    @invariant()
    def gradients_have_their_own_memory(self) -> None:
        arrays = [twin.tensor.grad for twin in self.leaves if twin.tensor.grad is not None]
        assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))
        for twin in self.leaves:
            np.testing.assert_array_equal(twin.tensor.data, twin.value, "a leaf's value changed")


class _First(Twin):
    """Stand-in between a tensor and its first element taken twice: both cotangents go to that element."""

    def __init__(self, of: Twin) -> None:
        super().__init__(None, of.value, [(of, np.ones(2))])

    def paths(self, cotangent: Array) -> list[tuple[Twin, Array]]:
        return self.parents[0][0].paths(np.array([cotangent.sum(), 0.0]))
