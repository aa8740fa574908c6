"""Renders what the code declares: configs/default.toml, and the tables of configs/README.md."""

from __future__ import annotations

import inspect
import io
import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import msgspec
from prometheus_client import Metric

from foretell.config import KEYS, Config, LogConfig
from foretell.log import open_log
from foretell.observe import ModelFacts, Observer
from foretell.settings import Key
from foretell.watched import GAUGES, LABELS

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SETTINGS = ("<!-- settings: made by scripts/configs -->\n", "<!-- end of settings -->\n")
METRICS = ("<!-- metrics: made by scripts/configs -->\n", "<!-- end of metrics -->\n")
WIDTH = 110


def render_default_toml() -> str:
    """Every key with its description, type, range, unit and default, as a file that sets every default."""
    head = (
        "Every setting of foretell, with its default: nothing here has to be set. A file of your own needs only what "
        "differs. Precedence: --set section.key=value on the command line, the environment variable "
        "FORETELL_SECTION__KEY, the file, the default. A key that is not known stops the start. "
        "Made from daemon/foretell/config.py by scripts/configs."
    )
    return "\n".join([_comment(head), *_render_sections()]) + "\n"


def render_readme(readme: str) -> str:
    """The text of configs/README.md with its tables made anew."""
    readme = _replace(readme, SETTINGS, render_settings())
    return _replace(readme, METRICS, render_metrics())


def render_settings() -> str:
    """A row for every key."""
    rows = ["| key | type | allowed | unit | default | what for |", "|---|---|---|---|---|---|"]
    for key in KEYS.values():
        default = f"`{_toml(key.default)}`"
        rows.append(
            f"| `{key.path}` | {key.type_name} | {key.allowed} | {key.unit} | {default} | {key.description} |"
        )
    return "\n".join(rows) + "\n"


def render_metrics() -> str:
    """A row for every metric of foretell's own, with its labels and their values where the set is closed."""
    observer = Observer(open_log(LogConfig(), io.StringIO()), capacity=1, watched=["one"])
    facts = ModelFacts(**dict.fromkeys((field.name for field in fields(ModelFacts)), ""))
    observer.model_loaded(facts, (0.05, 0.5, 0.95), is_calibrated=True)
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in observer.registry.collect():
        if family.name.startswith("foretell_"):
            name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
            kind = {"info": "gauge"}.get(family.type, family.type)
            rows.append(f"| `{name}` | {kind} | {_labels(family)} | {family.documentation} |")
    return "\n".join(rows) + "\n"


def _labels(family: Metric) -> str:
    if family.name in GAUGES:  # that have no sample before the first frame
        return ", ".join(f"`{label}`" for label in LABELS)
    values: dict[str, list[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if value not in values.setdefault(label, []):
                values[label].append(value)
    values.pop("le", None)
    if family.type == "info" or "level" in values:  # these sets depend on the model
        return ", ".join(f"`{label}`" for label in values)
    return ", ".join(
        f"`{label}`: " + ", ".join(f"`{value}`" for value in known) for label, known in values.items()
    )


def _replace(readme: str, marks: tuple[str, str], table: str) -> str:
    begin, end = marks
    before, _, rest = readme.partition(begin)
    _, _, after = rest.partition(end)
    return before + begin + "\n" + table + "\n" + end + after


def _render_sections() -> Iterator[str]:
    for section in msgspec.structs.fields(Config):
        yield f"\n# {inspect.getdoc(section.type)}\n[{section.name}]"
        for key in KEYS.values():
            if key.section == section.name:
                yield f"\n{_comment(key.description)}\n{_comment(_describe(key))}\n{key.name} = {_toml(key.default)}"


def _describe(key: Key) -> str:
    unit = f", {key.unit}" if key.unit else ""
    return f"{key.type_name}{unit}; allowed: {key.allowed}; default: {_toml(key.default)}"


def _comment(text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _toml(value: object) -> str:
    # Strings without control characters, numbers, booleans and lists are written alike in JSON and TOML.
    return json.dumps(value, ensure_ascii=False)


def main() -> int:
    """Write the two files, or with --check compare them; returns the exit status."""
    readme = CONFIGS / "README.md"
    rendered = {CONFIGS / "default.toml": render_default_toml(), readme: render_readme(readme.read_text())}
    if sys.argv[1:] == ["--check"]:
        stale = [path for path, text in rendered.items() if not path.exists() or path.read_text() != text]
        for path in stale:
            print(f"{path} is not what the code says: run scripts/configs", file=sys.stderr)
        return 1 if stale else 0
    for path, text in rendered.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
