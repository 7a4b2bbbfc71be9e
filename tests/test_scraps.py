"""Training examples of ink on paper, the net that finds it, and what the reader makes of that."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

from experiments import mnist, train_reader  # noqa: E402
from experiments.augment import Picker  # noqa: E402
from experiments.reader import nets  # noqa: E402
from experiments.reader.find import from_net  # noqa: E402
from experiments.reader.nets import Nets  # noqa: E402
from experiments.scraps import SIDE, photographed, scraps, written  # noqa: E402
from models.ink import SEES, STEP, InkNet, coarser, finer  # noqa: E402
from models.lenet import LeNet  # noqa: E402
from models.load import load_ink  # noqa: E402
from tinygrad_lite import FileFormatError, ShapeError, Tensor, no_grad, serialize  # noqa: E402

REACH = 32  # pixels: as far as blur, the blocks of a JPEG and a change of size carry a pixel


@pytest.fixture(scope="module")
def pick():
    training, _ = mnist.load()
    return Picker(training.images[-300:], training.labels[-300:], drawn=0.2)


@pytest.fixture
def ink_nets():
    return Nets(LeNet(np.random.default_rng(0)), ink=load_ink())


def test_what_is_said_to_be_ink_is_what_changes_the_picture(pick):
    glyphs = [pick(np.random.default_rng(i))[0] for i in range(20)]
    contrast, hidden, overlap = [], [], []
    for seed in range(80):
        ink = written(glyphs, np.random.default_rng(seed))
        (picture, visible), (bare, _) = (photographed(some, np.random.default_rng(seed)) for some in (ink, 0 * ink))
        change = np.abs(picture.astype(int) - bare).max(-1)
        near = cv2.dilate((visible > 0).astype(np.uint8), np.ones((2 * REACH + 1,) * 2, np.uint8))
        assert not change[near == 0].any()
        there, gone = visible > 0.9, (ink > 0.9) & (visible < 0.1)
        if there.sum() > 200:
            contrast.append(np.median(change[there]))
            if contrast[-1] > 60:  # not lost in the noise
                changed = change > contrast[-1] / 2
                overlap.append((changed & (visible > 0.5)).sum() / (changed | (visible > 0.5)).sum())
        if gone.sum() > 200:
            hidden.append(np.median(change[gone]))
    assert len(contrast) > 50
    assert np.median(contrast) > 15  # of 255; some ink is next to invisible, as in life
    assert len(overlap) > 10
    assert np.median(overlap) > 0.75
    assert len(hidden) > 2
    assert max(hidden) < 5


def test_examples_are_repeatable(pick):
    pictures, ink = scraps(pick, 30, np.random.default_rng(3))
    for one, again in zip((pictures, ink), scraps(pick, 30, np.random.default_rng(3)), strict=True):
        np.testing.assert_array_equal(one, again)
    assert (pictures.shape, ink.shape) == ((30, SIDE, SIDE, 3), (30, SIDE, SIDE))
    assert 0.05 < (ink > 127).mean() < 0.3
    assert np.median(pictures.reshape(30, -1).std(1)) > 5


def test_pixels_go_to_channels_and_back():
    x = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
    np.testing.assert_array_equal(coarser(Tensor(x)).numpy()[0, :, 0, 1], [2, 3, 6, 7, 18, 19, 22, 23, 34, 35, 38, 39])
    np.testing.assert_array_equal(finer(coarser(Tensor(x))).numpy(), x)


def test_the_net_sees_so_far_and_no_farther():
    x = np.random.default_rng(0).normal(0, 1, (1, 3, 256, 256)).astype(np.float32)
    farthest = []
    with no_grad():
        before = load_ink()(x).numpy()[0, 0]
        for place in range(128, 128 + STEP):
            changed = x.copy()
            changed[..., place, place] += 5
            seen_at = np.concatenate(np.nonzero(load_ink()(changed).numpy()[0, 0] != before))
            first = seen_at // STEP * STEP  # of its square
            farthest.append(max((first - place).max(), (place - (first + STEP - 1)).max()))
    assert SEES - 16 < max(farthest) <= SEES
    assert SEES % STEP == 0


def test_pictures_of_other_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"multiples of 8, got \(1, 3, 20, 24\)"):
        InkNet(np.random.default_rng(0))(np.zeros((1, 3, 20, 24), np.float32))


def test_a_page_looked_at_in_bands_is_as_one_looked_at_at_once(ink_nets, pick, monkeypatch):
    pictures, _ = scraps(pick, 9, np.random.default_rng(4))
    page = pictures.reshape(3, 3, SIDE, SIDE, 3).swapaxes(1, 2).reshape(3 * SIDE, 3 * SIDE, 3)[: 3 * SIDE - 13, : 3 * SIDE - 3]
    monkeypatch.setattr(nets, "BAND", 1000)
    whole = ink_nets.ink_on(page)
    assert whole.shape == page.shape[:2]
    monkeypatch.setattr(nets, "BAND", 96)
    np.testing.assert_allclose(ink_nets.ink_on(page), whole, atol=1e-5)
    assert Nets(LeNet(np.random.default_rng(0))).ink_on(page) is None


def test_the_net_finds_the_ink_that_it_was_trained_for(pick):
    pictures, ink = scraps(Picker(pick.images, pick.labels, drawn=0), 60, np.random.default_rng(5))
    assert train_reader.overlap(train_reader.outputs(load_ink(), pictures)[0], ink) > 0.6  # 0.68 of 500


def test_parts_of_which_nothing_is_sure_are_no_ink():
    likely = np.zeros((100, 100), np.float32)
    likely[10:40, 20:24], likely[40:60, 20:24] = 0.9, 0.55  # a stroke that fades
    likely[70:90, 60:64] = 0.65
    gray = np.where(likely > 0, 100, 200).astype(np.float32)
    ink = from_net(gray, likely)
    assert ink.mask[10:60, 20:24].all()
    assert ink.mask.sum() == 50 * 4
    assert not ink.light
    assert from_net(255 - gray, likely).light
    assert from_net(gray, likely * 0.6) is None


def test_training_makes_weights_and_figures(tmp_path):
    argv = ["--net", "ink", "--rounds", "1", "--size", "16", "--batch-size", "8", "--passes", "1", "--check", "4"]
    assert train_reader.main([*argv, "--workers", "1", "--out", str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ink.json", "ink.safetensors"]
    assert load_ink(tmp_path / "ink.safetensors")
    state = load_ink().state_dict()
    serialize.save({**state, "last.bias": state["last.bias"][:2]}, tmp_path / "w.npz")
    with pytest.raises(FileFormatError, match=r"load_ink: .*last\.bias"):
        load_ink(tmp_path / "w.npz")
