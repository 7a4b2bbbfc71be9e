"""The measurements of the fuzzer's strength: each part runs and writes its figures; nonsense and a stop are said in words."""

import json
import sys

import pytest

pytest.importorskip("matplotlib")

from experiments import fuzz_strength
from tinygrad_lite.fuzz import tensors
from tinygrad_lite.fuzz.mutants import Mutant

PARTS = [part.__name__ for part in fuzz_strength.PARTS if part is not fuzz_strength.torch]


def measured(part, folder, *more):
    assert fuzz_strength.main([part, "--dry-run", "--out", str(folder), *more]) == 0
    return json.loads((folder / "fuzz_strength.json").read_text())


@pytest.mark.parametrize("part", PARTS)
def test_each_part_writes_what_it_measured(part, tmp_path, capsys):
    figures = measured(part, tmp_path)
    assert set(figures) == {part, "environment"}
    assert capsys.readouterr().out.startswith(f"-- {part}\n")
    assert (tmp_path / "curve.png").exists() == (part == "curve")


def test_what_is_caught_is_counted(tmp_path, capsys, monkeypatch):
    """Of three rules one is right: it is the one that is missed, whatever the seed."""

    def right(x):
        return x * x, lambda g: (2 * g * x,)

    first, second, *_ = fuzz_strength.CATALOGUE
    monkeypatch.setattr(fuzz_strength, "CATALOGUE", [first, Mutant(right, "nobody", tensors()), second])
    figures = measured("curve", tmp_path, "--seed", "7")["curve"]
    assert figures["wrong_rules"] == [first.name, "right", second.name]
    assert figures["missed"] == {"7": ["right"]}
    assert figures["caught"]["300"] == [pytest.approx(2 / 3)]
    assert figures["examples_to_failure"]["7"][1] is None
    assert sum(figures["caught_by"].values()) == 2
    assert "seed 7: missed ['right']" in capsys.readouterr().out


def test_false_alarms_are_counted(tmp_path, capsys, monkeypatch):
    from experiments.unseen import first

    def wrong(x):
        return x * x, lambda g: (3 * g * x,)

    row = first.FIRST[0]
    monkeypatch.setattr(first, "FIRST", [type(row)(wrong, row.inputs, ()), row])
    figures = measured("unseen_first", tmp_path)["unseen_first"]
    assert len(figures["alarms"]) == 1
    assert figures["alarms"][0].startswith("wrong, seed 1000:\n")
    assert "false alarms: 1\n" in capsys.readouterr().out


def test_nonsense_is_said_in_words(capsys, monkeypatch, tmp_path):
    assert fuzz_strength.main(["shrink", "--seeds", "0"]) == 1
    assert capsys.readouterr() == ("", "fuzz_strength: --seeds: must be at least 1, got 0.\n")
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    assert fuzz_strength.main(["torch", "--out", str(tmp_path / "new")]) == 1
    assert "fuzz_strength: torch: PyTorch is not installed here" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_stop_is_said_in_a_word(capsys, monkeypatch, tmp_path):
    def stopped(work):
        raise KeyboardInterrupt

    stopped.__name__ = "curve"
    monkeypatch.setattr(fuzz_strength, "PARTS", (stopped,))
    assert fuzz_strength.main(["curve", "--out", str(tmp_path / "new")]) == 130
    assert capsys.readouterr().err == "fuzz_strength: stopped.\n"
    assert not (tmp_path / "new").exists()
