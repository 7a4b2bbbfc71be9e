"""Work in parts gives what work in one piece gives, whoever else is at work."""

import os
import threading
import tracemalloc

import numpy as np
import pytest

import tinygrad_lite.functional as F
from models.lenet import LeNet
from tinygrad_lite import Tensor, _blas, optim
from tinygrad_lite import _threads as threads
from tinygrad_lite.fuzz import grad_tests
from tinygrad_lite.fuzz.project import SPECS
from tinygrad_lite.ops import activation, softmax
from tinygrad_lite.ops.conv import conv2d

PARALLEL = (
    "conv.conv2d",
    "pool.max_pool2d",
    "matmul.matmul",
    "matmul.linear",
    "activation.relu",
    "activation.leaky_relu",
    "activation.gelu",
    "softmax.softmax",
    "softmax.log_softmax",
    "norm.layer_norm",
    "norm.batch_norm",
)
needs_openblas = pytest.mark.skipif(_blas.thread_setting() is None, reason="NumPy is linked to another BLAS than OpenBLAS")


@pytest.fixture(scope="module", autouse=True)
def two_threads():
    """Work is shared out here, also where the tests around it run on one core each."""
    setting = _blas.thread_setting()
    if setting is None:
        yield
        return
    before = setting.get()
    setting.set(2)
    yield
    setting.set(before)


@pytest.fixture(scope="class")
def small_parts():
    """However small the work, three parts of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "ENOUGH", 2)  # neither empty arrays nor numbers
        patch.setattr(threads, "BLAS_SHARES", 0)
        patch.setattr(threads, "BLAS_SHARES_VECTOR", 0)
        patch.setattr(threads, "BLAS_SHARES_VECTORS", 0)
        patch.setattr(_blas, "SMALL", 20)
        patch.setattr(threads._Cores, "count", lambda self: 3)
        yield


TestParts = pytest.mark.usefixtures("small_parts")(grad_tests([s for s in SPECS if s.name.partition(" ")[0] in PARALLEL]))


def test_the_table_has_the_rules_that_work_in_parts():
    assert {s.name.partition(" ")[0] for s in SPECS} >= set(PARALLEL)


@pytest.mark.parametrize("order", ["C", "as a convolution leaves it"])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"groups": 2}, {"dilation": 2}])
def test_convolution_and_pooling_in_parts(small_parts, order, options, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 4, 9, 8))
    if order != "C":
        x = np.ascontiguousarray(x.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2)
    weight = rng.standard_normal((6, 4 // options.get("groups", 1), 3, 2))

    def all_results():
        tensors = [Tensor(a, requires_grad=True) for a in (x, weight, np.arange(6.0))]
        out = F.max_pool2d(F.relu(F.conv2d(*tensors, **options)), 2, stride=1)
        out.backward(np.cos(np.arange(out.size)).reshape(out.shape))
        return [out.numpy(), *(t.grad for t in tensors)]

    in_parts = all_results()
    monkeypatch.setattr(threads._Cores, "count", lambda self: 1)
    for part, whole in zip(in_parts, all_results(), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("g_step", "x_step"), [(1.0, 0.0), (0.0, 1.0)])
def test_complex_numbers_stay_complex_in_parts(small_parts, g_step, x_step):
    g, x = np.cos(np.arange(30.0)) + g_step * 1j, np.linspace(-3, 3, 30) + x_step * 1j
    g, x = (a if a.imag.any() else a.real for a in (g, x))
    in_parts = activation.sigmoid(x)[1](g)[0]
    np.testing.assert_allclose(in_parts, g * np.exp(-x) / (1 + np.exp(-x)) ** 2, rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_a_whole_axis_is_not_cut(small_parts, axis):
    x = np.random.default_rng(0).standard_normal((4, 6))
    powers = np.exp(x)
    np.testing.assert_allclose(softmax.softmax(x, axis=axis)[0], powers / powers.sum(axis=axis, keepdims=True), rtol=1e-12)


def train(seed, steps=6):
    rng = np.random.default_rng(seed)
    model = LeNet(rng)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        images, labels = rng.random((48, 1, 28, 28), np.float32), rng.integers(0, 10, 48)
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.state_dict()


@needs_openblas
def test_models_in_two_threads_do_not_disturb_each_other():
    alone = [train(seed) for seed in range(3)]
    together: dict[int, dict[str, np.ndarray]] = {}
    others = [threading.Thread(target=lambda seed=seed: together.update({seed: train(seed)})) for seed in range(3)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    for seed, weights in enumerate(alone):
        for name, array in weights.items():
            np.testing.assert_array_equal(together[seed][name], array, err_msg=name)


@needs_openblas
def test_openblas_has_its_threads_back_afterwards():
    count, seen = _blas.thread_setting().get, []
    enough = threads.ENOUGH * threads.PRODUCT
    for work, size in ((enough - 1, 6), (enough, 1), (enough, 6)):  # one part, one part, two
        threads.products(work, threads.BLAS_SHARES + 1, 0, (lambda part: seen.append((count(), threads._cores.count())), size))
    assert seen == [(1, 2)] * 4  # held to one, and yet known that there are two
    assert count() == 2


@pytest.mark.parametrize(
    ("first", "second", "held"),
    [
        ((1, 9001), (9001, 1), 1), ((9001,), (9001,), 1), ((500, 921), (921,), 1), ((1, 921), (921, 500), 1),
        ((3, 4, 40_000), (40_000, 1), 1), ((65, 64), (64, 64), 1), ((3, 64, 64), (64, 64), 1),
        ((1, 9000), (9000, 1), 0), ((500, 920), (920,), 0), ((1, 920), (920, 500), 0), ((60, 60), (60, 60), 0),
        ((3, 4, 30_000), (30_000, 1), 0),
    ],
)  # fmt: skip
def test_what_openblas_would_share_out_is_held_to_one_thread(first, second, held, monkeypatch):
    entered = []
    monkeypatch.setattr(threads._Cores, "__enter__", lambda self: entered.append(1))
    monkeypatch.setattr(threads._Cores, "__exit__", lambda *_: None)
    a, b = np.ones(first), np.ones(second)
    np.testing.assert_array_equal(threads.matmul(a, b), a @ b)
    assert len(entered) == held


@pytest.mark.parametrize(
    ("x", "weight", "held"),
    [
        ((1, 1, 28, 28), (20, 1, 5, 5), 0),  # many multiply-adds altogether, few in each product
        ((1, 20, 12, 12), (50, 20, 5, 5), 0),
        ((2, 20, 12, 12), (50, 20, 5, 5), 1),
        ((1, 50, 8, 4), (100, 50, 3, 3), 1),  # all rows in one product
    ],
)
def test_a_convolution_of_small_products_leaves_openblas_alone(x, weight, held, monkeypatch):
    entered, largest, matmul = [], [], np.matmul

    def spy(a, b, **given):
        largest.append(a.shape[-2] * a.shape[-1] * b.shape[-1])
        return matmul(a, b, **given)

    monkeypatch.setattr(threads._Cores, "__enter__", lambda self: entered.append(1))
    monkeypatch.setattr(threads._Cores, "__exit__", lambda *_: None)
    monkeypatch.setattr(_blas, "has_small_kernels", lambda: False)  # no product is cut
    monkeypatch.setattr(np, "matmul", spy)
    conv2d(np.ones(x, np.float32), np.ones(weight, np.float32))
    assert (len(entered), max(largest) > threads.BLAS_SHARES) == (held, held)


@pytest.mark.parametrize(("first", "second"), [((5, 1), (3,)), ((7,), ()), ((), (2, 4)), ((1, 4), (6, 4))])
def test_many_products_are_shared_out_by_a_leading_axis(small_parts, first, second, monkeypatch):
    monkeypatch.setattr(threads, "PRODUCT", 1)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(*first, 3, 4)), rng.normal(size=(*second, 4, 5))
    np.testing.assert_allclose(threads.matmul(a, b), a @ b, rtol=1e-13)


def test_the_error_of_a_part_is_raised(small_parts):
    def work(part):
        if part.start:
            raise ValueError(f"part at {part.start}")

    with pytest.raises(ValueError, match="part at 2"):
        threads.products(99, 99, 0, (work, 6))
    assert threads._cores.callers == 0


def test_small_tasks_go_side_by_side_in_one_piece(small_parts, monkeypatch):
    together, parts = threading.Barrier(2, timeout=60), []

    def work(part):
        together.wait()
        parts.append(part)

    monkeypatch.setattr(threads, "ENOUGH", 4)
    monkeypatch.setattr(threads, "PRODUCT", 1)
    threads.products(4, 4, 0, (work, 6), (work, 5))
    assert sorted(part.stop - part.start for part in parts) == [5, 6]


def test_each_part_has_a_thread_and_the_errstate_of_the_caller(small_parts):
    together = threading.Barrier(3, timeout=60)

    def work(part):
        together.wait()
        if threading.current_thread() is not threading.main_thread():
            np.exp(np.float64(1e4))

    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        threads.run(work, [0, 1, 2])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_process_has_threads_of_its_own(small_parts):
    def in_three_threads():
        together = threading.Barrier(3, timeout=20)
        threads.run(lambda part: together.wait(), [0, 1, 2])

    in_three_threads()
    child = os.fork()
    if child == 0:
        try:
            in_three_threads()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_parts_make_up_the_whole():
    for size in range(1, 40):
        covered = [i for part in threads.slices(size, threads.ENOUGH) for i in range(size)[part]]
        assert covered == list(range(size))
    assert len(threads.slices(1000, threads.ENOUGH - 1)) == 1


def test_more_parts_where_passing_arrays_are_big(monkeypatch):
    monkeypatch.setattr(threads._Cores, "count", lambda self: 3)
    for scratch, each in ((0, 1), (threads.SCRATCH * 3, 1), (threads.SCRATCH * 3 + 1, 2)):
        assert len(threads.slices(1000, threads.ENOUGH, scratch)) == 3 * each


@pytest.mark.parametrize("needs", [(False, False), (True, False), (False, True)])
def test_a_big_convolution_holds_few_patches_at_a_time(needs, monkeypatch):
    monkeypatch.setattr(threads, "SCRATCH", 1 << 12)
    monkeypatch.setattr(threads._Cores, "count", lambda self: 2)  # each core holds some
    rng = np.random.default_rng(0)
    x, weight = rng.random((32, 16, 28, 28), np.float32), rng.random((2, 16, 5, 5), np.float32)
    patches = 16 * 25 * 24 * 24 * 32 * 4  # bytes
    tracemalloc.start()
    try:
        out, vjp = conv2d(x, weight, needs=needs)
        if any(needs):
            vjp(out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < patches / 4 + 3 * x.nbytes
