"""Servers for mail between them, and the people who send and read it."""

import email
import imaplib
import json
import shutil
import smtplib
import ssl
import sys
import unittest
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, cast

from tests.system.daemon import (
    PATIENCE_S,
    Directory,
    Program,
    Server,
    free_port_base,
    mta,
    run,
    wait_until,
)
from twisted_mta.net.selfsigned import self_signed
from twisted_mta.net.tls import Pair

PASSWORD = "correct horse"

TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE


def config(
    directory: Path, base: int, domain: str, more: str, others: Sequence[str] = ()
) -> Path:
    """The config of a server for one domain, and others: that of C{try},
    changed."""
    words = mta("try", "--print-config", "--directory", str(directory))
    text = run([*words, "--port-base", str(base)]).stdout
    text = text.replace('routes: [{domain: "*", hold: true}]\n', "")
    text = text.replace("example.test", domain)
    for other in others:
        text = text.replace("domains: {", f"domains: {{{other}: , ")
    path = directory / "test.yaml"
    path.write_text(text + more)
    return path


def submit(server: Server, sender: str, recipients: list[str], text: str) -> None:
    """Send a message as a person's program does."""
    with smtplib.SMTP(
        "127.0.0.1", server.ports["submission"], timeout=PATIENCE_S
    ) as client:
        client.starttls(context=TRUSTING)
        client.login(sender, PASSWORD)
        client.sendmail(sender, recipients, text)


def inbox(server: Server, address: str) -> list[Message]:
    """The messages of an account, by IMAP."""
    return wait_for(server, address, 0)


def wait_for(server: Server, address: str, count: int) -> list[Message]:
    """The messages of an account, once there are so many."""
    with imaplib.IMAP4_SSL(
        "127.0.0.1", server.ports["imaps"], ssl_context=TRUSTING, timeout=PATIENCE_S
    ) as client:
        client.login(address, PASSWORD)

        found = 0

        def there() -> bool:
            nonlocal found
            # Another may arrive while it opens: the last count is the true one.
            found = int(client.select("INBOX", readonly=True)[1][-1] or 0)
            return found >= count

        wait_until(there, f"{count} messages for {address}", server)
        return [
            email.message_from_bytes(client.fetch(str(number), "BODY[]")[1][0][1])  # type: ignore[index,arg-type]
            for number in range(1, found + 1)
        ]


def queue(server: Server) -> list[dict[str, Any]]:
    """What C{queue list} says."""
    found: list[dict[str, Any]] = json.loads(server.command("queue", "list", "--json"))
    return found


@dataclass(frozen=True)
class Report:
    """A delivery status notification.

    @ivar failed: the status of each recipient that failed for good.
    @ivar delayed: the same for those that are late.
    @ivar status: the whole second part.
    @ivar header: the third: of the message it is about.
    """

    failed: dict[str, str]
    delayed: dict[str, str]
    status: str
    header: str


def report(message: Message) -> Report:
    """Read a notification as a program would (RFC 3464, RFC 6522).

    @raise AssertionError: it is none, or not a proper one.
    """
    assert message.get_content_type() == "multipart/report", message
    assert message.get_param("report-type") == "delivery-status"
    assert message["Return-Path"] == "<>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert not message.defects, message.defects
    people, status, header = cast(list[Message], message.get_payload())
    assert people.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    assert header.get_content_type() == "text/rfc822-headers"
    first, *groups = cast(list[Message], status.get_payload())
    assert first["Reporting-MTA"].startswith("dns; mail.")
    found: dict[str, dict[str, str]] = {"failed": {}, "delayed": {}}
    for group in groups:
        address = group["Final-Recipient"].removeprefix("rfc822; ")
        found[group["Action"]][address] = group["Status"]
        # A person reads of everyone too.
        assert f"<{address}>" in str(people.get_payload())
    return Report(**found, status=status.as_string(), header=str(header.get_payload()))


_ZONE = """
a.test MX 10 mail.a.test
mail.a.test A 127.0.0.1
b.test MX 10 mail.b.test
mail.b.test A 127.0.0.1
nomail.test MX 0 .
"""


class TwoServers(unittest.TestCase):
    """Two servers that find each other by the DNS, C{a} for C{a.test} and C{b}
    for C{b.test}; their people are C{alice@a.test} and C{blice@b.test}.

    @cvar zone: what the DNS says beside.
    @cvar others: domains that C{b} has besides.
    @cvar vouched: each believes the other's certificate.
    """

    zone = ""
    vouched = False
    others: Sequence[str] = ()

    def setUp(self) -> None:
        self.directory = Directory()
        self.addCleanup(self.directory.remove)
        zone = self.directory.path / "zone"
        zone.write_text(_ZONE + self.zone)
        dns = Program([sys.executable, "-m", "twisted_mta.testing.dns", str(zone)])
        self.addCleanup(dns.kill)
        self.dns = dns.line().strip()
        base_a = free_port_base(2)
        base_b = base_a + 1
        self.a = self.server("a", base_a, base_b + 25)
        self.b = self.server("b", base_b, base_a + 25)

    def server(self, name: str, base: int, other_port: int) -> Server:
        """Start one, and make its account."""
        home = self.directory.path / name
        home.mkdir()
        trust = self.vouched_for(name, home) if self.vouched else "null"
        tls = "verify" if self.vouched else "may"
        more = (
            f"dns: {{servers: ['{self.dns}']}}\n"
            f"agents: {{smtp: {{kind: smtp, loopback: true, port: {other_port}, "
            f"trust: {trust}, tls: {tls}}}}}\n"
        )
        others = self.others if name == "b" else ()
        server = Server(config(home, base, f"{name}.test", more, others), base)
        self.addCleanup(server.kill)
        server.command("account", "add", f"{name}lice@{name}.test", text=PASSWORD)
        return server

    def vouched_for(self, name: str, home: Path) -> Path:
        """Give a server the certificate that both have.

        @return: who vouches for it.
        """
        pair = Pair(self.directory.path / "pair.crt", self.directory.path / "pair.key")
        self_signed(pair, ["mail.a.test", "mail.b.test"])
        shutil.copy(pair.certificate, home / "certificate.pem")
        shutil.copy(pair.key, home / "key.pem")
        return pair.certificate
