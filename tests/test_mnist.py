"""The data files are read strictly, and a mistake is told with names and numbers."""

import gzip
import shutil
import struct

import numpy as np
import pytest

from experiments import mnist
from tinygrad_lite import FileFormatError

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def images_file(count, rows=28, columns=28, magic=2051):
    pixels = np.random.default_rng(count).integers(0, 256, count * rows * columns, np.uint8)
    return struct.pack(">4I", magic, count, rows, columns) + pixels.tobytes()


def labels_file(labels, magic=2049):
    return struct.pack(">2I", magic, len(labels)) + bytes(labels)


@pytest.fixture
def folder(tmp_path):
    """Four small files that are right, half of them gzipped."""
    (tmp_path / TRAIN_IMAGES).write_bytes(images_file(12))
    (tmp_path / f"{TRAIN_LABELS}.gz").write_bytes(gzip.compress(labels_file([3, 9, 0] * 4)))
    (tmp_path / f"{TEST_IMAGES}.gz").write_bytes(gzip.compress(images_file(5)))
    (tmp_path / TEST_LABELS).write_bytes(labels_file([1, 2, 3, 4, 5]))
    return tmp_path


def test_files_of_the_repository():
    train, test = mnist.load()
    assert (train.images.shape, train.labels.shape) == ((60_000, 28, 28), (60_000,))
    assert (test.images.shape, test.labels.shape) == ((10_000, 28, 28), (10_000,))
    assert train.images.dtype == train.labels.dtype == np.uint8
    # Known of MNIST: the first labels, and how often each digit occurs.
    assert train.labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert test.labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.images.mean() == pytest.approx(33.318, abs=1e-3)


def test_own_files_raw_and_gzipped(folder):
    train, test = mnist.load(folder)
    assert (train.images.shape, test.images.shape) == ((12, 28, 28), (5, 28, 28))
    assert train.labels.tolist() == [3, 9, 0] * 4
    np.testing.assert_array_equal(train.images.ravel(), np.frombuffer(images_file(12), np.uint8, offset=16))
    assert len(train.take(4).labels) == len(train.take(4).images) == 4


def refuses(folder, words, error=FileFormatError):
    with pytest.raises(error, match=words):
        mnist.load(folder)


def test_missing(folder):
    (folder / TEST_LABELS).unlink()
    refuses(folder, rf"expected {TEST_LABELS} or {TEST_LABELS}\.gz in .* found neither; put the files there", FileNotFoundError)


@pytest.mark.parametrize("length", [0, 7, 15])
def test_head_truncated(folder, length):
    (folder / TRAIN_IMAGES).write_bytes(images_file(12)[:length])
    refuses(folder, rf"{TRAIN_IMAGES} is truncated: expected a head of 16 bytes, got {length}")


@pytest.mark.parametrize("change", [-1, 1, -784])
def test_wrong_length(folder, change):
    raw = images_file(12)
    (folder / TRAIN_IMAGES).write_bytes(raw[:change] if change < 0 else raw + b"x")
    refuses(folder, rf"announces 12 x 28 x 28 bytes, 9424 with its head, but has {9424 + change}")


def test_sizes_beyond_all_memory(folder):
    (folder / TRAIN_IMAGES).write_bytes(struct.pack(">4I", 2051, 2**32 - 1, 2**32 - 1, 2**32 - 1))
    refuses(folder, rf"{TRAIN_IMAGES} announces 4294967295 x .* but has 16")
    (folder / TRAIN_IMAGES).write_bytes(struct.pack(">4I", 2051, 2**31, 2**31, 4))  # their product is 0 in 64 bits
    refuses(folder, rf"{TRAIN_IMAGES} announces 2147483648 x .* but has 16")


def test_swapped(folder):
    images, labels = (folder / TRAIN_IMAGES).read_bytes(), gzip.decompress((folder / f"{TRAIN_LABELS}.gz").read_bytes())
    (folder / TRAIN_IMAGES).write_bytes(labels)
    refuses(folder, rf"{TRAIN_IMAGES} must start with the magic number 2051, got 2049 \(labels\)")
    (folder / TRAIN_IMAGES).write_bytes(images)
    (folder / TRAIN_LABELS).write_bytes(images)
    refuses(folder, rf"{TRAIN_LABELS} must start with the magic number 2049, got 2051 \(images\)")


def test_of_two_data_sets(folder):
    shutil.copy(folder / TEST_LABELS, folder / TRAIN_LABELS)
    refuses(folder, rf"{TRAIN_IMAGES} holds 12 images but {TRAIN_LABELS} 5 labels")


def test_label_out_of_range(folder):
    (folder / TEST_LABELS).write_bytes(labels_file([1, 2, 10, 4, 5]))
    refuses(folder, rf"{TEST_LABELS} must hold labels 0 to 9, found a 10")


def test_no_images(folder):
    (folder / TEST_LABELS).write_bytes(labels_file([]))
    (folder / TEST_IMAGES).write_bytes(images_file(0))
    refuses(folder, rf"{TEST_LABELS} must hold labels 0 to 9, found none")


def test_other_image_size(folder):
    (folder / TEST_IMAGES).write_bytes(images_file(5, 32, 30))
    refuses(folder, rf"{TEST_IMAGES} must hold images of 28x28 pixels, got 32x30")


@pytest.mark.parametrize("place", [0, 30, -3])
def test_damaged_gzip(folder, place):
    raw = bytearray((folder / f"{TEST_IMAGES}.gz").read_bytes())
    (folder / f"{TEST_IMAGES}.gz").write_bytes(raw[: len(raw) // 2])
    refuses(folder, rf"{TEST_IMAGES}\.gz is not a whole gzip file")
    raw[place] ^= 255
    (folder / f"{TEST_IMAGES}.gz").write_bytes(raw)
    refuses(folder, rf"{TEST_IMAGES}\.gz is not a whole gzip file")


def test_every_kind_of_damage_to_a_gzip_file_is_one_error(folder):
    file = folder / f"{TEST_IMAGES}.gz"
    pixels = bytes(i * i % 7 for i in range(5 * 784))  # random ones would be stored as they are
    whole = gzip.compress(images_file(5)[:16] + pixels)
    file.write_bytes(whole)
    expected = mnist.load(folder)[1].images
    for place in range(len(whole)):
        raw = bytearray(whole)
        raw[place] ^= 255
        file.write_bytes(raw)
        try:
            found = mnist.load(folder)[1].images
        except FileFormatError:
            continue
        np.testing.assert_array_equal(found, expected)


def test_checksum_of_the_own_files(tmp_path, monkeypatch):
    for file in mnist.DATA_DIR.glob("*-ubyte*"):
        shutil.copy(file, tmp_path)
    labels = next(tmp_path.glob(f"{TEST_LABELS}*"))
    raw = bytearray(gzip.decompress(labels.read_bytes()) if labels.suffix == ".gz" else labels.read_bytes())
    raw[-1] = (raw[-1] + 1) % 10  # a valid file with one wrong label
    labels.unlink()
    (tmp_path / TEST_LABELS).write_bytes(raw)
    monkeypatch.setattr(mnist, "DATA_DIR", tmp_path)
    refuses(None, rf"{TEST_LABELS} is damaged: its SHA-256 is not MNIST's")
    assert len(mnist.load(tmp_path)[1].labels) == 10_000  # as somebody's own data set it is fine
