"""Imports go down only: the floor plan of docs/design.rst, held."""

import ast
import configparser
import unittest
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "twisted_mta"

_VALUES = {"mail", "errors"}
_ENGINES = {"wire", "config", "interfaces"}
_MACHINE = {"net", "ledger"}
_BELOW = _VALUES | _ENGINES | _MACHINE

# What each package may import of ours besides itself.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "mail": {"errors"},
    "wire": _VALUES,
    "config": _VALUES,
    "interfaces": _VALUES,
    "net": {"wire", *_VALUES, "interfaces"},
    "ledger": {*_VALUES, "interfaces"},
    "store": _BELOW,
    "auth": _BELOW,
    "policy": _BELOW,
    "delivery": _BELOW,
    "servers": _BELOW,
    "plugin": {"interfaces", "config", "net", *_VALUES},
    "testing": _BELOW,
    "builtin": {*_BELOW, "delivery", "plugin"},
    "shipped": {*_BELOW, "policy", "plugin"},
    "carriers": {*_BELOW, "builtin", "delivery", "plugin"},
    "passage": {"config", "plugin"},
    "jsonwebtoken": {*_BELOW, "plugin"},
    "parts": {
        *(*_BELOW, "builtin", "carriers", "passage"),
        *("shipped", "jsonwebtoken", "plugin"),
    },
    "office": {*_BELOW, "store", "auth", "delivery"},
    "desk": {*_BELOW, "office", "auth", "delivery", "policy", "servers"},
    "indexing": {*_BELOW, "store"},
    "chores": {*_BELOW, "office", "delivery"},
    "app": {
        *(*_BELOW, "auth", "delivery", "office", "desk", "parts", "indexing"),
        "chores",
    },
    "crew": {*_BELOW, "app"},
    "worker": {*_BELOW, "app"},
    "service": set(),
    "tap": {"app", "crew", "service", "cli", "config", "errors", "net"},
    "cli": {
        *("app", "service", "office", "auth", "store", "config"),
        *(*_VALUES, "net", "ledger"),
    },
}
WITHOUT_TWISTED = {"errors", "mail", "wire", "config", "interfaces"}


def modules() -> Iterator[tuple[str, Path]]:
    """Each module's package (or name, on the top) and file."""
    for file in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = file.relative_to(ROOT / PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            yield parts[0], file


def imports(file: Path) -> Iterator[str]:
    """The dotted names that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "."
            elif node.module == PACKAGE:
                yield from (f"{PACKAGE}.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


class FloorPlan(unittest.TestCase):
    """The arrows between packages."""

    def test_imports_go_down(self) -> None:
        """A package imports only what stands below it."""
        wrong = []
        for package, file in modules():
            for name in imports(file):
                parts = name.split(".")
                if parts[0] == PACKAGE and len(parts) > 1:
                    allowed = {package, *ARROWS[package]}
                    if parts[1] not in allowed:
                        wrong.append(f"{file.relative_to(ROOT)}: {name}")
        self.assertEqual(wrong, [])

    def test_no_twisted_below(self) -> None:
        """Values, engines, config and interfaces know no Twisted."""
        wrong = [
            f"{file.relative_to(ROOT)}: {name}"
            for package, file in modules()
            if package in WITHOUT_TWISTED
            for name in imports(file)
            if name.split(".")[0] == "twisted"
        ]
        self.assertEqual(wrong, [])

    def test_no_relative_imports(self) -> None:
        """Every import says where from."""
        wrong = [str(file) for _, file in modules() if "." in imports(file)]
        self.assertEqual(wrong, [])

    def test_packages_hold_no_code(self) -> None:
        """An C{__init__.py} is a docstring."""
        for file in sorted((ROOT / PACKAGE).rglob("__init__.py")):
            with self.subTest(file=file):
                self.assertEqual(len(ast.parse(file.read_text("utf-8")).body), 1)

    def test_all_packages_are_installed(self) -> None:
        """setup.cfg names every package that there is."""
        metadata = configparser.ConfigParser()
        metadata.read(ROOT / "setup.cfg")
        named = set(metadata["options"]["packages"].split())
        there = {
            ".".join(file.parent.relative_to(ROOT).parts)
            for file in (ROOT / PACKAGE).rglob("*.py")
        }
        self.assertEqual(named, there | {"twisted.plugins"})
