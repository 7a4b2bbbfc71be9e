"""What a report is made of, damaged or foreign: refused in words, or shown as far as it can be; never a traceback."""

import json
import os
import re
import shutil

import pytest

pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("matplotlib")

from PIL import Image

from experiments import report
from experiments.outputs import Outputs
from experiments.runs import read_result
from experiments.written import configuration, readings_in
from tests.test_report import make_run, small
from tinygrad_lite import FileFormatError

FOREIGN = r"is not what experiments\.train writes: "


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipe": ["quick"]}, r"recipe must be str or NoneType, got \['quick'\]"),
        ({"data_dir": 5}, "data_dir must be str or NoneType, got 5"),
        ({"validate": "100"}, "validate must be int or NoneType, got '100'"),
        ({"environment": []}, r"environment must be dict, got \[\]"),
        ({"environment": {"packages": ["numpy"]}}, r"packages must be dict, got \['numpy'\]"),
        ({"train_size": 2.5}, "recipe: train_size must be .*, got 2.5"),
        ({"train_size": 0}, "recipe: train_size must be a number of at least 1, got 0"),
        ({"about": None}, "recipe: about must be .*, got None"),
        ({"rotation": -1}, "rotation"),
    ],
)
def test_configurations_of_other_programs(tmp_path, changes, words):
    (tmp_path / "config.json").write_text(json.dumps({"recipe": "quick", **changes}))
    with pytest.raises(FileFormatError, match=f"config.json {FOREIGN}.*{words}"):
        configuration(tmp_path)


@pytest.mark.parametrize("result", ["{}", '{"step": "1", "seconds": 1}', '{"step": 1, "seconds": null}'])
def test_results_of_other_programs(tmp_path, result):
    (tmp_path / "result.json").write_text(result)
    with pytest.raises(FileFormatError, match=r"result\.json is not of a finished run: expected numbers"):
        read_result(tmp_path)


def test_json_that_is_nested_without_end(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(FileFormatError, match=r"config\.json is damaged"):
        configuration(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "3",
        "[3]",
        '[{"file": "a", "rows": "12", "digits": []}]',
        '[{"file": "a", "rows": [], "digits": {}}]',
        '[{"file": 1, "rows": [], "digits": []}]',
        '[{"file": "a", "rows": [1], "digits": []}]',
        '[{"file": "a", "rows": []}]',
        "[" * 100_000,
    ],
    ids=lambda text: text[:60],
)
def test_readings_of_other_programs(tmp_path, content):
    (tmp_path / "read.json").write_text(content)
    with pytest.raises(FileFormatError, match=r"read\.json is not what experiments\.read writes"):
        readings_in(tmp_path / "read.json")


def test_a_run_without_weights_is_told_how_to_go_on(tmp_path, capsys):
    folder = make_run(tmp_path / "run")
    (folder / "model.safetensors").unlink()
    assert report.main([str(folder)]) == 1
    assert re.search(r"there is no .*model\.safetensors; was it taken away\?", capsys.readouterr().err)
    (folder / "result.json").unlink()
    assert report.main([str(folder)]) == 1
    said = capsys.readouterr().err
    assert f"the run has not finished, and `python -m experiments.train --resume {folder}` goes on with it." in said
    assert "--weights" not in said


def test_a_name_that_is_no_utf_8_breaks_no_page(tmp_path, monkeypatch):
    monkeypatch.setattr(Outputs, "figure", small)
    folder = make_run(tmp_path / "run")
    (folder / "photos" / "read.json").write_text('[{"file": "\\ud800<.jpg", "rows": ["\\udfff"], "digits": []}]')
    name = os.fsdecode(b"\xff.png")
    Image.new("L", (9, 9)).save(tmp_path / "plain.png")
    try:
        shutil.copy(tmp_path / "plain.png", folder / "photos" / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert report.main([str(folder), "--dry-run", "--photos", str(folder / "photos")]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert r"\ud800&lt;.jpg" in page
    assert r"\udcff.png" in page
