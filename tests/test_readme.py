"""The README's Python blocks run and print what the block after them says."""

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
