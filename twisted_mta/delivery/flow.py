"""Whose a message is, when senders take turns in the queue.

Of who logged in that is the account. Of others it is the sender's domain; whoever
comes from elsewhere may choose it, so those are put together in a bounded number of
flows (stochastic fairness queueing, McKenney 1990): a million domains that somebody
made up are not a million turns. Bounces are one flow.
"""

from __future__ import annotations

from zlib import crc32

from twisted_mta.mail.envelope import Envelope

# Flows of those who did not log in. Two domains share one by a chance of 1 in 4000.
_FLOWS = 4000


def flow(envelope: Envelope) -> str:
    """The name of a message's flow: C{=alice@example.org}, C{@17}, or C{<>}."""
    if envelope.origin.login:
        return f"={envelope.origin.login.lower()}"
    if envelope.sender is None:
        return "<>"
    return f"@{crc32(envelope.sender.domain.lower().encode()) % _FLOWS}"
