"""The nets as the reader asks them: many small pictures, what each of them is, and of touching pairs where either digit is."""

import numpy as np

import tinygrad_lite.functional as F
from experiments.reader.find import Floats
from experiments.reader.normalise import SIZE
from models.lenet import LeNet
from models.pair import WIDTH, PairNet
from tinygrad_lite import no_grad

MOST = 256  # pictures in a batch


class Nets:
    """A net for one digit and, if there is one, the net for two that touch; they are set to evaluation."""

    def __init__(self, net: LeNet, pairs: PairNet | None = None) -> None:
        self.net = net.eval()
        self.pairs = pairs and pairs.eval()

    def log_probs(self, images: list[Floats]) -> list[Floats]:
        """Read images, (28, 28) or of pairs (28, 40): the log-probabilities of each, (1, 10), or of a pair (2, 10)."""
        return [log_probs for log_probs, _ in self.outputs(images)]

    def outputs(self, images: list[Floats]) -> list[tuple[Floats, Floats]]:
        """Read images as log_probs does: with the log-probabilities a pair's inner edges, (2,); see PairNet."""
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
