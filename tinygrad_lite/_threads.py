"""Work on two or more cores: big arrays in parts, one part a core.

NumPy lets go of the interpreter inside products, copies and elementwise functions, so Python threads share them out well. Each
part then calls the BLAS with a single thread; that way copies, products and additions run side by side, and not the products
alone. There are as many parts as the BLAS has threads, so OPENBLAS_NUM_THREADS says how many cores are used here too. What a
part computes does not depend on who else is at work: models in several threads do not disturb each other.

OpenBLAS has one number of threads for the process, and its own threads, once woken, keep a core busy for a while in the hope of
more. So every product that it would share out goes through `products` or `run` here. Under another BLAS all work is done in one
part, by the caller.
"""

import contextvars
import functools
import itertools
import math
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from tinygrad_lite import _blas
from tinygrad_lite._types import Array

Part = TypeVar("Part")
Block = tuple[Any, ...]

ENOUGH = 1 << 19  # elements, below which waking a thread costs more than it brings
PASSES = 8  # over an array, of a function of several steps
PRODUCT = 16  # multiply-adds in the time of one element
SCRATCH = 4 << 20  # bytes of passing arrays that one core may hold
WHOLE = 8  # of several tasks, the factor below which each is left in one piece: fewer and longer calls of NumPy
BLAS_SHARES = 1 << 18  # multiply-adds above which OpenBLAS would use its own threads,
BLAS_SHARES_VECTOR = 460_000  # those of a matrix by a vector, since OpenBLAS 0.3.27,
BLAS_SHARES_VECTORS = 9000  # and of a vector by a vector


class _Cores:
    """The worker threads. As a context: OpenBLAS held to one thread until the last caller is out."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.workers = 0
        self.callers = 0
        self.threads = 1  # of OpenBLAS, before the first caller came

    def count(self) -> int:
        openblas = _blas.thread_setting()
        if openblas is None:
            return 1
        with self.lock:  # not between a change of OpenBLAS and the note of it
            return self.threads if self.callers else openblas.get()

    def __enter__(self) -> None:
        openblas = _blas.thread_setting()
        with self.lock:
            if not self.callers and openblas is not None:
                self.threads = openblas.get()
                if self.threads > 1:
                    openblas.set(1)
            self.callers += 1

    def __exit__(self, *_: object) -> None:
        openblas = _blas.thread_setting()
        with self.lock:
            self.callers -= 1
            if not self.callers and openblas is not None and self.threads > 1:
                openblas.set(self.threads)

    def ask(self, jobs: list[Callable[[], None]]) -> None:
        """Have the workers do these jobs, as soon as they are free."""
        with self.lock:
            while self.workers < len(jobs):
                threading.Thread(target=self._work, name="tinygrad_lite", daemon=True).start()
                self.workers += 1
        for job in jobs:
            self.jobs.put(job)

    def _work(self) -> None:
        while True:
            self.jobs.get()()


_cores = _Cores()


def _after_fork() -> None:
    """Threads do not live on in a child process: start again, with OpenBLAS as it was."""
    global _cores
    before, _cores = _cores, _Cores()
    openblas = _blas.thread_setting()
    if before.callers and openblas is not None:
        openblas.set(before.threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def slices(size: int, work: int, scratch: int = 0) -> list[slice]:
    """Parts of range(size), one for each core, or a single one where all the `work` (in elements) is not worth it.

    More, of the same number for each core, where the arrays that are needed for a while come to many bytes of `scratch`.
    """
    cores = _cores.count() if work >= ENOUGH else 1
    count = min(size, cores * max(1, -(-scratch // (SCRATCH * cores))))
    edges = [size * i // count for i in range(count + 1)] if count > 1 else [0, size]
    return list(itertools.starmap(slice, itertools.pairwise(edges)))


def blocks(x: Array, axes: int | None = None, *, whole: int | None = None, passes: int = 1) -> list[Block]:
    """Indices that cut an array into parts along one of its first `axes` axes: the one whose steps in memory are longest.

    Never along the axis `whole`. Work in several passes, each with a passing array, gets more parts, so that these stay in
    a core's own cache.
    """
    free = [i for i in range(x.ndim)[:axes] if whole not in (i, i - x.ndim)] if x.size >= ENOUGH else []
    if not free:
        return [(...,)]
    axis = max(free, key=lambda i: (x.shape[i] > 1, abs(x.strides[i])))
    return [(slice(None),) * axis + (part,) for part in slices(x.shape[axis], x.size, (passes - 1) * x.nbytes)]


def each(function: Callable[..., object], first: Array, *others: Array) -> None:
    """Call `function` with these arrays, all of one shape, or with the same parts of all of them at the same time."""
    if first.size < ENOUGH:
        function(first, *others)
    else:
        run(lambda part: function(*[array[part] for array in (first, *others)]), blocks(first))


def mapped(function: Callable[..., Array], first: Array, *others: Array, whole: int | None = None) -> Array:
    """`function` of arrays of one shape, that goes over them in several passes: an array of that shape.

    Each element of it depends on theirs in the same place alone, or along the axis `whole`.
    """
    parts = blocks(first, whole=whole, passes=PASSES)
    if len(parts) == 1:
        return function(first, *others)
    out = np.empty_like(first, dtype=np.result_type(first, *others))
    run(lambda part: np.copyto(out[part], function(*[array[part] for array in (first, *others)])), parts)
    return out


def run(work: Callable[[Part], object], parts: Sequence[Part]) -> None:
    """Call `work` with each of the parts, at the same time. The parts must not write to the same place.

    The first error of a part is raised here, after all parts have come to an end.
    """
    if len(parts) == 1:
        work(parts[0])
        return
    left = iter(parts)
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def pull() -> None:
        for part in left:
            try:
                work(part)
            except BaseException as error:  # raised again below, in the thread of the caller
                done.put(error)
            else:
                done.put(None)

    with _cores:
        helpers = min(len(parts), _cores.count()) - 1
        # Each in a copy of the caller's context, which holds np.errstate.
        _cores.ask([functools.partial(contextvars.copy_context().run, pull) for _ in range(helpers)])
        pull()
        errors = [done.get() for _ in parts]
    for error in errors:
        if error is not None:
            raise error


def are_little(multiply_adds: int, largest: int, scratch: int) -> bool:
    """Whether there is nothing to share out of such products, and OpenBLAS would not either; see `products`."""
    return multiply_adds < ENOUGH * PRODUCT and largest <= BLAS_SHARES and scratch <= SCRATCH


def products(multiply_adds: int, largest: int, scratch: int, *tasks: tuple[Callable[[slice], None], int]) -> None:
    """Call the function of each task (function, size) with slices that make up range(size).

    The matrix products of a task have so many multiply-adds altogether, the `largest` of them so many alone; its passing
    arrays have so many bytes.
    """
    if are_little(multiply_adds, largest, scratch):
        for function, size in tasks:
            function(slice(0, size))
        return
    work = multiply_adds // PRODUCT
    share = work if len(tasks) == 1 else work // WHOLE  # several small ones go side by side, uncut
    parts = [(function, part) for function, size in tasks for part in slices(size, share, scratch)]
    if work >= ENOUGH and len(parts) > 1:
        run(lambda task: task[0](task[1]), parts)
        return
    with _cores:
        for function, part in parts:
            function(part)


def _blas_would_share(multiply_adds: int, n: int, m: int) -> bool:
    """Whether OpenBLAS would use its own threads for a product with a result of n x m."""
    if n > 1 and m > 1:
        return multiply_adds > BLAS_SHARES
    return multiply_adds > (BLAS_SHARES_VECTORS if n == m else BLAS_SHARES_VECTOR)


def matmul(a: Array, b: Array) -> Array:
    """The matrix product a @ b, shared out by the rows or columns of the result, whichever are more, or by a leading axis."""
    if (a.ndim > 2 and b.ndim > 1) or (b.ndim > 2 and a.ndim > 1):
        return _matmul_of_many(a, b)
    n, m = a.shape[0] if a.ndim > 1 else 1, b.shape[-1] if b.ndim > 1 else 1
    if not _blas_would_share(a.size * m, n, m):
        return np.asarray(a @ b)
    if a.ndim != 2 or b.ndim != 2:
        with _cores:
            return np.asarray(a @ b)
    if a.size * m <= _blas.SMALL or a.shape[1] == 1:
        with _cores:
            return np.asarray(np.dot(a, b))  # matmul is slow at a column by a row, as in the gradient of one image
    out = np.empty((n, m), np.result_type(a, b))

    def some(part: slice) -> None:
        if n > m:
            _blas.product(a[part], b, out[part])
        else:
            _blas.product(a, b[:, part], out[:, part])

    products(a.size * m, a.size * m, 0, (some, max(n, m)))
    return out


def _matmul_of_many(a: Array, b: Array) -> Array:
    """Products of the last two axes, (..., n, k) @ (..., k, m), leading axes broadcast."""
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    (n, k), m = a.shape[-2:], b.shape[-1]
    multiply_adds = math.prod(lead) * n * k * m
    if not _blas_would_share(multiply_adds, n, m):
        return np.asarray(a @ b)
    if multiply_adds < ENOUGH * PRODUCT:
        with _cores:
            return np.asarray(a @ b)
    A, B = np.broadcast_to(a, (*lead, n, k)), np.broadcast_to(b, (*lead, k, m))
    out = np.empty((*lead, n, m), np.result_type(a, b))
    axis = max(range(len(lead)), key=lead.__getitem__)

    def some(part: slice) -> None:
        index = (slice(None),) * axis + (part,)
        _blas.product(A[index], B[index], out[index])

    products(multiply_adds, n * k * m, 0, (some, lead[axis]))
    return out
