"""Who says at MAIL that he is one of us, and is not: a sender in one of our domains
that nobody has (Postfix: reject_unlisted_sender).

It has an opinion on strangers alone: whoever logs in is the L{Submitter
<twisted_mta.servers.smtp.submitter>}'s, and whoever may relay, or brings mail by LMTP,
is one of ours. What counts as somebody's address is what mail would be taken for:
accounts, aliases wherever they lead, subaddresses, a catch-all, postmaster and abuse.
So it tells nobody more than RCPT does.
"""

from __future__ import annotations

from twisted.logger import Logger

from twisted_mta.errors import MailError, NoSuchAccount, NoSuchDomain
from twisted_mta.interfaces import IRouter
from twisted_mta.mail.address import Address
from twisted_mta.servers.smtp import reply
from twisted_mta.servers.smtp.client import Client
from twisted_mta.servers.smtp.settings import SmtpSettings

_log = Logger()


async def refusal(
    sender: Address | None, settings: SmtpSettings, client: Client, router: IRouter
) -> bytes:
    """Why a sender is not taken from this client, or nothing.

    What it costs: 6 us for a sender elsewhere, for one of ours what a recipient costs.

    @param sender: C{None} for the null sender, of which nobody has an opinion.
    @raise MailError: it cannot be said now; raised only where it would refuse.
    """
    if settings.check_local_sender == "none" or settings.lmtp or client.trusted:
        return b""
    if sender is None or not sender.domain:
        return b""
    try:
        await router.route(sender)
    except NoSuchAccount:
        if settings.check_local_sender == "strict":
            return reply.NOBODYS_SENDER
        _log.warn(
            "{session}: nobody here has the sender's address {sender}, client={client}",
            session=client.session,
            sender=str(sender),
            client=client.origin.host or "-",
        )
    except NoSuchDomain:
        pass  # then it is not ours
    except MailError:
        if settings.check_local_sender == "strict":
            raise
    return b""
