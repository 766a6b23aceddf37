"""How much room the ledger's disk has, and what is kept back of it.

New mail is refused while the disk still has a reserve, because what makes room
needs some first: to delete a message is to write to the log, which grows to 64
MB before it starts anew, and then into the ledger. So there are three steps.
With less than the reserve nothing new begins; what is under way, and a copy,
which shares its content with the original, may use half of it; the other half is
left to deletions, flags, the queue and the log. The system is asked once a
second and not for each message. It trusts what the system says, and knows no
quota of anybody.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from twisted_mta.errors import LedgerFull

# How long an answer of the system holds. The fastest disks write a gigabyte in
# that time; what this process itself writes to files is counted in between.
_FRESH_S = 1.0

# Files that can still be made, where a file system counts them (Exim:
# check_spool_inodes 100). Only content above 128 KiB makes one.
_FILES = 100

# When the disk was full, so much more than the reserve must be free before mail
# is taken again: one part in 16. Else the log would say it every second.
_MARGIN = 16


class Room:
    """The room of one process' ledger.

    @param directory: where the ledger is.
    @param reserve: octets; 0 for none.
    @param statvfs: asks the system.
    @param monotonic: seconds.
    """

    log = Logger()

    def __init__(
        self,
        directory: Path,
        reserve: int,
        statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._reserve = reserve
        self._statvfs = statvfs
        self._monotonic = monotonic
        self._asked_at = float("-inf")
        self._free = 0
        self._short = False

    def need(self, octets: int, sparing: bool = False) -> None:
        """Something of this size is about to be stored.

        @param sparing: it has begun already, or takes hardly any room: it may
            use half of the reserve.
        @raise LedgerFull: there is no room for it now.
        """
        if not self._reserve:
            return
        now = self._monotonic()
        if now - self._asked_at >= _FRESH_S:
            self._asked_at = now
            self._ask()
        if sparing:
            short = self._free - octets < self._reserve // 2
        else:
            short = self._short or self._free - octets < self._reserve
        if short:
            raise LedgerFull()

    def grow(self, octets: int) -> None:
        """A file of content becomes larger by this.

        @raise LedgerFull: half of the reserve is used up.
        """
        self.need(octets, sparing=True)
        self._free -= octets

    def _ask(self) -> None:
        try:
            found = self._statvfs(self._directory)
        except OSError as error:
            # What cannot be known is found out by writing.
            self.log.warn("ledger: the disk's room is unknown: {error}", error=error)
            self._free = self._reserve * 2
            return
        self._free = found.f_bavail * found.f_frsize
        enough = self._reserve + (self._reserve // _MARGIN if self._short else 0)
        few_files = bool(found.f_files) and found.f_favail < _FILES
        short = few_files or self._free < enough
        if short == self._short:
            return
        self._short = short
        if short:
            self.log.error(
                "ledger: {directory} has {free} MB left, {files}of {reserve} MB in"
                " reserve (storage: reserve): new mail is refused until there is more;"
                " deleting and reading go on. Make room on this disk",
                directory=self._directory,
                free=self._free >> 20,
                files=f"{found.f_favail} files, " if few_files else "",
                reserve=self._reserve >> 20,
            )
        else:
            self.log.info(
                "ledger: {directory} has {free} MB again: new mail is taken",
                directory=self._directory,
                free=self._free >> 20,
            )
