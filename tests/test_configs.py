"""The files in configs/ are read as they are meant to be, and say what the code says."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from foretell.config import KEYS, Config, load_config

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"


def test_the_default_file_equals_the_defaults() -> None:
    """Starting with configs/default.toml is starting without a file."""
    assert load_config(CONFIGS / "default.toml", [], {}) == Config()


def test_the_default_file_sets_every_key() -> None:
    """Every key stands in configs/default.toml, in the order of the code, and nothing else does."""
    document = tomllib.loads((CONFIGS / "default.toml").read_text())
    assert [f"{section}.{name}" for section, table in document.items() for name in table] == list(KEYS)


@pytest.mark.parametrize("path", KEYS)
def test_the_default_file_describes_a_key(path: str) -> None:
    """The lines above a key say what it is for, its unit, its range and its default."""
    key = KEYS[path]
    section = (CONFIGS / "default.toml").read_text().partition(f"\n[{key.section}]\n")[2]
    lines = section.partition(f"\n{key.name} = ")[0].splitlines()
    above = " ".join(line.removeprefix("# ") for line in lines[len(lines) - lines[::-1].index("") :])
    for said in (key.description, key.type_name, key.unit, key.allowed, "default: "):
        assert said in above


@pytest.mark.parametrize("path", KEYS)
def test_the_table_describes_a_key(path: str) -> None:
    """The table in configs/README.md has one row for a key, with its type, range, unit, default and description."""
    key = KEYS[path]
    rows = [
        line for line in (CONFIGS / "README.md").read_text().splitlines() if line.startswith(f"| `{path}` |")
    ]
    assert len(rows) == 1
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    default = tomllib.loads(f"value = {cells[4].strip('`')}")["value"]
    assert key.convert(default) == key.default
    assert [*cells[:4], cells[5]] == [f"`{path}`", key.type_name, key.allowed, key.unit, key.description]


def test_the_default_file_and_the_table_are_made_from_the_code() -> None:
    """scripts/configs would change nothing."""
    command = [sys.executable, str(ROOT / "scripts" / "render_configs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_file_of_settings_is_good(path: Path) -> None:
    """Whatever lies in configs/ as an example starts as it is."""
    load_config(path, [], {})
