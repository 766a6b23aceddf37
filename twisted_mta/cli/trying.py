"""C{twisted-mta try}: a complete server for this machine alone, right now.

It makes its own config, certificate and two accounts in one directory, says on
one screen how to use them, and serves until it is interrupted. A second start in
the same directory finds all that as it was.
"""

import argparse
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import format_datetime, localtime
from functools import lru_cache
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import LogLevel, globalLogBeginner

from twisted_mta.app import Mta, Stopped
from twisted_mta.cli.server import TRY_CONFIG
from twisted_mta.config.check import host_port, parse
from twisted_mta.errors import ConfigError, MailError, Permanent
from twisted_mta.mail import ids
from twisted_mta.mail.address import split
from twisted_mta.mail.envelope import Envelope
from twisted_mta.net.logline import Lines, text_of, time_of
from twisted_mta.net.selfsigned import self_signed
from twisted_mta.net.tls import Pair
from twisted_mta.service import on_hangup

DOMAIN = "example.test"
HOSTNAME = "mail.example.test"
NAMES = ("alice", "bob")

# Name, protocol, TLS, port above the base.
LISTENERS = (
    ("smtp", "smtp", "starttls", 25),
    ("submission", "submission", "starttls", 587),
    ("submissions", "submission", "implicit", 465),
    ("imap", "imap", "starttls", 143),
    ("imaps", "imap", "implicit", 993),
    ("pop3", "pop3", "starttls", 110),
    ("pop3s", "pop3", "implicit", 995),
)

_CERTIFICATE = "certificate.pem"
_KEY = "key.pem"
_PASSWORDS = "passwords.json"


class CannotTry(Permanent):
    """The local server cannot start; the text says why."""


def try_(options: argparse.Namespace) -> int:
    """Start the server, or print its config."""
    directory: Path = options.directory.expanduser().absolute()
    _make_directory(directory)
    _make_certificate(directory)
    text = config_text(directory, options.port_base, options.relay)
    if options.print_config:
        print(text, end="")
        return 0
    hosts = _hosts()
    _check_ports(hosts, options.port_base)
    (directory / TRY_CONFIG).write_text(text)
    return _serve(directory, text, options)


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotTry(f"cannot make {directory}: {error.strerror}")
    if not os.access(directory, os.W_OK):
        raise CannotTry(f"cannot write to {directory}; name another by --directory")


def _make_certificate(directory: Path) -> None:
    pair = Pair(directory / _CERTIFICATE, directory / _KEY)
    self_signed(pair, ("localhost", HOSTNAME, DOMAIN, "127.0.0.1", "::1"))


def _hosts() -> Sequence[str]:
    """The loopback addresses that this machine has."""
    found = []
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as probe:
                probe.bind((host, 0))
        except OSError:
            continue
        found.append(host)
    return found


def _check_ports(hosts: Sequence[str], base: int) -> None:
    if not 0 <= base <= 65535 - 995:
        raise CannotTry(f"--port-base {base} is not between 0 and {65535 - 995}")
    taken = []
    for name, _, _, above in LISTENERS:
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, base + above))
                except OSError as error:
                    where = f"[{host}]" if ":" in host else host
                    taken.append(f"{where}:{base + above} ({name}): {error.strerror}")
    if taken:
        raise CannotTry(
            "cannot listen on "
            + ", ".join(taken)
            + "; is another 'twisted-mta try' running? --port-base N moves all ports"
        )


def config_text(directory: Path, base: int, relay: str | None) -> str:
    """The config, as YAML."""
    lines = [
        "# The config of 'twisted-mta try'. etc/mta.yaml of the source explains all",
        "# settings.",
        f"hostname: {HOSTNAME}",
        f"directory: {json.dumps(str(directory))}",
        f"postmaster: {NAMES[0]}@{DOMAIN}",
        "# Leave this out where there is much mail: a process for each processor.",
        "workers: 1",
        f"domains: {{{DOMAIN}: }}",
        "certificates:",
        f"  - certificate: {json.dumps(str(directory / _CERTIFICATE))}",
        f"    key: {json.dumps(str(directory / _KEY))}",
        "listeners:",
    ]
    for name, protocol, tls, above in LISTENERS:
        endpoints = [_endpoint(host, base + above) for host in _hosts()]
        lines += [
            f"  - name: {name}",
            f"    protocol: {protocol}",
            f"    tls: {tls}",
            f"    endpoints: [{', '.join(endpoints)}]",
        ]
    if relay is None:
        lines.append('routes: [{domain: "*", hold: true}]')
    else:
        try:
            host, port = host_port(relay)
        except ValueError as error:
            raise CannotTry(f"--relay {error}")
        lines.append(f'routes: [{{domain: "*", next_hop: "[{host}]:{port}"}}]')
    return "\n".join(lines) + "\n"


def _endpoint(host: str, port: int) -> str:
    if ":" in host:
        escaped = host.replace(":", "\\:")
        return f"'tcp6:{port}:interface={escaped}'"
    return f"'tcp:{port}:interface={host}'"


def _serve(directory: Path, text: str, options: argparse.Namespace) -> int:
    """Run the reactor until it is interrupted."""
    from twisted.internet import reactor  # here: importing it installs it

    document, config = parse(str(directory / TRY_CONFIG), text)
    lines = _log_to_terminal(reactor)
    server = Mta(reactor, document, config)
    status = [0]

    async def start() -> None:
        try:
            await server.start()
            on_hangup(reactor, lambda: Deferred.fromCoroutine(server.reload()))
            passwords = await _accounts(server, directory)
            facts = _facts(server, directory, passwords)
            print(
                json.dumps(facts) if options.json else screen(facts, options),
                flush=True,
            )
        except Stopped:
            pass  # by Ctrl-C: the reactor ends already
        except Exception as error:  # the top: said to the person, then the end
            status[0] = 1
            _explain(error)
            _reactor.stop()

    _reactor: Any = reactor

    def stop(*_: object) -> None:
        """Once, however often Ctrl-C is pressed."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        _reactor.callFromThread(_reactor.stop)

    def take_signals() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)

    _reactor.callWhenRunning(take_signals)
    _reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: Deferred.fromCoroutine(server.stop())
    )
    _reactor.callWhenRunning(lambda: Deferred.fromCoroutine(start()))
    _reactor.run()
    lines.end()
    return status[0]


def _explain(error: Exception) -> None:
    if isinstance(error, ConfigError | MailError | CannotListenError):
        print(f"twisted-mta: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error, file=sys.stderr)


# What is on the screen already: where it listens, and what Twisted says of it.
_QUIET = ("twisted", "log_legacy", "twisted_mta.net.listener")
_LOUD = frozenset((LogLevel.warn, LogLevel.error, LogLevel.critical))


def _log_to_terminal(reactor: Any) -> Lines:
    """Events of interest, a line each, with the time of day, to stderr."""

    @lru_cache(maxsize=256)
    def wanted(namespace: str, level: object) -> bool:
        quiet = any(f"{namespace}.".startswith(f"{name}.") for name in _QUIET)
        return level in _LOUD or (level is LogLevel.info and not quiet)

    def line(event: Any) -> str:
        level = event["log_level"]
        if not wanted(event["log_namespace"], level):
            return ""
        at = time_of(int(event["log_time"]), "%H:%M:%S")
        mark = "" if level is LogLevel.info else f"{level.name.upper()}: "
        return f"{at} {mark}{text_of(event)}\n"

    def write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    lines = Lines(reactor, line, write)
    globalLogBeginner.beginLoggingTo([lines], redirectStandardIO=False)
    return lines


async def _accounts(server: Mta, directory: Path) -> dict[str, str]:
    """The passwords by address; the accounts are made the first time."""
    path = directory / _PASSWORDS
    passwords: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    there = {str(one.address) for one in await server.office.directory.accounts()}
    for name in NAMES:
        address = f"{name}@{DOMAIN}"
        if address not in passwords:
            passwords[address] = secrets.token_urlsafe(9)
    _keep(path, json.dumps(passwords))
    for number, address in enumerate(passwords):
        if address not in there:
            await server.office.add_account(split(address), passwords[address])
            if number == 0:
                await _welcome(server, address)
    return passwords


def _keep(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


async def _welcome(server: Mta, address: str) -> None:
    message = EmailMessage()
    message["From"] = f"twisted-mta <postmaster@{DOMAIN}>"
    message["To"] = address
    message["Subject"] = "Welcome to twisted-mta"
    message["Date"] = format_datetime(localtime())
    envelope_id = ids.new_id()
    message["Message-ID"] = f"<{ids.to_text(envelope_id)}@{HOSTNAME}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_WELCOME, cte="7bit")
    envelope = Envelope(
        id=envelope_id,
        sender=None,
        recipients=(split(address),),
        received_at=time.time(),
    )
    await server.intake.submit(
        envelope, message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    )


_WELCOME = """\
Hello,

this is your own mail server. This message came to you through it: it was put
into your INBOX in one durable transaction, and it will be there when you start
the server again.

Write to bob@example.test with any mail program and read his answer here. Mail
for other domains stays in the queue unless you said --relay HOST:PORT; see it
with

    twisted-mta queue list --directory DIR

To run a server for your own domain, begin with

    twisted-mta try --print-config > mta.yaml
    twisted-mta check mta.yaml
    twistd -n mta --config mta.yaml
"""


def _facts(server: Mta, directory: Path, passwords: dict[str, str]) -> dict[str, Any]:
    tls = {name: how for name, _, how, _ in LISTENERS}
    return {
        "accounts": [
            {"address": address, "password": password}
            for address, password in passwords.items()
        ],
        "listeners": [
            {"name": name, "host": host, "port": port, "tls": tls[name]}
            for name, host, port in server.listening()
        ],
        "directory": str(directory),
        "pid": os.getpid(),
    }


def _program() -> str:
    """How a shell finds this command again; ./try starts it from a virtual
    environment that is not on the PATH."""
    if shutil.which("twisted-mta"):
        return "twisted-mta"
    return shlex.quote(os.path.abspath(sys.argv[0]))


def screen(facts: dict[str, Any], options: argparse.Namespace) -> str:
    """What a person needs to know, on one screen."""
    (alice, word), (bob, other) = (
        (account["address"], account["password"]) for account in facts["accounts"]
    )
    ports: dict[str, int] = {each["name"]: each["port"] for each in facts["listeners"]}
    hosts = " and ".join(dict.fromkeys(each["host"] for each in facts["listeners"]))
    elsewhere = (
        f"Mail for elsewhere goes to {options.relay}."
        if options.relay
        else "Mail for elsewhere stays in the queue, held; --relay HOST:PORT sends it."
    )
    directory = facts["directory"]
    at = {name: f"{name} {port}" for name, port in ports.items()}
    return f"""\
twisted-mta is running, for this machine alone ({hosts}).

  Accounts   {alice}   password  {word}
             {bob}     password  {other}

  Sending    {at["submission"]} STARTTLS, {at["submissions"]} TLS
             {at["smtp"]} STARTTLS, as other servers send: for {DOMAIN} only
  Reading    {at["imap"]} STARTTLS, {at["imaps"]} TLS
             {at["pop3"]} STARTTLS, {at["pop3s"]} TLS

  Try        swaks --server 127.0.0.1:{ports["submission"]} --tls --auth-user {alice} \\
               --auth-password {word} --from {alice} --to {bob}
             curl -k --user {bob}:{other} \\
               'imaps://127.0.0.1:{ports["imaps"]}/INBOX;MAILINDEX=1'
             mutt -f 'imaps://alice%40{DOMAIN}@127.0.0.1:{ports["imaps"]}/INBOX'

  A welcome message is in {alice}'s INBOX. The certificate is self-signed.
  {elsewhere}
  Data       {directory}
  Queue      {_program()} queue list --directory {shlex.quote(directory)}
  Stop       Ctrl-C
"""
