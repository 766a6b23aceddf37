"""Finding plugins: one object each, through one of three doors.

A plugin provides L{IPlugin}. It is built in, or a module of the drop-in package
C{twisted_mta.plugins} (a folder C{twisted_mta/plugins} below any entry of
C{sys.path}, or a directory of the config's C{plugin_path}), or an entry point
of the group C{twisted_mta.plugins}. Nothing is swallowed: a module that does not
import, or two plugins of one kind and name, stop the start with the file's name.
"""

import difflib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Attribute, Interface

from twisted_mta.errors import ConfigError
from twisted_mta.interfaces import ILedger, IResolver
from twisted_mta.net.tally import ITally

PACKAGE = "twisted_mta.plugins"


class IPlugin(Interface):
    """One plugin."""

    kind = Attribute('what it builds: "agent", "policy" or "tokens"')
    name = Attribute("the word that the config chooses it by, as kind:")
    config = Attribute("an attrs class: its settings, typed, with defaults")

    def build(config: Any, environment: "Environment") -> Any:
        """Make what the kind says: an IDeliveryAgent, IPolicy or ITokenVerifier.

        @param config: an instance of the class above.
        @param environment: an L{Environment}.
        """


@frozen
class Environment:
    """What a plugin may use; never the application.

    @ivar name: the name that the config gives to this one.
    @ivar hostname: the server's name on the Internet.
    @ivar rates: counts by key, over all workers; what was added is taken back by who
        added it.
    @ivar share: what this worker has of a number that all have together.
    """

    name: str
    hostname: str
    reactor: IReactorTime
    resolver: IResolver
    ledger: ILedger
    rates: ITally
    log: Logger
    share: Callable[[int], int] = int


class Shelf:
    """All plugins that can be had."""

    def __init__(
        self,
        built_in: Sequence[Any],
        plugin_path: Sequence[Path] = (),
        search: Sequence[str] | None = None,
    ) -> None:
        """
        @param search: directories to look below for the drop-in package;
            C{sys.path} if C{None}.
        @raise ConfigError: a module does not import, or two have one name.
        """
        self._found: dict[tuple[str, str], tuple[Any, str]] = {}
        for plugin in built_in:
            self._add(plugin, "built in")
        for file in _drop_ins(plugin_path, sys.path if search is None else search):
            for plugin in _plugins_of(file):
                self._add(plugin, str(file))
        for entry in importlib.metadata.entry_points(group=PACKAGE):
            self._add(_loaded(entry), f"entry point {entry.value}")

    def _add(self, plugin: Any, source: str) -> None:
        key = (plugin.kind, plugin.name)
        there = self._found.setdefault(key, (plugin, source))
        if there[0] is not plugin:
            raise ConfigError(
                [
                    f"{source}: the {plugin.kind} '{plugin.name}' is also in "
                    f"{there[1]}; remove or rename one"
                ]
            )

    def find(self, kind: str, name: str) -> Any:
        """The plugin of this kind and name.

        @raise LookupError: there is none; its text says which there are.
        """
        try:
            return self._found[kind, name][0]
        except KeyError:
            known = sorted(name for of, name in self._found if of == kind)
            close = difflib.get_close_matches(name, known, 1)
            hint = (
                f"did you mean '{close[0]}'?"
                if close
                else f"known are {', '.join(known) or 'none'}"
            )
            raise LookupError(f"no {kind} of kind '{name}'; {hint}")


def _drop_ins(plugin_path: Iterable[Path], search: Iterable[str]) -> Iterator[Path]:
    below = [Path(entry or ".", *PACKAGE.split(".")) for entry in search]
    seen: set[Path] = set()
    for directory in (*plugin_path, *below):
        for file in sorted(directory.glob("*.py")):
            resolved = file.resolve()
            if resolved not in seen and not file.name.startswith("_"):
                seen.add(resolved)
                yield file


def _plugins_of(file: Path) -> Iterator[Any]:
    name = f"{PACKAGE}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError([f"{file}: is not a Python module; move it elsewhere"])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a module's import can raise
        raise ConfigError([f"{file}: does not import: {type(error).__name__}: {error}"])
    for value in vars(module).values():
        if IPlugin.providedBy(value):
            yield value


def _loaded(entry: importlib.metadata.EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # whatever a module's import can raise
        raise ConfigError(
            [f"entry point {entry.value}: {type(error).__name__}: {error}"]
        )
