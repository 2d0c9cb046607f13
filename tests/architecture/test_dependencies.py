"""What pyproject.toml asks an operator to install is what the program imports, no more and no less."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = {"pydantic-core": "pydantic", "rich": "textual"}
"""Imported beside the distribution that brings it and shares its versions."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(lines: list[str]) -> set[str]:
    return {normal(re.split(r"[\[=<>; ]", line, maxsplit=1)[0]) for line in lines}


def imported() -> set[str]:
    """Top-level modules of others that the package imports, the peers' scripts aside, which run elsewhere."""
    found = set()
    for file in (ROOT / "aml100").rglob("*.py"):
        if "peers" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module is not None:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"aml100"}


def test_every_dependency_is_imported_and_every_import_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: required(lines) for name, lines in project["optional-dependencies"].items() if name != "dev"}
    known = packages_distributions()
    used = set()
    for module in imported():
        brought_by = [normal(name) for name in known.get(module, [module])]
        used |= {PARTS.get(name, name) for name in brought_by}
    declared = required(project["dependencies"])
    assert declared - used == set()
    assert used - declared - set().union(*extras.values()) == set()
