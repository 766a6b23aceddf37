"""What is spoken at a listener: which engine, which session, with which limits.

It turns the config's words into the settings of sessions, and gives each
session what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from twisted_mta.auth.authenticator import Authenticator
from twisted_mta.auth.throttle import Throttle
from twisted_mta.config.schema import Config, Listener
from twisted_mta.delivery.intake import Intake
from twisted_mta.interfaces import (
    ICallout,
    IPolicy,
    IRecipients,
    ITokenVerifier,
)
from twisted_mta.mail.address import split
from twisted_mta.mail.networks import Networks
from twisted_mta.net.listener import Spoken
from twisted_mta.net.stream import Stream
from twisted_mta.net.tls import ServerTls
from twisted_mta.office import Office
from twisted_mta.policy.chain import Chain
from twisted_mta.servers.imap.client import ImapSettings
from twisted_mta.servers.imap.memo import Memo
from twisted_mta.servers.imap.session import ImapSession
from twisted_mta.servers.pop3 import Pop3Session, Pop3Settings
from twisted_mta.servers.smtp.allowance import Allowance
from twisted_mta.servers.smtp.reply import made, signed
from twisted_mta.servers.smtp.session import SmtpSession
from twisted_mta.servers.smtp.settings import SmtpSettings
from twisted_mta.servers.smtp.unwanted import Unwanted
from twisted_mta.wire.imap.engine import ImapServerEngine
from twisted_mta.wire.imap.limits import FRIEND, ImapLimits
from twisted_mta.wire.pop3 import Pop3Engine
from twisted_mta.wire.smtp.server import BareLineEnds, SmtpLimits, SmtpServerEngine


class Desk:
    """Says what is spoken at a listener."""

    def __init__(
        self,
        reactor: Any,
        config: Config,
        office: Office,
        intake: Intake,
        policies: Sequence[IPolicy],
        verifiers: Sequence[ITokenVerifier],
        tls: Callable[[Listener], ServerTls | None],
        throttle: Throttle,
        recipients: IRecipients,
        callout: ICallout,
    ) -> None:
        """
        @param tls: the context of a listener, if there are certificates.
        @param recipients: who exists in domains that are relayed.
        """
        self._recipients = recipients
        self._unwanted = Unwanted(
            office.suppression, config.postmaster, config.suppression.forwarded
        )
        self._reactor = reactor
        self._config = config
        self._office = office
        self._intake = intake
        self._policies = Chain(reactor, policies) if policies else None
        self._tls = tls
        self._memo = Memo()
        self._verifiers = verifiers
        self._throttle = throttle
        self._callout = callout

    def spoken(self, listener: Listener) -> Spoken:
        """Engine, session and goodbye of a listener."""
        speak = {
            "smtp": self._smtp,
            "submission": self._smtp,
            "lmtp": self._smtp,
            "imap": self._imap,
            "pop3": self._pop3,
        }
        tls = self._tls(listener) if listener.tls == "starttls" else None
        return speak[listener.protocol](listener, tls)

    def _authenticator(self, listener: Listener) -> Authenticator:
        mechanisms = listener.mechanisms
        if mechanisms is None:
            mechanisms = self._config.login.mechanisms
        return Authenticator(
            self._reactor,
            self._office.directory,
            self._office.keyring,
            self._office.passwords,
            self._throttle,
            mechanisms,
            self._verifiers,
            self._config.login.certificate_name,
        )

    def _smtp(self, listener: Listener, tls: ServerTls | None) -> Spoken:
        config, smtp = self._config, self._config.smtp
        submission = listener.protocol == "submission"
        settings = self._smtp_settings(listener)
        limits = SmtpLimits(
            command=smtp.command_length,
            content=smtp.message_size,
            text_line=smtp.line_length or 0,
        )
        bare = smtp.submission_bare_newline if submission else smtp.bare_newline
        line_ends = BareLineEnds(bare)
        authenticator = self._authenticator(listener) if submission else None

        def session(stream: Stream) -> Coroutine[Any, Any, None]:
            return SmtpSession(
                stream,
                settings,
                self._reactor,
                self._office.router,
                self._intake,
                self._office.directory,
                authenticator,
                self._policies if listener.protocol != "lmtp" else None,
                tls,
                self._recipients,
                self._unwanted,
                self._callout,
            ).run()

        goodbye = made(
            421, "4.7.0", f"{config.hostname} Too many connections, try again later"
        )
        return Spoken(
            lambda: SmtpServerEngine(limits, line_ends),
            session,
            partial(signed, goodbye),
        )

    def _smtp_settings(self, listener: Listener) -> SmtpSettings:
        smtp = self._config.smtp
        submission = listener.protocol == "submission"
        pause_s = smtp.greeting_pause if listener.protocol == "smtp" else 0.0
        return SmtpSettings(
            hostname=self._config.hostname,
            listener=listener.name,
            submission=submission,
            plaintext_login=listener.plaintext_login,
            message_size=smtp.message_size,
            header_size=smtp.header_size,
            recipients=smtp.recipients,
            hops=smtp.hops,
            soft_errors=smtp.soft_errors,
            hard_errors=smtp.hard_errors,
            junk_commands=smtp.junk_commands,
            idle_s=smtp.idle,
            total_s=smtp.total,
            min_data_rate=smtp.min_data_rate,
            relay_from=Networks(smtp.relay_from),
            check_sender=smtp.check_sender,
            check_local_sender=smtp.check_local_sender,
            allowance=Allowance(
                smtp.messages_per_hour,
                smtp.messages_per_day,
                smtp.recipients_per_hour,
                smtp.recipients_per_day,
            ),
            greeting_pause_s=pause_s,
            lmtp=listener.protocol == "lmtp",
            verify_from=Networks(smtp.verify_from),
            xclient_from=Networks(smtp.xclient_from),
            xforward_from=Networks(smtp.xforward_from),
            recognises_resent=smtp.resent_within > 0,
            future_release_s=int(smtp.future_release) if submission else 0,
            highest_priority=smtp.highest_priority,
            no_soliciting=tuple(map(str.lower, smtp.no_soliciting)),
            etrn=frozenset(map(str.lower, smtp.etrn)),
            verp=tuple(
                (_key(each.sender), _key(each.account), each.delimiters)
                for each in smtp.verp
            ),
            without=frozenset(listener.without),
            without_for=tuple(
                (Networks(each.networks), frozenset(each.extensions))
                for each in smtp.without
            ),
        )

    def _imap(self, listener: Listener, tls: ServerTls | None) -> Spoken:
        imap = self._config.imap
        settings = ImapSettings(
            hostname=self._config.hostname,
            plaintext_login=listener.plaintext_login,
            idle_s=imap.idle,
            login_idle_s=imap.login_idle,
            append_octets=imap.append_size,
        )
        authenticator = self._authenticator(listener)
        bounds = ImapLimits(after=replace(FRIEND, bad=imap.bad_commands))

        def session(stream: Stream) -> Coroutine[Any, Any, None]:
            return ImapSession(
                self._reactor,
                stream,
                settings,
                authenticator,
                self._office.store,
                tls,
                self._memo,
            ).run()

        return Spoken(
            lambda: ImapServerEngine(bounds),
            session,
            lambda _: b"* BYE Too many connections, try again later\r\n",
        )

    def _pop3(self, listener: Listener, tls: ServerTls | None) -> Spoken:
        pop3 = self._config.pop3
        settings = Pop3Settings(
            hostname=self._config.hostname,
            plaintext_login=listener.plaintext_login,
            idle_s=pop3.idle,
            bad_commands=pop3.bad_commands,
        )
        authenticator = self._authenticator(listener)

        def session(stream: Stream) -> Coroutine[Any, Any, None]:
            return Pop3Session(
                stream, settings, authenticator, self._office.store, tls
            ).run()

        return Spoken(
            Pop3Engine,
            session,
            lambda _: b"-ERR [SYS/TEMP] Too many connections, try again later\r\n",
        )


def _key(address: str | None) -> str:
    return split(address).key if address is not None else ""
