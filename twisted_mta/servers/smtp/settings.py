"""How a listener speaks SMTP, as the sessions need it."""

from dataclasses import dataclass
from functools import lru_cache

from twisted_mta.mail.networks import NOBODY, Networks
from twisted_mta.servers.smtp.allowance import UNLIMITED, Allowance
from twisted_mta.wire.smtp.extension import Offer, offer


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """What L{twisted_mta.config.schema.Smtp} says, for one listener.

    @ivar hostname: in the greeting, Received and Message-ID.
    @ivar listener: the listener's name.
    @ivar submission: who speaks must log in, and may then send anywhere (RFC
        6409); if not, mail comes for our own domains.
    @ivar plaintext_login: passwords may come without TLS.
    @ivar message_size: octets.
    @ivar header_size: octets of a header block.
    @ivar min_data_rate: octets of content a second, on average over C{idle_s} or
        more; 0: any.
    @ivar relay_from: who may send anywhere without a login; not on submission.
    @ivar check_sender: sender and From must be the login's: C{"strict"}, C{"warn"}
        or C{"none"}.
    @ivar check_local_sender: a stranger's sender in one of our domains must be
        somebody's: the same words.
    @ivar allowance: how much an account may submit.
    @ivar greeting_pause_s: until the greeting; who speaks before it is sent away.
    @ivar lmtp: LMTP is spoken (RFC 2033), and not SMTP.
    @ivar verify_from: who may use VRFY and EXPN.
    @ivar xclient_from: who may use XCLIENT.
    @ivar xforward_from: who may use XFORWARD.
    @ivar etrn: domains that may be asked for with ETRN, in lower case.
    @ivar recognises_resent: what is sent again, since its client did not see the
        answer, is not taken twice.
    @ivar future_release_s: how long a message may be held for its sender; 0: none is.
    @ivar highest_priority: that who logged in or relays may ask for (RFC 6710).
    @ivar no_soliciting: classes of solicitation that are refused, in lower case.
    @ivar without: extensions that nobody is offered.
    @ivar without_for: extensions that clients of some networks are not offered.
    @ivar verp: delimiters of VERP for senders and logins, as keys; empty: any.
    @ivar soft_error_delay_s: how late errors past C{soft_errors} are answered
        (Postfix smtpd_error_sleep_time: 1 s).
    @ivar junk_delay_s: how late the goodbye after C{junk_commands} is said: as long
        as the ten errors that Postfix would count.
    """

    hostname: str
    listener: str = ""
    submission: bool = False
    plaintext_login: bool = False
    message_size: int = 50 << 20
    header_size: int = 1 << 20
    recipients: int = 1000
    hops: int = 50
    soft_errors: int = 10
    hard_errors: int = 20
    junk_commands: int = 100
    idle_s: float = 300
    total_s: float = 6 * 3600
    min_data_rate: int = 500
    relay_from: Networks = NOBODY
    check_sender: str = "strict"
    check_local_sender: str = "strict"
    allowance: Allowance = UNLIMITED
    greeting_pause_s: float = 0.0
    lmtp: bool = False
    verify_from: Networks = NOBODY
    xclient_from: Networks = NOBODY
    xforward_from: Networks = NOBODY
    etrn: frozenset[str] = frozenset()
    recognises_resent: bool = True
    future_release_s: int = 0
    highest_priority: int = 9
    no_soliciting: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    without_for: tuple[tuple[Networks, frozenset[str]], ...] = ()
    verp: tuple[tuple[str, str, str], ...] = ()
    soft_error_delay_s: float = 1.0
    junk_delay_s: float = 10.0

    def offer(self, host: str) -> Offer:
        """The extensions that a client at this address is offered."""
        without = _unasked(
            bool(self.etrn), bool(self.future_release_s), bool(self.no_soliciting)
        )
        for word, allowed in (
            ("VRFY", self.verify_from),
            ("EXPN", self.verify_from),
            ("XCLIENT", self.xclient_from),
            ("XFORWARD", self.xforward_from),
        ):
            if allowed and host in allowed:
                without -= {word}
        if self.submission or host in self.relay_from:
            without -= {"XVERP"}
        if self.without:
            without |= self.without
        for networks, words in self.without_for:
            if host in networks:
                without |= words
        return offer(without)


@lru_cache(maxsize=8)
def _unasked(etrn: bool, hold: bool, soliciting: bool) -> frozenset[str]:
    """What is offered only if the config has something to offer, such as domains for
    ETRN. The sets are made once: each connection asks."""
    return frozenset(
        {
            *("VRFY", "EXPN", "XCLIENT", "XFORWARD", "XVERP"),
            *(() if etrn else ("ETRN",)),
            *(() if hold else ("FUTURERELEASE",)),
            *(() if soliciting else ("NO-SOLICITING",)),
        }
    )
