"""The measurements of the fuzzer's strength say in words why they do not begin, and end at Ctrl-C without a traceback."""

import sys

from experiments import fuzz_strength


def test_nonsense_is_said_in_words(capsys, monkeypatch):
    assert fuzz_strength.main(["shrink", "--seeds", "0"]) == 1
    assert capsys.readouterr() == ("", "fuzz_strength: --seeds: must be at least 1, got 0.\n")
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    assert fuzz_strength.main(["torch"]) == 1
    assert "fuzz_strength: torch: PyTorch is not installed here" in capsys.readouterr().err


def test_a_stop_is_said_in_a_word(capsys, monkeypatch):
    def stopped(seeds):
        raise KeyboardInterrupt

    stopped.__name__ = "curve"
    monkeypatch.setattr(fuzz_strength, "PARTS", (stopped,))
    assert fuzz_strength.main(["curve"]) == 130
    assert capsys.readouterr().err == "fuzz_strength: stopped.\n"
