"""The reader as the repository has it, and a page that is easy to read."""

import numpy as np
import pytest

from experiments import mnist, read
from experiments.paper import make_page
from experiments.reader.nets import Nets


@pytest.fixture(scope="session")
def digits():
    training, _ = mnist.load()
    return mnist.Digits(training.images[-500:], training.labels[-500:])


@pytest.fixture(scope="session")
def reader():
    return read.load_reader()


@pytest.fixture(scope="session")
def clean(digits):
    """A clean page of twelve digits in two or three rows, and its rows."""
    page = make_page(*digits, list(range(12)), "clean", np.random.default_rng(1))
    return page.image, page.truth()["rows"]


@pytest.fixture
def ink_everywhere(monkeypatch):
    """For digits that a test makes up where nothing is written."""
    monkeypatch.setattr(Nets, "ink_in", lambda _, picture, boxes: np.ones(len(boxes)))
