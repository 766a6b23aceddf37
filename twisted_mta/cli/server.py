"""How a command reaches the server it is about: through its ledger, whether the
server runs or not."""

import argparse
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import task
from twisted.internet.defer import CancelledError, Deferred

from twisted_mta.config.check import load
from twisted_mta.config.schema import Config
from twisted_mta.errors import ConfigError
from twisted_mta.office import Office, open_office

T = TypeVar("T")

DEFAULT_CONFIG = Path("/etc/twisted-mta/mta.yaml")
CONFIG_VARIABLE = "TWISTED_MTA_CONFIG"

# The config that 'twisted-mta try' leaves in its directory.
TRY_CONFIG = "mta.yaml"


def config_path(given: Path | None) -> Path:
    """Where the config is.

    @param given: what the command line says.
    @raise ConfigError: nothing says it, and there is none where it belongs.
    """
    if given is not None:
        return given
    if os.environ.get(CONFIG_VARIABLE):
        return Path(os.environ[CONFIG_VARIABLE])
    if DEFAULT_CONFIG.exists():
        return DEFAULT_CONFIG
    raise ConfigError(
        [
            f"There is no config: neither --config, nor ${CONFIG_VARIABLE}, nor"
            f" {DEFAULT_CONFIG}.\nTo make one, change the annotated etc/mta.yaml of"
            " the source, or begin with what a local server uses:\n"
            "    twisted-mta try --print-config > mta.yaml"
        ]
    )


def chosen_config(options: argparse.Namespace) -> Config:
    """The config that C{--config} or C{--directory} names."""
    return load(where(options))[1]


def where(options: argparse.Namespace) -> Path:
    """Where the config is that C{--config} or C{--directory} names.

    @raise ConfigError: nothing names one.
    """
    if options.directory is None:
        return config_path(options.config)
    path: Path = options.directory / TRY_CONFIG
    if not path.exists():
        raise ConfigError(
            [f"{options.directory} is not a directory of 'twisted-mta try'"]
        )
    return path


def in_reactor(work: Callable[[Any], Awaitable[T]]) -> T:
    """Run a command's coroutine, which is given the reactor.

    @raise KeyboardInterrupt: it was told to end (Ctrl-C), and what it had opened is
        closed.
    """
    results: list[T] = []
    failures: list[BaseException] = []
    running: list[Deferred[None]] = []

    async def guarded(reactor: object) -> None:
        try:
            results.append(await work(reactor))
        except BaseException as error:  # carried out of the reactor, raised below
            failures.append(error)

    def end() -> Deferred[None] | None:
        """The reactor stops. It waits for the coroutine to close what it has open."""
        if running[0].called:
            return None
        running[0].cancel()
        return running[0]

    def main(reactor: Any) -> Deferred[None]:
        running.append(Deferred.fromCoroutine(guarded(reactor)))
        reactor.addSystemEventTrigger("before", "shutdown", end)
        return running[0]

    with contextlib.suppress(SystemExit):  # how react always ends
        task.react(main)
    if failures and isinstance(failures[0], CancelledError):
        raise KeyboardInterrupt
    if failures:
        raise failures[0]
    return results[0]


def with_office(
    options: argparse.Namespace, work: Callable[[Office], Awaitable[T]]
) -> T:
    """Run a command's coroutine on the server's ledger."""
    config = chosen_config(options)

    async def run(reactor: object) -> T:
        office = await open_office(reactor, config)
        try:
            return await work(office)
        finally:
            await office.close()

    return in_reactor(run)
