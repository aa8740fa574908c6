"""What can be set: ranges, values that must go together, and what the settings cost to load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from foretell.choices import Mode
from foretell.config import KEYS, Config, load_config
from foretell.errors import ConfigError
from foretell.settings import Key

EVERY_KEY = pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.path)


def load(*overrides: str) -> Config:
    """The settings that these overrides make."""
    return load_config(None, overrides, {})


def fault(*overrides: str) -> str:
    """The text of the error that these overrides raise."""
    with pytest.raises(ConfigError) as raised:
        load(*overrides)
    return str(raised.value)


@EVERY_KEY
def test_every_default_is_allowed(key: Key) -> None:
    """A default passes the check that a user's value must pass."""
    assert key.convert(key.default) == key.default


@EVERY_KEY
def test_every_key_is_described(key: Key) -> None:
    """A key says what it is for, what is allowed, and in which unit where its name does not."""
    assert key.description.endswith(".")
    assert key.allowed
    assert bool(key.unit) == (key.type_name in {"integer", "number"})


@pytest.mark.parametrize("key", [key for key in KEYS.values() if key.unit], ids=lambda key: key.path)
def test_every_number_is_held_in_its_range(key: Key) -> None:
    """The ends of a range are allowed, one beyond them is not."""
    low, high = (int(end) for end in key.allowed.split(" to "))
    assert (key.convert(low), key.convert(high)) == (low, high)
    for beyond in (low - 1, high + 1):
        assert f"{key.path} = {beyond}; allowed: {key.type_name}, {low} to {high}" in fault(
            f"{key.path}={beyond}"
        )


def test_settings_cannot_change() -> None:
    """Nothing mutates settings after they are read."""
    with pytest.raises(AttributeError):
        load().input.mode = Mode.CONNECT  # type: ignore[misc]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["output.batch=true"],
            'output.batch = true, with output.format = "array-1.0"; allowed: batch = true with',
        ),
        (
            ["input.endpoints=5555"],
            'input.endpoints = ["5555"], with input.mode = "bind"; allowed: tcp://HOST:PORT',
        ),
        (
            ["input.mode=connect", "input.endpoints=tcp://*:1"],
            'input.endpoints = ["tcp://*:1"], with input.mode',
        ),
        (
            ["input.endpoints=ipc://a,ipc://a"],
            'input.endpoints = ["ipc://a", "ipc://a"]; allowed: each endpoint once',
        ),
        (
            ["output.endpoint=tcp://h:0", "output.mode=connect"],
            'output.endpoint = "tcp://h:0", with output.mode',
        ),
        (
            ["metrics.endpoint=localhost:9797"],
            'metrics.endpoint = "localhost:9797"; allowed: http://HOST:PORT',
        ),
        (
            ["metrics.streams=pump,valve,pump"],
            'metrics.streams = ["pump", "valve", "pump"]; allowed: up to 100 names, each once',
        ),
        (["metrics.streams="], 'metrics.streams = [""]; allowed: up to 100 names, each once: 1 to 64 bytes'),
        (
            ["metrics.streams=" + 33 * "ü"],
            f'metrics.streams = ["{33 * "ü"}"]; allowed: up to 100 names, each once: 1 to 64 bytes of UTF-8',
        ),
        (["metrics.streams=*"], 'metrics.streams = ["*"]; allowed: up to 100 names'),
        (
            ["input.heartbeat_timeout_ms=10"],
            "input.heartbeat_timeout_ms = 10, with input.heartbeat_interval_ms = 5000",
        ),
        (
            ["input.heartbeat_interval_ms=99999"],
            "input.heartbeat_interval_ms = 99999, with input.heartbeat_timeout_ms",
        ),
        (
            ["input.reconnect_interval_ms=9999"],
            "input.reconnect_interval_ms = 9999, with input.reconnect_interval_max",
        ),
        (
            ["streams.max_channels=4096", "input.max_message_bytes=4096"],
            "input.max_message_bytes = 4096, with streams.max_channels = 4096; allowed: room for one frame",
        ),
        (
            ["forecast.habit_half_life_frames=3"],
            "forecast.habit_half_life_frames = 3.0; allowed: 0, or 16 and more",
        ),
    ],
)
def test_values_that_do_not_go_together_are_told(overrides: list[str], said: str) -> None:
    """The line names both values in conflict, first the one that was set, and what is allowed."""
    assert fault(*overrides).startswith(f"--set: {said}")


@pytest.mark.parametrize(
    "overrides",
    [
        ["output.batch=true", "output.format=packed"],
        ["metrics.endpoint="],
        ["metrics.endpoint=http://[::1]:0"],
        ["metrics.streams=pump-1," + 32 * "ü"],
        ["metrics.streams=[]"],
        ["metrics.streams=" + ",".join(map(str, range(100)))],
        ["input.heartbeat_interval_ms=0"],
        ["input.mode=connect", "input.endpoints=tcp://a:1,ipc:///b,tcp://[::1]:2"],
        ["output.endpoint=tcp://*:5556"],
    ],
    ids=" ".join,
)
def test_values_that_go_together_pass(overrides: list[str]) -> None:
    """What the rules allow is allowed."""
    load(*overrides)


def test_no_more_than_100_streams_are_watched() -> None:
    """One more is refused where it is read."""
    assert fault("metrics.streams=" + ",".join(map(str, range(101)))).endswith("or *")


def test_settings_load_without_anything_heavy() -> None:
    """Checking settings imports neither torch nor numpy nor zmq, so that it answers at once."""
    program = (
        "import sys; from foretell.config import load_config; load_config(None, [], {});"
        "print(*{'torch', 'numpy', 'zmq', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
