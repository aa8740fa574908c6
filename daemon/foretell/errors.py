"""The error tree: one class for each reaction, not for each cause.

    ForetellError
    ├── ConfigError      do not start (exit 78): a setting is missing, misspelt or out of range
    │   └── ModelError   do not start (exit 78): the model file that the settings name cannot be used
    ├── EndpointError    do not start (exit 69): an address cannot be bound or parsed
    ├── RecordingError   do not start (exit 65): a recording cannot be read
    └── WireError        drop the message: a subscriber cannot read it as forecasts

Ordinary outcomes (a late frame, a full table, a malformed message) are verdicts, not exceptions:
see `foretell.wire.Refusal`. Foreign errors are translated where they enter.
"""

from __future__ import annotations


class ForetellError(Exception):
    """Base of every error that foretell raises on purpose; its text is one line for the user.

    `exit_code` is what the command exits with (sysexits.h).
    """

    exit_code = 70


class ConfigError(ForetellError):
    """A setting cannot be used. Raised before anything is opened; names file, key, value and what is allowed."""

    exit_code = 78


class ModelError(ConfigError):
    """A model file cannot be used. Raised by loading and converting; names the file and what is wrong with it."""


class EndpointError(ForetellError):
    """An endpoint cannot be bound, connected or served. Raised while opening sockets; names the endpoint."""

    exit_code = 69


class RecordingError(ForetellError):
    """A recording cannot be read or replayed. Raised before anything is sent; names file, line and fault."""

    exit_code = 65


class WireError(ForetellError):
    """A message that cannot be read by a subscriber. Raised by decoding forecasts; says what is wrong with it."""
