"""Commands of any state and of the login: CAPABILITY, ID, STARTTLS, LOGIN,
AUTHENTICATE, NOOP, LOGOUT, ENABLE, NAMESPACE.

It knows no passwords: what a client says is handed to the authenticator as it
is, and what comes back is who it is. Capabilities are computed from the state
(RFC 3501 7.2.1) and never configured.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from twisted.logger import Logger

from twisted_mta import errors
from twisted_mta.mail.account import Account
from twisted_mta.mail.channel import Channel
from twisted_mta.servers.channel import channel, takes_passwords
from twisted_mta.servers.imap.client import Answer, Client
from twisted_mta.servers.imap.errors import Leave, Refused
from twisted_mta.wire import sasl
from twisted_mta.wire.imap import replies
from twisted_mta.wire.imap.model import AuthResponse, BadCommand

if TYPE_CHECKING:
    from twisted_mta.wire.imap.model import (
        Authenticate,
        Command,
        Enable,
        Id,
        Login,
    )

_log = Logger("twisted_mta.servers.imap")

# Of a name that failed, for the log.
_NAME_SHOWN = 80

_ALWAYS = ("IMAP4rev1", "LITERAL+", "SASL-IR", "ID", "ENABLE", "IDLE")
_LOGGED_IN = (
    "NAMESPACE",
    "CHILDREN",
    "UIDPLUS",
    "UNSELECT",
    "MOVE",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
)
_SEPARATOR = "/"
_SERVER = {"name": "twisted-mta"}


def capabilities(client: Client) -> list[str]:
    """What the client may use now."""
    if client.account is not None:
        return [*_ALWAYS, *_LOGGED_IN]
    listed = [*_ALWAYS]
    if client.tls is not None and not client.stream.secure:
        listed.append("STARTTLS")
    ours = _channel(client)
    listed += [f"AUTH={name}" for name in client.authenticator.mechanisms(ours)]
    if not takes_passwords(client.authenticator, ours):
        listed.append("LOGINDISABLED")
    return listed


def greeting(client: Client) -> bytes:
    """The first line (RFC 3501 7.1.1)."""
    text = f"{client.settings.hostname} IMAP4rev1 ready"
    return replies.ok(b"*", text, replies.capability_code(capabilities(client)))


async def do_capability(client: Client, command: Command) -> Answer:
    client.write(replies.capability(capabilities(client)))
    return Answer("Capability completed")


async def do_id(client: Client, command: Id) -> Answer:
    """RFC 2971."""
    if command.parameters:
        said = ", ".join(f"{name!r}={value!r}" for name, value in command.parameters)
        _log.info("{session}: id {said}", session=client.stream.name, said=said)
    client.write(replies.server_id(_SERVER))
    return Answer("ID completed")


async def do_noop(client: Client, command: Command) -> Answer:
    """Its purpose is what follows every command (RFC 3501 6.1.2); hints may
    have been lost, so the store is asked in any case."""
    if client.selected is not None:
        client.selected.stale = True
    return Answer("Noop completed")


async def do_logout(client: Client, command: Command) -> Answer:
    client.write(replies.bye("Logging out"))
    client.leaving = True
    return Answer("Logout completed")


async def do_starttls(client: Client, command: Command) -> None:
    """RFC 3501 6.2.1. What the client sent along with it is dropped."""
    if client.stream.secure:
        raise Refused("TLS is on already", condition=b"BAD")
    if client.tls is None:
        raise Refused("TLS is not available", condition=b"BAD")
    client.write(replies.ok(command.tag, "Begin TLS"))
    if not await client.stream.start_tls(client.tls):
        raise Leave()


async def do_login(client: Client, command: Login) -> Answer:
    _require_privacy(client)
    if not takes_passwords(client.authenticator, _channel(client)):
        client.engine.note_bad()
        raise Refused("Passwords are not taken: use AUTHENTICATE")
    exchange = sasl.Plain()
    try:
        said = f"\0{command.user}\0{command.password}".encode()
        credentials = exchange.next(said)
        assert isinstance(credentials, sasl.Credentials)  # PLAIN has but one step
    except (errors.MailError, UnicodeEncodeError):
        # NUL and the like: no such account, and not worth another answer.
        raise _failed(client, errors.AuthenticationFailed(), command.user)
    try:
        login = await client.authenticator.authenticate(
            credentials.name, credentials.password, _channel(client)
        )
    except errors.AuthenticationFailed:
        _count(client)  # the authenticator has logged it
        raise
    return await _log_in(client, login)


async def do_authenticate(client: Client, command: Authenticate) -> Answer:
    """RFC 3501 6.2.2, RFC 4959."""
    _require_privacy(client)

    async def ask(challenge: bytes) -> bytes:
        return await _challenge(client, challenge)

    try:
        login = await client.authenticator.exchange(
            command.mechanism, command.initial, _channel(client), ask
        )
    except sasl.MalformedResponse as error:
        raise Refused(error.text, condition=b"BAD")
    except errors.AuthenticationFailed:
        _count(client)
        raise
    return await _log_in(client, login)


async def do_enable(client: Client, command: Enable) -> Answer:
    """RFC 5161: extensions that change what the server says. There are none
    yet, and unknown ones are passed over."""
    client.write(replies.enabled(()))
    return Answer("Enable completed")


async def do_namespace(client: Client, command: Command) -> Answer:
    """RFC 2342: one, of the client's own."""
    client.write(replies.namespace(_SEPARATOR))
    return Answer("Namespace completed")


def _require_privacy(client: Client) -> None:
    if not client.may_log_in:
        client.engine.note_bad()
        raise Refused("Use STARTTLS first", b"PRIVACYREQUIRED")


async def _challenge(client: Client, challenge: bytes) -> bytes:
    client.write(replies.challenge(challenge))
    client.engine.start_auth()
    event = await client.next_event()
    if isinstance(event, BadCommand):
        raise Refused(event.text, event.code, event.status)
    if not isinstance(event, AuthResponse):
        raise TypeError(f"not an answer to a challenge: {event!r}")
    if event.response is None:
        raise Refused("Authentication was cancelled", condition=b"BAD")
    return event.response


def _channel(client: Client) -> Channel:
    return channel(client.stream, "imap", client.may_log_in)


async def _log_in(client: Client, login: Account) -> Answer:
    account = await client.store.account(login)
    client.login, client.account = login, account
    client.engine.authenticated = True
    client.stream.stranger = False
    client.stream.limit(client.settings.idle_s, float("inf"))
    _log.info(
        "{session}: login={login}, client={host}, tls={tls!r}",
        session=client.stream.name,
        login=str(login.address),
        host=client.stream.peer()[0],
        tls=client.stream.tls,
    )
    return Answer("Logged in", replies.capability_code(capabilities(client)))


def _failed(
    client: Client, error: errors.AuthenticationFailed, name: str
) -> errors.AuthenticationFailed:
    """Log what the authenticator was not asked about, in its words.

    @return: the error, to be raised.
    """
    _log.warn(
        "{session}: login failed: name={name!r}, client={host}",
        session=client.stream.name,
        name=name[:_NAME_SHOWN],
        host=client.stream.peer()[0],
    )
    _count(client)
    return error


def _count(client: Client) -> None:
    client.engine.note_bad()  # Dovecot: 3 in a row end the connection


COMMANDS: dict[str, Callable[..., Awaitable[Answer | None]]] = {
    "CAPABILITY": do_capability,
    "ID": do_id,
    "NOOP": do_noop,
    "LOGOUT": do_logout,
    "STARTTLS": do_starttls,
    "LOGIN": do_login,
    "AUTHENTICATE": do_authenticate,
    "ENABLE": do_enable,
    "NAMESPACE": do_namespace,
}
