"""The tape: what was computed, in the order in which it was, so that backward can go the same way back.

Backward counts how many steps used each node, with a stack (no recursion, however deep the graph). The turn of a node comes
when all of them have given their share of its cotangent. Nothing that a rule returned is ever written into, for rules may
return views of their cotangent. The graph is freed as backward passes over it.
"""

import functools
import inspect
import os
import sys
import threading
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tinygrad_lite._types import Array, Vjp
from tinygrad_lite.errors import DtypeError, TapeError

P = ParamSpec("P")
R = TypeVar("R")


class Node:
    """One recorded step. `parents` has an entry for each array argument: its node, or None if it needs no gradient.

    `vjp` is None once backward has passed, and the arrays that it held are free.
    """

    __slots__ = ("__weakref__", "parents", "vjp")

    def __init__(self, parents: "tuple[Node | None, ...]", vjp: Vjp | None) -> None:
        self.parents = parents
        self.vjp = vjp

    @property
    def rule_name(self) -> str:
        """Name of the rule that made this step, for messages."""
        places = getattr(self.vjp, "__qualname__", "a rule that was freed").split(".<locals>.")  # [..., rule, vjp]
        return str(places[max(0, len(places) - 2)])


class Leaf(Node):
    """Where a gradient ends: it is collected here. `stale` once the values that it stands for were changed in place.

    `lent` while something that is not on the tape may share the array of these values: a detach(), a copy, a view made under
    no_grad(). Then a change in place gets a new array first, and the sharer keeps the old values.
    """

    __slots__ = ("grad", "lent", "stale")

    def __init__(self) -> None:
        self.parents, self.vjp, self.stale, self.lent = (), None, False, False
        self.grad: Array | None = None

    def successor(self) -> "Leaf":
        """Give a leaf for the changed values, with the gradient so far; what used the old ones finds this one stale."""
        fresh = Leaf()
        with _collecting:
            fresh.grad, self.grad, self.stale = self.grad, None, True
        return fresh


class _State(threading.local):
    """What is so in this thread: whether operations are recorded, and whether they were before each no_grad() around."""

    def __init__(self) -> None:
        self.recording = True
        self.before: list[bool] = []


state = _State()


class no_grad:  # noqa: N801 - PyTorch's name, and used like a function
    """Record nothing inside: `with no_grad():` or as a decorator, `@no_grad()` or `@no_grad`.

    The former state comes back at the end, after an exception too. Each thread has a state of its own, so one instance may be
    shared by threads and entered again inside itself.

    Raises
    ------
    DtypeError : what is decorated is no function, or a generator, whose body runs later.

    Examples
    --------
    >>> from tinygrad_lite import Tensor
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> with no_grad():
    ...     (2 * x).requires_grad
    False
    """

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        """Give the function, decorated, where brackets were left out."""
        plain = super().__new__(cls)
        return plain if function is None else plain(function)

    def __enter__(self) -> None:
        state.before.append(state.recording)
        state.recording = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        state.recording = state.before.pop()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if not callable(function) or any(
            is_kind(function)
            for is_kind in (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
        ):
            raise DtypeError(
                f"no_grad: decorates functions that are no generators, got {function!r:.80}; use `with` inside it."
            )

        @functools.wraps(function)
        def without_recording(*args: P.args, **kwargs: P.kwargs) -> R:
            with no_grad():
                return function(*args, **kwargs)

        return without_recording


def backward(root: Node, cotangent: Array, only: Collection[Node] | None = None) -> None:
    """Go back from `root` and add to the gradient of every leaf that it depends on, or only of some. Frees the graph behind it.

    The first gradient of a leaf is an array of its own, a later one makes a new sum. If a rule fails, no leaf has changed.
    """
    leaves = _gradients(root, cotangent)
    with _collecting:
        while leaves:
            leaf, g, references = _take(leaves)
            if only is not None and leaf not in only:
                continue
            if leaf.stale:  # since the start of this backward, by another thread or a rule
                raise _gone(leaf)
            if leaf.grad is not None:
                leaf.grad = np.asarray(leaf.grad + g)  # a sum of 0-d arrays is none
            elif references == _ALONE and type(g) is np.ndarray and g.base is None and g.flags.writeable:
                leaf.grad = g  # nobody else holds it, so it needs no copy; PyTorch does the same
            else:
                leaf.grad = np.array(g)


_collecting = threading.Lock()  # of gradients: threads may share leaves, and a sum takes a while


def _after_fork() -> None:
    """Another thread may have been collecting when the process was forked."""
    global _collecting
    _collecting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _take(leaves: list[tuple[Any, Array]]) -> tuple[Any, Array, int]:
    """Take out a leaf with its gradient and the number of references to that."""
    leaf, g = leaves.pop()
    return leaf, g, sys.getrefcount(g)


_ALONE = _take([(None, np.empty(0))])[2]  # what it is when nobody else has one, in this version of Python


def _gradients(root: Node, cotangent: Array) -> list[tuple[Leaf, Array]]:
    """Go back from `root`, and give each leaf with its gradient.

    A node is `ready` when all steps that used it have given their share; until then the sum lies in `shares`.
    """
    uses = _uses(root)
    shares: dict[Node, Array] = {}  # of nodes that wait for more
    leaves: list[tuple[Leaf, Array]] = []
    ready: list[tuple[Node, Any]] = [(root, cotangent)]
    while ready:
        node, g = ready.pop()  # g is None where every path ended in a rule that had no gradient to give
        parents, vjp = node.parents, node.vjp
        if vjp is None:
            if g is not None:
                leaves.append((node, g))  # type: ignore[arg-type]  # _uses has made sure that it is a Leaf
            continue
        gradients = (None,) * len(parents) if g is None else vjp(g)
        if len(gradients) != len(parents):
            raise TapeError(
                f"backward: the vjp of {node.rule_name} must return one gradient for each of its "
                f"{len(parents)} array arguments, got {len(gradients)}; use None for one that has none."
            )
        node.vjp, node.parents = None, ()
        for parent, share in zip(parents, gradients):  # noqa: B905 - as long as each other, and this runs for every step
            if parent is not None:
                if shares and parent in shares:
                    share = shares.pop(parent) if share is None else np.asarray(shares.pop(parent) + share)
                if uses[parent] == 1:
                    ready.append((parent, share))
                    continue
                uses[parent] -= 1
                if share is not None:
                    shares[parent] = share
    return leaves


def _uses(root: Node) -> dict[Node, int]:
    """Each node that `root` depends on, and how many steps on the way to it used that."""
    uses, stack = {root: 0}, [root]
    while stack:
        node = stack.pop()
        if node.vjp is None and (not isinstance(node, Leaf) or node.stale):
            raise _gone(node)
        for parent in node.parents:
            if parent is not None:
                if parent in uses:
                    uses[parent] += 1
                else:
                    uses[parent] = 1
                    stack.append(parent)
    return uses


def _gone(node: Node) -> TapeError:
    """Word why there is no way back through a node."""
    if isinstance(node, Leaf):
        return TapeError(
            "backward: a leaf of this graph has changed in place since it was used (by an optimiser's step, load_state_dict or "
            "an operator under no_grad()), and its gradient would be wrong; call backward() before that, or compute it again."
        )
    return TapeError(
        "backward: this graph was already gone through once and has been freed; "
        "compute the result again before calling backward() a second time."
    )
