"""foretell: a real-time streaming forecaster daemon.

Python users need two names, `Producer` and `Subscriber`, in `foretell.client`. Importing this package imports nothing
heavy: torch is loaded only by the commands that step a model.
"""

from __future__ import annotations

__version__ = "0.1.0"
