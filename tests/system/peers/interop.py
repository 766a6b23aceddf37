"""Our server and another beside it, which exchange mail; what the tests of each other
server have in common."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from email import message_from_bytes
from pathlib import Path
from typing import Any, ClassVar

from tests.system.clients import ALICE, BOB, Served, good
from tests.system.daemon import ABOVE, Program, Server, free_port_base, wait_until
from tests.system.peers.base import DOMAIN, NAME, PASSWORD, USER, Peer, Plan, free_port
from tests.system.relaycase import queue
from tests.system.workercase import PASSWORD as OURS
from tests.system.workercase import TEMPLATE
from twisted_mta.net.selfsigned import self_signed
from twisted_mta.net.tls import Pair

_ZONE = f"""
{DOMAIN} MX 10 {NAME}
{NAME} A 127.0.0.1
"""

_MORE = """
dns: {{servers: ['{dns}']}}
queue: {{first_retry: 1s, growth_percent: 100, longest_retry: 1s}}
agents:
  smtp: {{kind: smtp, loopback: true, port: {port}, tls: {tls}, trust: {trust}}}
  plain: {{kind: smtp, loopback: true, tls: none, xforward: true, without: [CHUNKING]}}
  login:
    {{kind: smtp, loopback: true, tls: verify, trust: {trust}, user: {user},
      password_file: {secret}}}
routes:
  - {{domain: plain.test, agent: plain, next_hop: '[{name}]:{port}'}}
  - {{domain: login.test, agent: login, next_hop: '[{name}]:{port}'}}
"""

# Lines that servers have been known to change.
BODY = (
    "Grüße, mit Umlaut\r\n"
    ".\r\n"
    "..\r\n"
    ".dot\r\n"
    "From here on\r\n"
    " blank before and after \t \r\n" + "long " * 190 + "\r\n"
    "\r\n"
    "\r\n"
    "last\r\n"
).encode()


def letter(about: str, sender: str, recipient: str, body: bytes = BODY) -> bytes:
    """A message that a server has no reason to complete."""
    lines = (
        f"From: <{sender}>",
        f"To: <{recipient}>",
        f"Subject: {about}",
        "Date: Wed, 01 Jul 2026 12:00:00 +0000",
        f"Message-ID: <{about.encode().hex()}@client.test>",
        "X-Odd:   spaced \t out",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


class Neighbours(Server):
    """Our server, which relays to the other; that ends with it.

    @ivar peer: the other.
    """

    facts: dict[str, Any] = {"listeners": ()}

    def __init__(self, where: Path, kind: type[Peer], more: str) -> None:
        where.mkdir()
        self.directory = where / "data"
        self.passwords = dict.fromkeys((ALICE, BOB), OURS)
        base, port = free_port_base(), free_port()
        pair = Pair(where / "peer.crt", where / "peer.key")
        self_signed(pair, [NAME])
        (where / "zone").write_text(_ZONE)
        names = [sys.executable, "-m", "twisted_mta.testing.dns", str(where / "zone")]
        dns = Program(names)
        self._others: list[Program] = [dns]
        more = _agents(where, port, kind.tls, dns.line().strip()) + more
        config = TEMPLATE.copy(where, base, 1, more)
        for directory in (where.parent, where):
            directory.chmod(0o711)  # the other has users of its own
        ports = {name: base + above for name, above in ABOVE.items()}
        ports["lmtp"] = free_port()
        tcp = f"tcp:{ports['lmtp']}:interface=127.0.0.1"
        _add_lmtp(config, f"unix:{where}/lmtp:mode=666", tcp)
        trust = where / "ours.crt"
        trust.write_bytes((self.directory / "certificate.pem").read_bytes())
        plan = Plan(where / "peer", port, pair, ports, where / "lmtp", trust, OURS)
        try:
            self.peer = kind(plan)
            self._others.append(self.peer)
            super().__init__(config, base)
            self.command("alias", "add", "alice@lmtp.test", ALICE)
            self.peer.wait()
        except BaseException:
            if hasattr(self, "process"):
                self.kill()
            self._others_end()
            raise

    def _others_end(self) -> None:
        for program in self._others:
            program.kill()

    def stop(self) -> int:
        try:
            status = super().stop()
        finally:
            self._others_end()
        # twistd ends by the signal that ended it.
        return 0 if status == -signal.SIGINT else status


def _agents(where: Path, port: int, tls: str, dns: str) -> str:
    """What our config says of the other."""
    (where / "secret").write_text(f"{PASSWORD}\n")
    return _MORE.format(
        dns=dns,
        name=NAME,
        port=port,
        tls=tls,
        trust=where / "peer.crt",
        user=USER,
        secret=where / "secret",
    )


def _add_lmtp(config: Path, *endpoints: str) -> None:
    """A listener, and a domain for it."""
    lmtp = f"  - {{name: lmtp, protocol: lmtp, endpoints: {[*endpoints]}}}\n"
    text = config.read_text().replace("listeners:\n", f"listeners:\n{lmtp}")
    config.write_text(text.replace("domains: {", "domains: {lmtp.test: , "))


class Interop(Served):
    """Tests of mail both ways between our server and another.

    @cvar kind: the other.
    @cvar more: lines for our config.
    """

    kind: ClassVar[type[Peer]]
    more: ClassVar[str] = ""
    daemon: Any

    @classmethod
    def started(cls, where: Path) -> Any:
        return Neighbours(where, cls.kind, cls.more)

    def setUp(self) -> None:
        self.kind.need()
        super().setUp()
        self.peer: Any = self.daemon.peer
        self.peer.mark()

    # --- our side ---

    def submit(
        self,
        content: bytes,
        recipients: Sequence[str],
        options: Sequence[str] = (),
        each: Sequence[str] = (),
    ) -> None:
        """Send as alice.

        @param options: of MAIL.
        @param each: of each RCPT.
        """
        with self.submission() as session:
            session.sendmail(ALICE, recipients, content, options, each)

    def arrived(self, word: str, address: str = ALICE) -> bytes:
        """The message in which this is, once it is in a mailbox of ours."""
        with self.imap(address) as session:

            def found() -> bytes:
                good(session.select(readonly=True))
                _, parts = session.uid("FETCH", "1:*", "(BODY.PEEK[])")
                all = (part[1] for part in parts if isinstance(part, tuple))
                return next((one for one in all if word.encode() in one), b"")

            what = f"{address} has {word!r}"
            octets: bytes = wait_until(found, what, self.daemon, self.peer)
            return octets

    def whole(self, octets: bytes, content: bytes) -> str:
        """See that a message is what was sent, octet for octet, below the fields that
        servers add.

        @return: those.
        """
        self.assertEqual(octets[-len(content) :], content)
        return octets[: -len(content)].decode()

    def emptied(self) -> None:
        """Wait until nothing waits here."""
        wait_until(lambda: not queue(self.daemon), "our queue is empty", self.daemon)

    def deferred(self) -> dict[str, Any]:
        """The one that waits here, once it was tried."""

        def found() -> dict[str, Any] | None:
            tried = [row for row in queue(self.daemon) if row["attempts"]]
            return tried[0] if tried else None

        row: dict[str, Any] = wait_until(found, "it was tried", self.daemon)
        return row

    def log_line(self, *parts: str) -> str:
        """The first line of our log since the test began that has all of these, once
        it is there."""

        def found() -> str:
            lines = self.daemon.log[self._read :].splitlines()
            return next((a for a in lines if all(part in a for part in parts)), "")

        line: str = wait_until(found, f"our log has {parts}", self.daemon)
        return line


def status_of(octets: bytes) -> str:
    """What programs read of a notification (RFC 3464, RFC 6533)."""
    kinds = ("message/delivery-status", "message/global-delivery-status")
    for part in message_from_bytes(octets).walk():
        if part.get_content_type() in kinds:
            return part.as_string()
    raise AssertionError(octets.decode(errors="replace"))
