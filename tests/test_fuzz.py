"""The fuzzer: strategies, inference, reports, snippets, tests made of rules, the catalogue, the command line, the docs.

This file is long because the tool has many faces, each with a few small tests.
"""

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_lite import Tensor, nn
from tinygrad_lite import functional as F
from tinygrad_lite.errors import DtypeError, GradientError, ShapeError
from tinygrad_lite.fuzz import (
    Draw,
    OpSpec,
    broadcast,
    check_grad,
    conv,
    fuzz_grad,
    grad_property,
    grad_tests,
    indexed,
    matmul,
    pooled,
    reduced,
    replay,
    tensors,
)  # fmt: skip
from tinygrad_lite.fuzz.__main__ import main
from tinygrad_lite.fuzz.mutants import CATALOGUE, maximum_both, unbroadcast
from tinygrad_lite.gradcheck.snippet import snippet

DOCS = Path(__file__).parents[1] / "docs" / "fuzzing.md"


def sine(x):
    return np.sin(x), lambda g: g * np.cos(x)


def product(a, b):
    return a * b, lambda g: (unbroadcast(g * b, a.shape), unbroadcast(g * a, b.shape))


def softmax(x, axis=-1):
    p = np.exp(x - x.max(axis, keepdims=True))
    p = p / p.sum(axis, keepdims=True)
    return p, lambda g: p * (g - (p * g).sum(axis, keepdims=True))


def matrix_product(a, b):
    return a @ b, lambda g: (g @ b.T, a.T @ g)


def affine(x, weight, bias):
    return x @ weight.T + bias, lambda g: (g @ weight, g.T @ x, g.sum(0))


def cross_entropy(logits, labels):
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(labels))
    return -log_p[rows, labels].mean(), lambda g: g * (np.exp(log_p) - np.eye(logits.shape[1])[labels]) / len(labels)


def layer_norm(x, gamma, beta):
    s = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    y = (x - x.mean(-1, keepdims=True)) * s
    lead = tuple(range(x.ndim - 1))

    def vjp(g):
        t = g * gamma
        g_x = s * (t - t.mean(-1, keepdims=True) - y * (t * y).mean(-1, keepdims=True))
        return g_x, (g * y).sum(lead), g.sum(lead)

    return y * gamma + beta, vjp


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (sine, "x: any shape"),
        (product, "a, b: shapes that broadcast"),
        (softmax, "axis varied"),
        (matrix_product, "a, b: a product of matrices"),
        (affine, r"x, weight, bias: shapes \(n,k\),\(m,k\),\(m\)"),
        (cross_entropy, "logits, labels: 2-d, equal shapes"),
        (layer_norm, r"x, gamma, beta: shapes \(n,k\),\(k\),\(k\)"),
        ((sine, lambda g, x: g * np.cos(x)), "x: any shape"),
    ],
)
def test_inputs_are_inferred_and_right_rules_pass(rule, words):
    if isinstance(rule, tuple):
        rule = (lambda x: np.sin(x), rule[1])
    report = fuzz_grad(rule, seed=1)
    assert report
    assert re.search(words, report.inferred)
    assert report.decided > 0.9
    assert sum(report.kinds.values()) > 100


def test_what_cannot_be_inferred_is_said():
    def odd(a, b, c, d, e):
        raise ValueError("never")

    with pytest.raises(ShapeError, match=r"no inputs .*odd\(a, b, c, d, e\): ValueError: never\. Tried: .+\. Give inputs="):
        fuzz_grad(odd)


def no_backward(x):
    return x * x


def picky(x):
    if x.ndim:
        raise ValueError("zero axes")
    return x * x


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (no_backward, r"no_backward must return \(output, vjp\) or Tensors, but returned ndarray"),
        (picky, r"picky must return \(output, vjp\)"),  # although it refuses most inputs with other words
        (lambda x, *, k: (k * x, lambda g: k * g), "missing 1 required keyword-only argument: 'k'"),
        (lambda x: 1 // 0, "ZeroDivisionError: "),
        (lambda x=None: x, r"no parameter asks for an array\. Tried: nothing"),
    ],
)
def test_why_nothing_can_be_inferred_is_said(fn, words):
    with pytest.raises(ShapeError, match=words):
        fuzz_grad(fn)


def scaled(x, alpha=1.0, *, shift=0.0, power=1):
    return alpha * x**power + shift, lambda g: g * alpha


def test_float_defaults_are_varied_and_the_rest_is_named():
    assert re.search("alpha, shift varied; not varied: power=1$", fuzz_grad(scaled, seed=0).inferred)
    for seed in range(3):
        report = fuzz_grad(lambda x, alpha=1.0: (alpha * x, lambda g: g), seed=seed, raise_error=False)
        assert report.failure.target.kwargs in ({"alpha": 0.75}, {"alpha": 1.5})


def test_float_defaults_stay_where_nothing_else_is_taken():
    def fixed(x, alpha=1.0):
        if alpha != 1:
            raise NotImplementedError
        return x * 1, lambda g: g

    def shifted(x, alpha=1.0):
        return x + alpha

    assert fuzz_grad(fixed, seed=0).inferred.endswith("x: any shape; not varied: alpha=1.0")
    assert fuzz_grad((shifted, lambda g, x: g), seed=0).inferred.endswith("not varied: alpha=1.0")


def test_functions_of_tensors_and_modules():
    assert fuzz_grad(F.tanh, tensors(), seed=1)
    layer = nn.Linear(3, 2, rng=np.random.default_rng(0))
    before = layer.state_dict()
    report = fuzz_grad(layer, tensors((2, 3), dtype=np.float32), seed=1)
    assert report
    assert all(np.array_equal(before[name], value) for name, value in layer.state_dict().items())
    norm = nn.BatchNorm1d(2)
    assert fuzz_grad(norm, tensors((3, 2), dtype=np.float32), seed=1, max_examples=20)
    np.testing.assert_array_equal(norm.running_mean, [0, 0])


def test_a_module_with_a_wrong_parameter_gradient_is_caught():
    from tinygrad_lite import apply

    class Wrong(nn.Module):
        def __init__(self):
            self.factor = nn.Parameter(np.array([2.0, 3.0]))

        def forward(self, x):
            return apply(lambda a, b: (a * b, lambda g: (g * b, g * a * 1.001)), x, self.factor)

    report = fuzz_grad(Wrong(), tensors((2,)), seed=1, raise_error=False)
    assert not report
    assert "factor" in str(report)


def test_random_functions_are_told_so():
    rng = np.random.default_rng(0)
    report = fuzz_grad(lambda x: (x * rng.random(x.shape), lambda g: g), tensors((2,)), seed=1, raise_error=False)
    assert "two calls give different outputs" in str(report)


def test_several_outputs_and_nested_arguments():
    def split(x):
        return (x[:1], 2 * x[1:]), lambda g: np.concatenate([g[0], 2 * g[1]])

    def joined(arrays, axis):
        ends = np.cumsum([a.shape[axis] for a in arrays])[:-1]
        return np.concatenate(arrays, axis), lambda g: np.split(g, ends, axis)

    assert fuzz_grad(split, tensors((3,)), seed=1)
    assert fuzz_grad(joined, tensors((2, 3)).map(lambda a: (([a, 2 * a[:1]],), {"axis": 0})), seed=1)


def test_the_same_seed_gives_the_same_report():
    first, second = (str(fuzz_grad(maximum_both, seed=7, raise_error=False)) for _ in range(2))
    assert first == second


def test_too_little_decided_is_a_failure():
    def nowhere(x):
        return np.sqrt(-np.abs(x) - 1), lambda g: g

    def root(x):
        return np.sqrt(x), lambda g: g / (2 * np.sqrt(x))

    with pytest.raises(GradientError, match=r"only 0% of the directions for nowhere could be decided"):
        fuzz_grad(nowhere, seed=1)
    assert not fuzz_grad(nowhere, seed=1, raise_error=False)
    with pytest.raises(GradientError, match=r"only 0% .*edge"):
        fuzz_grad(root, st.just((np.zeros(2),)), seed=1)
    assert fuzz_grad(root, tensors(low=0.0), seed=1)


@grad_property(broadcast(2), reference=np.multiply)
def test_product(a, b):
    return product(a, b)


@settings(max_examples=20)
@grad_property(broadcast(2))
def wrong_maximum(a, b):
    return maximum_both(a, b)


def test_a_property_is_a_hypothesis_test():
    assert test_product.is_hypothesis_test
    with pytest.raises(GradientError, match="each argument gets the full gradient") as caught:
        wrong_maximum()
    assert wrong_maximum.fn(np.ones(1), np.ones(1))[0] == 1
    assert len(str(caught.value).splitlines()) < 25


def test_tables_make_tests():
    table = grad_tests([
        OpSpec("sine", sine, tensors(), np.sin),
        OpSpec("product of two", product, broadcast(2), np.add, examples=(((np.ones(1), np.ones(1)), {}),)),
    ])  # fmt: skip
    table.test_sine()
    with pytest.raises(GradientError, match="output is not that of the reference"):
        table.test_product_of_two()
    alias = OpSpec("exempt", lambda a, b: (a + b, lambda g: (h := 1 * g, h)), st.tuples(tensors((2,)), tensors((2,))))
    assert not alias.fuzz(seed=1, raise_error=False)
    assert OpSpec("exempt", alias.fn, alias.inputs, exempt=("alias",)).fuzz(seed=1)


@given(st.data())
@settings(max_examples=50)
def test_strategies_are_valid_by_construction(data):
    (a, b), _ = data.draw(broadcast(2))
    np.broadcast_shapes(a.shape, b.shape)
    (x,), kwargs = data.draw(reduced(axis="axis", keepdims="keepdims"))
    assert x.sum(**kwargs) is not None
    (a, b), _ = data.draw(matmul())
    assert a @ b is not None
    (x, index), _ = data.draw(indexed())
    assert x[index] is not None
    (x, weight, *_), kwargs = data.draw(conv())
    assert F.conv2d(Tensor(x), Tensor(weight), **kwargs).shape[1] == len(weight)
    (x,), kwargs = data.draw(pooled())
    assert F.max_pool2d(Tensor(x), **kwargs).ndim == 4


@given(indexed("tuple"))
@settings(max_examples=50)
def test_tuples_index_as_lists_do(drawn):
    (x, index), _ = drawn
    *before, picks = index
    assert isinstance(picks, tuple)
    np.testing.assert_array_equal(x[index], x[(*before, list(picks))])


def test_a_rule_that_forgets_repeats_in_tuples_is_caught():
    def index(x, key):
        parts = key if isinstance(key, tuple) else (key,)

        def vjp(g):
            out = np.zeros_like(x)
            if any(isinstance(part, np.ndarray) and part.dtype != bool for part in parts):
                np.add.at(out, key, g)
            else:
                out[key] = g
            return out

        return x[key], vjp

    assert not fuzz_grad(index, indexed(), seed=0, raise_error=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": "abc"}, "shape must be a tuple of integers, got 'abc'"),
        ({"shape": (2, -1)}, "shape must be at least 0, got shape=-1"),
        ({"values": "foo"}, "values must be 'nasty', 'positive', 'smooth' or 'large', got 'foo'"),
        ({"low": 3, "high": 1}, "low must be below high, got low=3, high=1"),
        ({"low": np.nan}, r"low must lie in \[-inf, inf\], got low=nan"),
        ({"layout": "D"}, "layout must be .* got 'D'"),
        ({"dtype": np.int64}, "dtype must be that of floats, got <class 'numpy.int64'>"),
    ],
)
def test_tensors_refuse_what_they_cannot_draw(options, words):
    with pytest.raises((ShapeError, DtypeError), match=words):
        tensors(**options)


def test_numbers_of_a_run_are_checked():
    with pytest.raises(ShapeError, match="max_examples must be at least 1, got max_examples=0"):
        fuzz_grad(sine, max_examples=0)
    with pytest.raises(DtypeError, match="min_decided must be a number, got 'x'"):
        fuzz_grad(sine, min_decided="x")
    with pytest.raises(ShapeError, match=r"min_decided must lie in \[0, 1\], got min_decided=2"):
        fuzz_grad(sine, min_decided=2)


@pytest.mark.parametrize(("threshold", "least"), [(5, 4), (8, 2)])
def test_saturated_slopes_are_reached(threshold, least):
    def tanh(x):  # wrong by 2e-4 at 5, 5e-7 at 8
        return np.tanh(x), lambda g: g * (1 - np.tanh(x) ** 2) * (np.abs(x) < threshold)

    caught = [not fuzz_grad(tanh, tensors(), seed=seed, shrink=False, raise_error=False) for seed in range(6)]
    assert sum(caught) >= least


def test_strategies_reach_what_breaks_gradients():
    found = set()

    @settings(max_examples=300, database=None, derandomize=True)
    @given(tensors(layout="any"))
    def look(x):
        found.add(f"ndim {x.ndim}")
        found.update(["empty"] * (x.size == 0) + ["zero"] * bool((x == 0).any()) + ["large"] * bool((np.abs(x) > 500).any()))
        found.update(["ties"] * bool(len(np.unique(x)) < x.size) + ["constant"] * bool(x.size > 2 and np.ptp(x) == 0))
        found.update(["tiny"] * bool(((x != 0) & (np.abs(x) < 1e-3)).any()) + ["readonly"] * (not x.flags.writeable))
        found.update(["reversed"] * (min(x.strides, default=0) < 0) + ["F"] * (x.flags.fnc))

    look()
    wanted = {f"ndim {n}" for n in range(4)}
    assert found >= wanted | {"empty", "zero", "large", "ties", "constant", "tiny", "readonly", "reversed", "F"}


def test_a_row_a_column_or_a_bias_beside_a_matrix_is_drawn_often():
    partly = []

    @given(broadcast(2))
    @settings(max_examples=300, database=None, derandomize=True)
    def draw(arguments):
        small, large = sorted(arguments[0], key=lambda a: (a.ndim, a.size))
        aligned = (1,) * (large.ndim - small.ndim) + small.shape
        repeated = [one != side for one, side in zip(aligned, large.shape, strict=True) if side > 1]
        partly.append(large.size > 0 and any(repeated) and not all(repeated))

    draw()
    assert np.mean(partly) > 0.25


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: mutant.name)
def test_wrong_rules_are_caught_small_and_reproducible(mutant):
    report = mutant.fuzz(max_examples=300, seed=0)
    assert not report, f"{mutant.source}: not caught"
    text = str(report)
    assert len(text.splitlines()) < 25
    code = re.search(r"without Hypothesis:\n((?: {6}.*\n?)+)", text).group(1)
    code = "\n".join(line[6:] for line in code.splitlines()).replace("reference = ...", "")  # a lambda, which is given here
    with pytest.raises(GradientError):
        exec(code, {"reference": mutant.reference})
    assert not replay(report)


def test_the_catalogue_is_large_and_names_its_sources():
    assert len(CATALOGUE) >= 40
    assert len({mutant.name for mutant in CATALOGUE}) == len(CATALOGUE)
    assert all(re.match(r"[\w.\- ,/]+: .{10,}", mutant.source) for mutant in CATALOGUE)


def test_command_line(capsys, tmp_path):
    here = "tinygrad_lite.fuzz.mutants"
    assert main(["elementwise.neg", "--max-examples", "5"]) == 0
    assert "elementwise.neg" in capsys.readouterr().out
    assert main([f"{here}:trace", "--max-examples", "50"]) == 1
    text = capsys.readouterr().out
    assert "WRONG" in text
    snippet = tmp_path / "failure.py"
    snippet.write_text("\n".join(s[6:] for s in text.split("without Hypothesis:\n")[1].splitlines() if s.startswith("      ")))
    assert main(["--replay", str(snippet)]) == 1
    snippet.write_text("from tinygrad_lite.gradcheck import check_grad")
    assert main(["--replay", str(snippet)]) == 0
    capsys.readouterr()
    assert main(["--selftest", "trace", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["name"], row["right"]) == ("trace", False)
    assert main(["--list"]) == 0
    assert "conv.conv2d" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["no-such-op"])
    assert "no op or layer has 'no-such-op'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([f"{here}:trace", "--inputs", "nothing"])


WRONG_USAGE = [
    (["t:forgets"], "forgets must return (output, vjp)"),
    (["t:number"], "fn must be a function, got 3"),
    (["t:missing"], "no attribute 'missing'"),
    (["syntax:f"], "SyntaxError: "),
    (["raises:f"], "RuntimeError: boom\nraised in"),
    (["leaves:f"], "SystemExit: 0"),
    (["t:sine", "--seed", "-1"], "--seed: must be a whole number of at least 0, got '-1'"),
    (["t:sine", "--max-examples", "-3"], "--max-examples: must be a whole number of at least 1, got '-3'"),
    (["t:sine", "--max-examples", "0"], "at least 1, got '0'"),
    (["t:sine", "--minutes", "nan"], "--minutes: must be a number above 0, got 'nan'"),
    (["t:sine", "--minutes", "-1"], "above 0, got '-1'"),
    (["t:sine", "--inputs", "SPECIAL"], "--inputs SPECIAL: no such strategy"),
    (["t:sine", "--inputs", "t:number"], "--inputs t:number: no such strategy"),
    (["t:sine", "--inputs", "t:sine"], "missing 1 required positional argument"),
    (["t:sine", "--inputs", "conv"], "called with ("),
    (["t:sine", "--backend", "nothing"], "invalid choice: 'nothing'"),
    (["elementwise.neg", "--backend", "torch"], "--backend is for a function of your own"),
    (["elementwise.neg", "--inputs", "conv"], "--inputs is for a function of your own"),
    (["--selftest", "nothing"], "no wrong rule has 'nothing' in its name"),
    (["--replay", "missing.py"], "FileNotFoundError: "),
    (["--replay", "."], "ImportError: "),
    (["--replay", "syntax.py"], "SyntaxError: "),
]


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A folder with modules of somebody, as the current one."""
    (tmp_path / "t.py").write_text(
        "import numpy as np\nnumber = 3\n\n\ndef forgets(x): return x * x\n\n\n"
        "def sine(x): return np.sin(x), lambda g: g * np.cos(x)\n\n\ndef wrong(x): return np.sin(x), lambda g: g\n"
        "\n\ndef plain(x): return x * x\n"
    )
    (tmp_path / "syntax.py").write_text("def f(:")
    (tmp_path / "raises.py").write_text("raise RuntimeError('boom')")
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("t", "syntax", "raises", "leaves"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("words", "said"), WRONG_USAGE, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_usage_has_status_2(words, said, modules, capsys):
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_wrong_gradients_have_status_1(modules, capsys):
    assert main(["t:sine", "--max-examples", "5"]) == 0
    assert main(["t:wrong"]) == 1
    assert main(["t:wrong", "--json"]) == 1
    assert main(["t:plain", "--backend", "tensor", "--max-examples", "5"]) == 0


def test_an_interrupted_run_does_not_say_that_all_is_right(modules):
    (modules / "stops.py").write_text("raise KeyboardInterrupt")
    run = subprocess.run([sys.executable, "-m", "tinygrad_lite.fuzz", "stops:f"], capture_output=True, check=False)
    assert run.returncode == 130


class Nested:
    """Functions that have no name of their own in a module."""

    @staticmethod
    def static(x, **_):
        return np.sin(x), lambda g: 2 * g * np.cos(x)

    def bound(self, x, **_):
        return self.static(x)


def noisy(x, rng):
    m = rng.random(x.shape)
    return m * x, lambda g: 2 * g * m


def tanh(x):  # of the same name as NumPy's
    return 2 * np.tanh(x), lambda g: g


@grad_property(tensors())
def doubled_slope(x):
    return Nested.static(x)


def identity(x):
    return 1 * x


def advanced_rng():
    rng = np.random.default_rng(7)
    rng.random(5)
    return rng


KEYWORDS = {
    "a": -np.inf, "b": [np.inf, (np.nan,)], "c": np.float32(np.inf), "d": np.float64, "e": np.dtype("float32"), "f": float,
    "g": slice(None, 2), "h": sine, "i": np.sin, "j": Nested.static, "k": "inf", "l": np.int64(3), "m": abs,
    "n": np.linalg.norm, "np": sine,
}  # fmt: skip


@pytest.mark.parametrize(
    ("fn", "options", "line"),
    [
        (Nested.static, {}, f"from {__name__} import Nested\ncheck_grad(Nested.static, "),
        ((np.sin, lambda g, x: g), {}, "check_grad((np.sin, fn1), "),
        (doubled_slope.fn, {}, "check_grad(doubled_slope.fn, "),
        (tanh, {"reference": np.tanh}, "reference=np.tanh"),
        (tanh, {"reference": identity, "surrogate": identity}, f"from {__name__} import identity as identity_"),
        (noisy, {"kwargs": {"rng": advanced_rng()}}, "rng.bit_generator.state = "),
        (noisy, {"kwargs": {"rng": np.random.Generator(np.random.MT19937(3))}}, "np.random.MT19937()"),
        (Nested.static, {"kwargs": KEYWORDS}, "'f': float, "),
    ],
)
def test_snippets_run_as_they_are(fn, options, line):
    report = check_grad(fn, np.array([0.5, 1.0]), raise_error=False, seed=3, **options)
    code = snippet(report)
    assert line in code
    assert "from builtins" not in code
    names = {} if not isinstance(fn, tuple) else {"fn1": fn[1]}
    with pytest.raises(GradientError) as caught:
        exec(re.sub(r"fn1 = \.\.\..*", "", code), names)
    again = caught.value.report
    assert (again.worst.name, again.excess) == (report.worst.name, report.excess)
    if "kwargs" in options and "rng" not in options["kwargs"]:
        assert repr(again.target.kwargs) == repr(KEYWORDS)


def test_snippets_say_what_to_put_in():
    def wrong(x, rule=None):
        return np.sin(x), lambda g: 2 * g * np.cos(x)

    x = np.ones(2)
    assert "fn = ...  # test_snippets_say_what_to_put_in.<locals>.wrong: put it here" in str(
        check_grad(wrong, x, raise_error=False)
    )
    assert "fn = ...  # Nested.bound: put it here" in str(check_grad(Nested().bound, x, raise_error=False))
    told = snippet(check_grad(wrong, x, kwargs={"rule": Nested()}, raise_error=False))
    assert "rule = ...  # a Nested: put it here" in told


def test_snippets_import_nothing_from_a_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\nfrom tinygrad_lite.gradcheck import check_grad\n"
        "def wrong(x): return np.sin(x), lambda g: g\n"
        "if __name__ == '__main__': print(check_grad(wrong, np.ones(2), raise_error=False))"
    )
    said = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    assert "fn = ...  # wrong of the script that ran: put it here" in said


class Accumulating:
    """A layer that adds to the gradient of the call before."""

    total = 0.0

    def __call__(self, x, w):
        def vjp(g):
            self.total = self.total + (g * x).sum()
            return g * w, np.asarray(self.total)

        return x * w, vjp


accumulating = Accumulating()
by_lambda = lambda x: (np.sin(x), lambda g: g)  # noqa: E731 - as people write them


def test_state_that_is_kept_is_shrunk_to_one_that_shows():
    for seed in range(5):
        report = fuzz_grad(Accumulating(), st.tuples(tensors((2, 3)), tensors(())), seed=seed, raise_error=False)
        assert report.failure.worst.name == "deterministic", report


def test_snippets_import_what_a_module_holds_under_a_name():
    arguments = (np.ones((2, 3)), np.ones(()))
    assert f"from {__name__} import accumulating\n" in snippet(check_grad(accumulating, *arguments, raise_error=False))
    assert f"from {__name__} import by_lambda\n" in snippet(check_grad(by_lambda, np.ones(2), raise_error=False))


def test_a_missed_wrong_rule_fails_the_selftest(monkeypatch, capsys):
    from dataclasses import replace

    from tinygrad_lite.fuzz import mutants

    monkeypatch.setattr(mutants, "CATALOGUE", [replace(CATALOGUE[0], rule=sine, inputs=tensors())])
    assert main(["--selftest", "--max-examples", "5"]) == 1
    assert "missed: sine" in capsys.readouterr().out


def test_the_docs_code_runs(capsys):
    text = DOCS.read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 6
    names = {"__name__": "docs"}
    for block in blocks:
        exec(block, names)
    said = capsys.readouterr().out
    assert "sum over the axes that broadcasting added" in said
    assert "bias[" in said
    (diagnosis,) = re.findall(r"what the error\s+looks like: \*(.+?)\*", text)
    assert diagnosis in said


def test_nothing_to_differentiate_is_no_success():
    with pytest.raises(GradientError, match=r"nothing of sine was checked: no argument was a float array"):
        fuzz_grad(sine, st.just((np.arange(3),)))
    assert "nothing of sine" in str(fuzz_grad(sine, st.just((np.array([1j]),)), raise_error=False))


def test_what_is_no_function_or_no_strategy_is_said():
    class Layer:
        def forward(self, x):
            return x

    with pytest.raises(TypeError, match=r"a Layer cannot be called; give \(layer.forward, lambda g, x"):
        fuzz_grad(Layer(), tensors())
    with pytest.raises(TypeError, match=r"must be a Hypothesis strategy of arguments, got ndarray"):
        fuzz_grad(sine, np.ones(3))
    with pytest.raises(TypeError, match=r"inputs gave a dict \['x'\]; give \(args, kwargs\)"):
        fuzz_grad(sine, st.fixed_dictionaries({"x": tensors()}))


def test_a_writer_is_told_that_it_writes():
    def doubled(x):
        def vjp(g):
            g *= 2
            return g

        return 2 * x, vjp

    assert "property: untouched" in str(fuzz_grad(doubled, tensors((3,)), seed=0, raise_error=False))


def test_surrogates_reach_tests_and_tables():
    def rounded(x):
        return np.round(x), lambda g: g

    grad_property(tensors(), surrogate=np.positive)(rounded)()
    assert OpSpec("round", rounded, tensors(), surrogate=np.positive).fuzz(seed=0)
    assert not OpSpec("round", rounded, tensors()).fuzz(seed=0, raise_error=False)
    report = fuzz_grad(rounded, tensors(), surrogate=np.negative, seed=0, raise_error=False)
    assert not report
    assert not replay(report)


def test_second_order_is_fuzzed_and_seen_again():
    assert fuzz_grad(F.sigmoid, tensors(), order=2, seed=0, max_examples=30)

    def bent(x):  # the right gradient, but not as a function of complex numbers
        return np.exp(x), lambda g: g * np.exp(x.real + 2j * x.imag if np.iscomplexobj(x) else x)

    report = fuzz_grad(bent, tensors(values="smooth"), order=2, seed=0, raise_error=False)
    assert "gradient of " in str(report)
    assert "order=2" in str(report)
    assert not replay(report)


def test_draw_has_simple_defaults():
    assert Draw() == Draw("onehot", "onehot", 0, "C", "C")


def functions_of(library):
    """Namespace with tanh and matmul, and functions of `library`: one with a wrong gradient, one with two outputs."""
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    if library == "torch":

        class Doubled(module.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return 2 * x

            @staticmethod
            def backward(ctx, g):
                return 2.002 * g

        return module, Doubled.apply, lambda x: (x.sin(), x.sum())
    if library == "jax":
        module.config.update("jax_enable_x64", True)
        doubled = module.custom_vjp(lambda x: 2 * x)
        doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2.002 * g,))
        return module.numpy, doubled, lambda x: (module.numpy.sin(x), x.sum())
    anp, extend = (__import__(f"autograd.{name}", fromlist=[""]) for name in ("numpy", "extend"))
    doubled = extend.primitive(lambda x: 2 * x)
    extend.defvjp(doubled, lambda _, x: lambda g: 2.002 * g)
    return anp, doubled, lambda x: (anp.sin(x), anp.sum(x))


@pytest.mark.parametrize("library", ["torch", "jax", "autograd"])
def test_adapters(library):
    numpy_like, doubled, two = functions_of(library)
    options = {"backend": library, "seed": 1, "max_examples": 20}
    assert fuzz_grad(numpy_like.tanh, tensors((2, 2)), **options)
    assert fuzz_grad(numpy_like.matmul, tensors((2, 2)).map(lambda x: (x, x[::-1])), **options)
    assert fuzz_grad(lambda x, index: x[index], tensors((3,)).map(lambda x: (x, np.array([0, 2, 2]))), **options)
    assert fuzz_grad(
        lambda x, by: numpy_like.exp(x) * by, tensors((2,), high=9.0).map(lambda x: ((x,), {"by": 2.0})), **options
    )
    assert fuzz_grad(two, tensors((3,)), **options)
    report = fuzz_grad(doubled, tensors((2,)), **options, raise_error=False)
    assert "a factor of 1.001" in str(report)
    assert not replay(report)
    if library != "autograd":  # known by what they return; autograd's functions return plain arrays
        assert fuzz_grad(numpy_like.sin, tensors((2,)), seed=1, max_examples=5)


def torch_functions():
    """A module's worth of torch.autograd.Functions: right, wrong, and one whose forward has no ctx."""
    torch = pytest.importorskip("torch", reason="torch is not installed")

    class Affine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, bias):
            ctx.save_for_backward(x, weight)
            return x @ weight.mT + bias

        @staticmethod
        def backward(ctx, g):
            x, weight = ctx.saved_tensors
            return g @ weight, g.mT @ x, g.sum(0)

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return x**3

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, g):
            return 3 * g * ctx.saved_tensors[0]

    return torch, Affine, Cube


def test_a_torch_function_is_known_by_its_apply(monkeypatch):
    torch, affine, cube = torch_functions()
    report = fuzz_grad(affine.apply, seed=0, max_examples=20)
    assert report.inferred == "x, weight, bias: shapes (n,k),(m,k),(m)"
    cube.__name__ = cube.__qualname__ = "held"
    monkeypatch.setattr(sys.modules[__name__], "held", cube, raising=False)
    said = str(fuzz_grad(cube.apply, seed=0, raise_error=False))
    assert said.startswith("held.apply  (torch)   property: value\n  input       x = "), said
    assert f"from {__name__} import held\n" in said
    assert "check_grad(held.apply, " in said
    for attempt in (fuzz_grad, check_grad):
        with pytest.raises(TypeError, match=r"fn is the class held; give held\.apply"):
            attempt(cube, np.ones(2))
        with pytest.raises(TypeError, match=r"fn is the class Linear; give an object of it, Linear\(\.\.\.\)"):
            attempt(nn.Linear, np.ones(2))
    with pytest.raises(TypeError, match="give an object of it"):
        check_grad(torch.nn.Linear, np.ones(2))
    with pytest.raises(TypeError, match="'torch' for one of PyTorch"):
        check_grad(lambda x: cube.apply(x), np.ones(2))  # takes arrays, too, and gives arrays back


def test_inferred_shapes_that_a_torch_module_refuses_are_not_drawn():
    torch, *_ = torch_functions()

    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, x):
            return x * self.factor

    assert fuzz_grad(Scale(), seed=0, max_examples=20)


def test_jax_in_float32_is_refused():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    jax.config.update("jax_enable_x64", False)
    with pytest.raises(TypeError, match=r"JAX computes in float32 only; call jax\.config\.update"):
        check_grad(jax.numpy.sin, np.ones(2), backend="jax")


def test_what_a_function_warns_of_at_drawn_inputs_is_not_printed_again_and_again(recwarn):
    def mean(x):
        warnings.warn("of one number", stacklevel=1)
        return np.mean(x), lambda g: (np.full_like(x, g / x.size),)

    assert fuzz_grad(mean, tensors((1,)), max_examples=10)
    assert not recwarn.list


def test_a_report_of_the_first_example_does_not_say_that_nothing_was_compared():
    report = fuzz_grad(lambda x: (np.sin(x), lambda g: g * np.cos(x) * 1.5), seed=0, raise_error=False)
    assert not report.kinds
    assert "none before the wrong one" in str(report)
    assert "no slope was compared" not in str(report)
    with pytest.raises(DtypeError, match="inputs must be a Hypothesis strategy of arguments, got int"):
        fuzz_grad(np.sin, 5)
    with pytest.raises(DtypeError, match="fuzz_grad: surrogate must be a function, got 5"):
        fuzz_grad(np.sin, surrogate=5)


def test_a_reader_that_has_enough_is_no_error():
    command = [sys.executable, "-m", "tinygrad_lite.fuzz", "--list", "add"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered) as process:
        process.stdout.close()
        words = process.stderr.read()
    assert (process.returncode, words) == (141, b"")
