"""Rules, frames, shadows and noise are no ink."""

import cv2
import numpy as np
import pytest

from experiments.reader import find, rules
from experiments.reader.rules import guesses_at_ink, painted_over, without_frames, without_rules


def test_rules_go_and_strokes_stay():
    mask = np.zeros((400, 600), np.uint8)
    cv2.circle(mask, (200, 200), 45, 1, 9)
    cv2.line(mask, (400, 150), (390, 240), 1, 9)
    strokes = mask.copy()
    assert without_rules(mask) is None
    for y in (90, 200, 310):
        cv2.line(mask, (0, y), (599, y + 25), 1, 3)
    bare = without_rules(mask)
    assert bare is not None
    rules = (mask > 0) & (strokes == 0)
    assert bare[rules].mean() < 0.02
    assert bare[strokes > 0].mean() > 0.99  # but for corners of a pixel
    assert not bare[mask == 0].any()
    assert len(find.parts(cv2.morphologyEx(bare, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))) == 2


@pytest.mark.parametrize("seed", range(20))
def test_lines_that_leave_the_picture_go_as_far_as_it_reaches(seed):
    rng = np.random.default_rng(seed)
    border, height, width = 2 * rules.REACH, 60, 90
    for start, stop in rng.uniform(0, (width, height), (50, 2, 2)) + border:
        if np.hypot(*(stop - start)) < 40:
            continue
        line = np.zeros((height + 2 * border, width + 2 * border), np.uint8)
        ends = [
            tuple(np.round(16 * point).astype(int).tolist()) for point in (1.4 * start - 0.4 * stop, 1.4 * stop - 0.4 * start)
        ]
        cv2.line(line, *ends, 1, 3, shift=4)
        picture = np.s_[border:-border, border:-border]
        page = np.zeros_like(line)
        page[picture] = line[picture]
        result = page.copy()
        rules._erase(result, page, start, stop)
        assert result.sum() < 0.1 * page.sum()


def test_lines_below_and_beside_the_picture_are_not_looked_at_from_its_other_side():
    border = 2 * rules.REACH
    page = np.pad(np.ones((60, 90), np.uint8), border)
    for beyond in np.arange(0.5, border, 0.1):
        for start, stop in (((10, 60 + beyond), (80, 60 + beyond)), ((90 + beyond, 50), (90 + beyond, 10))):
            result = page.copy()
            rules._erase(result, page, np.array(start) + border, np.array(stop) + border)
            assert np.array_equal(result, page)


def test_dark_rules_are_painted_over_and_faint_strokes_stay():
    page = np.full((400, 600), 200, np.float32)
    cv2.circle(page, (200, 200), 45, 140, 9)
    assert painted_over(page, light=False) is None
    ruled = page.copy()
    for y in (90, 210, 330):
        cv2.line(ruled, (0, y), (599, y), 60, 3)
    for gray, light in ((ruled, False), (255 - ruled, True)):
        bare = painted_over(gray, light=light)
        bare = 255 - bare if light else bare
        assert bare[:, 300:].min() > 195  # nothing of the rules
        assert bare[page == 140].mean() < 150  # the stroke stays, where rules cross it too
        assert not bare[(page == 200) & (ruled == 200)].min() < 130


@pytest.mark.parametrize("framed", [False, True])
def test_rules_are_painted_over_but_not_a_part_of_frames(framed):
    gray = np.full((400, 600), 235, np.float32)
    for y in () if framed else (120, 240):
        cv2.line(gray, (0, y), (599, y), 60, 3)
    for x in range(60, 540, 80):
        cv2.line(gray, (x + 40, 150), (x + 40, 210), 90, 6)
        if framed:  # a form: its long lines are those of a frame
            cv2.rectangle(gray, (x, 120), (x + 80, 240), 60, 3)
    assert painted_over(gray, light=False) is not None
    names = [ink.name for ink in guesses_at_ink(gray, single=False)]
    assert any("painted over" in name for name in names) is not framed


def test_frames_go_and_what_is_in_them_stays():
    wanted = np.zeros((300, 500), np.uint8)
    cv2.circle(wanted, (80, 150), 30, 1, 7)
    cv2.circle(wanted, (80, 150), 9, 1, -1)  # a blot in a 0 makes no frame of it
    cv2.line(wanted, (400, 130), (395, 175), 1, 7)
    assert without_frames(wanted) is None
    mask = wanted.copy()
    for corner in ((30, 80), (130, 80), (230, 80), (330, 80)):  # the cells of a form
        cv2.rectangle(mask, corner, (corner[0] + 100, 220), 1, 3)
    np.testing.assert_array_equal(without_frames(mask), wanted)
    mask = wanted.copy()
    for x in range(25, 500, 95):  # squared paper, the 0 in a square, the 1 across the lines
        cv2.line(mask, (x, 20), (x, 299), 1, 2)
    for y in range(20, 300, 85):
        cv2.line(mask, (25, y), (499, y), 1, 2)
    assert without_frames(mask) is None
    mask = wanted.copy()
    cv2.ellipse(mask, (400, 150), (60, 50), 0, 0, 360, 1, 5)  # a ring about one of them
    cv2.rectangle(mask, (5, 5), (490, 290), 1, 3)  # and a frame about all
    np.testing.assert_array_equal(without_frames(mask), wanted)


def test_a_hard_shadow_is_not_ink():
    gray = np.full((300, 400), 210, np.float32)
    gray[:, 200:] *= 0.45
    dark = find.ink_strength(gray, 31, light=False)
    assert dark.max() < 0.02
    gray[140:150, 50:350] *= 0.4
    assert find.ink_strength(gray, 31, light=False)[145, 60:340].min() > 0.5


def test_chalk_is_as_strong_in_shadow_as_in_light():
    gray = np.full((300, 400), 40, np.float32)
    gray[140:150, 50:350] = 160
    gray[:, 200:] *= 0.3
    strength = find.ink_strength(gray, 31, light=True)[145, 60:340]
    assert strength[160:].min() > 0.5 * strength[:120].max() > 0.15


def test_noise_hides_ink_only_where_it_is():
    rng = np.random.default_rng(0)
    gray = np.full((600, 800), 200, np.float32)
    for x in range(50, 800, 100):
        gray[100:500, x : x + 8] *= 0.75
    wanted = gray < 180
    gray += rng.normal(0, np.where(np.arange(800) < 500, 1, 24), gray.shape).astype(np.float32)
    ink = find.guess(gray.clip(0, 255), 31, 1.0, light=False)
    assert ink.mask[:, :500][wanted[:, :500]].mean() > 0.95
    assert ink.mask[:, 500:][wanted[:, 500:]].mean() > 0.7
    assert ink.mask[cv2.dilate(wanted.astype(np.uint8), np.ones((9, 9))) == 0].mean() < 0.02
