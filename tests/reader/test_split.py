"""What is broken is joined and what touches is cut, whichever way reads best."""

import cv2
import numpy as np
import pytest

from experiments.paper import make_page
from experiments.reader import judge, seams, split
from experiments.reader.judge import link
from experiments.reader.nets import Nets


def test_seams_pass_between_leaning_strokes():
    ink = np.zeros((80, 60), np.float32)
    for x in (8, 30):
        cv2.line(ink, (x, 76), (x + 20, 4), 1.0, 7)
    cv2.line(ink, (18, 40), (42, 40), 1.0, 5)  # they touch here
    ways = seams.seams(ink)
    rows = np.arange(80)
    middle = 19 + (76 - rows) * 20 / 72
    assert min(np.abs(columns - middle).mean() for columns, _ in ways) < 4
    best = min(ways, key=lambda way: np.abs(way[0] - middle).mean())
    assert 0.2 < best[1] < 2.5


def cluster_of(cuts):
    """Four pieces, 10 wide and 20 high, beside one another."""
    pieces = np.repeat(np.repeat([[1, 2, 3, 4]], 20, 0), 10, 1).astype(np.int32)
    return split.Cluster((0, 0, 40, 20), pieces, 4, cuts)


def give(found, likely, value=-0.01):
    """Let the net be sure of the runs in `likely`, {(first, last, pair): digits}, and of nothing else."""
    for h in found:
        log_probs = np.full((1 + h.pair, 10), -2.0, np.float32)
        for half, digit in enumerate(likely.get((h.first, h.last, h.pair), ())):
            log_probs[half, digit] = value
        h.read_as(h.image, log_probs)


def test_best_runs_join_what_is_broken_and_cut_what_touches():
    cluster = cluster_of([-1.0, 0.5, -1.0, -1.0])
    found = split.hypotheses(cluster, 20.0)
    assert {(h.first, h.last) for h in found} >= {(1, 1), (1, 2), (2, 2), (3, 4), (4, 4)}
    assert not any(h.pair for h in found)
    give(found, {(1, 2, False): [3], (3, 4, False): [5]})
    assert [(h.first, h.last) for h in split.best_runs(cluster, found, 400.0)[0]] == [(1, 2), (3, 4)]


def test_reading_only_what_may_be_among_the_best_runs_gives_the_best():
    rng = np.random.default_rng(0)
    fewer = 0
    for _ in range(300):
        count = int(rng.integers(1, 7))
        cuts = [*np.where(rng.random(count - 1) < 0.6, rng.uniform(0.2, 4, count - 1), -1.0).tolist(), -1.0]
        pieces = np.repeat(np.arange(1, count + 1), rng.integers(4, 12, count))[None].repeat(20, 0).astype(np.int32)
        cluster = split.Cluster((0, 0, *pieces.shape[::-1]), pieces, count, cuts)
        found = split.hypotheses(cluster, rng.uniform(18, 32), pairs=True)
        answers = []
        for one in found:
            logits = rng.normal(0, 1 + 9 * rng.random(), (1 + one.pair, 10))
            logits[:, 1] += 4 * rng.random()  # two ones may be one
            answers.append((logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32))
        runs, score = split.best_runs(cluster, found, 200.0)
        while unread := split.unread(runs, found):
            for one in unread:
                one.read_as(one.image, answers[[one is h for h in found].index(True)])
            runs, score = split.best_runs(cluster, found, 200.0)
        seen = sum(h.is_read for h in found)
        for one, log_probs in zip(found, answers, strict=True):
            one.read_as(one.image, log_probs)
        expected, best = split.best_runs(cluster, found, 200.0)
        assert score == pytest.approx(best, abs=1e-5)
        assert [(h.first, h.last, h.pair) for h in runs] == [(h.first, h.last, h.pair) for h in expected]
        fewer += seen < 0.8 * len(found)
    assert fewer > 100


def test_a_pair_that_is_not_read_yet_raises_no_doubt():
    cluster = split.Cluster((0, 0, 20, 20), np.ones((20, 20), np.int32), 1, [-1.0])
    one, pair = found = split.hypotheses(cluster, 20.0, pairs=True)
    one.read_as(one.image, np.log(np.r_[0.91, np.full(9, 0.01)])[None].astype(np.float32))
    pair.cost = 2.0
    runs, score = split.best_runs(cluster, found, 400.0)
    assert runs == [one]
    assert score == pytest.approx(np.log(0.91), abs=1e-5)
    assert split.unread(runs, found) == [pair]


def test_a_digit_that_reads_surely_is_not_cut(clean, reader, monkeypatch):
    picture, truth = clean
    seen, cuts = [], []
    log_probs, seams_of = Nets.log_probs, split.seams
    monkeypatch.setattr(Nets, "log_probs", lambda self, images: (seen.extend(images), log_probs(self, images))[1])
    monkeypatch.setattr(split, "seams", lambda *a, **k: (cuts.append(a), seams_of(*a, **k))[1])
    assert reader.read(picture).lines() == truth
    assert len(seen) < 3 * sum(map(len, truth))  # each once, some as a pair, too, and in other views where it is not plain
    assert len(cuts) <= 1


def test_best_runs_take_a_pair_where_no_half_is_sure_enough():
    cluster = cluster_of([0.5, 0.5, 0.5, -1.0])
    found = split.hypotheses(cluster, 20.0, pairs=True)
    give(found, {(1, 4, True): [7, 4], (1, 1, False): [7], (2, 4, False): [4], (1, 2, False): [0], (3, 4, False): [6]}, -0.3)
    for h in found:
        if not h.pair:
            h.read_as(h.image, h.log_probs - 1.5)
    (pair,) = split.best_runs(cluster, found, 400.0)[0]
    assert (pair.first, pair.last, pair.pair) == (1, 4, True)


def test_a_pair_is_halved_where_its_digits_end_and_begin():
    mask = np.ones((20, 40), np.uint8)
    mask[:5, 30:] = 0  # a lower right half
    pair = split.Hypothesis((3, 5, 40, 20), mask, 2, 4, pair=True)
    halves = split.halve(pair, np.array([0.5, 0.25]))
    assert [h.box for h in halves] == [(3, 5, 20, 20), (13, 5, 30, 20)]  # they overlap
    assert [int(h.mask.sum()) for h in halves] == [20 * 20, 20 * 30 - 5 * 10]
    assert [(h.first, h.last) for h in halves] == [(2, 4), (2, 4)]
    low = split.halve(pair, np.array([0.8, 0.76]))[1]
    assert low.box == (3 + 30, 5 + 5, 10, 15)  # only as high as its ink
    assert [h.box for h in split.halve(pair, np.array([1.2, -0.3]))] == [pair.box] * 2
    for edges in ((-0.2, 1.3), (0.0, 1.0)):  # neither half is ever empty
        assert all(h.mask.any() for h in split.halve(pair, np.array(edges)))


@pytest.mark.parametrize(
    ("whole", "cut", "expected"),
    [
        (1, 0.5, [(1, 2)]),
        (4, 0.5, [(1, 1), (2, 2)]),  # it looks like something else
        (1, -1.0, [(1, 1), (2, 2)]),  # they do not touch
        (None, 0.5, [(1, 1), (2, 2)]),  # it looks like nothing
    ],
)
def test_two_ones_that_touch_are_one_with_a_long_upstroke(whole, cut, expected):
    cluster = split.Cluster((0, 0, 20, 20), np.repeat([[1, 2]], 20, 0).repeat(10, 1).astype(np.int32), 2, [cut, -1.0])
    found = split.hypotheses(cluster, 20.0)
    give(found, {(1, 1, False): [1], (2, 2, False): [1]})
    for h in found:
        if (h.first, h.last) == (1, 2):
            h.cost = 1.0
            h.read_as(h.image, np.where(np.arange(10) == (whole or 1), -0.6 if whole else -0.8, h.log_probs))
    assert [(h.first, h.last) for h in split.best_runs(cluster, found, 400.0)[0]] == expected
    cluster.cut = True
    found = split.hypotheses(cluster, 20.0, pairs=True)
    give(found, {(1, 2, True): [1, 1]})
    for h in found:
        if not h.pair:
            h.cost = 1.0
            digit = (whole or 1) if (h.first, h.last) == (1, 2) else 1
            h.read_as(h.image, np.where(np.arange(10) == digit, -0.6 if whole else -0.8, h.log_probs))
    assert [h.pair for h in split.best_runs(cluster, found, 400.0)[0]] == [whole != 1]


def test_a_1_with_a_long_upstroke_is_all_of_what_was_read_as_two_ones():
    cluster = cluster_of([0.5, 0.5, 0.5, -1.0])
    found = split.hypotheses(cluster, 20.0)
    give(found, {(first, last, False): [1] for first, last in ((2, 2), (3, 3), (1, 3))})
    runs = [next(h for h in found if (h.first, h.last) == (k, k)) for k in (2, 3)]
    assert [(h.first, h.last) for h in split._long_ones(runs, found, cluster.cuts)] == [(2, 2), (3, 3)]
    give(found, {(first, last, False): [1] for first, last in ((2, 2), (3, 3), (2, 3))})
    assert [(h.first, h.last) for h in split._long_ones(runs, found, cluster.cuts)] == [(2, 3)]


def test_a_pair_is_judged_as_one(digits, reader, monkeypatch):
    page = make_page(*digits, [0, 1], "touching", np.random.default_rng(1))
    assert page.digits[0].partner == 1
    linked = []
    monkeypatch.setattr(judge, "link", lambda found, sure, unit: linked.append(max(sure)) or link(found, sure, unit))
    monkeypatch.setattr(judge, "unlike", lambda chosen, ink, sure: np.array([0.0, 9.0], np.float32)[: len(chosen)])
    assert len(reader.read(page.image).digits) == 2  # the odd half, too
    assert linked[0] > 0.85  # no piece of something else


def test_what_reads_as_a_pair_is_no_single_digit_however_sure():
    cluster = cluster_of([0.5, 0.5, 0.5, -1.0])
    found = split.hypotheses(cluster, 30.0, pairs=True)
    give(found, {(1, 4, False): [4], (1, 4, True): [1, 4]})
    for h in found:
        h.cost = 0.0 if h.pair else -0.5
    assert [h.pair for h in split.best_runs(cluster, found, 400.0)[0]] == [True]


def test_nothing_is_a_pair_where_no_part_is_too_wide_for_a_digit():
    cluster = cluster_of([-1.0] * 4)
    cluster.cut = False
    assert not any(h.pair for h in split.hypotheses(cluster, 20.0, pairs=True))
