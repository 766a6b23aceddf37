"""What can go wrong with mail, as domain errors without any rendering.

Each carries an RFC 3463 enhanced status and a text for people. How it reads on
the wire (an SMTP reply, a tagged NO, -ERR, an HTTP problem) is decided in one
table, L{twisted_mta.servers.errors}. Temporary unless known to be permanent.
"""

from collections.abc import Sequence


class MailError(Exception):
    """Something cannot be done.

    @ivar status: RFC 3463 status, such as C{"5.1.1"}.
    @ivar text: what happened and what to do, for the person who reads it. It
        may be shown to a peer, so it holds nothing secret and no line ends.
    """

    status = "4.0.0"
    text = "Something went wrong; please try again later"

    def __init__(self, text: str | None = None, status: str | None = None) -> None:
        if text is not None:
            self.text = text
        if status is not None:
            self.status = status
        super().__init__(self.text)


class Temporary(MailError):
    """It may work later."""

    status = "4.3.0"
    text = "Temporary failure; please try again later"


class Permanent(MailError):
    """It will never work like this."""

    status = "5.0.0"
    text = "This cannot be done"


class Unverified(Temporary):
    """Whether somebody has the address cannot be said now."""

    status = "4.1.1"
    text = "The server of that domain cannot be asked now; please try again later"


class LedgerUnavailable(Temporary):
    """The ledger could not commit (busy, an I/O error): nothing was stored."""

    status = "4.3.0"
    text = "Mail storage is unavailable; please try again later"


class LedgerFull(Temporary):
    """No space is left: nothing was stored."""

    status = "4.3.1"
    text = "Mail storage is full; please try again later"


class NoSuchAccount(Permanent):
    """No account or alias has this address."""

    status = "5.1.1"
    text = "No such recipient here"


class AccountExists(Permanent):
    """An account or alias has this address already."""

    status = "5.1.4"
    text = "That address is in use already"


class RelayDenied(Permanent):
    """The recipient is elsewhere and the client may not relay."""

    status = "5.7.1"
    text = "Relaying is not permitted without authentication"


class NotPermitted(Permanent):
    """The login may not do this."""

    status = "5.7.1"
    text = "That is not permitted"


class AuthenticationFailed(Permanent):
    """The name or the password is wrong; which of them is never said."""

    status = "5.7.8"
    text = "Authentication failed"


class AuthenticationCancelled(Permanent):
    """The client thought better of it."""

    status = "5.7.0"
    text = "Authentication cancelled"


class UnknownMechanism(Permanent):
    """There is no such SASL mechanism, or not for this connection."""

    status = "5.5.4"
    text = "Unknown mechanism"


class AuthenticationUnavailable(Temporary):
    """The credentials could not be checked now."""

    status = "4.7.0"
    text = "Authentication is unavailable; please try again later"


class TooLarge(Permanent):
    """The message is larger than the limit."""

    status = "5.3.4"
    text = "The message is too large"


class MailLoop(Permanent):
    """The message has passed too many servers, or this one already."""

    status = "5.4.6"
    text = "The message is in a mail loop"


class BadContent(Permanent):
    """The message's octets are not acceptable."""

    status = "5.6.0"
    text = "The message is malformed"


class OverQuota(Permanent):
    """The account has no room left."""

    status = "5.2.2"
    text = "The mailbox is full"


class NoSuchMailbox(Permanent):
    """The account has no mailbox of this name."""

    status = "5.2.0"
    text = "No such mailbox"


class MailboxExists(Permanent):
    """The account has a mailbox of this name already."""

    status = "5.2.0"
    text = "That mailbox exists already"


class BadMailboxName(Permanent):
    """No mailbox can have this name."""

    status = "5.2.0"
    text = "That is not a valid mailbox name"


class MailboxHasChildren(Permanent):
    """The mailbox cannot be deleted while it has inferior ones."""

    status = "5.2.0"
    text = "That mailbox has inferior mailboxes"


class InboxNeeded(Permanent):
    """INBOX cannot be deleted: every account has one (RFC 3501 5.1)."""

    status = "5.2.0"
    text = "INBOX cannot be deleted"


class NoSuchMessage(Permanent):
    """The message was expunged meanwhile."""

    status = "5.2.0"
    text = "That message is gone"


class TooMany(Permanent):
    """A count is past its limit (mailboxes, keywords, recipients)."""

    status = "5.5.3"
    text = "There are too many of those"


class BadFilter(Permanent):
    """What was said of the messages that are meant makes no sense."""

    status = "5.5.4"
    text = "That is no filter"


class NoSuchRule(Permanent):
    """No hold rule has this id."""

    status = "5.5.4"
    text = "There is no such rule"


class NoSuchQueueId(Permanent):
    """The queue holds no message of this id."""

    status = "5.0.0"
    text = "No such message in the queue"


class NoSuchDomain(Permanent):
    """The domain does not exist in the DNS."""

    status = "5.1.2"
    text = "The domain does not exist"


class ResolverUnavailable(Temporary):
    """The DNS gave no answer."""

    status = "4.4.3"
    text = "The domain's DNS servers do not answer"


class ConfigError(Exception):
    """The configuration cannot be used.

    @ivar problems: all of them, each C{"FILE:line:column: path: what; what to
        do"}.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
