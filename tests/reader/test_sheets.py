"""Sheets on a table, the lit part of a page, and what lies beside them."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from experiments.paper import make_page
from experiments.reader import find, page, search, size
from experiments.reader.ink_reader import InkReader
from experiments.reader.page import Reader
from experiments.reader.reading import Digit, Reading, written_on
from experiments.reader.search import Sought
from experiments.reader.sheet import Sheet, find_sheet
from tests.reader.made_up import one_read


def on_a_table(page):
    """The page, its upper left corner at (width // 2, height // 3) of a table of dark wood."""
    height, width = page.shape[:2]
    noise = np.random.default_rng(2).normal(0, 1, (height // 10, 4)).astype(np.float32)
    grain = 1 + 0.15 * cv2.resize(noise, (2 * width, 2 * height))[..., None]
    table = np.clip(np.array([95, 60, 35]) * grain, 0, 255).astype(np.uint8)
    table[height // 3 : height // 3 + height, width // 2 : width // 2 + width] = page
    return table, (width // 2, height // 3, width, height)


def test_beside_a_sheet_a_line_alone_is_no_sure_1(clean, reader, monkeypatch):
    line, row = Reading([one_read(1, 500, 10, 20, 500)]), Reading([one_read(4, 40 * k, 100, confidence=0.97) for k in range(9)])
    for edges, expected in ((True, row), (False, line)):
        found = iter([(line, 9.0, True), *[(row, 99.0, False)] * 20])
        monkeypatch.setattr(InkReader, "read", lambda _, ink, known, _steep, found=found: next(found))
        monkeypatch.setattr(search, "variants", lambda ink: [ink])
        reading, _ = reader._read_picture(clean[0], Sought(edges=edges))
        assert [d.digit for d in reading.digits] == [d.digit for d in expected.digits]
    asked = []
    monkeypatch.setattr(Reader, "_read_picture", lambda _, picture, sought: (asked.append(sought.edges), (row, False))[1])
    reader.read(on_a_table(clean[0])[0])
    assert asked[:2] == [False, True]  # the sheet alone, and all of the picture
    reader.read(clean[0])
    assert asked[2:3] == [False]


@pytest.mark.parametrize(("doubtful", "share", "pictures"), [(True, 0.3, 1), (True, 1, 2), (False, 0.3, 2)])
def test_the_lit_part_of_a_page_is_not_read_for_itself(clean, reader, monkeypatch, doubtful, share, pictures):
    picture, truth = clean
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    mask[: round(share * height)] = 1
    lit = Sheet(picture[: round(share * height)].copy(), (0, 0, width, round(share * height)), mask, doubtful)
    monkeypatch.setattr(page, "find_sheet", lambda _: lit)
    looked, read_picture = [], Reader._read_picture
    monkeypatch.setattr(Reader, "_read_picture", lambda *a, **k: (looked.append(a), read_picture(*a, **k))[1])
    assert reader.read(picture).lines() == truth
    assert len(looked) == pictures


@pytest.mark.parametrize(("doubtful", "expected"), [(True, [False, False]), (False, [False, True, False])])
def test_a_picture_on_which_nothing_reads_is_looked_at_without_hurry_once(clean, reader, monkeypatch, doubtful, expected):
    height, width = clean[0].shape[:2]
    sheet = Sheet(clean[0][: height // 2].copy(), (0, 0, width, height // 2), np.ones((height, width), np.uint8), doubtful)
    monkeypatch.setattr(page, "find_sheet", lambda _: sheet)
    looked: list[Sought] = []
    monkeypatch.setattr(Reader, "_read_picture", lambda _, picture, sought: (looked.append(sought), (Reading(), False))[1])
    assert reader.read(clean[0]).digits == []
    assert [sought.hurried for sought in looked if not sought.single] == expected


@pytest.mark.usefixtures("ink_everywhere")
def test_a_sheet_on_a_table_is_found(clean, reader, monkeypatch):
    table, box = on_a_table(clean[0])
    sheet = find_sheet(table)
    alone, found = sheet.alone, sheet.box
    np.testing.assert_allclose(found, box, atol=0.08 * max(box))  # without its edge
    assert alone.shape == (found[3], found[2], 3)
    assert alone.min() > 50  # nothing of the table
    tried: list[find.Ink] = []
    real = reader.ink_reader.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InkReader, "read", lambda _, ink, known, steep: tried.append(ink) or real(ink, known, steep))
        assert reader.read(table).lines() == clean[1]
        assert {ink.mask.shape for ink in tried} == {
            size.fit(alone)[0].shape[:2]
        }  # it reads surely: the table is not looked at
        tried.clear()
        patch.setattr(Sheet, "has_all", lambda *_: False)
        assert reader.read(table).lines() == clean[1]
    whole = size.fit(table)[0].shape[:2]
    grain = {(ink.light, ink.name.split(", rules")[0].split(", the darkest")[0]) for ink in tried if ink.mask.shape == whole}
    assert sorted(light for light, _ in grain) == [False, True]  # not again and again
    monkeypatch.setattr(Sheet, "has_all", lambda *_: False)
    one = Digit((5, 7, 20, 30), 3, 1.0, 5, 0.0, np.zeros((28, 28), np.float32))
    # Where the whole picture reads as nothing the sheet counts, its boxes moved to where they are on the picture.
    monkeypatch.setattr(
        Reader,
        "_read_picture",
        lambda _, picture, sought: (Reading([one] * (picture.shape == alone.shape)), True),
    )
    assert reader.read(table).digits[0].box == (found[0] + 5, found[1] + 7, 20, 30)
    # So it does where it holds one digit.
    monkeypatch.setattr(
        Reader,
        "_read_picture",
        lambda _, picture, sought: (Reading([one] * (sought.single and picture.shape == alone.shape)), True),
    )
    assert reader.read(table).digits[0].box == (found[0] + 5, found[1] + 7, 20, 30)
    # A shadow's edge looks like a sheet's: where the whole picture reads better it stays.
    half_sure = replace(one, confidence=0.9)
    monkeypatch.setattr(
        Reader,
        "_read_picture",
        lambda _, picture, sought: (
            Reading([] if sought.single else [one] if picture.shape == alone.shape else [half_sure] * 2),
            False,
        ),
    )
    assert len(reader.read(table).digits) == 2


def test_a_light_part_of_a_page_in_shadow_is_a_doubtful_sheet(clean, reader, monkeypatch):
    height, width = clean[0].shape[:2]
    noise = np.random.default_rng(0).normal(0, 3, (height, width, 1))
    page = np.clip(cv2.cvtColor(clean[0], cv2.COLOR_RGB2GRAY)[..., None] * (0.9, 0.95, 0.8) + noise, 0, 255)
    lit = np.zeros((height, width, 1))
    lit[: round(0.6 * height)] = 1
    blue, grain = np.array([0.8, 1.0, 1.3]), 1 + np.random.default_rng(1).normal(0, 0.15, (height, width, 1))
    in_a_hurry: list[bool] = []
    real = Reader._read_picture

    def read(self, some, sought):
        if some.shape == picture.shape:
            in_a_hurry.append(sought.hurried)
        return real(self, some, sought)

    monkeypatch.setattr(Reader, "_read_picture", read)
    for around, doubtful in ((0.4 * page, True), (0.4 * page * blue, False), (0.4 * page * grain, False)):
        picture = np.clip(lit * page + (1 - lit) * around, 0, 255).astype(np.uint8)
        assert find_sheet(picture).doubtful is doubtful
        for room in (False, True):
            monkeypatch.setattr(Sheet, "has_all", lambda *_, room=room: room)
            in_a_hurry = []
            reader.read(picture)
            assert in_a_hurry[:1] == ([False] if doubtful else [] if room else [True])  # what lies in shadow is looked at well


def test_a_row_that_may_go_on_beside_the_sheet_is_not_all():
    mask = np.zeros((300, 400), np.uint8)
    mask[50:250, 100:300] = 1
    sheet = Sheet(np.zeros((200, 200, 3), np.uint8), (100, 50, 200, 200), mask, False)
    assert sheet.has_all([(121, 71, 30, 40), (249, 189, 30, 40)])
    for box in (119, 100, 30, 40), (251, 100, 30, 40), (150, 69, 30, 40), (150, 191, 30, 40), (105, 52, 3, 4), (5, 5, 30, 40):
        assert sheet.has_all([(200, 150, 30, 40), box]) == (box[3] < 5)


@pytest.mark.parametrize("shadow", [129, 110])
def test_a_sheet_in_a_hand_s_shadow_is_found_on_a_coloured_table(shadow):
    checks = (np.indices((600, 800)) // 40).sum(0) % 2  # of a cloth, as bright as the paper in the shadow
    table = np.where(checks[..., None], [60, 90, 180], [30, 45, 90]).astype(np.uint8)
    table[150:450, 200:600] = (215, 213, 208)
    table[150:450, 300:450] = (shadow, shadow - 1, shadow - 4)
    np.testing.assert_allclose(find_sheet(table).box, (200, 150, 400, 300), atol=30)  # without its edge


def test_what_a_table_is_taken_for_is_not_on_the_sheet():
    sheet = np.zeros((400, 400), np.uint8)
    sheet[100:300, 100:300] = 1
    on = [one_read(k, 110 + 30 * k, 150) for k in range(5)]
    edge = one_read(7, 295, 100)  # its box begins on the sheet, its middle is beside it
    assert written_on(sheet, [*on, edge]) == on
    grain = [one_read(1, 5 + 25 * k, 20) for k in range(9)] + [one_read(7, 300, 300)]
    assert written_on(sheet, [*grain, *on]) == on
    other_half = [one_read(k, 30 * k, 330) for k in range(4)]  # of a page of which the sheet is the light half
    assert written_on(sheet, [*on, *other_half]) == [*on, *other_half]
    assert written_on(sheet, [edge]) == [edge]
    assert written_on(sheet, grain[:1]) == grain[:1]
    beyond = one_read(3, 390, 390)
    assert written_on(sheet, [beyond]) == [beyond]
    next_in_row = one_read(6, 305, 155)  # in the shadow of which the sheet is the lit part
    assert written_on(sheet, [*on, next_in_row]) == [*on, next_in_row]
    for no_digit in (one_read(1, 305, 155), one_read(6, 305, 155, confidence=0.8), one_read(6, 305, 330)):
        assert written_on(sheet, [*on, no_digit]) == on
    many = [one_read(k % 10, 110 + 30 * (k % 5), 110 + 40 * (k // 5)) for k in range(20)]
    in_shadow = [one_read(k, 305 + 30 * k, 330) for k in (0, 2, 3)]
    assert written_on(sheet, [*many, *in_shadow]) == [*many, *in_shadow]
    assert written_on(sheet, [*many, *in_shadow, one_read(1, 335, 330)])[-1].box[0] == 335
    assert written_on(sheet, [*many, *in_shadow[1:], one_read(8, 305, 330, 30, 45)]) == many


@pytest.mark.usefixtures("ink_everywhere")
def test_a_sheet_counts_where_the_table_alone_reads_surely(clean, reader, monkeypatch):
    table, _ = on_a_table(clean[0])
    alone = find_sheet(table).alone.shape

    x, y = find_sheet(table).box[:2]
    wood = [one_read(8, 1, 1)]

    def read(_, picture, _sought):
        if picture.shape == alone:
            return Reading([one_read(k, 40 * k, 20, confidence=0.98) for k in range(3, 6)]), False
        return Reading(list(wood)), True

    monkeypatch.setattr(Reader, "_read_picture", read)
    assert reader.read(table).lines() == ["345"]
    wood += [one_read(k, x + 40 * k, y + 20) for k in range(4, 9)]  # now the whole picture reads better, all but the wood
    assert reader.read(table).lines() == ["45678"]


@pytest.mark.usefixtures("ink_everywhere")
def test_where_the_sheet_is_all_the_table_is_not_looked_at(clean, reader, monkeypatch):
    table, _ = on_a_table(clean[0])
    alone = find_sheet(table).alone.shape
    asked = []

    def read(_, picture, sought):
        asked.append((picture.shape == alone, sought.single))
        digit = 3 if picture.shape == alone else 7
        return Reading([] if sought.single else [one_read(digit, 200, 100), one_read(digit, 300, 200)]), True

    monkeypatch.setattr(Reader, "_read_picture", read)
    assert reader.read(table).lines() == ["3", "3"]
    assert asked == [(True, False), (True, True)]
    monkeypatch.setattr(Sheet, "has_all", lambda *_: False)
    assert reader.read(table).lines() == ["7", "7"]  # on the whole picture nothing is cut off


def test_a_shadow_is_no_table(digits, reader):
    page = make_page(*digits, list(range(20)), "clean", np.random.default_rng(2))
    image = page.image.copy()
    image[:, image.shape[1] // 2 :] //= 2
    assert find_sheet(image) is not None  # it looks like one
    assert reader.read(image).lines() == page.truth()["rows"]
    slope = np.linspace(255, 90, 600)[None, :, None].repeat(400, 0).repeat(3, 2).astype(np.uint8)
    assert find_sheet(slope) is None
