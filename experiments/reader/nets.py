"""The nets as the reader asks them: where ink is, what it is, and of touching pairs where either digit is."""

import cv2
import numpy as np
from numpy.typing import NDArray

import tinygrad_lite.functional as F
from experiments.reader.find import Box, Floats
from experiments.reader.load import LONG_SIDE
from experiments.reader.normalise import SIZE
from models.ink import SEES, STEP, InkNet
from models.lenet import LeNet
from models.pair import WIDTH, PairNet
from tinygrad_lite import no_grad

MOST = 256  # pictures in a batch
HIGH = 50  # pixels: a digit's height at which ink is told best from rules and shadows
NEAR = 48  # pixels around a digit that tell whether it is ink
LARGER = 8  # times as large at most a picture is looked at
BAND = 352  # rows of a page that the net for ink looks at at once: fewer bytes are touched for the first time
AROUND = 33  # pixels: each is looked at beside the mean of such a square, taken twice


def evened(picture: NDArray[np.uint8]) -> Floats:
    """Set each colour beside what is around it, so that light and shadow look alike: (h, w, 3) -> (3, h, w)."""
    logs = np.log(picture.astype(np.float32) + 8)
    around = logs
    for _ in range(2):
        around = cv2.blur(around, (AROUND, AROUND), borderType=cv2.BORDER_REFLECT)
    return np.ascontiguousarray(2 * (logs - around).transpose(2, 0, 1))


def in_tenth(likely: Floats, box: Box) -> float:
    """Say how likely a tenth of a box is ink at least, (h, w) saying so of each pixel."""
    x, y, w, h = box
    return float(np.percentile(likely[y : y + h, x : x + w], 90))


class Nets:
    """A net for one digit and, if there are such, those for two that touch and for ink; they are set to evaluation."""

    def __init__(self, net: LeNet, pairs: PairNet | None = None, ink: InkNet | None = None) -> None:
        self.net = net.eval()
        self.pairs = pairs and pairs.eval()
        self.ink = ink and ink.eval()
        self.images = 0  # read since the reader began with a picture

    def ink_on(self, picture: NDArray[np.uint8]) -> Floats | None:
        """Say how likely each pixel of a picture (h, w, 3) is ink, (h, w) in [0, 1]; None without a net for that."""
        if self.ink is None:
            return None
        height, width = picture.shape[:2]
        likely = np.empty((height, width), np.float32)
        for top in range(0, height, BAND):
            start, stop = max(0, top - SEES), min(top + BAND + SEES, height)
            above = min(start, AROUND)
            x = evened(picture[start - above : stop + AROUND])[:, above:][:, : stop - start]
            x = np.pad(x, ((0, 0), (0, (start - stop) % STEP), (0, -width % STEP)), mode="edge")
            with no_grad():
                seen = F.sigmoid(self.ink(x[None])).numpy()[0, 0]
            likely[top : top + BAND] = seen[top - start : stop - start, :width][:BAND]
        return likely

    def ink_in(self, picture: NDArray[np.uint8], boxes: list[Box], high: int = HIGH) -> Floats:
        """Say how likely there is ink in boxes of a picture (h, w, 3), (boxes,) in [0, 1]: in a tenth of each; 1 without a net.

        The picture is looked at around each box, in the size at which boxes of like height are about so `high`, for the net
        knows no wider strokes.
        """
        result = np.ones(len(boxes), np.float32)
        heights = np.array([h for _, _, _, h in boxes], float)
        groups = np.round(np.log2(heights / np.median(heights)) / 2) if self.ink and boxes else heights[:0]
        for group in np.unique(groups):
            these = np.flatnonzero(groups == group)
            factor = min(high / float(np.median(heights[these])), LARGER, LONG_SIDE / max(picture.shape[:2]))
            how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
            corners = np.array([(x, y, x + w, y + h) for x, y, w, h in (boxes[i] for i in these)])
            west, north = (max(0, int(start - NEAR / factor)) for start in corners.min(axis=0)[:2])
            east, south = (int(stop + NEAR / factor) + 1 for stop in corners.max(axis=0)[2:])
            sized = cv2.resize(picture[north:south, west:east], None, fx=factor, fy=factor, interpolation=how)
            for i in these:
                x, y, w, h = (int(side * factor) for side in (boxes[i][0] - west, boxes[i][1] - north, *boxes[i][2:]))
                x, y = min(x, sized.shape[1] - 1), min(y, sized.shape[0] - 1)
                left, top = max(0, x - NEAR) // STEP * STEP, max(0, y - NEAR) // STEP * STEP
                likely = self.ink_on(np.asarray(sized, np.uint8)[top : y + h + 1 + NEAR, left : x + w + 1 + NEAR])
                if likely is not None:
                    result[i] = in_tenth(likely, (x - left, y - top, w + 1, h + 1))
        return result

    def log_probs(self, images: list[Floats]) -> list[Floats]:
        """Read images, (28, 28) or of pairs (28, 40): the log-probabilities of each, (1, 10), or of a pair (2, 10)."""
        return [log_probs for log_probs, _ in self.outputs(images)]

    def outputs(self, images: list[Floats]) -> list[tuple[Floats, Floats]]:
        """Read images as log_probs does: with the log-probabilities a pair's inner edges, (2,); see PairNet."""
        self.images += len(images)
        results = [(np.zeros((1, 10), np.float32), np.zeros(0, np.float32))] * len(images)
        for wide, net in ((SIZE, self.net), (WIDTH, self.pairs)):
            which = [i for i, image in enumerate(images) if image.shape[1] == wide]
            for start in range(0, len(which), MOST):
                some = which[start : start + MOST]
                # the batch innermost in memory, where conv2d wants it
                batch = np.stack([images[i] for i in some], axis=-1).transpose(2, 0, 1)[:, None]
                with no_grad():
                    logits, edges = net(batch) if wide == WIDTH else (net(batch)[:, None], np.zeros((len(some), 0)))
                    read = F.log_softmax(logits, dim=-1)
                for i, log_probs, places in zip(some, read.numpy(), np.asarray(edges), strict=True):
                    results[i] = log_probs, places
        return results
