"""A backup: a second directory that a server could be started on, made while mail
flows.

The rows come first, as they are at one moment: their pages are copied while a
snapshot of them is held, at the speed of the disks. What is written meanwhile stays
in the log, which is as much longer until then; if that takes the disk's last room,
the backup is given up and not the mail. Then come the files that those rows name.
Content is never rewritten, so on the same file system a second name is enough; and
since the collector is L{held off <twisted_mta.ledger.hold>} from before the first
row to after the last file, none of them goes meanwhile. Until all of it is durable
and has been looked at, the directory has another name.

It is blocking. What is made from the ledger and can be made anew, such as an index
for searches, is left out.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from twisted_mta.errors import LedgerUnavailable, Permanent
from twisted_mta.ledger.audit.audit import Audit
from twisted_mta.ledger.audit.finding import Look
from twisted_mta.ledger.files import Files, synchronise
from twisted_mta.ledger.hold import Hold
from twisted_mta.ledger.restoration import MARKER
from twisted_mta.ledger.sqlite import connect, rows
from twisted_mta.mail.ids import to_text

_LEDGER = "ledger.sqlite3"

# Pages of 8 KB that are copied at once: 16 MB.
_STEP = 2_000

_CACHE = 4 << 20

_ABOUT = """\
A backup of {source}, made {when}.
The first start on this directory, or on a copy of it, gives all mailboxes a new
UIDVALIDITY, so that mail clients forget what came after the backup, and then
removes this file.
"""


class CannotBackUp(Permanent):
    """There is no backup; the text says why."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a backup consists of.

    @ivar octets: of rows.
    @ivar linked: files that share their disk space with the ledger's.
    @ivar copied: files that do not.
    @ivar problems: what is wrong with the backup, and so with the ledger.
    """

    octets: int
    linked: int
    copied: int
    problems: tuple[str, ...]


class Backup:
    """A backup that is about to be made.

    @param source: the ledger's directory.
    @param target: the backup's, which is not there yet, or empty.
    @param reserve: octets of the ledger's disk that mail wants.
    @param link: give files of content a second name where that is possible.
    @param look: told how far it has come.
    """

    def __init__(
        self,
        source: Path,
        target: Path,
        reserve: int = 0,
        link: bool = True,
        look: Look = lambda *_: None,
    ) -> None:
        self._source = source
        self._target = target
        self._partial = target.with_name(target.name + ".partial")
        self._reserve = reserve
        self._link = link
        self._look = look
        self._linked = self._copied = 0

    def make(self, verify: bool = False) -> Made:
        """Make it.

        @param verify: read all of it once more, and compare it with its hashes.
        @raise CannotBackUp: nothing is left of it.
        @raise LedgerUnavailable: the same.
        """
        self._check()
        try:
            self._partial.mkdir(mode=0o700)
        except OSError as error:
            raise CannotBackUp(_cannot_make(self._partial, error))
        try:
            made = self._make(verify)
            os.rename(self._partial, self._target)
            synchronise(self._target.parent)
        except apsw.Error as error:
            raise LedgerUnavailable(f"{self._source} cannot be copied: {error}")
        except OSError as error:
            raise CannotBackUp(f"{self._target} cannot be written: {error}")
        finally:
            # It has the other name by now, or it is of no use.
            shutil.rmtree(self._partial, ignore_errors=True)
        return made

    def _check(self) -> None:
        if not (self._source / _LEDGER).is_file():
            raise CannotBackUp(f"{self._source} holds no ledger")
        try:
            there = any(self._target.iterdir())
        except FileNotFoundError:
            there = False
        except NotADirectoryError:
            there = True
        if there:
            raise CannotBackUp(
                f"{self._target} is there already; name a directory that is not,"
                " such as one with the date"
            )

    def _make(self, verify: bool) -> Made:
        files = Files(self._partial / "content")
        files.prepare()
        hold = Hold(self._source / "content.lock", self._source / "content")
        with hold.holding():
            self._copy_rows()
            with closing(connect(self._partial / _LEDGER, _CACHE)) as copy:
                named = _named(copy)
            if self._copies():
                self._check_room(sum(size for _, size in named))
            missing = list(self._take_files(named))
        about = self._partial / MARKER
        about.write_text(
            _ABOUT.format(
                source=self._source, when=time.strftime("%Y-%m-%d %H:%M:%S %z")
            )
        )
        problems = (*missing, *self._wrong(verify))
        self._give_away()
        size = (self._partial / _LEDGER).stat().st_size
        for path in (self._partial / _LEDGER, about, self._partial):
            _synchronise(path)
        return Made(size, self._linked, self._copied, tuple(dict.fromkeys(problems)))

    # --- rows ---

    def _copy_rows(self) -> None:
        copy = self._partial / _LEDGER
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with (
            closing(connect(self._source / _LEDGER, _CACHE, query_only=True)) as source,
            closing(apsw.Connection(str(copy))) as target,
        ):
            # It is synchronised once, at its end; a crash leaves no backup.
            for pragma in ("journal_mode = OFF", "synchronous = OFF"):
                target.execute(f"PRAGMA {pragma}").fetchall()
            source.execute("BEGIN")
            ((octets,),) = rows(
                source,
                "SELECT page_count * page_size FROM pragma_page_count,"
                " pragma_page_size",
            )
            self._check_room(octets)
            # Within one transaction of the source, all steps see one state of it,
            # and nobody's writes make it begin again.
            with target.backup("main", source, "main") as backup:
                while not backup.done:
                    backup.step(_STEP)
                    done = backup.page_count - backup.remaining
                    self._look("rows", done, backup.page_count)
                    self._check_log()
            source.execute("ROLLBACK")

    def _check_log(self) -> None:
        """What mail adds to the log meanwhile must leave it half of the reserve."""
        if _free(self._source) < self._reserve // 2:
            raise CannotBackUp(
                f"the disk of {self._source} is nearly full: the backup was given up,"
                " so that mail goes on; make room and try again"
            )

    def _check_room(self, octets: int) -> None:
        """@raise CannotBackUp: so much more would not fit."""
        same = self._source.stat().st_dev == self._partial.stat().st_dev
        needed = octets + (self._reserve if same else 0)
        if _free(self._partial) < needed:
            raise CannotBackUp(
                f"the disk of {self._target.parent} has"
                f" {_free(self._partial) >> 20} MB left, {needed >> 20} are needed"
            )

    # --- files ---

    def _copies(self) -> bool:
        same = self._source.stat().st_dev == self._partial.stat().st_dev
        return not (same and self._link)

    def _take_files(self, named: list[tuple[Any, ...]]) -> Iterator[str]:
        """@return: what is missing."""
        for number, (id, size) in enumerate(named):
            self._look("files", number, len(named))
            within = Path("content") / f"{id & 255:02x}" / to_text(id)
            try:
                self._take(self._source / within, self._partial / within)
            except FileNotFoundError:
                yield f"content {to_text(id)}: its file of {size} octets is gone"
        for low in {id & 255 for id, _ in named}:
            synchronise(self._partial / "content" / f"{low:02x}")

    def _take(self, file: Path, copy: Path) -> None:
        if self._link:
            try:
                os.link(file, copy)
            except FileNotFoundError:
                raise
            except OSError:
                self._link = False  # another file system, or one without links
            else:
                self._linked += 1
                return
        shutil.copyfile(file, copy)
        copy.chmod(0o600)
        _synchronise(copy)
        self._copied += 1

    def _give_away(self) -> None:
        """Who makes a backup as root means the server to use it."""
        if os.geteuid():
            return
        owner = self._source.stat()
        for path in (self._partial, *self._partial.rglob("*")):
            if path.stat().st_uid != owner.st_uid:
                os.chown(path, owner.st_uid, owner.st_gid)

    # --- what has come of it ---

    def _wrong(self, verify: bool) -> Iterator[str]:
        """What is wrong with it."""
        if verify:
            with closing(Audit(self._partial, self._look)) as audit:
                for finding, _ in audit.findings(repair=False):
                    if finding.problem:
                        yield finding.what
            return
        files = Files(self._partial / "content")
        with closing(connect(self._partial / _LEDGER, _CACHE)) as copy:
            self._look("verifying", 0, 1)
            try:
                said = [text for (text,) in rows(copy, "PRAGMA quick_check")]
            except apsw.CorruptError as error:
                said = [error]
            for text in said:
                if text != "ok":
                    yield f"{_LEDGER}: {text}"
            for id, size in _named(copy):
                found = files.size(id)
                if found is not None and found != size:
                    yield f"content {to_text(id)}: has {found} octets instead of {size}"


def _named(copy: apsw.Connection) -> list[tuple[Any, ...]]:
    """Ids and sizes of content that has files."""
    return rows(copy, "SELECT id, size FROM content WHERE octets IS NULL")


def _free(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _synchronise(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _cannot_make(partial: Path, error: OSError) -> str:
    if isinstance(error, FileExistsError):
        return (
            f"{partial} is there: another backup runs, or one did not come to its end;"
            " if none runs, remove it"
        )
    return f"{partial} cannot be made: {error.strerror}"
