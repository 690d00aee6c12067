"""What all tests share: the examples of property tests are the same in every run, and take the time they take.

``OPSBUS_TEST_EXPLORE=1`` tries new ones, as a person does who looks for bugs.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "opsbus",
    deadline=None,
    database=None,
    derandomize=os.environ.get("OPSBUS_TEST_EXPLORE", "") != "1",
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("opsbus")
