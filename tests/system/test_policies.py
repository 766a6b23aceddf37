"""Policies in the real daemon, which asks a real server of names."""

import imaplib
import re
import smtplib
import sys
import unittest
from contextlib import ExitStack

from tests.system.daemon import (
    PATIENCE_S,
    Directory,
    Program,
    Server,
    free_port_base,
    wait_until,
)
from tests.system.relaycase import PASSWORD, TRUSTING, config, submit, wait_for

_ZONE = """
9.0.0.127.black.test A 127.0.0.2
9.0.0.127.black.test TXT "https://black.test/127.0.0.9"
8.0.0.127.grey.test A 127.0.0.2
7.0.0.127.white.test A 127.0.0.3
6.0.0.127.slow.test SILENT
good.test MX 10 mail.good.test
nothing.test MX 0 .
"""

_POLICIES = """
policies:
  - kind: dns_lists
    lists:
      - {zone: black.test, weight: 3}
      - {zone: white.test, weight: -5}
      - {zone: slow.test, weight: 1}
    reject: 3
    accept: -5
    timeout: 1s
  - {kind: sender_domain}
  - {kind: greylist, delay: 1h, trusted_after: 0}
  - {kind: tarpit}
"""

_APART = """
policies:
  - {kind: dns_lists, lists: [{zone: grey.test}], reject: 2, quarantine: 1}
  - {kind: rate, messages: 2}
"""


def _send(client: smtplib.SMTP, sender: str, subject: str = "") -> str:
    try:
        client.sendmail(
            sender, ["alice@a.test"], f"Subject: {subject}\r\n\r\nHello\r\n"
        )
    except smtplib.SMTPRecipientsRefused as error:
        return _said(*error.recipients["alice@a.test"])
    except smtplib.SMTPResponseException as error:
        return _said(error.smtp_code, error.smtp_error)
    return ""


def _said(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode() if isinstance(text, bytes) else text}"


class PolicyTests(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = Directory()
        self.addCleanup(self.directory.remove)
        zone = self.directory.path / "zone"
        zone.write_text(_ZONE)
        dns = Program([sys.executable, "-m", "twisted_mta.testing.dns", str(zone)])
        self.addCleanup(dns.kill)
        self.dns = dns.line().strip()

    def start(self, policies: str, workers: int = 1) -> None:
        """Start a server with an account."""
        base = free_port_base()
        more = f"{policies}dns: {{servers: ['{self.dns}']}}\n"
        path = config(self.directory.path, base, "a.test", more)
        text = path.read_text()
        path.write_text(text.replace("workers: 1", f"workers: {workers}"))
        self.server = Server(path, base)
        self.addCleanup(self.server.kill)
        self.server.command("account", "add", "alice@a.test", text=PASSWORD)

    def client(self, host: str) -> smtplib.SMTP:
        """A client from an address."""
        return smtplib.SMTP(
            "127.0.0.1",
            self.server.ports["smtp"],
            local_hostname="mx.good.test",
            timeout=PATIENCE_S,
            source_address=(host, 0),
        )

    def mail(self, host: str, sender: str, subject: str = "") -> str:
        """What a client that sends a message is refused with; empty if it is not."""
        with self.client(host) as client:
            return _send(client, sender, subject)

    def test_all(self) -> None:
        """Who is on a black list is refused at once, by a name that the log has the
        reason under; on a white list, taken without a question; on a list that does
        not answer, asked what all are asked: for a sender that can be answered, and to
        come again. Who logs in is asked nothing."""
        self.start(_POLICIES)
        with self.assertRaises(smtplib.SMTPConnectError) as caught:
            self.client("127.0.0.9")
        refused = _said(caught.exception.smtp_code, caught.exception.smtp_error)
        self.assertTrue(refused.startswith("550 5.7.1"), refused)
        why = "127.0.0.9 is listed at black.test: https://black.test/127.0.0.9 ("
        self.assertIn(why, refused)
        found = re.search(r"\((smtp-\S+)\)$", refused)
        assert found is not None, refused
        reason = f"{found[1]}: refuse at connect: policy=dns_lists"
        wait_until(lambda: reason in self.server.log, "the log says why", self.server)

        self.assertEqual(self.mail("127.0.0.7", "x@nothing.test", "white"), "")
        self.assertIn("takes no mail", self.mail("127.0.0.6", "x@nothing.test"))
        self.assertIn("does not exist", self.mail("127.0.0.6", "x@no.test"))
        refused = self.mail("127.0.0.6", "x@good.test")
        self.assertTrue(refused.startswith("451 4.7.1"), refused)
        self.assertIn("greylisting", refused)

        submit(self.server, "alice@a.test", ["alice@a.test"], "Subject: own\r\n\r\n")
        messages = wait_for(self.server, "alice@a.test", 2)
        self.assertEqual({one["Subject"] for one in messages}, {"white", "own"})

    def test_workers(self) -> None:
        """Mail from an address on a list is kept in the mailbox for junk; of a network
        no more is taken than may be, whichever workers it reaches."""
        self.start(_APART, workers=2)
        wait_until(
            lambda: "2 workers serve" in self.server.log, "both serve", self.server
        )
        with ExitStack() as stack:
            # All at once, so that each worker has some.
            clients = [stack.enter_context(self.client("127.0.0.8")) for _ in range(20)]
            said = [_send(client, "x@good.test") for client in clients]
        judges = re.findall(r"\[(w\d) .*: quarantine at connect", self.server.log)
        self.assertEqual(set(judges), {"w1", "w2"})
        self.assertEqual(said[:2], ["", ""])
        for refused in said[2:]:
            self.assertIn("Too many messages from your network", refused)
        with imaplib.IMAP4_SSL(
            "127.0.0.1",
            self.server.ports["imaps"],
            ssl_context=TRUSTING,
            timeout=PATIENCE_S,
        ) as client:
            client.login("alice@a.test", PASSWORD)
            counts = [int(client.select(name)[1][0] or 0) for name in ("INBOX", "Junk")]
        self.assertEqual(counts, [0, 2])

    def test_restart(self) -> None:
        """Who was told to come again is known to the server's next process."""
        self.start(_POLICIES)
        waits = re.compile(r"try again in (\d+) seconds")
        first = waits.search(self.mail("127.0.0.5", "x@good.test"))
        self.server.kill()
        config_path, ports = self.server.config, self.server.ports
        self.server = Server(config_path, ports["smtp"] - 25)
        self.addCleanup(self.server.kill)
        again = waits.search(self.mail("127.0.0.5", "x@good.test"))
        assert first is not None and again is not None
        self.assertEqual(first[1], "3601")
        self.assertLess(int(again[1]), 3601)
