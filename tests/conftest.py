"""Hypothesis profiles: `dev` by default, `ci` where a CI variable is set, `deep` for nights; HYPOTHESIS_PROFILE chooses.

`ci` draws the same cases every time, so that a change is not blamed for what it did not do.
"""

import os

from hypothesis import HealthCheck, Phase, settings

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("dev", max_examples=30, **COMMON)
settings.register_profile("ci", max_examples=100, derandomize=True, print_blob=True, database=None, **COMMON)
settings.register_profile("deep", max_examples=5000, **COMMON)
settings.register_profile(
    "mutation", max_examples=100, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate], **COMMON
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
