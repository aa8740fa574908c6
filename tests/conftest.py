"""What every test shares: how Hypothesis searches."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No deadline for an example: time on a shared machine is noise, and no property here is about time.
settings.register_profile(
    "foretell", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("foretell")
