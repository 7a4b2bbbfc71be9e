"""Distortions of whole batches for training: turned, leaned, stretched, shifted, waved, and with another pen.

What a sample looks like in an epoch follows from the seed, the epoch and the sample's place in the training set alone: row i of
the epoch's table of random numbers is sample i's. Batches may be cut, ordered and prepared by threads as one likes. `augment`
makes examples for the reader, one by one and at four times the size.

Source: Simard, Steinkraus & Platt 2003 (elastic distortions: sigma 4 and alpha 34 there are waves of 1.4 pixels here).
"""

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from experiments.runs import RunError

SIGMA = 4.0  # pixels; the shifts of points d apart correlate by exp(-d^2 / (4 SIGMA^2)): white noise smoothed by a Gaussian
SIDE, GAP = 28, 4  # images lie below one another on a canvas, the gap as wide as the interpolation reaches
CHUNK = 1000  # images on a canvas: OpenCV takes up to 32,767 rows


@dataclass(frozen=True)
class Distortion:
    """How strong. All but `elastic` are the ends of a uniform distribution around no change."""

    rotation: float = 0.0  # degrees
    scale: float = 0.0  # part of the size, both ways drawn apart
    shear: float = 0.0  # pixels sideways for a pixel up
    shift: float = 0.0  # pixels, both ways
    elastic: float = 0.0  # pixels, standard deviation of the waves
    thickness: float = 0.0  # pixels added to or taken from the edge of a stroke, at most 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value, limit = getattr(self, field.name), 1 if field.name in ("scale", "thickness") else np.inf
            if not (0 <= value <= limit and np.isfinite(value)):
                raise RunError(f"distortion: {field.name} must be a number from 0 to {limit:g}, got {value}.")

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self != Distortion()


class Distorter:
    """Distort images by a seed, their epoch and their places.

    Parameters
    ----------
    distortion : Distortion
    seed : numpy.random.SeedSequence
    count : int, images in the training set
    """

    def __init__(self, distortion: Distortion, seed: np.random.SeedSequence, count: int) -> None:
        self.distortion, self.seed, self.count = distortion, seed, count
        self.basis = wave_basis(SIGMA)
        self.epoch: int | None = None  # whose random numbers the two tables hold
        self.even = self.normal = np.empty(0, np.float32)

    def __call__(self, images: NDArray[np.uint8], places: NDArray[np.intp], epoch: int) -> NDArray[np.uint8]:
        """Distort images (n, 28, 28), bytes, that stand at `places` (n,) of the training set; give new ones."""
        if epoch != self.epoch:
            child = np.random.SeedSequence(self.seed.entropy, spawn_key=(*self.seed.spawn_key, epoch))
            even, normal = (np.random.default_rng(s) for s in child.spawn(2))
            self.even = even.uniform(-1, 1, (self.count, 7)).astype(np.float32)
            self.normal = normal.standard_normal((self.count, 2, *2 * self.basis.shape[1:]), np.float32)
            self.epoch = epoch
        return distort(images, self.distortion, self.even[places], self.normal[places], self.basis)


def wave_basis(sigma: float, kept: float = 0.99) -> NDArray[np.float32]:
    """Give B (28, m) such that B Z B' is smoothed white noise of variance 1 if Z (m, m) is white noise.

    The columns are the first principal components of a line of smoothed noise (Karhunen-Loeve), with `kept` of the variance.
    """
    places = np.arange(SIDE)
    values, vectors = np.linalg.eigh(np.exp(-((places[:, None] - places) ** 2) / (4 * sigma**2)))
    values, vectors = values[::-1], vectors[:, ::-1]
    m = int(np.searchsorted(np.cumsum(values) / values.sum(), kept)) + 1
    return (vectors[:, :m] * np.sqrt(values[:m])).astype(np.float32)


def distort(
    images: NDArray[np.uint8],
    distortion: Distortion,
    even: NDArray[np.float32],
    normal: NDArray[np.float32],
    basis: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Distort each image by its own random numbers.

    Parameters
    ----------
    images : uint8, (n, 28, 28)
    distortion : Distortion
    even : float32, (n, 7), from -1 to 1: rotation, scale twice, shear, shift twice, thickness
    normal : float32, (n, 2, m, m), standard normal: the waves sideways and upwards
    basis : float32, (28, m), from wave_basis

    Returns
    -------
    uint8, (n, 28, 28), interpolated by cubics, 0 where a pixel comes from outside the image
    """
    parts = range(0, len(images), CHUNK)
    if len(parts) > 1:
        return np.concatenate(
            [distort(images[p : p + CHUNK], distortion, even[p : p + CHUNK], normal[p : p + CHUNK], basis) for p in parts]
        )
    n, pitch = len(images), SIDE + GAP
    turn, shear = even[:, 0] * np.float32(np.deg2rad(distortion.rotation)), even[:, 3] * distortion.shear
    cos, sin = np.cos(turn), np.sin(turn)
    wide, high = (1 + even[:, 1:3] * distortion.scale).T
    # Where each pixel comes from: shear, stretch, then turn, about the middle of the image.
    matrix = np.stack([cos * wide, (cos * shear - sin) * high, sin * wide, (sin * shear + cos) * high], axis=1)
    grid = np.indices((SIDE, SIDE), np.float32)[::-1].reshape(2, -1) - np.float32(SIDE / 2 - 0.5)  # x, y
    source = (matrix.reshape(n, 2, 2) @ grid).reshape(n, 2, SIDE, SIDE)
    source += (even[:, 4:6] * distortion.shift + np.float32(SIDE / 2 - 0.5))[:, :, None, None]
    if distortion.elastic:
        source += np.float32(distortion.elastic) * (basis @ normal @ basis.T)
    # All images on one canvas, and one call; what comes from far outside comes from the gap, which is 0. OpenCV interpolates at
    # 32nds of a pixel: rounded to them here, a sample is to the bit the same wherever on the canvas it lies.
    x, y = (np.rint(source * 32) / 32).transpose(1, 0, 2, 3)
    y = np.clip(y, -2, SIDE + 1) + (pitch * np.arange(n, dtype=np.float32) + GAP)[:, None, None]
    canvas = np.zeros((n * pitch + GAP, SIDE), np.uint8)
    canvas[GAP:].reshape(n, pitch, SIDE)[:, :SIDE] = images
    if distortion.thickness:
        change = np.zeros((n, pitch, 1), np.float32) + (even[:, 6] * distortion.thickness)[:, None, None]
        change = np.concatenate([np.zeros((GAP, 1), np.float32), change.reshape(-1, 1)])
        cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
        wider, thinner = cv2.dilate(canvas, cross), cv2.erode(canvas, cross)
        edge = np.where(change > 0, wider.astype(np.float32) - canvas, canvas - thinner.astype(np.float32))
        canvas = np.rint(canvas + change * edge).astype(np.uint8)
    made = cv2.remap(canvas, x.reshape(-1, SIDE), y.reshape(-1, SIDE), cv2.INTER_CUBIC, borderValue=0)
    return np.asarray(made.reshape(n, SIDE, SIDE), np.uint8)
