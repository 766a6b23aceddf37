"""An audit looks through a whole ledger while mail flows, and puts right what can
be.

It reads in small steps, each on a state of the ledger of its own, so nobody waits
for it, and writes what it repairs in short transactions under the writers' lock. It
is blocking, and has connections of its own. Stages come in the order in which their
repairs must: what one drops, a later one counts.

BUGS: SQLite's check of its own file, the first stage, is one step: what is written
meanwhile stays in the log until it is done. Summaries that an older version made
differently are told as wrong; a repair makes them anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import apsw

from twisted_mta.errors import LedgerUnavailable, MailError
from twisted_mta.ledger.audit.contents import contents, orphans, unreferred
from twisted_mta.ledger.audit.finding import Finding, Look
from twisted_mta.ledger.audit.mailboxes import accounts
from twisted_mta.ledger.audit.structure import structure
from twisted_mta.ledger.audit.waiting import queue
from twisted_mta.ledger.files import Files
from twisted_mta.ledger.hold import Hold
from twisted_mta.ledger.lock import WriteLock
from twisted_mta.ledger.migrate import migrate
from twisted_mta.ledger.sqlite import connect

_CACHE = 16 << 20

# The log starts anew when a commit finds all of it copied and nobody reading: some
# commits are made in such a rest.
_WORK_S = 0.5
_REST_S = 0.03

Stage = Callable[[apsw.Connection, Look], Iterator[Finding]]


class Audit:
    """An audit of the ledger in a directory.

    @param look: told how far it has come.
    @raise LedgerUnavailable: there is no ledger, or it cannot be opened.
    """

    def __init__(self, directory: Path, look: Look = lambda *_: None) -> None:
        path = directory / "ledger.sqlite3"
        if not path.is_file():
            raise LedgerUnavailable(f"{directory} holds no ledger")
        self._tell = look
        self._rested_at = time.monotonic()
        files = Files(directory / "content")
        hold = Hold(directory / "content.lock", directory / "content")
        self._stages: tuple[Stage, ...] = (
            structure,
            lambda connection, look: contents(connection, look, files),
            accounts,
            queue,
            unreferred,
            lambda connection, look: orphans(connection, look, files, hold),
        )
        try:
            self._lock = WriteLock(directory / "ledger.lock")
        except OSError as error:
            raise LedgerUnavailable(f"{path} cannot be opened: {error}")
        try:
            self._connection = connect(path, _CACHE)
            migrate(self._connection, self._lock)
        except BaseException as error:
            self._lock.close()
            if isinstance(error, apsw.Error):
                raise LedgerUnavailable(f"{path} cannot be opened: {error}")
            raise

    def close(self) -> None:
        """Close what it has open."""
        self._connection.close()
        self._lock.close()

    def findings(self, repair: bool) -> Iterator[tuple[Finding, bool]]:
        """What is wrong, and whether it was put right.

        @param repair: put right what can be.
        """
        for stage in self._stages:
            try:
                for finding in stage(self._connection, self._look):
                    if repair and finding.repairable:
                        yield self._repaired(finding)
                    else:
                        yield finding, False
            except (apsw.Error, MailError, OSError) as error:
                yield _unread(error), False

    def _look(self, what: str, done: int, of: int) -> None:
        """Tell how far it has come, between two steps; and leave the log alone for
        a moment now and then."""
        self._tell(what, done, of)
        if time.monotonic() - self._rested_at > _WORK_S:
            time.sleep(_REST_S)
            self._rested_at = time.monotonic()

    def _repaired(self, finding: Finding) -> tuple[Finding, bool]:
        try:
            self._repair(finding)
        except (apsw.Error, MailError, OSError) as error:
            return replace(finding, remedy=f"could not be repaired: {error}"), False
        return finding, True

    def _repair(self, finding: Finding) -> None:
        if finding.repair is not None:
            with self._lock:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    finding.repair(self._connection)
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
        if finding.outside is not None:
            finding.outside(self._connection)


def _unread(error: Exception) -> Finding:
    return Finding(
        f"the ledger cannot be read to its end: {error}",
        "cannot be repaired here: rows may be lost; restore a backup",
    )
