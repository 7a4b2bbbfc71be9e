"""Pages made of the digits of fonts."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="OpenCV is not installed")
matplotlib = pytest.importorskip("matplotlib", reason="Matplotlib, which brings fonts, is not installed")

from experiments import pages  # noqa: E402
from experiments.fonts import digits_of  # noqa: E402


def font(name):
    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")


def test_pages_of_the_digits_of_fonts(tmp_path):
    fonts = [font("DejaVuSans"), font("DejaVuSerif")]
    images, labels = digits_of(list(map(Path, fonts)))
    assert labels.tolist() == 2 * list(range(10))
    assert images.dtype == np.uint8
    assert len(np.unique(images.reshape(20, 28 * 28), axis=0)) == 20
    for image in images:  # in MNIST's form: 20 pixels high, the centre of mass in the middle
        rows = np.flatnonzero(image.max(axis=1) > 64)
        assert 19 <= rows[-1] - rows[0] + 1 <= 21
        middle = [np.average(np.arange(28), weights=image.sum(axis=axis)) for axis in (0, 1)]
        assert middle == pytest.approx([13.75, 13.75], abs=0.5)
    command = ["--evaluate", "--digits", "45", "--on-page", "45", "45", "--difficulty", "clean", "--out", str(tmp_path)]
    assert pages.main([*command, "--fonts", *fonts]) == 0
    measured = json.loads((tmp_path / "pages.json").read_text())
    assert measured["settings"]["fonts"] == ["DejaVuSans.ttf", "DejaVuSerif.ttf"]
    assert measured["result"]["all"]["counts"]["digits"] == 45  # more than twice as many as there are
    assert measured["result"]["all"]["digits_right"] >= 0.95


def test_what_is_no_font_of_digits_is_refused(tmp_path, capsys):
    text = tmp_path / "text.ttf"
    text.write_text("no font")
    for file, said in [
        (text, "text.ttf is no font that can be read"),
        (tmp_path, "is not a file"),
        (tmp_path / "none.ttf", "none.ttf is not a file; `fc-list` names those"),
        (font("DejaVuSansDisplay"), "DejaVuSansDisplay.ttf has not all ten digits."),
    ]:
        assert pages.main(["--fonts", font("DejaVuSans"), str(file), "--out", str(tmp_path / "out")]) == 1
        assert said in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
