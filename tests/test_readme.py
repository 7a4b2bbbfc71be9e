"""The README's Python blocks run and print what the block after them says, and the guarantees name tests that exist."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
BLOCKS = re.findall(r"```python\n(.*?)```.*?```text\n(.*?)```", README, re.DOTALL)


def test_there_are_blocks():
    assert len(BLOCKS) == README.count("```python")


@pytest.mark.parametrize(("code", "output"), BLOCKS)
def test_block_prints_what_the_readme_says(code, output, capsys):
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", output)
    for now, then in zip(NUMBER.findall(printed), NUMBER.findall(output), strict=True):
        # Machines round differently, and a hundred steps enlarge that: two units of the last printed digit.
        assert float(now) == pytest.approx(float(then), abs=2 * 10 ** -len(then.partition(".")[2]))


GUARANTEES = (Path(__file__).parent.parent / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", GUARANTEES)


def test_every_guarantee_names_a_test():
    rows = [line for line in GUARANTEES.splitlines() if line.startswith("| ") and "---" not in line and "shown by" not in line]
    assert len(rows) > 20
    assert [row for row in rows if not re.search(r"`tests/[\w/]+\.py::\w+`", row)] == []


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_the_tests_of_the_guarantees_exist(file, test):
    assert f"\ndef {test}(" in (Path(__file__).parent.parent / file).read_text(encoding="utf-8")
