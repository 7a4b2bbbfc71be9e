"""Names that are formulas to Matplotlib, or no UTF-8, do no harm: they are drawn and printed as they are, or nearly."""

import os
import subprocess
import sys
import warnings

import pytest

pytest.importorskip("cv2")
pytest.importorskip("matplotlib")

import matplotlib.pyplot as plt
from PIL import Image

from experiments import feature_maps, mnist, sweep, train
from experiments.texts import as_drawn

NAMES = ["a$x_$b", r"a$\\frac$b", "price$5and$6", os.fsdecode(b"bad\xffname"), "数字"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_is_the_name(name, tmp_path):
    figure = plt.figure()
    title = figure.suptitle(as_drawn(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a letter that the font lacks
        figure.savefig(tmp_path / "x.png")
    plt.close(figure)
    seen = title.get_text().replace(r"\$", "$")
    assert seen == ("\u25a1\u25a1" if name == "数字" else name.encode(errors="backslashreplace").decode())


@pytest.mark.parametrize("name", NAMES)
def test_a_run_in_a_folder_of_any_name_comes_to_its_end(name, tmp_path, few_digits):
    assert (
        train.main(["--dry-run", "--quiet", "--train-size", "100", "--data-dir", few_digits, "--out", str(tmp_path / name)])
        == 0
    )
    assert {"result.json", "curves.png"} <= {path.name for path in (tmp_path / name).iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_of_any_name_has_its_feature_maps(name, tmp_path):
    path = tmp_path / f"{name}.png"
    Image.fromarray(mnist.load()[0].images[0]).save(path)
    assert feature_maps.main(["--image", str(path), "--out", str(tmp_path / "maps")]) == 0


def test_a_published_name_may_hold_dollars(tmp_path, few_digits):
    arguments = ["origin:steps=2,test_size=None", "--seeds", "1", "--data-dir", few_digits, "--out", str(tmp_path / "out")]
    assert sweep.main([*arguments, "--published", "cost $x_$=3"]) == 0


def test_a_strict_terminal_gets_the_bytes_that_it_cannot_show_with_backslashes(tmp_path):
    command = [sys.executable, "-m", "experiments.components", "--dry-run", "--out", os.fsencode(tmp_path) + b"/bad\xff"]
    said = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"}, check=False)
    assert said.returncode == 0, said.stderr
    assert b"bad\\udcff" in said.stdout
