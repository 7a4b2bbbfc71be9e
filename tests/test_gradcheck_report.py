"""What a report says is what the rule did: the number it returned, the cotangent it was given, and what was left as it is."""

import numpy as np
import pytest

from tinygrad_lite.fuzz import __main__ as command
from tinygrad_lite.fuzz import fuzz_grad, tensors
from tinygrad_lite.gradcheck import check_grad


def unclipped(x):
    return np.clip(x, -1, 1), lambda g: (g,)


@pytest.mark.parametrize("x", [np.array(-2.0), np.array([-2.0])])
def test_of_one_entry_the_number_is_that_which_the_rule_returned(x):
    report = check_grad(unclipped, x, cotangent=np.ones_like(x), seed=0, raise_error=False)
    assert "analytic    1.0    (what the rule returned)" in str(report)
    assert "numeric     0.0 +-" in str(report)


def test_along_a_direction_it_is_said_that_it_is_a_product():
    def nothing(a, b):
        return np.maximum(a, b), lambda g: (g * (a > b), g * (b > a))

    text = str(check_grad(nothing, np.zeros(1), np.zeros(1), cotangent=np.ones(1), seed=0, raise_error=False))
    assert "(of what the rule returned, along it)" in text
    assert "at a tie or kink arguments together get less than the gradient" in text


def test_a_rule_need_not_know_that_numpy_makes_numbers_of_0d_arrays():
    def masked(x):
        below = x <= 0

        def vjp(g):
            g = g.copy()
            g[below] = 0
            return (g,)

        return np.maximum(x, 0), vjp

    assert check_grad(masked, np.array(1.5))
    assert fuzz_grad(masked, tensors(()), seed=0)


def test_a_cotangent_that_was_written_into_is_shown_as_it_was():
    def overwriting(x):
        below = x <= 0

        def vjp(g):
            if g[()] != 1:
                g[below] = 0
                raise ValueError("after it has written")
            return (g * ~below,)

        return np.maximum(x, 0), vjp

    cotangent = np.array(2.0)
    report = check_grad(overwriting, np.array(-1.0), cotangent=cotangent, seed=0, raise_error=False)
    assert report.worst.name == "error"
    assert cotangent == 2
    assert "cotangent   2.0 C" in str(report)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.9])
def test_a_factor_in_float32_alone_is_seen(factor):
    def sine(x):
        return np.sin(x), lambda g: (g * np.cos(x) * x.dtype.type(factor if x.dtype == np.float32 else 1),)

    report = fuzz_grad(sine, tensors(), seed=0, raise_error=False)
    assert report.failure.worst.name == "precision"
    assert "the float32 gradient is not that of float64: " in str(report)


def test_the_command_says_what_it_did_not_vary(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine_to_fuzz.py").write_text(
        "import numpy as np\n"
        "def twice(x, train=True):\n    return x * (2 if train else 1), lambda g: (2 * g,)\n"
        "def turned(x):\n    return x * 1j, lambda g: (g * -1j,)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert command.main(["mine_to_fuzz:twice", "--max-examples", "5"]) == 0
    assert "mine_to_fuzz:twice: inputs inferred: x: any shape; not varied: train=True" in capsys.readouterr().out
    for target, words in (
        ("mine_to_fuzz:turned", "turned: its output is complex, and only real ones can be checked"),
        ("./mine_to_fuzz.py:twice", "give the module as it is imported, such as mine_to_fuzz:twice, not its file"),
    ):
        with pytest.raises(SystemExit):
            command.main([target])
        assert words in capsys.readouterr().err
