"""How settings are read from a file, the environment and the command line, and how faults are told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import ValidationError

from foretell.config import KEYS, Config, load_config
from foretell.errors import ConfigError
from foretell.settings import Key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file, empty as yet."""
    path = tmp_path / "foretell.toml"
    path.touch()
    return path


def fault(path: Path | None = None, *overrides: str, environ: Mapping[str, str] | None = None) -> str:
    """The text of the error that these settings raise."""
    with pytest.raises(ConfigError) as raised:
        load_config(path, overrides, environ or {})
    return str(raised.value)


def fault_or_none(overrides: list[str], environ: dict[str, str]) -> str | None:
    """The text of the error that these settings raise, or None where they are good."""
    try:
        load_config(None, overrides, environ)
    except ConfigError as error:
        return str(error)
    return None


def test_nothing_set_is_every_default() -> None:
    """No file, no environment, no command line: the defaults, which are allowed themselves."""
    assert load_config(None, [], {}) == Config()


def test_command_line_beats_environment_beats_file_beats_default(file: Path) -> None:
    """Each layer overrides the ones below it, key by key."""
    file.write_text("[streams]\ncapacity = 1\nmax_channels = 1\nmax_fill = 1\n")
    environ = {"FORETELL_STREAMS__CAPACITY": "2", "FORETELL_STREAMS__MAX_CHANNELS": "2"}
    streams = load_config(file, ["streams.capacity=3"], environ).streams
    assert (streams.capacity, streams.max_channels, streams.max_fill) == (3, 2, 1)
    assert streams.restart_after == Config().streams.restart_after


def test_the_last_override_counts() -> None:
    """A key set twice on the command line has the later value."""
    assert load_config(None, ["forecast.horizon=2", "forecast.horizon=3"], {}).forecast.horizon == 3


def test_the_exit_status_says_settings() -> None:
    """A fault in the settings exits with 78 (EX_CONFIG)."""
    assert ConfigError.exit_code == 78


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[streams]\ncapacity = 0", "streams.capacity = 0; allowed: integer, 1 to 10000000"),
        ("[streams]\ncapacity = 1.5", "streams.capacity = 1.5; allowed: integer, 1 to 10000000"),
        ("[streams]\ncapacity = true", "streams.capacity = true; allowed: integer, 1 to 10000000"),
        ('[streams]\ncapacity = "9"', 'streams.capacity = "9"; allowed: integer, 1 to 10000000'),
        (
            "[streams]\ncapacity = 99999999999999999999",
            "streams.capacity = 99999999999999999999; allowed: integer",
        ),
        ("[streams]\nidle_timeout_s = nan", "streams.idle_timeout_s = NaN; allowed: number, 0 to 1000000000"),
        ('[output]\ntopic = "yes"', 'output.topic = "yes"; allowed: boolean, true, false'),
        ('[input]\nmode = "Bind"', 'input.mode = "Bind"; allowed: string, "bind", "connect"'),
        ('[input]\nsubscribe = "a"', 'input.subscribe = "a"; allowed: list of strings, 1 to 1000 prefixes'),
        ("[input]\nsubscribe = []", "input.subscribe = []; allowed: list of strings, 1 to 1000 prefixes"),
        (
            "[model]\npath = 7",
            'model.path = 7; allowed: string, "builtin", "builtin-small" or the path of a .safetensors file',
        ),
        ("[streams.capacity]\nx = 1", 'streams.capacity = {"x": 1}; allowed: integer, 1 to 10000000'),
        ("[log]\nlevel = 1979-05-27", "log.level = 1979-05-27; allowed: string"),
    ],
)
def test_a_wrong_value_in_a_file_is_told_in_full(file: Path, toml: str, said: str) -> None:
    """The line names the file, the key, the value, and what is allowed."""
    file.write_text(toml)
    assert fault(file).startswith(f"{file}: {said}")


def test_a_wrong_value_in_the_environment_names_its_variable() -> None:
    """The line names the variable, the key, the value, and what is allowed."""
    said = fault(environ={"FORETELL_STREAMS__CAPACITY": "many"})
    assert said == (
        'environment variable FORETELL_STREAMS__CAPACITY: streams.capacity = "many"; allowed: integer, 1 to 10000000'
    )


def test_a_wrong_value_on_the_command_line_names_it() -> None:
    """The line names `--set`, the key, the value, and what is allowed."""
    assert fault(None, "log.level=loud") == (
        '--set: log.level = "loud"; allowed: string, "debug", "info", "warning", "error"'
    )


def test_a_wrong_value_is_told_though_a_later_layer_overrides_it(file: Path) -> None:
    """A file is wrong or right by itself."""
    file.write_text("[streams]\ncapacity = 0")
    assert fault(file, "streams.capacity=1").startswith(f"{file}: streams.capacity = 0")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[streams]\ncapcity = 5", "streams.capcity = 5 is no known key; did you mean streams.capacity?"),
        ("[forecast]\nzzz = 5", "forecast.zzz = 5 is no known key; allowed in [forecast]: horizon"),
        ("[stream]\ncapacity = 5", "stream.capacity = 5 is no known key; did you mean streams.capacity?"),
        ("[zzz]\nzzz = 5", "zzz.zzz = 5 is no known key; allowed tables: [input], [streams], [batch]"),
        ("zzz = 5", "zzz = 5 is no known key; allowed tables: [input], [streams], [batch]"),
        ("streams = 5", "streams = 5 is no known key; allowed in [streams]: capacity, max_channels"),
    ],
)
def test_an_unknown_key_in_a_file_stops_the_start(file: Path, toml: str, said: str) -> None:
    """A misspelt key is never passed over; the line says what is known."""
    file.write_text(toml)
    assert fault(file).startswith(f"{file}: {said}")


@pytest.mark.parametrize("name", ["FORETELL_STREAMS__CAPCITY", "FORETELL_X__Y", "FORETELL_streams__capacity"])
def test_an_unknown_variable_stops_the_start(name: str) -> None:
    """A variable that is written as a setting but is none, even in its letters' case, is never passed over."""
    said = fault(environ={name: "5"})
    assert said.startswith(f"environment variable {name}: ")
    assert "is no known key" in said


def test_a_variable_without_a_double_underscore_is_no_setting() -> None:
    """Other variables may begin with FORETELL_ too."""
    assert load_config(None, [], {"FORETELL_HOME": "/srv", "PATH": "/bin", "MY__VAR": "1"}) == Config()


def test_an_unknown_key_on_the_command_line_stops_the_start() -> None:
    """A misspelt `--set` is told with the key that it resembles."""
    assert (
        fault(None, "output.topik=1")
        == '--set: output.topik = "1" is no known key; did you mean output.topic?'
    )


def test_an_override_without_a_value_is_told() -> None:
    """`--set` takes `section.key=value`."""
    assert fault(None, "streams.capacity") == '--set: "streams.capacity"; allowed: section.key=value'


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("input.endpoints=tcp://[::1]:1,ipc:///b", ("tcp://[::1]:1", "ipc:///b")),
        ('input.endpoints=["tcp://a:1", "ipc:///b"]', ("tcp://a:1", "ipc:///b")),
        ('input.endpoints="tcp://a:1"', ("tcp://a:1",)),
        ("input.subscribe=", ("",)),
        ("input.subscribe=pump-, fan-", ("pump-", "fan-")),
        ("input.subscribe=1", ("1",)),
        ("model.path=1.5", "1.5"),
        ("model.path=true", "true"),
        ("model.path=a=b", "a=b"),
        ('model.path="a b"', "a b"),
        ("output.mode=connect", "connect"),
        ("output.topic=false", False),
        ("streams.capacity=1_000", 1000),
        ("streams.idle_timeout_s=2", 2.0),
        (" streams.idle_timeout_s = 2.5", 2.5),
    ],
)
def test_text_is_read_by_the_type_of_its_key(override: str, value: object) -> None:
    """Strings need no quotes, lists may have commas, numbers and booleans are TOML's."""
    section, _, name = override.partition("=")[0].strip().partition(".")
    overrides = [override, "output.endpoint=tcp://localhost:1"]
    assert getattr(getattr(load_config(None, overrides, {}), section), name) == value


def test_text_cannot_smuggle_in_another_key() -> None:
    """A value with a line break is one value, and wrong."""
    assert fault(None, "streams.capacity=1\nmax_fill = 2").startswith(
        '--set: streams.capacity = "1\\nmax_fill = 2"; allowed: integer'
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"[streams", "is not TOML: "), (b"\xff", "is not TOML: "), (b"a = 1\na = 2", "is not TOML: ")],
    ids=["syntax", "not utf-8", "twice"],
)
def test_a_file_that_is_not_toml_is_told(file: Path, content: bytes, said: str) -> None:
    """The line names the file and the place of the fault in it."""
    file.write_bytes(content)
    assert fault(file).startswith(f"{file}: {said}")


def test_a_file_nested_without_end_is_told(file: Path) -> None:
    """A file that would exhaust the parser is refused like any other."""
    file.write_text("a = " + "[" * 100_000)
    assert fault(file).startswith(f"{file}: is not TOML")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """The line names the file and why it cannot be read."""
    missing = tmp_path / "missing.toml"
    assert fault(missing) == f"{missing}: cannot be read: No such file or directory"
    assert fault(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_long_value_is_shortened() -> None:
    """A line stays a line, even for a value of a megabyte."""
    assert len(fault(None, "log.level=" + "x" * 1_000_000)) < 300


@given(
    st.sampled_from(sorted(KEYS)),
    st.text() | st.binary().map(lambda raw: raw.decode(errors="surrogateescape")),
)
def test_any_text_gives_settings_or_one_printable_line(path: str, text: str) -> None:
    """Whatever the command line or the environment holds, the answer is settings or one line that can be printed."""
    for overrides, environ in (([f"{path}={text}"], {}), ([], {KEYS[path].environment_name: text})):
        said = fault_or_none(overrides, environ)
        assert said is None or (said.isprintable() and path in said)


TOML_VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(KEYS.values(), key=lambda key: key.path)), TOML_VALUES)
def test_a_value_of_any_kind_is_converted_or_refused(key: Key, value: object) -> None:
    """Whatever TOML may hold for a key, it converts to the declared type or is refused as such."""
    try:
        converted = key.convert(value)
    except ValidationError:
        return
    assert isinstance(converted, key.base)
