"""The server as several processes: a supervisor that holds the sockets, and
workers, each a whole server (L{twisted_mta.app}) that accepts at them.

The supervisor opens no ledger and reads no mail. What workers are given is the
config as this process read and checked it, so that one which starts later reads
no other. What they share beside the ledger is here: the sockets, counts of
connections, and word of logins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from twisted_mta.app import endpoints, part_problems
from twisted_mta.config.check import parse, text_of
from twisted_mta.config.schema import Config
from twisted_mta.errors import ConfigError
from twisted_mta.net.channel import Word
from twisted_mta.net.logrelay import LogRelay
from twisted_mta.net.sockets import Held, Sockets
from twisted_mta.net.supervisor import Hire, IWorker, Supervisor, WorkerFailed
from twisted_mta.net.tally import Memory
from twisted_mta.net.workerprocess import FIRST_FD, Orders, WorkerProcess

#: What a worker's process runs.
MODULE = "twisted_mta.worker"

# A worker that is told to stop cuts its sessions after 5 s, attempts after 5 s
# more; then it hangs. systemd's unit waits 45 s for all.
_GRACE_S = 30.0

# What stays as it was until the whole server starts again, and its setting.
_FIXED = {"directory": "directory", "worker_count": "workers"}


@dataclass(frozen=True, slots=True)
class _Read:
    """The config as it was read."""

    text: str
    config: Config


class Crew:
    """A supervisor and its workers.

    @param path: the config's; read again by L{reload}.
    @raise ConfigError: a plugin, an endpoint or a certificate is wrong.
    """

    log = Logger()

    def __init__(self, reactor: Any, path: Path) -> None:
        self._reactor = reactor
        self._path = path.absolute()
        self._read = read = self._look()
        self._sockets = Sockets(reactor)
        count = read.config.worker_count
        # Each worker and its successor count at the same time for a while.
        self._memory = Memory(2 * count)
        self._columns = list(range(2 * count))
        self._relay = LogRelay()
        self._supervisor = Supervisor(
            reactor, self._hirer(read), self._heard, self._buried
        )
        self._reloading = False
        self._again = False

    # --- life ---

    def bind(self) -> None:
        """Bind all sockets.

        @raise CannotListenError: an endpoint is in use.
        """
        self._sockets.bind(endpoints(self._read.config))

    async def serve(self) -> None:
        """Start the workers; if one cannot start, none is left.

        @raise WorkerFailed: it cannot.
        """
        count = self._read.config.worker_count
        try:
            await self._supervisor.start(count)
        except BaseException:
            await self.stop()
            raise
        self.log.info(
            "{count} workers serve: {workers}",
            count=count,
            workers=", ".join(
                f"{one.number} pid={one.pid}" for one in self._supervisor.workers
            ),
        )

    async def stop(self) -> None:
        """Stop the workers, each of which ends its sessions. Awaited, but not
        for ever."""
        # Gone when the last worker lets go of them, which is what it does first.
        await self._sockets.close()
        await self._supervisor.stop(_GRACE_S)

    # --- while it runs ---

    async def reload(self) -> None:
        """Read the config again. If it is as it was, the workers read the
        certificates again; if not, others take their places. A config that is
        wrong, or with which a worker cannot start, is logged, and all stays as it
        was."""
        if self._reloading:
            self._again = True
            return
        self._reloading = True
        try:
            await self._reload()
            while self._again:
                self._again = False
                await self._reload()
        finally:
            self._reloading = False

    async def _reload(self) -> None:
        try:
            read = self._look()
            self._check_fixed(read.config)
        except ConfigError as error:
            for problem in error.problems:
                self.log.error("config not reloaded: {problem}", problem=problem)
            return
        if read.text == self._read.text:
            self._supervisor.tell("reload")
            return
        before, after = endpoints(self._read.config), endpoints(read.config)
        bound: Sequence[tuple[str, Held]] = ()
        try:
            bound = self._sockets.bind(_less(after, before))
            await self._supervisor.replace(self._hirer(read), _GRACE_S)
        except (CannotListenError, ValueError, WorkerFailed) as error:
            # Else the next config that has these endpoints could not bind them.
            await self._sockets.release(bound)
            self.log.error("config not reloaded: {why}", why=str(error))
            return
        self._read = read
        await self._sockets.close(_less(before, after))
        self.log.info("config reloaded, all workers replaced")

    def _look(self) -> _Read:
        """@raise ConfigError: something is wrong with it."""
        text = text_of(self._path)
        document, config = parse(str(self._path), text)
        problems = part_problems(document, config)
        if problems:
            raise ConfigError(problems)
        return _Read(text, config)

    def _check_fixed(self, config: Config) -> None:
        for attribute, name in _FIXED.items():
            if getattr(config, attribute) != getattr(self._read.config, attribute):
                raise ConfigError(
                    [f"{self._path}: '{name}' has changed; that needs a restart"]
                )

    # --- workers ---

    def _hirer(self, read: _Read) -> Hire:
        """What starts workers with a config."""
        return lambda boss, number: self._hire(read, boss, number)

    def _hire(self, read: _Read, boss: Supervisor, number: int) -> WorkerProcess:
        """Start a worker.

        @raise OSError: the system has no room for it.
        """
        column = self._columns.pop()
        worker = WorkerProcess(self._reactor, boss, number, column, self._relay)
        try:
            worker.spawn(MODULE, self._orders(read, number, column))
        except BaseException:
            self._columns.append(column)
            raise
        return worker

    def _orders(self, read: _Read, number: int, column: int) -> Orders:
        wanted = set(endpoints(read.config))
        held = [one for one in self._sockets.descriptors() if one[0] in wanted]
        memory = self._memory
        return Orders(
            {
                "word": "serve",
                "number": number,
                "of": read.config.worker_count,
                "name": str(self._path),
                "text": read.text,
                "memory": FIRST_FD,
                "columns": memory.columns,
                "column": column,
                "secret": memory.secret.hex(),
                "sockets": [
                    (description, fd)
                    for fd, (description, _) in enumerate(held, FIRST_FD + 1)
                ],
            },
            [memory.fd, *(fd for _, fd in held)],
        )

    def _heard(self, worker: IWorker, word: Word) -> None:
        """A worker tells the others something."""
        for other in self._supervisor.workers:
            if other is not worker:
                other.say(**word)

    def _buried(self, worker: IWorker) -> None:
        column = worker.column
        self._memory.clear(column)
        self._columns.append(column)


def _less(these: Sequence[str], those: Sequence[str]) -> list[str]:
    """These without those, each as often as it stands there more."""
    left = list(these)
    for one in those:
        if one in left:
            left.remove(one)
    return left
