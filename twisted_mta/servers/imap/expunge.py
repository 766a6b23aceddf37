"""Expunging what is marked (RFC 3501 6.4.2, 6.4.3), for EXPUNGE and CLOSE."""

from __future__ import annotations

from collections.abc import Sequence

from twisted_mta.servers.imap.client import Client, Selected

#: Messages that one transaction changes; others have their turn in between.
AT_ONCE = 1000


async def expunge(client: Client, selected: Selected, uids: Sequence[int]) -> None:
    """Remove those of the messages that are still \\Deleted: another session may
    have taken the flag away since the view learnt of it."""
    for start in range(0, len(uids), AT_ONCE):
        if start:
            await client.breathe()
        selected.stale = True
        await selected.mailbox.expunge(uids[start : start + AT_ONCE], marked=True)
