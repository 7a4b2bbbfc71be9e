"""Reading order, and what stands in a row."""

import numpy as np
import pytest

from experiments.paper import make_page
from experiments.reader import judge, order
from experiments.reader.judge import accept, in_line


@pytest.mark.parametrize("slope", [-0.25, -0.1, 0.0, 0.17, 0.3])
def test_rows_in_reading_order_on_turned_pages(slope):
    rng = np.random.default_rng(0)
    boxes, expected = [], []
    for row in range(4):
        expected.append([])
        for column in range(16 if row == 0 else 3):
            x, y = 60 * column + rng.integers(-8, 9), 90 * row + rng.integers(-9, 10) + slope * 60 * column
            expected[-1].append(len(boxes))
            boxes.append((int(x), int(y), int(rng.integers(8, 35)), int(rng.integers(38, 50))))
    mixed = rng.permutation(len(boxes))
    assert [[int(mixed[i]) for i in row] for row in order.rows([boxes[i] for i in mixed])] == expected


def test_a_row_that_bends_is_one_and_rows_side_by_side_are_two():
    wave = [(60 * i, round(25 * np.sin(i / 1.5)), 30, 40) for i in range(9)]
    below = [(x, y + 70, w, h) for x, y, w, h in wave]
    assert order.rows(wave) == [list(range(9))]
    assert order.rows(wave + below) == [list(range(9)), list(range(9, 18))]
    short, indented = [(50 * i, 0, 30, 40) for i in range(3)], [(150 + 50 * i, 44, 30, 40) for i in range(3)]
    assert order.rows(short + indented) == [[0, 1, 2], [3, 4, 5]]


def test_order_of_one_column_one_row_and_nothing():
    assert order.rows([]) == []
    assert order.rows([(10, 10 + 70 * i, 30, 40) for i in range(6)]) == [[i] for i in range(6)]
    assert order.rows([(10 + 50 * i, 10, 30, 40) for i in (2, 0, 1)]) == [[1, 2, 0]]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((130, 104, 12, 30), True),
        ((44, 88, 12, 36), True),  # between two, and a little higher
        ((280, 100, 12, 30), False),  # too far from the last but one
        ((130, 125, 12, 30), False),  # below the row
        ((130, 92, 12, 46), False),  # too high for it
        ((130, 107, 12, 18), False),  # too low
        ((60, 100, 12, 30), False),  # one of the two itself
    ],
)
def test_a_digit_in_a_row_is_near_two_of_its_height_on_its_level(box, expected):
    others = [(20, 98, 20, 30), (60, 100, 12, 30)] if box[0] != 280 else [(20, 98, 20, 30), (150, 100, 20, 30)]
    assert in_line([box, (0, 300, 20, 30)], others).tolist() == [expected, False]
    assert not in_line([box], others[:1]).any()
    assert not in_line([box], []).any()
    assert in_line([], others).size == 0


def test_rows_that_fall_are_rows():
    falling = [(40 * k, 100 + 5 * k, 20, 30) for k in range(5)]
    assert in_line(falling, falling).all()


def test_what_stands_in_a_row_is_believed_though_it_is_odd(digits, reader, monkeypatch):
    assert accept(5, 0.5, 1.5, in_row=True)
    assert not accept(5, 0.5, 1.5, in_row=False)
    assert accept(1, 0.5, 3.0, in_row=True)
    assert accept(1, 0.5, 0.9, in_row=False)
    assert not accept(1, 0.99, 1.1, in_row=False)
    assert not accept(1, 0.99, 4.5, in_row=True)  # a line
    assert not accept(5, 0.99, 4.5, in_row=True)  # a stain
    assert accept(5, 0.99, 3.5, in_row=True)
    assert not accept(5, 0.99, 3.5, in_row=False)  # a corner of squares
    assert accept(5, 0.99, 2.5, in_row=False)
    assert not accept(5, 0.2, 0.0, in_row=True)
    order = [int(np.flatnonzero(digits.labels == label)[0]) for label in (0, 2, 1, 3)]
    page = make_page(*digits, order, "clean", np.random.default_rng(1))

    def narrowest_is_odd(chosen, ink, sure):
        return np.where(np.arange(len(chosen)) == np.argmin([h.box[2] for h in chosen]), 3.0, 0.0)

    monkeypatch.setattr(judge, "unlike", narrowest_is_odd)
    assert reader.read(page.image).lines() == ["0213"]
