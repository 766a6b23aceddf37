"""swaks, as other programs of a mail system speak: LMTP over a unix socket, through a
proxy, for another client, with an answer for each recipient, and asking for reports."""

from __future__ import annotations

import email
import imaplib
import smtplib
import socket
import ssl
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message

from tests.system.clients import ALICE, BOB, HOST
from tests.system.daemon import (
    PATIENCE_S,
    Directory,
    Server,
    free_port_base,
    mta,
    need,
    run,
    wait_until,
)

_LMTP = """listeners:
  - {{name: lmtp, protocol: lmtp, endpoints: ['unix:{path}']}}
"""
_MORE = """smtp:
  xclient_from: [127.0.0.1]
  xforward_from: [127.0.0.1]
  verify_from: [127.0.0.1]
  etrn: [waiting.test]
"""
PASSWORD = "word of mouth"


class Network(unittest.TestCase):
    """One server for each test, since what is tested is its config."""

    def setUp(self) -> None:
        need("swaks")
        directory = Directory()
        self.addCleanup(directory.remove)
        self.home = directory.path
        base = free_port_base()
        where = ("--directory", str(self.home / "data"), "--port-base", str(base))
        text = run(mta("try", "--print-config", *where)).stdout
        text = text.replace("listeners:\n", _LMTP.format(path=self.home / "lmtp"))
        for protocol in ("smtp", "imap"):
            line = f"    protocol: {protocol}\n"
            text = text.replace(line, line + "    proxies: [127.0.0.8]\n")
        config = self.home / "mta.yaml"
        config.write_text(text + _MORE)
        for address in (ALICE, BOB):
            run([*mta("account", "add", address), "--config", str(config)], PASSWORD)
        self.server = Server(config, base)
        self.addCleanup(self.server.stop)

    def swaks(self, *words: str, status: int = 0) -> str:
        done = run(
            ("swaks", "--helo", "client.test", "--from", ALICE, *words), check=False
        )
        self.assertEqual(status, done.returncode, done.stdout + done.stderr)
        return done.stdout

    def smtp(self, *words: str, status: int = 0) -> str:
        at = ("--server", HOST, "--port", str(self.server.ports["smtp"]))
        return self.swaks(*at, *words, status=status)

    @contextmanager
    def inbox(self, address: str) -> Iterator[imaplib.IMAP4_SSL]:
        context = ssl._create_unverified_context()
        with imaplib.IMAP4_SSL(
            HOST, self.server.ports["imaps"], ssl_context=context, timeout=PATIENCE_S
        ) as session:
            session.login(address, PASSWORD)
            session.select("INBOX")
            yield session

    def messages(self, address: str) -> list[Message]:
        with self.inbox(address) as session:
            _, parts = session.uid("FETCH", "1:*", "BODY.PEEK[]")
            octets = [part[1] for part in parts if isinstance(part, tuple)]
            return [email.message_from_bytes(one) for one in octets]

    def test_lmtp(self) -> None:
        """LMTP: one who is not here does not keep it from the others."""
        at = ("--socket", str(self.home / "lmtp"), "--protocol", "LMTP")
        said = self.swaks(*at, "--to", f"{ALICE},nobody@example.test,{BOB}")
        self.assertIn("550 5.1.1", said)
        self.assertEqual(said.count("250 2.0.0 Ok: queued"), 2)
        for address in (ALICE, BOB):
            (found,) = self.messages(address)
            self.assertIn("with LMTP", str(found["Received"]))
        self.swaks(*at, "--ehlo", "x", "--protocol", "ESMTP", "--to", BOB, status=22)

    def test_lmtp_gone(self) -> None:
        """LMTP: one who has gone since RCPT does not keep it from the others, and who
        is given twice has it once."""
        with smtplib.LMTP(str(self.home / "lmtp")) as session:
            session.ehlo("client.test")
            session.docmd(f"MAIL FROM:<{ALICE}>")
            for address in (BOB, ALICE, BOB, ALICE):
                self.assertEqual(session.docmd(f"RCPT TO:<{address}>")[0], 250)
            run(
                [
                    *mta("account", "remove", BOB),
                    "--config",
                    str(self.home / "mta.yaml"),
                ]
            )
            self.assertEqual(session.docmd("DATA")[0], 354)
            session.send(b"Subject: x\r\n\r\n.\r\n")
            codes = [session.getreply()[0] for _ in range(4)]
            self.assertEqual(codes, [550, 250, 550, 250])
            self.assertEqual(session.noop()[0], 250)
        self.assertEqual(len(self.messages(ALICE)), 1)

    def test_proxy(self) -> None:
        """Both versions of PROXY, from where the config says, and only from there."""
        for version in ("1", "2"):
            source = (
                "--proxy-source",
                f"192.0.2.{version}",
                "--proxy-source-port",
                "9",
            )
            dest = ("--proxy-dest", "192.0.2.9", "--proxy-dest-port", "25")
            family = ("--proxy-version", version, "--proxy-family", "TCP4")
            family = (*family, *source, *dest)
            if version == "2":
                family = (*family, "--proxy-protocol", "STREAM")
                family = tuple("AF_INET" if w == "TCP4" else w for w in family)
            via = ("--local-interface", "127.0.0.8")
            self.smtp(*via, *family, "--to", BOB)
        received = [str(one["Received"]) for one in self.messages(BOB)]
        self.assertIn("([192.0.2.1])", received[0])
        self.assertIn("([192.0.2.2])", received[1])
        self.smtp("--local-interface", "127.0.0.8", "--to", BOB, status=6)

    def test_proxy_tls(self) -> None:
        """A header before TLS, for another protocol."""
        context = ssl._create_unverified_context()
        at, via = (HOST, self.server.ports["imaps"]), ("127.0.0.8", 0)
        with socket.create_connection(at, PATIENCE_S, via) as plain:
            plain.sendall(b"PROXY TCP6 2001:db8::1 2001:db8::2 9 993\r\n")
            with context.wrap_socket(plain) as secured:
                self.assertTrue(secured.recv(4).startswith(b"* OK"))

    def test_xclient(self) -> None:
        """A filter that speaks for another."""
        said = self.smtp(
            *("--xclient-addr", "192.0.2.7", "--xclient-helo", "far.test"),
            *("--to", BOB),
        )
        self.assertIn("XCLIENT ADDR=192.0.2.7", said)
        (found,) = self.messages(BOB)
        self.assertIn("([192.0.2.7])", str(found["Received"]))

    def test_prdr(self) -> None:
        """PRDR: an answer for each recipient."""
        said = self.smtp("--prdr", "--to", f"{ALICE},{BOB}")
        self.assertIn("353 ", said)
        self.assertEqual(said.count("250 2.0.0 Ok: queued"), 2)
        self.assertIn("250 2.0.0 Ok, for those with 250", said)

    def test_asked(self) -> None:
        """VRFY, EXPN and ETRN, of whom the config lets ask."""
        for line, answer in (
            (f"VRFY {BOB}", f"250 2.1.5 <{BOB}>"),
            ("VRFY nobody@example.test", "550 5.1.1"),
            ("ETRN waiting.test", "251 2.0.0"),
            ("ETRN other.test", "459 4.7.1"),
        ):
            with smtplib.SMTP(HOST, self.server.ports["smtp"]) as session:
                session.ehlo()
                code, text = session.docmd(line)
                said = f"{code} {text.decode()}"
                self.assertTrue(said.startswith(answer), said)

    def test_reports(self) -> None:
        """A sender who asks is told that his mail was delivered."""
        with smtplib.SMTP(HOST, self.server.ports["smtp"]) as session:
            session.ehlo()
            options = ["NOTIFY=SUCCESS", f"ORCPT=rfc822;{BOB}"]
            session.sendmail(ALICE, BOB, "Subject: x\r\n\r\n", ["ENVID=7"], options)
        wait_until(lambda: len(self.messages(ALICE)) == 1, "the report", self.server)
        (report,) = self.messages(ALICE)
        status = report.get_payload()[1].as_string()
        self.assertIn("Original-Envelope-Id: 7", status)
        self.assertIn("Action: delivered", status)
        self.assertEqual(len(self.messages(BOB)), 1)
