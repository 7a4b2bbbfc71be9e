"""Why a net confuses a pair of classes, as far as the data can tell.

How alike they are, how many there were to learn from, and where the strokes of those that it got wrong lie.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.mnist import Digits
from experiments.runs import RunError
from experiments.training import as_input
from models.lenet import LeNet
from tinygrad_lite import no_grad

Floats = NDArray[np.floating]
NEAREST = 10  # training images looked at around each digit that was read wrongly
WINDOW = 5  # pixels: the size of a place on the image that the words speak of
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
LIKE_MOST = 1 / 3  # a pair among this part of all pairs is called close


class Seen(NamedTuple):
    """Digits as the net saw them."""

    digits: Digits
    probs: Floats  # (n, 10), float64
    features: Floats  # (n, 500), what the last layer sees


def look(model: LeNet, digits: Digits) -> Seen:
    """Run a net over digits, in batches.

    Raises
    ------
    RunError : what the net gives is not finite, or too large to be compared.
    """
    probs, features = [], []
    with no_grad(), np.errstate(over="ignore", invalid="ignore"):  # looked for below
        for start in range(0, len(digits.labels), 500):
            steps = model.activations(as_input(digits.images[start : start + 500]))
            probs.append(steps["fc2"].double().softmax(1).numpy())
            features.append(np.ascontiguousarray(steps["features"].numpy()))
            largest = np.square(2 * features[-1]).sum(axis=1)  # no distance between two of them, squared, is larger
            if not (np.isfinite(probs[-1]).all() and np.isfinite(largest).all()):
                raise RunError("the net's numbers overflow, so nothing can be said of it; give other weights.")
    return Seen(digits, np.concatenate(probs), np.concatenate(features))


class Classes:
    """What the training images say about the ten classes and about each pair of them.

    Attributes
    ----------
    counts : (10,), training images of each
    means : (10, 28, 28), mean images, 0 to 1
    image_distance : (10, 10), Euclidean distance of two mean images
    feature_gap : (10, 10)
        Distance of two classes' mean features as a multiple of their spread along the line between them (root of the mean
        of both variances): the smaller, the less the net keeps them apart.
    """

    def __init__(self, train: Seen) -> None:
        self.train = train
        labels = train.digits.labels
        self.counts = np.bincount(labels, minlength=10)
        self.members = [np.flatnonzero(labels == k) for k in range(10)]
        self.means = np.stack([train.digits.images[m].mean(axis=0) / 255 for m in self.members])
        centres = np.stack([train.features[m].mean(axis=0, dtype=np.float64) for m in self.members])
        self.image_distance = np.linalg.norm((self.means[:, None] - self.means).reshape(10, 10, -1), axis=2)
        self.feature_gap = np.full((10, 10), np.inf)
        for a, b in zip(*np.triu_indices(10, 1), strict=True):
            line = centres[b] - centres[a]
            variances = [np.var(train.features[self.members[k]] @ line) for k in (a, b)]
            spread = np.sqrt(np.mean(variances)) / max(np.linalg.norm(line), 1e-12)
            self.feature_gap[a, b] = self.feature_gap[b, a] = np.linalg.norm(line) / max(spread, 1e-12)

    def rank(self, measure: Floats, a: int, b: int) -> int:
        """Give the place of a pair among all 45, 1 being the closest."""
        every = measure[np.triu_indices(10, 1)]
        return 1 + int((every < measure[a, b]).sum())

    def toward(self, images: NDArray[np.uint8], a: int, b: int) -> Floats:
        """Say how far images lie on the way from the mean a (0) to the mean b (1)."""
        way = (self.means[b] - self.means[a]).ravel()
        along: Floats = (images.reshape(len(images), -1) / 255 - self.means[a].ravel()) @ way / max(way @ way, 1e-12)
        return along

    def nearest(self, feature: Floats, among: NDArray[np.intp]) -> tuple[int, float]:
        """Give the training image, of those `among`, whose features are the nearest, and their distance."""
        distances = np.linalg.norm(self.train.features[among] - feature, axis=1)
        best = int(distances.argmin())
        return int(among[best]), float(distances[best])


def confused_pairs(matrix: NDArray[np.int_], count: int) -> list[tuple[int, int]]:
    """Give the pairs with the most errors, both directions together; in each the more frequent true digit first."""
    both = np.triu(matrix + matrix.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")[:count]
    pairs = [(int(i) // 10, int(i) % 10) for i in order if both.flat[i]]
    return [(a, b) if matrix[a, b] >= matrix[b, a] else (b, a) for a, b in pairs]


def explain(a: int, b: int, seen: Seen, classes: Classes) -> dict[str, Any]:
    """Measure what there is to know about the digits a read as b and b as a, and say it in words.

    Returns
    -------
    dict with the measures, "directions" (a to b, and b to a), "examples" (each digit read wrongly) and "reason" (words)
    """
    guesses = seen.probs.argmax(axis=1)
    found: dict[str, Any] = {
        "pair": [a, b],
        "training_images": [int(classes.counts[a]), int(classes.counts[b])],
        "mean_image_distance": float(classes.image_distance[a, b]),
        "mean_image_rank": classes.rank(classes.image_distance, a, b),
        "feature_gap": float(classes.feature_gap[a, b]),
        "feature_rank": classes.rank(classes.feature_gap, a, b),
        "directions": [],
        "examples": [],
    }
    for true, guess in ((a, b), (b, a)):
        wrong = np.flatnonzero((seen.digits.labels == true) & (guesses == guess))
        if not wrong.size:
            continue
        examples = [_example(int(i), true, guess, seen, classes) for i in wrong]
        found["examples"] += examples
        found["directions"].append(_direction(true, guess, wrong, examples, seen, classes))
    found["reason"] = _reason(found, int(classes.counts.sum()))
    return found


def _example(index: int, true: int, guess: int, seen: Seen, classes: Classes) -> dict[str, Any]:
    first, second = np.argsort(-seen.probs[index], kind="stable")[:2]
    feature = seen.features[index]
    own, own_distance = classes.nearest(feature, classes.members[true])
    other, other_distance = classes.nearest(feature, classes.members[guess])
    distances = np.linalg.norm(classes.train.features - feature, axis=1)
    around = classes.train.digits.labels[np.argpartition(distances, NEAREST - 1)[:NEAREST]]
    return {
        "index": index,
        "true": true,
        "guess": int(first),
        "confidence": float(seen.probs[index, first]),
        "second": int(second),
        "second_confidence": float(seen.probs[index, second]),
        "nearest_true": {"index": own, "distance": own_distance},
        "nearest_guess": {"index": other, "distance": other_distance},
        "neighbours_true": int((around == true).sum()),
        "neighbours_guess": int((around == guess).sum()),
    }


def _direction(
    true: int, guess: int, wrong: NDArray[np.intp], examples: list[dict[str, Any]], seen: Seen, classes: Classes
) -> dict[str, Any]:
    images = seen.digits.images[wrong]
    along = float(classes.toward(images, true, guess).mean())
    usual = classes.toward(classes.train.digits.images[classes.members[true]], true, guess)
    return {
        "true": true,
        "guess": guess,
        "count": len(wrong),
        "of": int((seen.digits.labels == true).sum()),
        "toward": along,
        "training_images_as_far": float((usual >= along).mean()),
        "strokes": strokes(images.mean(axis=0) / 255, classes.means[true], classes.means[guess]),
        "mean_confidence": float(np.mean([e["confidence"] for e in examples])),
        "second_is_true": sum(e["second"] == true for e in examples),
        "neighbours_true": float(np.mean([e["neighbours_true"] for e in examples])),
        "neighbours_guess": float(np.mean([e["neighbours_guess"] for e in examples])),
    }


def strokes(image: Floats, own: Floats, other: Floats) -> list[dict[str, Any]]:
    """Find the places where an image has left its own class's mean image for the other's: ink that is new, ink that is missing.

    Parameters
    ----------
    image, own, other : (28, 28), 0 to 1; the image may be the mean of several

    Returns
    -------
    list of dict, strongest first: "place" in words, "row" and "column" of the middle of a WINDOW x WINDOW window, "kind"
        ("extra" or "missing"), and the ink there in all three, as a part of full ink
    """
    image_ink, own_ink, other_ink = _window_means(np.stack([image, own, other]))
    change, way = image_ink - own_ink, other_ink - own_ink
    found: list[dict[str, Any]] = []
    for kind, sign in (("extra", 1), ("missing", -1)):
        strength = np.where((sign * change > 0) & (sign * way > 0), np.abs(change * way), 0)
        row, column = np.unravel_index(strength.argmax(), strength.shape)
        if strength[row, column] > 0.01:  # a tenth of full ink in both
            at = (row, column)
            found.append(
                {
                    "kind": kind,
                    "place": place(int(row) + WINDOW // 2, int(column) + WINDOW // 2),
                    "row": int(row) + WINDOW // 2,
                    "column": int(column) + WINDOW // 2,
                    "ink": float(image_ink[at]),
                    "own_ink": float(own_ink[at]),
                    "other_ink": float(other_ink[at]),
                    "strength": float(strength[at]),
                }
            )
    return sorted(found, key=lambda one: -one["strength"])


def _window_means(images: Floats) -> Floats:
    windows = np.lib.stride_tricks.sliding_window_view(images, (WINDOW, WINDOW), axis=(1, 2))
    means: Floats = windows.mean(axis=(3, 4))
    return means


def place(row: int, column: int) -> str:
    """Name a place on a 28x28 image: a ninth of the middle 20x20, in which the digit lies."""
    vertical = ("upper", "middle", "lower")[int(np.clip((row - 4) * 3 // 20, 0, 2))]
    horizontal = ("left", "centre", "right")[int(np.clip((column - 4) * 3 // 20, 0, 2))]
    if vertical == "middle":
        return "centre" if horizontal == "centre" else f"middle {horizontal}"
    return f"{vertical} {'middle' if horizontal == 'centre' else horizontal}"


def _reason(found: dict[str, Any], training_images: int) -> str:
    """Put the measures into words; which words, they decide."""
    a, b = found["pair"]
    n_a, n_b = found["training_images"]
    usual = training_images / 10
    chance = 2 * np.sqrt(0.9 * usual)  # two standard deviations of a count in a random set: tiny sets vary by themselves
    few = [f"{k}s ({n:,})" for k, n in ((a, n_a), (b, n_b)) if n < min(0.95 * usual, usual - chance)]
    images, features = found["mean_image_rank"], found["feature_rank"]
    closeness = (
        f"Of the 45 pairs of digits, {a} and {b} have the {_nth(images)}closest mean images "
        f"(distance {found['mean_image_distance']:.1f}) and the {_nth(features)}closest features in the net "
        f"({found['feature_gap']:.1f} spreads apart)"
    )
    close = [rank <= 45 * LIKE_MOST for rank in (images, features)]
    verdict = {
        (True, True): "they look alike, and to the net too",
        (True, False): "they look alike, but the net has learned to keep most of them apart",
        (False, True): "on the average they do not look alike, but the net's features bring them together",
        (False, False): "neither makes this a likely confusion; it is single digits that are odd",
    }[close[0], close[1]]
    words = [f"{closeness}: {verdict}."]
    if few:
        words.append(
            f"There were fewer training images than usual of {' and '.join(few)}; the mean of all digits is {usual:,.0f}."
        )
    else:
        words.append(f"Examples were not short: {n_a:,} and {n_b:,} training images, the mean of all digits is {usual:,.0f}.")
    return "\n".join([" ".join(words), *(_direction_words(one) for one in found["directions"])])


def _direction_words(one: dict[str, Any]) -> str:
    true, guess, count = one["true"], one["guess"], one["count"]
    many = count > 1
    number = NUMBERS[count] if count < len(NUMBERS) else count
    who = f"The {number} {true}s read as {guess}" if many else f"The {true} read as {guess}"
    have, lie = ("have", "lie") if many else ("has", "lies")
    parts = []
    for stroke in one["strokes"]:
        amounts = (
            f"{stroke['ink']:.0%}; the mean {true} has {stroke['own_ink']:.0%}, the mean {guess} {stroke['other_ink']:.0%}"
        )
        parts.append(f"{have} {'more' if stroke['kind'] == 'extra' else 'less'} ink at the {stroke['place']} ({amounts})")
    if one["toward"] > 0:
        far = one["training_images_as_far"]
        as_far = (
            "no training" if far == 0 else f"{far:.0%} of the training" if far >= 0.005 else "less than 1 % of the training"
        )
        parts.append(
            f"{lie} {one['toward']:.0%} of the way from the mean {true} to the mean {guess}, as far as {as_far} {true}s lie"
        )
    else:
        parts.append(f"{lie} no nearer to the mean {guess} than the mean {true}")
    text = f"{who} {', '.join(parts[:-1])}{' and ' if parts[:-1] else ''}{parts[-1]}."
    own, other = one["neighbours_true"], one["neighbours_guess"]
    verdict = (
        f"already in the features {f'they look like {guess}s' if many else f'it looks like a {guess}'}"
        if other > own
        else f"in the features {'they are' if many else 'it is'} among {true}s, and it is the last layer that errs"
    )
    mean = " on average" if many else ""
    text += (
        f" Of the {NEAREST} training images nearest to {'each' if many else 'it'} in the features{mean} "
        f"{other:.3g} are {guess}s and {own:.3g} are {true}s: {verdict}."
    )
    second = "its second guess was right" if one["second_is_true"] else "its second guess was wrong too"
    if many:
        second = f"its second guess was right for {'all' if one['second_is_true'] == count else one['second_is_true']} of them"
    return f"{text} The net was {one['mean_confidence']:.0%} sure{mean}; {second}."


def _nth(rank: int) -> str:
    if rank == 1:
        return ""
    return f"{rank}{'th' if rank % 100 in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(rank % 10, 'th')} "
