"""Commands on mailboxes: SELECT, EXAMINE, CLOSE, UNSELECT, CHECK, CREATE,
DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS, IDLE.

What a name may be, and what becomes of inferiors, is the store's matter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from twisted_mta.servers.imap.client import Answer, Client, Selected
from twisted_mta.servers.imap.errors import Refused
from twisted_mta.servers.imap.expunge import expunge
from twisted_mta.servers.imap.pattern import SEPARATOR
from twisted_mta.wire.imap import replies
from twisted_mta.wire.imap.model import BadCommand, IdleDone

if TYPE_CHECKING:
    from twisted_mta.wire.imap.model import (
        Command,
        Create,
        MailboxCommand,
        Rename,
        Status,
    )

# RFC 6154 2; \All and \Flagged are for mailboxes that are views of others.
_SPECIAL_USES = frozenset({"\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash"})


async def do_select(client: Client, command: MailboxCommand) -> Answer:
    return await _select(client, command.mailbox, read_only=False)


async def do_examine(client: Client, command: MailboxCommand) -> Answer:
    return await _select(client, command.mailbox, read_only=True)


async def _select(client: Client, name: str, read_only: bool) -> Answer:
    client.unselect()  # RFC 3501 6.3.1: whether or not this succeeds
    mailbox = await client.mailboxes().open(name)
    selected = Selected(client, mailbox, read_only)
    try:
        await selected.refresh()
    except BaseException:
        selected.close()
        raise
    client.selected = selected
    for line in selected.view.opening(keywords=not read_only):
        client.write(line)
    validity = b"UIDVALIDITY %d" % mailbox.uidvalidity
    client.write(replies.ok(b"*", "UIDs are valid", validity))
    if read_only:
        return Answer("Examine completed", b"READ-ONLY")
    return Answer("Select completed", b"READ-WRITE")


async def do_close(client: Client, command: Command) -> Answer:
    """Expunges without telling (RFC 3501 6.4.2)."""
    selected = client.opened()
    if not selected.read_only:
        await selected.refresh()
        await expunge(client, selected, selected.view.deleted())
    client.unselect()
    return Answer("Close completed")


async def do_unselect(client: Client, command: Command) -> Answer:
    """RFC 3691."""
    client.unselect()
    return Answer("Unselect completed")


async def do_check(client: Client, command: Command) -> Answer:
    """Everything is on disk already; so it is a NOOP (RFC 3501 6.4.1)."""
    client.opened().stale = True
    return Answer("Check completed")


async def do_create(client: Client, command: Create) -> Answer:
    """A separator at the end says that inferiors will follow (RFC 3501 6.3.3),
    which every mailbox can have."""
    if len(command.special_use) > 1 or not _SPECIAL_USES.issuperset(
        command.special_use
    ):
        raise Refused("There is no such use, or too many", b"USEATTR")
    use = "".join(command.special_use)
    await client.mailboxes().create(command.mailbox.removesuffix(SEPARATOR), use)
    return Answer("Create completed")


async def do_delete(client: Client, command: MailboxCommand) -> Answer:
    """A client that deletes the mailbox it has selected has none afterwards,
    as with Dovecot."""
    account = client.mailboxes()
    selected = client.selected
    if selected is not None:
        own = (await account.open(command.mailbox)).id == selected.mailbox.id
        await account.delete(command.mailbox)
        if own:
            client.unselect()
    else:
        await account.delete(command.mailbox)
    return Answer("Delete completed")


async def do_rename(client: Client, command: Rename) -> Answer:
    target = command.target.removesuffix(SEPARATOR)
    await client.mailboxes().rename(command.mailbox, target)
    return Answer("Rename completed")


async def do_subscribe(client: Client, command: MailboxCommand) -> Answer:
    """The name need not exist (RFC 3501 6.3.6)."""
    await client.mailboxes().subscribe(command.mailbox)
    return Answer("Subscribe completed")


async def do_unsubscribe(client: Client, command: MailboxCommand) -> Answer:
    await client.mailboxes().unsubscribe(command.mailbox)
    return Answer("Unsubscribe completed")


async def do_status(client: Client, command: Status) -> Answer:
    status = await client.mailboxes().status(command.mailbox)
    counts = {
        "MESSAGES": status.messages,
        "RECENT": status.recent,
        "UIDNEXT": status.uidnext,
        "UIDVALIDITY": status.uidvalidity,
        "UNSEEN": status.unseen,
    }
    items = {item: counts[item] for item in command.items}
    client.write(replies.mailbox_status(command.mailbox, items))
    return Answer("Status completed")


async def do_idle(client: Client, command: Command) -> Answer:
    """RFC 2177: what is new is told at once, until DONE."""
    if client.selected is not None:
        client.selected.stale = True
    client.write(replies.IDLING)
    client.engine.start_idle()
    client.idling = True
    try:
        while True:
            await client.sync(expunges=True)
            event = await client.next_event()
            if isinstance(event, IdleDone):
                return Answer("Idle completed")
            if isinstance(event, BadCommand):
                return Answer(event.text, event.code, event.status)
    finally:
        client.idling = False


COMMANDS: dict[str, Callable[..., Awaitable[Answer | None]]] = {
    "SELECT": do_select,
    "EXAMINE": do_examine,
    "CLOSE": do_close,
    "UNSELECT": do_unselect,
    "CHECK": do_check,
    "CREATE": do_create,
    "DELETE": do_delete,
    "RENAME": do_rename,
    "SUBSCRIBE": do_subscribe,
    "UNSUBSCRIBE": do_unsubscribe,
    "STATUS": do_status,
    "IDLE": do_idle,
}
