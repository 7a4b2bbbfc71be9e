"""The report: one page that carries everything, and that a browser shows whole at a phone's and at a desktop's width."""

import base64
import html
import io
import json
import re
import shutil
import subprocess

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from experiments import report
from experiments.outputs import Outputs
from experiments.runs import write_json
from models.lenet import LeNet
from tinygrad_lite import serialize

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")


def make_run(folder):
    """A run's folder as experiments.train writes it, with random weights; the command is one that could break the page."""
    folder.mkdir(parents=True)
    serialize.save(LeNet(np.random.default_rng(0)).state_dict(), folder / "model.safetensors")
    made = {
        "command": "python train.py --out '<b>&" + "x" * 300,
        "python": "3.11",
        "packages": {"numpy": "2"},
        "commit": "c" * 40,
    }
    config = {"recipe": "quick", "seed": 3, "about": "a <test>", "train_size": 400, "steps": None, "environment": made}
    write_json(folder / "config.json", config)
    write_json(folder / "result.json", {"step": 1234, "seconds": 5.6, "train_size": 9, "test_accuracy": 0.1, "test_loss": 2.3})
    Image.fromarray(np.zeros((40, 100), np.uint8)).save(folder / "curves.png")
    photos = folder / "photos"
    photos.mkdir()
    Image.fromarray(np.zeros((1200, 2000, 3), np.uint8)).save(photos / "page.read.png")
    reading = [
        {"file": "there/page.jpg", "rows": ["0123", "45"], "digits": [{}] * 6},
        {"file": "bare.jpg", "rows": [], "digits": []},
    ]
    (photos / "read.json").write_text(json.dumps(reading))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("report") / "run")
    assert report.main([str(folder), "--dry-run", "--photos", str(folder / "photos")]) == 0
    return folder


def test_the_page_carries_all_it_shows(made):
    page = (made / "report.html").read_text()
    sources = re.findall(r"<img[^>]* src=\"([^\"]*)\"", page)
    assert len(sources) >= 7  # curves, matrix, calibration, a pair, two layers, a photograph
    for source in sources:
        kind, data = re.fullmatch(r"data:image/(\w+);base64,([A-Za-z0-9+/=]+)", source).groups()
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            image.load()
            assert image.format.lower() == kind
            assert max(image.size) <= report.WIDEST
    without = re.sub(r"data:image/[^\"]*", "", page)
    assert not re.search(r"https?:|<script|<link|url\(|@import", without)  # nothing comes from elsewhere
    assert (made / "curves.png").read_bytes() in [base64.b64decode(s.split(",")[1]) for s in sources]
    assert (made / "confusion.png").read_bytes() in [base64.b64decode(s.split(",")[1]) for s in sources]


def test_the_page_says_what_was_found_and_with_what(made):
    text = html.unescape(re.sub(r"<[^>]*>", "\n", re.sub(r"data:image/[^\"]*", "", (made / "report.html").read_text())))
    found = json.loads((made / "confusion.json").read_text())
    assert f"{found['overall']['accuracy']:.2%}" in text
    assert f"{found['reliability']['expected_calibration_error']:.2%}" in text
    for paragraph in found["pairs"][0]["reason"].split("\n"):
        assert paragraph in text
    assert "1,234" in text
    assert "6 s" in text
    assert "LeNet, recipe quick, seed 3" in text
    assert "--out '<b>&xxx" in text  # escaped, not swallowed
    assert "a <test> (changed: train_size = 400)." in text
    assert "c" * 40 in text
    assert "0123\n45" in text
    assert "no digits" in text
    assert "A dry run" in text
    assert sum(one["count"] for one in found["by_class"]) == 200


MEASURE = """
<iframe id="f" style="border:0;width:WIDTHpx;height:900px"></iframe><script>
const f = document.getElementById('f');
f.onload = () => {
  const d = f.contentDocument, page = d.documentElement, images = [...d.images];
  const outside = [...d.body.querySelectorAll('*')].filter(
    e => e.getBoundingClientRect().right > page.clientWidth + 0.5 && !e.closest('.wide'));
  document.body.innerText = 'MEASURED' + JSON.stringify({
    client: page.clientWidth, scroll: page.scrollWidth, images: images.length,
    shown: images.filter(i => i.complete && i.naturalWidth > 0 && i.getBoundingClientRect().width > 100).length,
    outside: outside.map(e => e.tagName + ' ' + e.textContent.slice(0, 40)),
    font: parseFloat(f.contentWindow.getComputedStyle(d.querySelector('p')).fontSize),
    height: page.scrollHeight}) + 'END';
};
f.srcdoc = PAGE;
</script>
"""


def measure(browser, page, width, folder):
    """Lay a page out in a real browser, in a frame of this width (windows have a least width, frames have not)."""
    wrapper = folder / f"frame-{width}.html"
    source = json.dumps(page).replace("</", "<\\/")
    wrapper.write_text(MEASURE.replace("WIDTH", str(width)).replace("PAGE", source))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--window-size=1400,1000", "--virtual-time-budget=10000", "--dump-dom", wrapper.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True).stdout
    found = re.search(r"MEASURED(.*?)END<", shown, re.DOTALL)
    assert found, f"{browser} did not render the page"
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_whole_on_a_phone_and_on_a_desktop(made, tmp_path, width):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser here to look at the page with (none of {', '.join(BROWSERS)})")
    page = (made / "report.html").read_text()
    seen = measure(browser, page, width, tmp_path)
    assert seen["client"] == width or seen["client"] == width - 15  # without or with a scroll bar
    assert seen["scroll"] <= seen["client"]
    assert seen["outside"] == []
    assert seen["images"] == seen["shown"] >= 7
    assert seen["font"] >= 15
    assert seen["height"] > 2000
    # what the measure would say of a page that is too wide, or of a picture that is damaged
    broken = page.replace(
        "</main>", f"<div style='width:{width + 30}px'>wide</div><img src='data:image/png;base64,AAAA'></main>"
    )
    seen = measure(browser, broken, width, tmp_path)
    assert seen["scroll"] > seen["client"]
    assert seen["outside"] == ["DIV wide"]
    assert seen["shown"] == seen["images"] - 1


def small(outputs, name, figure):
    """Write a small picture instead of drawing the figure, which takes seconds."""
    plt.close(figure)
    Image.new("L", (9, 9)).save(outputs.path(name))


def test_a_run_that_was_broken_off_and_files_that_are_damaged(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Outputs, "figure", small)
    folder = make_run(tmp_path / "run")
    (folder / "result.json").unlink()
    (folder / "curves.png").unlink()
    out = tmp_path / "elsewhere"
    assert report.main([str(folder), "--dry-run", "--out", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "This run has not finished" in page
    assert "no curves.png" in page
    assert "Photographs" not in page
    capsys.readouterr()

    before = sorted(p.name for p in folder.iterdir())
    (tmp_path / "bare").mkdir()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "read.json").write_text('{"rows": 3}')
    for change, words in (
        (["--photos", str(tmp_path / "text.png")], r"expected an image, .*text\.png is none that Pillow knows"),
        (["--photos", str(tmp_path / "bare")], r"bare holds neither read\.json nor images"),
        (["--photos", str(tmp_path / "nowhere")], r"--photos: there is no .*nowhere"),
        (["--photos", str(tmp_path / "odd")], r"read\.json is not what experiments\.read writes"),
    ):
        assert report.main([str(folder), "--dry-run", *change]) == 1
        assert re.search(words, capsys.readouterr().err)
        assert sorted(p.name for p in folder.iterdir()) == before  # the run is as it was
    assert report.main([str(tmp_path / "bare")]) == 1
    assert re.search(r"bare the folder of a run\?", capsys.readouterr().err)
    (folder / "model.safetensors").unlink()
    assert report.main([str(folder)]) == 1
    assert re.search(r"there is no .*model\.safetensors; the run has not finished", capsys.readouterr().err)
