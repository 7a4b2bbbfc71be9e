"""A few digits for whole runs, and Hypothesis profiles.

`dev` by default, `ci` where a CI variable is set, `deep` for nights, `mutation` for mutmut; HYPOTHESIS_PROFILE chooses.

`ci` draws the same cases every time, so that a change is not blamed for what it did not do, and as many as ten minutes allow.
"""

import os
import struct

import pytest
from hypothesis import HealthCheck, Phase, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # each has a core; threads of the BLAS that wait for work would keep others from theirs
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "phases": [phase for phase in Phase if phase is not Phase.explain],  # a hundred more calls to comment on a failure
}
settings.register_profile("dev", max_examples=30, **COMMON)
settings.register_profile("ci", max_examples=60, derandomize=True, print_blob=True, database=None, **COMMON)
settings.register_profile("deep", max_examples=5000, **COMMON)
MUTATION = {**COMMON, "phases": [Phase.explicit, Phase.generate]}
settings.register_profile("mutation", max_examples=100, derandomize=True, database=None, **MUTATION)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """A folder with 200 training and 40 test digits."""
    from experiments import mnist

    folder = tmp_path_factory.mktemp("few")
    for part, digits in zip(("train", "t10k"), mnist.load(), strict=True):
        count = 200 if part == "train" else 40
        images, labels = digits.take(count)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, count, 28, 28) + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, count) + labels.tobytes())
    return str(folder)
