"""Who is there in a domain whose mail another server or a program takes: a file's list.

The file has a local part or a whole address in each line. It is looked at when somebody
is asked for, at most once a second, and read again if it has changed; while it cannot
be read the last list counts, so that a program that writes it anew makes nobody vanish.
It trusts the operator for the file's size.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from twisted.logger import Logger

from twisted_mta.delivery.ways import ascii_domain
from twisted_mta.errors import NoSuchDomain, Temporary

# How long a list is believed without a look at the file: a look costs 2 us.
_LOOK_S = 1.0


class Residents:
    """The names in a file.

    @param path: C{None}: nobody is there.
    @param domain: addresses of others are left out.
    """

    _log = Logger()

    def __init__(self, path: Path | None, domain: str) -> None:
        self._path = path
        self._domain = domain
        self._names: frozenset[str] | None = None
        self._mark: tuple[int, ...] = ()
        self._look_at = 0.0

    def has(self, local: str) -> bool:
        """Whether somebody there has this local part, in any case.

        @raise Temporary: the file was never read, and cannot be.
        """
        if self._path is None:
            return False
        now = time.monotonic()
        if now >= self._look_at or self._names is None:
            self._look_at = now + _LOOK_S
            self._look(self._path)
        if self._names is None:
            raise Temporary("Who is here cannot be said now", "4.3.5")
        return local.casefold() in self._names

    def _look(self, path: Path) -> None:
        try:
            found = os.stat(path)
            mark = found.st_ino, found.st_size, found.st_mtime_ns
            if mark != self._mark:
                self._names = names(path.read_text("utf-8"), self._domain)
                self._mark = mark
        except (OSError, UnicodeDecodeError) as error:
            self._log.error(
                "the recipients of {domain} cannot be read from {path}: {why}",
                domain=self._domain,
                path=str(path),
                why=str(error),
            )


def names(text: str, domain: str) -> frozenset[str]:
    """The local parts of a domain in a list, in the form that is compared.

    @param domain: as A-labels.
    """
    found = set()
    for line in text.splitlines():
        name = line.partition("#")[0].strip()
        local, at, of = name.rpartition("@")
        if not at:
            local = name
        elif not _same(of, domain):
            continue
        if local:
            found.add(local.casefold())
    return frozenset(found)


def _same(domain: str, other: str) -> bool:
    try:
        return ascii_domain(domain) == other
    except NoSuchDomain:
        return False
