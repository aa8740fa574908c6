"""How settings are read: layers of text to one typed, frozen struct. What settings there are stands in `config.py`.

A layer is the file, the environment or the command line. Each value is judged where it is read, so that a wrong value
is reported with its own origin even where a later layer overrides it. The first fault ends the reading, in one line:
where, key, value, and what is allowed.
"""

from __future__ import annotations

import enum
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from foretell.errors import ConfigError

ENVIRONMENT_PREFIX = "FORETELL_"
ENVIRONMENT_SEPARATOR = "__"
_MAX_SHOWN = 100  # characters of a wrong value that an error repeats
_TYPE_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", tuple: "list of strings"}


StructT = TypeVar("StructT", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Key:
    """One setting, `section.name`: its type with range and description, and its default."""

    section: str
    name: str
    annotation: Any
    default: Any

    @property
    def path(self) -> str:
        """The key as users write it: `section.name`."""
        return f"{self.section}.{self.name}"

    @property
    def environment_name(self) -> str:
        """The environment variable that sets it: `FORETELL_SECTION__NAME`."""
        return f"{ENVIRONMENT_PREFIX}{self.section}{ENVIRONMENT_SEPARATOR}{self.name}".upper()

    @property
    def base(self) -> type:
        """The Python type, without its range and description."""
        bare = get_args(self.annotation)[0]
        base: type = get_origin(bare) or bare
        return base

    @property
    def description(self) -> str:
        """What it is for, in one sentence."""
        return next(part for part in get_args(self.annotation)[1:] if isinstance(part, str))

    @property
    def type_name(self) -> str:
        """The type in the words of TOML."""
        return "string" if issubclass(self.base, enum.Enum) else _TYPE_NAMES[self.base]

    @property
    def allowed(self) -> str:
        """What the value may be: choices, a range, or the words that its type gives."""
        if issubclass(self.base, enum.Enum):
            return ", ".join(show_value(member) for member in self.base)
        if self.base is bool:
            return "true, false"
        if "allowed" in self._extra:
            return self._extra["allowed"]
        return f"{self._meta.ge} to {self._meta.le}"

    @property
    def unit(self) -> str:
        """The unit of a number; empty where there is none."""
        return self._extra.get("unit", "")

    @property
    def _meta(self) -> msgspec.Meta:
        metas = (part for part in get_args(self.annotation) if isinstance(part, msgspec.Meta))
        return next(metas, msgspec.Meta())

    @property
    def _extra(self) -> dict[str, str]:
        return self._meta.extra or {}

    def convert(self, value: Any) -> Any:
        """The value as the declared type; raises `msgspec.ValidationError` where it is not allowed."""
        return msgspec.convert(value, self.annotation)


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that was set: where, for which key, and what."""

    origin: str
    key: Key
    value: Any


@dataclass(frozen=True, slots=True)
class Conflict:
    """Values that are each allowed, but not together: the keys concerned, and what is allowed of the first."""

    keys: tuple[str, ...]
    allowed: str


def keys_of(struct: type[msgspec.Struct]) -> dict[str, Key]:
    """Every key of a struct of structs (the sections), by `section.name`, in order of declaration."""
    keys = (
        Key(section.name, field.name, field.type, field.default)
        for section in msgspec.structs.fields(struct)
        for field in msgspec.structs.fields(section.type)
    )
    return {key.path: key for key in keys}


def read_settings(
    keys: Mapping[str, Key], path: Path | None, overrides: Sequence[str], environ: Mapping[str, str]
) -> dict[str, Setting]:
    """What was set, by `section.name`. Precedence: `overrides` (`section.key=value`), `environ`, the file.

    Raises `ConfigError` at the first fault.
    """
    layers: list[Iterator[Setting]] = [_read_environment(keys, environ), _read_overrides(keys, overrides)]
    if path is not None:
        layers.insert(0, _read_file(keys, path))
    return {setting.key.path: setting for layer in layers for setting in layer}


def build_struct(struct: type[StructT], settings: Mapping[str, Setting]) -> StructT:
    """The struct of structs, with what was set in place and everything else at its default."""
    set_in: dict[str, dict[str, Any]] = {}
    for setting in settings.values():
        set_in.setdefault(setting.key.section, {})[setting.key.name] = setting.value
    sections = {section.name: section.type for section in msgspec.structs.fields(struct)}
    return struct(**{name: section(**set_in.get(name, {})) for name, section in sections.items()})


def conflict_error(
    keys: Mapping[str, Key], settings: Mapping[str, Setting], conflict: Conflict
) -> ConfigError:
    """The error for a conflict. It names the first of its keys that was set by somebody."""
    at = next((path for path in conflict.keys if path in settings), conflict.keys[0])
    shown = [at, *(path for path in conflict.keys if path != at)]
    values = [settings[path].value if path in settings else keys[path].default for path in shown]
    said = ", with ".join(f"{path} = {show_value(value)}" for path, value in zip(shown, values, strict=True))
    return _error(
        settings[at].origin if at in settings else "defaults", f"{said}; allowed: {conflict.allowed}"
    )


def show_value(value: Any) -> str:
    """A value as TOML writes it, near enough for people, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _read_file(keys: Mapping[str, Key], path: Path) -> Iterator[Setting]:
    origin = str(path)
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise _error(origin, f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, or not TOML, or a NUL in the path
        raise _error(origin, f"is not TOML: {error}") from error
    except RecursionError as error:
        raise _error(origin, "is not TOML for us: nested too deeply") from error
    for section, table in document.items():
        if not isinstance(table, dict):
            raise _unknown(keys, origin, section, table)
        for name, value in table.items():
            yield _judge(keys, origin, f"{section}.{name}", value)


def _read_environment(keys: Mapping[str, Key], environ: Mapping[str, str]) -> Iterator[Setting]:
    paths = {key.environment_name: key.path for key in keys.values()}
    for name, text in sorted(environ.items()):
        if name.startswith(ENVIRONMENT_PREFIX) and ENVIRONMENT_SEPARATOR in name:
            plain = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace(ENVIRONMENT_SEPARATOR, ".", 1)
            path = paths.get(name)
            if path is None:
                raise _unknown(keys, f"environment variable {name}", plain, text)
            yield _judge(keys, f"environment variable {name}", path, _parse(keys[path], text))


def _read_overrides(keys: Mapping[str, Key], overrides: Sequence[str]) -> Iterator[Setting]:
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise _error("--set", f"{show_value(override)}; allowed: section.key=value")
        path = path.strip()
        yield _judge(keys, "--set", path, _parse(keys[path], text) if path in keys else text)


def _parse(key: Key, text: str) -> Any:
    """Text from outside a file, by the type of its key: as TOML writes it; strings and lists also without quotes."""
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        document = {}
    is_text = key.type_name == "string"
    if document.keys() == {"value"} and (not is_text or isinstance(document["value"], str)):
        value = document["value"]
        if key.base is not tuple or isinstance(value, list):
            return value
        text = value if isinstance(value, str) else text
    return [part.strip() for part in text.split(",")] if key.base is tuple else text


def _judge(keys: Mapping[str, Key], origin: str, path: str, value: Any) -> Setting:
    key = keys.get(path)
    if key is None:
        raise _unknown(keys, origin, path, value)
    try:
        _require_utf8(value)
        return Setting(origin, key, key.convert(value))
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        said = f"{path} = {show_value(value)}; allowed: {key.type_name}, {key.allowed}"
        raise _error(origin, said) from error


def _require_utf8(value: Any) -> None:
    """The environment and the command line may carry bytes that are no text; raises `UnicodeEncodeError`."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str):
            text.encode()


def _unknown(keys: Mapping[str, Key], origin: str, path: str, value: Any) -> ConfigError:
    import difflib

    section = path.partition(".")[0]
    known = [key.path for key in keys.values() if key.section == section]
    near = difflib.get_close_matches(path, keys, n=1, cutoff=0.8)
    if near:
        allowed = f"did you mean {near[0]}?"
    elif known:
        allowed = f"allowed in [{section}]: {', '.join(keys[path].name for path in known)}"
    else:
        allowed = f"allowed tables: {', '.join(dict.fromkeys(f'[{key.section}]' for key in keys.values()))}"
    return _error(origin, f"{path} = {show_value(value)} is no known key; {allowed}")


def _error(origin: str, said: str) -> ConfigError:
    """An error of exactly one printable line, whatever a file, a variable or a name may hold."""
    text = f"{origin}: {said}"
    return ConfigError("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))
