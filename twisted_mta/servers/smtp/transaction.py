"""A mail transaction: what MAIL, RCPT, DATA and BDAT have built so far."""

from collections.abc import Iterable, Sequence

from twisted_mta.interfaces import IContentWriter
from twisted_mta.mail.address import Address
from twisted_mta.mail.confirmation import Confirmation
from twisted_mta.mail.dsn import USUAL, Notification
from twisted_mta.mail.notification import informed
from twisted_mta.mail.route import Route
from twisted_mta.mail.verdict import Judgement
from twisted_mta.mail.verp import written
from twisted_mta.wire.smtp.parameter import MailParameters


class Transaction:
    """From MAIL to the answer that accepts or refuses it (RFC 5321 3.3).

    @ivar sender: C{None} for the null sender.
    @ivar recipients: each once, in order.
    @ivar routes: of all recipients.
    @ivar shares: for each recipient, which of the routes and confirmations are its.
    @ivar given: for each RCPT that was taken, the place of its recipient; who is given
        twice has one message and two answers in LMTP (RFC 2033 4.2).
    @ivar confirmed: what the sender is told once the message is accepted.
    @ivar content: once the first octets are expected.
    @ivar asked: of each recipient for whom something was asked, what.
    @ivar judged: what policies said of it, by stage.
    @ivar verp: with what recipients are written into the sender; empty: not.
    @ivar failed: a chunk was refused; only RSET helps (RFC 3030 2).
    """

    __slots__ = (
        "_keys",
        "asked",
        "confirmed",
        "content",
        "failed",
        "given",
        "judged",
        "parameters",
        "recipients",
        "routes",
        "sender",
        "shares",
        "verp",
    )

    def __init__(
        self, sender: Address | None, parameters: MailParameters, verp: str = ""
    ) -> None:
        self.sender = sender
        self.parameters = parameters
        self.verp = verp
        self.recipients: list[Address] = []
        self.routes: list[Route] = []
        self.confirmed: list[Confirmation] = []
        self.shares: list[tuple[slice, slice]] = []
        self.given: list[int] = []
        self.content: IContentWriter | None = None
        self.asked: list[str] = []
        self.judged: dict[str, Judgement] = {}
        self.failed = False
        self._keys: dict[str, int] = {}

    @property
    def keys(self) -> Iterable[str]:
        """The keys of all recipients."""
        return self._keys

    def repeats(self, recipient: Address) -> bool:
        """Whether this recipient was given before; then it is once more."""
        place = self._keys.get(recipient.key)
        if place is None:
            return False
        self.given.append(place)
        return True

    def add(
        self,
        recipient: Address,
        routes: tuple[Route, ...],
        notification: Notification = USUAL,
    ) -> None:
        """Take a recipient on.

        @param notification: what the sender asks to be told of it.
        """
        if self.verp:
            routes = written(self.sender, self.verp, recipient, routes)
        told: Sequence[Confirmation] = ()
        if notification is not USUAL:
            self.asked.append(f"{recipient.key} {notification}")
            routes, told = informed(recipient, routes, notification)
        place = self._keys[recipient.key] = len(self.recipients)
        self.given.append(place)
        self.recipients.append(recipient)
        first, first_told = len(self.routes), len(self.confirmed)
        self.routes += routes
        self.confirmed += told
        self.shares.append(
            (slice(first, len(self.routes)), slice(first_told, len(self.confirmed)))
        )

    def abort(self) -> None:
        """Forget the content, unless it was accepted."""
        if self.content is not None:
            self.content.abort()
