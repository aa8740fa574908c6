"""The package is built as its contributors' page says."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Final

import pytest

import foretell

_PACKAGE: Final = Path(foretell.__file__).parent
_README: Final = _PACKAGE.parent / "README.md"
_MODULES: Final = sorted(path.stem for path in _PACKAGE.glob("[!_]*.py"))


def _allowed() -> dict[str, set[str]]:
    """The foreign libraries that each module may import, as the table says."""
    table = (
        _README.read_text(encoding="utf-8").split("<!-- imports -->")[1].split("<!-- end of imports -->")[0]
    )
    allowed = {}
    for row in table.strip().splitlines()[2:]:
        files, libraries, _ = (cell.strip() for cell in row.strip("|").split("|"))
        for name in re.findall(r"`(\w+)`", files):
            allowed[name] = {library.strip() for library in libraries.split(",")} - {""}
    return allowed


def _imported(path: Path) -> set[str]:
    """The distributions that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"foretell", "numpy"}


def test_table_names_every_module() -> None:
    """Every module of the package has its place in the table, and none is there that does not exist."""
    assert sorted(_allowed()) == _MODULES


@pytest.mark.parametrize("module", _MODULES)
def test_module_imports_what_the_table_says(module: str) -> None:
    """A module imports no foreign library but those that the table gives it."""
    assert _imported(_PACKAGE / f"{module}.py") <= _allowed()[module]
