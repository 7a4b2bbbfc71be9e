"""Optimisers and schedules against closed forms; state that goes on where it was.

This file is long because it follows `optim.py`, where optimisers and schedules stand together.
"""

import math

import numpy as np
import pytest

from tinygrad_lite import DtypeError, ShapeError, Tensor, TinygradError, nn, optim


def parameter(value=2.0):
    return nn.Parameter(np.array(value, np.float64))


def steps(optimizer, gradients):
    """Give the values of the first parameter after a step with each of the gradients."""
    p = optimizer.groups[0]["params"][0]
    values = []
    for g in gradients:
        p.grad = np.array(g, np.float64)
        optimizer.step()
        values.append(p.item())
    return values


# -- one step at a time ------------------------------------------------------------------------------------------------


def test_sgd():
    assert steps(optim.SGD([parameter(2.0)], lr=0.1), [3.0, -1.0]) == pytest.approx([1.7, 1.8], rel=1e-14)


@pytest.mark.parametrize("make", [lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9), optim.Adam, optim.AdamW])
def test_a_step_that_cannot_be_done_changes_nothing(make):
    first, second = parameter(np.ones(3)), parameter(np.ones(3))
    optimizer = make([first, second])

    def gradients():
        optimizer.zero_grad()
        (first.sum() * second.sum()).backward()

    gradients()
    optimizer.step()
    before = first.data.copy()
    second.data.flags.writeable = False
    gradients()
    with pytest.raises(DtypeError, match=r"\w+: a parameter \(shape=\(3,\)\) cannot be written; make it of a copy"):
        optimizer.step()
    for replaced in (np.ones(1), np.ones((2, 3))):
        second.data = replaced
        gradients()
        with pytest.raises(ShapeError, match=r"shape \(.*\) now, but had \(3,\) in the steps before; make a new optimiser"):
            optimizer.step()
    np.testing.assert_array_equal(first.data, before)
    second.data = np.ones(3)
    gradients()
    optimizer.step()
    assert (first.data != before).all()


def test_momentum():
    # v = 3, then 0.5 * 3 - 1 = 0.5
    assert steps(optim.SGD([parameter(2.0)], lr=0.1, momentum=0.5), [3.0, -1.0]) == pytest.approx([1.7, 1.65], rel=1e-14)


def test_nesterov():
    # v = 3 and step 3 + 0.5 * 3 = 4.5; then v = 0.5 and step -1 + 0.25
    found = steps(optim.SGD([parameter(2.0)], lr=0.1, momentum=0.5, nesterov=True), [3.0, -1.0])
    assert found == pytest.approx([1.55, 1.625], rel=1e-14)


def test_weight_decay():
    # 3 + 0.25 * 2 = 3.5
    assert steps(optim.SGD([parameter(2.0)], lr=0.1, weight_decay=0.25), [3.0]) == pytest.approx([1.65], rel=1e-14)


def test_momentum_under_a_constant_gradient_comes_to_its_limit():
    p = parameter(0.0)
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    values = steps(optimizer, [2.0] * 300)
    assert values[-2] - values[-1] == pytest.approx(0.1 * 2.0 / (1 - 0.9), rel=1e-9)


@pytest.mark.parametrize("g", [1e-3, 5.0, -2e4])
def test_adam_first_steps_have_the_size_of_the_rate(g):
    """Under a constant gradient both corrected means are exact: each step is lr g / (|g| + eps)."""
    values = steps(optim.Adam([parameter(1.0)], lr=0.01, eps=1e-6), [g] * 5)
    size = 0.01 * g / (abs(g) + 1e-6)
    assert values == pytest.approx([1 - size * n for n in range(1, 6)], rel=1e-12)


def test_adam_two_steps_by_hand():
    beta1, beta2, lr = 0.8, 0.9, 0.1
    m = (1 - beta1) * (beta1 * 3.0 + -1.0) / (1 - beta1**2)
    s = (1 - beta2) * (beta2 * 9.0 + 1.0) / (1 - beta2**2)
    found = steps(optim.Adam([parameter(2.0)], lr=lr, betas=(beta1, beta2), eps=0.0), [3.0, -1.0])
    assert found == pytest.approx([1.9, 1.9 - lr * m / math.sqrt(s)], rel=1e-13)


def test_decay_of_adam_goes_through_the_gradient_and_that_of_adamw_does_not():
    assert steps(optim.Adam([parameter(2.0)], lr=0.1, weight_decay=0.5, eps=0.0), [0.0]) == pytest.approx([1.9], rel=1e-13)
    assert steps(optim.AdamW([parameter(2.0)], lr=0.1, weight_decay=0.5), [0.0]) == pytest.approx([2.0 * 0.95], rel=1e-13)


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    lambda p: optim.Adam(p, lr=0.1, weight_decay=0.1), lambda p: optim.AdamW(p, lr=0.1),
])  # fmt: skip
def test_gradients_are_read_only_and_float32_stays(make):
    p = nn.Parameter(np.ones((2, 3), np.float32))
    data, g = p.data, np.full((2, 3), 0.5, np.float32)
    g.flags.writeable = False
    optimizer = make([p])
    for _ in range(3):
        p.grad = g
        optimizer.step()
    assert p.data is data  # in place: whoever holds the array sees the step
    assert p.data.dtype == np.float32
    states = [v for v in optimizer.state[0].values() if isinstance(v, np.ndarray)]
    assert states
    assert all(v.dtype == np.float32 for v in states)


def test_a_parameter_without_gradient_stays_and_keeps_its_state():
    p, q = parameter(1.0), parameter(1.0)
    optimizer = optim.SGD([p, q], lr=0.1, momentum=0.9, weight_decay=0.5)
    p.grad = np.array(1.0)
    optimizer.step()
    assert (p.item() != 1.0, q.item()) == (True, 1.0)
    optimizer.zero_grad()
    assert (p.grad, q.grad) == (None, None)


def test_groups_have_their_own_options():
    p, q = parameter(1.0), parameter(1.0)
    groups = [{"params": [p], "lr": 0.5, "weight_decay": 0.0}, {"params": (x for x in [q])}]
    optimizer = optim.SGD(groups, lr=0.1, weight_decay=1.0)
    p.grad = q.grad = np.array(1.0)
    optimizer.step()
    assert (p.item(), q.item()) == (0.5, 0.8)


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=0.1), lambda p: optim.AdamW(p, lr=0.1),
])  # fmt: skip
def test_saved_state_goes_on_as_an_unbroken_run(make):
    gradients = np.random.default_rng(0).normal(size=8)
    whole = steps(make([parameter()]), gradients)
    first = make([parameter()])
    steps(first, gradients[:4])
    state = first.state_dict()
    steps(first, [1e3])  # what happens afterwards does not reach the copy
    second = make([parameter(whole[3])])
    second.load_state_dict(state)
    assert steps(second, gradients[4:]) == whole[4:]


def test_the_momentum_of_complex_parameters_is_saved_too():
    p = nn.Parameter(np.array([1 + 1j, 2]))
    optimizer = optim.SGD([p], lr=0.1, momentum=0.5)
    for p.grad in ([2j, 1], [0, 0]):
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    np.testing.assert_allclose(p.data, [1 + 1.3j, 1.85], rtol=1e-14)
    state = {**optimizer.state_dict(), "state": [{"velocity": np.ones(2)}]}
    with pytest.raises(ShapeError, match=r"velocity of parameter 0 must be complex numbers of shape \(2,\), got .* float64"):
        optimizer.load_state_dict(state)


def stepped(kind, **options):
    optimizer = kind([parameter([1.0, 2.0])], lr=0.1, **options)
    optimizer.groups[0]["params"][0].grad = np.ones(2)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("groups", "state", "words"),
    [
        ({"betas": (0.9, 1.0)}, {}, r"betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        ({"betas": None}, {}, r"betas must be two numbers in \[0, 1\), got None"),
        ({"eps": "x"}, {}, "eps must be a number, got 'x'"),
        ({"lr": -1}, {}, r"lr must lie in \[0, inf\], got lr=-1"),
        ({"speed": 1}, {}, "AdamW has no option 'speed'"),
        ({"params": []}, {}, "AdamW has no option 'params'"),
        ({}, {"step": -1}, "step must be at least 0, got step=-1"),
        ({}, {"step": "x"}, "step must be an integer, got 'x'"),
        ({}, {"mean": [1.0, 2.0]}, r"mean of parameter 0 must be floats of shape \(2,\), got list"),
        ({}, {"square": np.array([1, 2])}, r"square of parameter 0 must be floats of shape \(2,\), got .* dtype int64"),
        ({}, {"velocity": np.ones(2)}, r"parameter 0 needs the state .*'square'.*, got .*'velocity'"),
    ],
)
def test_a_state_that_no_step_can_be_done_with_is_refused(groups, state, words):
    optimizer = stepped(optim.AdamW)
    good = optimizer.state_dict()
    with pytest.raises(TinygradError, match=f"load_state_dict: .*{words}"):
        optimizer.load_state_dict({"groups": [{**good["groups"][0], **groups}], "state": [{**good["state"][0], **state}]})
    after = optimizer.state_dict()
    assert after["groups"] == good["groups"]
    assert all(np.array_equal(after["state"][0][name], value) for name, value in good["state"][0].items())
    with pytest.raises(ShapeError, match="load_state_dict: nesterov needs momentum > 0"):
        stepped(optim.SGD).load_state_dict({**stepped(optim.SGD).state_dict(), "groups": [{"nesterov": True}]})


def test_state_of_other_parameters_changes_nothing():
    optimizer = optim.SGD([parameter([1.0, 2.0])], lr=0.1, momentum=0.9)
    other = optim.SGD([parameter([1.0, 2.0, 3.0])], lr=0.7, momentum=0.9)
    other.groups[0]["params"][0].grad = np.ones(3)
    other.step()
    with pytest.raises(ShapeError, match=r"velocity of parameter 0 must be floats of shape \(2,\), got shape \(3,\)"):
        optimizer.load_state_dict(other.state_dict())
    with pytest.raises(ShapeError, match="expected 1 groups with 1 parameters, got 1 with 2"):
        optimizer.load_state_dict(optim.SGD([parameter(), parameter()], lr=0.1).state_dict())
    assert (optimizer.groups[0]["lr"], optimizer.state) == (0.1, [{}])


# -- schedules ---------------------------------------------------------------------------------------------------------


def test_inv_is_caffes():
    schedule = optim.inv(gamma=1e-4, power=0.75)
    assert schedule(0) == 1
    assert schedule(10_000) == pytest.approx(2**-0.75, rel=1e-14)


def test_step_decay():
    assert [optim.step_decay(3, 0.5)(n) for n in range(8)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_cosine():
    schedule = optim.cosine(8, final=0.2)
    assert [schedule(n) for n in (0, 4, 8, 20)] == pytest.approx([1.0, 0.6, 0.2, 0.2], rel=1e-14)


def test_one_cycle_rises_and_falls():
    schedule = optim.one_cycle(100, warmup=0.3, start=0.04, final=0.01)
    values = [schedule(n) for n in range(101)]
    assert (values[0], values[30], values[100]) == pytest.approx((0.04, 1.0, 0.01), rel=1e-12)
    assert values[15] == pytest.approx(0.52, rel=1e-12)
    assert np.all(np.diff(values[:31]) > 0)
    assert np.all(np.diff(values[30:]) < 0)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_one_cycle_without_one_of_its_parts(warmup):
    values = [optim.one_cycle(10, warmup=warmup)(n) for n in range(11)]
    assert max(values) == 1.0
    assert values[0] == (1.0 if warmup == 0 else 0.04)
    assert optim.one_cycle(10, warmup=warmup)(100) == warmup  # where it only rises it stays up


def test_one_cycle_whose_top_lies_between_two_steps():
    n = np.arange(2, 11)
    expected = 0.5 + 0.5 * np.cos(np.pi * (n - 1.5) / 8.5)
    np.testing.assert_allclose([*map(optim.one_cycle(10, warmup=0.15), n)], expected, rtol=1e-12, atol=1e-15)


def test_scheduler_sets_every_group_and_goes_on():
    def make():
        optimizer = optim.SGD([{"params": [parameter()], "lr": 1.0}, {"params": [parameter()]}], lr=0.5)
        return optimizer, optim.LRScheduler(optimizer, optim.step_decay(2, 0.1))

    optimizer, scheduler = make()
    rates = []
    for _ in range(4):
        rates.append([group["lr"] for group in optimizer.groups])
        scheduler.step()
    assert rates == [[1.0, 0.5], [1.0, 0.5], [0.1, 0.05], [0.1, 0.05]]
    optimizer, again = make()
    again.load_state_dict(scheduler.state_dict())
    assert [group["lr"] for group in optimizer.groups] == pytest.approx([0.01, 0.005], rel=1e-14)
    with pytest.raises(ShapeError, match="expected 2 groups, got 1"):
        again.load_state_dict({"steps": 1, "first": [0.1]})


def test_clipping_scales_all_gradients_together():
    p, q = parameter([0.0, 0.0]), parameter(0.0)
    p.grad, q.grad = np.array([2.0, 3.0]), np.array(6.0)
    assert optim.clip_grad_norm([p, q, parameter()], 3.5) == pytest.approx(7.0, rel=1e-14)
    assert [*p.grad, q.grad.item()] == pytest.approx([1.0, 1.5, 3.0], rel=1e-14)
    assert optim.clip_grad_norm([p, q], 10.0) == pytest.approx(3.5, rel=1e-14)
    assert [*p.grad, q.grad.item()] == pytest.approx([1.0, 1.5, 3.0], rel=1e-14)


def test_clipping_leaves_what_gradients_were_set_from_alone():
    p, q = parameter([0.0, 0.0]), parameter([0.0, 0.0])
    g, single = np.array([0.0, 3.0]), np.broadcast_to(4.0, 2)  # which cannot be written
    p.grad, q.grad = g, single
    optim.clip_grad_norm([p], 1.0)
    optim.clip_grad_norm([q], math.sqrt(2))
    assert [*p.grad, *q.grad] == pytest.approx([0, 1, 1, 1], rel=1e-14)
    assert [*g, *single] == [0, 3, 4, 4]


# -- average -----------------------------------------------------------------------------------------------------------


def test_averaged_model_is_the_moving_average_of_what_the_model_was():
    rng = np.random.default_rng(0)
    model = nn.Linear(3, 2, rng=rng)
    average = optim.AveragedModel(model, decay=0.6)
    expected, seen = model.weight.data.astype(np.float64), []
    for t in range(20):
        model.weight.data[...] = rng.normal(size=(2, 3))
        seen.append(model.weight.data.copy())
        average.update_parameters(model)
        decay = min(0.6, (t + 1) / (t + 11))
        expected = decay * expected + (1 - decay) * model.weight.data
        assert average.module.weight.data == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert np.array_equal(model.weight.data, seen[-1])  # the model itself stays
    assert average.n_averaged == 20
    recent = sum(0.4 * 0.6**i * w for i, w in enumerate(reversed(seen)))  # the first steps are forgotten: 0.6^20 < 1e-4
    assert average.module.weight.data == pytest.approx(recent, abs=2e-3)


def test_averaged_model_goes_on_where_it_was_saved():
    rng = np.random.default_rng(0)
    model = nn.Linear(3, 2, rng=rng)
    values = rng.normal(size=(8, 2, 3))

    def update(average, some):
        for value in some:
            model.weight.data[...] = value
            average.update_parameters(model)

    unbroken, first, second = (optim.AveragedModel(model, decay=0.9) for _ in range(3))
    update(unbroken, values)
    update(first, values[:3])
    second.load_state_dict(first.state_dict())
    update(second, values[3:])
    assert second.module.weight.data.tobytes() == unbroken.module.weight.data.tobytes()
    assert second.n_averaged == 8


@pytest.mark.parametrize("decay", [-0.1, 1.5, math.nan])
def test_averaged_model_refuses_a_decay_that_is_none(decay):
    with pytest.raises(ShapeError, match=f"AveragedModel: decay must lie in .*, got decay={decay}"):
        optim.AveragedModel(nn.Linear(2, 2), decay)


def test_parameters_that_came_or_went_are_noticed():
    optimizer = optim.SGD([Tensor([1.0], requires_grad=True)], lr=0.1)
    optimizer.groups.append({**optimizer.groups[0], "params": [Tensor([1.0], requires_grad=True)]})
    with pytest.raises(ShapeError, match="SGD: parameters were added or removed; make a new optimiser"):
        optimizer.step()


def test_an_average_goes_on_where_running_values_were_taken_away():
    model = nn.BatchNorm2d(2)
    average = optim.AveragedModel(model)
    model.running_mean = model.running_var = None
    average.update_parameters(model)
    assert average.module.running_mean.tolist() == [0, 0]


def test_a_schedule_refuses_groups_that_came_later():
    optimizer = optim.SGD([Tensor([1.0], requires_grad=True)], lr=0.1)
    scheduler = optim.LRScheduler(optimizer, lambda _: 1.0)
    optimizer.groups.append({**optimizer.groups[0], "params": [Tensor([1.0], requires_grad=True)]})
    with pytest.raises(ShapeError, match="LRScheduler: groups were added to the optimiser"):
        scheduler.step()


@pytest.mark.parametrize("size", [1e20, 1e-25])
def test_gradients_whose_squares_do_not_fit_are_clipped(size):
    p = Tensor([1.0, 1.0], requires_grad=True)
    (p * np.array([3 * size, 4 * size], np.float32)).sum().backward()
    assert optim.clip_grad_norm([p], size) == pytest.approx(5 * size)
    np.testing.assert_allclose(p.grad, [0.6 * size, 0.8 * size], rtol=1e-6)


def test_groups_share_no_list_of_options():
    betas = [0.5, 0.9]
    optimizer = optim.Adam([{"params": [parameter()]}, {"params": [parameter()]}], betas=betas)
    betas[0] = 2.0
    assert [group["betas"] for group in optimizer.groups] == [(0.5, 0.9)] * 2


def test_complex_parameters_go_downhill():
    """The tape's gradient is dL/dz, which a complex step needs; uphill is its conjugate."""
    start = np.array([1 + 2j, -3 + 0.5j])
    z = Tensor(start, requires_grad=True)
    optimizer = optim.SGD([z], lr=0.1)
    for k in range(3):
        optimizer.zero_grad()
        with pytest.warns(np.exceptions.ComplexWarning):
            (z * 1j).to(np.float64).sum().backward()
        optimizer.step()
        np.testing.assert_allclose(z.data, start + 0.1j * (k + 1))  # of -y the steepest descent is up along y


def test_the_average_of_something_else_is_refused():
    with pytest.raises(DtypeError, match="update_parameters: model must be a Module, got None"):
        optim.AveragedModel(nn.Linear(1, 1)).update_parameters(None)
