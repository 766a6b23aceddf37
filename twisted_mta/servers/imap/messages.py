"""Commands that change messages: APPEND, STORE, COPY, MOVE, EXPUNGE.

Messages that another session removed meanwhile (RFC 2180 4): by UID they are
passed over in silence, by sequence number the command is answered with NO
[EXPUNGEISSUED] after what could be done was done; COPY and MOVE do nothing then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from twisted_mta import errors
from twisted_mta.mail.placement import FlagChange
from twisted_mta.servers.imap.client import Answer, Client, Selected
from twisted_mta.servers.imap.errors import Refused
from twisted_mta.servers.imap.expunge import AT_ONCE, expunge
from twisted_mta.wire.imap import replies
from twisted_mta.wire.imap.model import BadCommand, LiteralData, LiteralEnd

if TYPE_CHECKING:
    from twisted_mta.interfaces import IContentWriter
    from twisted_mta.mail.placement import Copied
    from twisted_mta.wire.imap.model import Append, Command, Copy, Store, UidExpunge

_GONE = "Some of the messages no longer exist"
_EXPUNGED = b"EXPUNGEISSUED"

_CHANGE: dict[
    FlagChange, Callable[[frozenset[str], frozenset[str]], frozenset[str]]
] = {
    FlagChange.REPLACE: lambda before, given: given,
    FlagChange.ADD: lambda before, given: before | given,
    FlagChange.REMOVE: lambda before, given: before - given,
}


# --- APPEND -----------------------------------------------------------------


async def do_append(client: Client, command: Append) -> Answer:
    """RFC 3501 6.3.11, RFC 4315. What can be refused is refused before the
    message is sent."""
    account = client.mailboxes()
    try:
        _check_size(client, command.size)
        await account.open(command.mailbox)
        account.need(command.size)
        content = account.content()
    except BaseException as error:
        client.engine.refuse_literal()
        raise _try_create(error)
    client.write(client.engine.accept_literal())
    try:
        await _receive(client, content)
        await content.finish()
        received_at = command.received_at
        appended = await account.append(
            command.mailbox,
            content,
            frozenset(command.flags),
            client.now() if received_at is None else received_at,
        )
    except errors.NoSuchMailbox as error:
        raise _try_create(error)
    finally:
        content.abort()
    if client.selected is not None:
        client.selected.stale = True  # it may be this one
    code = replies.appenduid_code(appended.uidvalidity, [appended.uid])
    return Answer("Append completed", code)


def _check_size(client: Client, octets: int) -> None:
    if octets > client.settings.append_octets:
        raise errors.TooLarge()
    if not octets:
        raise Refused("An empty message cannot be stored")  # as Dovecot has it


async def _receive(client: Client, content: IContentWriter) -> None:
    """Take the literal to its end, whatever becomes of it: the next command
    comes behind it.

    @raise Refused: it does not end as it must.
    """
    failure: errors.MailError | None = None
    while True:
        event = await client.next_event()
        if isinstance(event, LiteralData):
            # imaplib sends literal and CRLF apart. On the loopback an APPEND of
            # up to 50 KB took it 50 ms without this, and takes 1 to 6 ms.
            client.stream.acknowledge()
            if failure is None:
                try:
                    content.write(event.octets)
                except errors.MailError as error:
                    failure = error
        elif isinstance(event, BadCommand):
            raise Refused(event.text, event.code, event.status)
        elif isinstance(event, LiteralEnd):
            break
    if failure is not None:
        raise failure


def _try_create(error: BaseException) -> BaseException:
    """A target that does not exist may be made (RFC 3501 6.3.11, 6.4.7)."""
    if isinstance(error, errors.NoSuchMailbox):
        return Refused(error.text, b"TRYCREATE")
    return error


# --- STORE ------------------------------------------------------------------


async def do_store(client: Client, command: Store) -> Answer:
    selected = client.writable()
    positions = client.positions(command.numbers, command.uid)
    flags = frozenset(command.flags)
    for start in range(0, len(positions), AT_ONCE):
        piece = positions[start : start + AT_ONCE]
        await _store(selected, piece, command.change, flags, command.silent)
        if start + AT_ONCE < len(positions):
            await client.breathe()
    if not command.uid and selected.view.gone(positions):
        return Answer(_GONE, _EXPUNGED, b"NO")
    return Answer("Store completed")


async def _store(
    selected: Selected,
    positions: Sequence[int],
    change: FlagChange,
    flags: frozenset[str],
    silent: bool,
) -> None:
    view = selected.view
    await selected.mailbox.store([view.uids[at] for at in positions], change, flags)
    if silent:
        view.expect(positions, lambda before: _CHANGE[change](before, flags))
    # Ask at once what became of them: others may have changed them, too.
    await selected.refresh()
    if not silent:
        view.mention(positions)


# --- COPY, MOVE -------------------------------------------------------------


async def do_copy(client: Client, command: Copy) -> Answer:
    selected = client.opened()
    copied = await _transfer(client, selected, command, selected.mailbox.copy)
    return Answer("Copy completed", _copyuid(copied))


async def do_move(client: Client, command: Copy) -> Answer:
    """RFC 6851; COPYUID comes before the EXPUNGEs that follow (4.3)."""
    selected = client.writable()
    moved = await _transfer(client, selected, command, selected.mailbox.move)
    if moved.pairs:
        client.write(replies.ok(b"*", "Moved", _copyuid(moved)))
    return Answer("Move completed")


async def _transfer(
    client: Client,
    selected: Selected,
    command: Copy,
    go: Callable[[Sequence[int], str], Awaitable[Copied]],
) -> Copied:
    uids = await _sources(client, selected, command)
    try:
        copied = await go(uids, command.mailbox)
    except errors.NoSuchMailbox as error:
        raise _try_create(error)
    selected.stale = True  # it may be the target, too
    return copied


async def _sources(client: Client, selected: Selected, command: Copy) -> list[int]:
    """The UIDs to copy; all of those that were named by sequence number, or
    none (RFC 3501 6.4.7, RFC 2180 4.4)."""
    positions = client.positions(command.numbers, command.uid)
    if not command.uid:
        await selected.refresh()
        if selected.view.gone(positions):
            raise Refused(_GONE, _EXPUNGED)
    return [selected.view.uids[at] for at in positions]


def _copyuid(copied: Copied) -> bytes:
    if not copied.pairs:
        return b""
    return replies.copyuid_code(copied.uidvalidity, copied.pairs)


# --- EXPUNGE ----------------------------------------------------------------


async def do_expunge(client: Client, command: Command) -> Answer:
    selected = client.writable()
    await selected.refresh()
    await expunge(client, selected, selected.view.deleted())
    return Answer("Expunge completed")


async def do_uid_expunge(client: Client, command: UidExpunge) -> Answer:
    """RFC 4315 2.1."""
    selected = client.writable()
    await selected.refresh()
    view = selected.view
    named = {view.uids[at] for at in client.positions(command.numbers, uid=True)}
    uids = [uid for uid in view.deleted() if uid in named]
    await expunge(client, selected, uids)
    return Answer("Expunge completed")


COMMANDS: dict[str, Callable[..., Awaitable[Answer | None]]] = {
    "APPEND": do_append,
    "STORE": do_store,
    "UID STORE": do_store,
    "COPY": do_copy,
    "UID COPY": do_copy,
    "MOVE": do_move,
    "UID MOVE": do_move,
    "EXPUNGE": do_expunge,
    "UID EXPUNGE": do_uid_expunge,
}
