"""Every octet of content: against its hash, and against the summaries that were
made of it when it came.

Content is never changed, so what is read of it may be compared whenever. A row is
committed after its file is durable, and goes before its file does: a file that is
not there is missed only if its row still is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import apsw

from twisted_mta.errors import MailError, NoSuchMessage
from twisted_mta.ledger.audit.finding import Finding, Look, owners, places, run
from twisted_mta.ledger.content import HASH
from twisted_mta.ledger.files import Files
from twisted_mta.ledger.hold import Hold
from twisted_mta.ledger.recovery import is_orphan
from twisted_mta.ledger.sqlite import rows
from twisted_mta.mail import header, mime
from twisted_mta.mail.ids import to_text
from twisted_mta.mail.summary import summarize

# Rows that are read at once: 6 MB at most.
_AT_ONCE = 100

# Octets of a file that are read at once.
_PIECE = 1 << 20

_LOST = "cannot be repaired; a backup that was made before it happened has it"

_UNREFERRED = (
    " NOT EXISTS (SELECT 1 FROM email e WHERE e.content_id = content.id)"
    " AND NOT EXISTS (SELECT 1 FROM queued q WHERE q.content_id = content.id)"
    " AND NOT EXISTS (SELECT 1 FROM released r WHERE r.content_id = content.id)"
)


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of one content."""

    size: int
    hash: bytes
    header: bytes
    structure: mime.Structure


def contents(
    connection: apsw.Connection, look: Look, files: Files
) -> Iterator[Finding]:
    """All content, by age."""
    ((count,),) = rows(connection, "SELECT COUNT(*) FROM content")
    done, last = 0, -1
    while found := rows(
        connection,
        "SELECT id, size, octets, hash FROM content WHERE id > ? ORDER BY id LIMIT ?",
        (last, _AT_ONCE),
    ):
        look("content", done, max(count, done))
        yield from _piece(connection, files, found)
        last = found[-1][0]
        done += len(found)


def unreferred(connection: apsw.Connection, look: Look) -> Iterator[Finding]:
    """Content that nobody refers to, and the collector does not know of."""
    look("references", 0, 1)
    for (id,) in rows(connection, "SELECT id FROM content WHERE" + _UNREFERRED):
        yield Finding(
            f"{_name(id)}: nobody refers to it",
            "released: the collector removes it",
            partial(
                run,
                sql="INSERT INTO released (content_id) SELECT id FROM content"
                " WHERE id = ? AND" + _UNREFERRED,
                values=(id,),
            ),
        )


def orphans(
    connection: apsw.Connection, look: Look, files: Files, hold: Hold
) -> Iterator[Finding]:
    """Files that no row names."""
    look("files", 0, 1)
    strange = [id for id in files.ids() if is_orphan(connection, files, id)]
    if not strange:
        return
    # The collector may be between a row and its file; not while this is held.
    with hold.holding():
        left = [id for id in strange if _is_left(connection, files, id)]
    for id in left:
        yield Finding(
            f"{_name(id)}: a file that no row names",
            "removed",
            outside=partial(_remove, files=files, id=id),
        )


def _is_left(connection: apsw.Connection, files: Files, id: int) -> bool:
    return files.size(id) is not None and is_orphan(connection, files, id)


def _remove(connection: apsw.Connection, files: Files, id: int) -> None:
    if is_orphan(connection, files, id):
        files.remove(id)


# --- octets ---


def _piece(
    connection: apsw.Connection, files: Files, found: list[tuple[Any, ...]]
) -> Iterator[Finding]:
    hashes = []
    for id, size, octets, hash in found:
        read, wrong = _examined(files, id, size, octets, hash)
        if read is not None and not wrong:
            if hash is None:
                hashes.append((read.hash, id))
            yield from _summaries(connection, id, read)
        elif read is not None and read.hash == hash:
            yield _wrong_size(id, size, read.size)
        # Unless it was collected meanwhile.
        elif rows(connection, "SELECT 1 FROM content WHERE id = ?", (id,)):
            whose = owners(connection, id)
            yield Finding(f"{_name(id)}: {wrong}; it is of {whose}", _LOST)
    if hashes:
        yield Finding(
            "content without a hash, which came before there was one",
            "given one, of what it is now",
            partial(_give_hashes, hashes=hashes),
            problem=False,
            count=len(hashes),
        )


def _examined(
    files: Files, id: int, size: int, octets: bytes | None, hash: bytes | None
) -> tuple[_Read | None, str]:
    """What was read of a content, and what is wrong with it."""
    try:
        read = _of_file(files, id) if octets is None else _of_row(octets)
    except NoSuchMessage:
        return None, f"its file of {size} octets is gone"
    except MailError as error:
        return None, f"cannot be read: {error.__context__ or error}"
    if read.size != size:
        return read, f"has {read.size} octets instead of {size}"
    if hash is not None and read.hash != hash:
        return read, "its octets are not those that came"
    return read, ""


def _wrong_size(id: int, size: int, right: int) -> Finding:
    return Finding(
        f"{_name(id)}: says {size} octets, has the {right} that came",
        f"says {right} now",
        partial(
            run,
            sql="UPDATE content SET size = ? WHERE id = ?",
            values=(right, id),
        ),
    )


def _of_row(octets: bytes) -> _Read:
    end = min(header.body_start(octets), header.BLOCK_MAX)
    hash = HASH(octets).digest()
    return _Read(len(octets), hash, octets[:end], mime.scan(octets))


def _of_file(files: Files, id: int) -> _Read:
    scanner, hash, size = mime.Scanner(), HASH(), 0
    while octets := files.read(id, size, _PIECE):
        scanner.feed(octets)
        hash.update(octets)
        size += len(octets)
    structure = scanner.finish()
    return _Read(size, hash.digest(), structure.root.header, structure)


# --- summaries ---

_COLUMNS = "envelope, bodystructure, body, sections"


def _summaries(
    connection: apsw.Connection, content: int, read: _Read
) -> Iterator[Finding]:
    """What is kept of each message that consists of this content."""
    for account, email, prefix, *kept in rows(
        connection,
        f"SELECT account_id, id, prefix, {_COLUMNS} FROM email WHERE content_id = ?",
        (content,),
    ):
        made = summarize(prefix, read.header, read.structure)
        right = (made.envelope, made.bodystructure, made.body, made.sections)
        wrong = [
            name
            for name, one, other in zip(_COLUMNS.split(", "), kept, right, strict=True)
            if one != other
        ]
        if not wrong:
            continue
        yield Finding(
            f"message {to_text(email)}: {', '.join(wrong)} is not what its octets give:"
            f" {places(connection, account, email)}",
            "made anew",
            partial(
                run,
                sql="UPDATE email SET envelope = ?, bodystructure = ?, body = ?,"
                " sections = ? WHERE account_id = ? AND id = ?",
                values=(*right, account, email),
            ),
        )


def _give_hashes(connection: apsw.Connection, hashes: list[tuple[bytes, int]]) -> None:
    connection.executemany(
        "UPDATE content SET hash = ? WHERE id = ? AND hash IS NULL", hashes
    )


def _name(id: Any) -> str:
    return f"content {to_text(int(id))}"
