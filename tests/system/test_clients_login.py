"""Logins other than by a password in the clear, against the real daemon: msmtp, swaks,
and our own client with channel binding."""

from __future__ import annotations

import base64
import hashlib
import imaplib
import poplib
import smtplib
import ssl
import subprocess
from typing import Any

from tests.system.clients import ALICE, BOB, Served
from tests.system.daemon import mta, need, run
from tests.system.test_clients_mechanisms import Vouched
from twisted_mta.wire.sasl import Credentials
from twisted_mta.wire.scram import ScramClient

SERVER = "localhost"


class Msmtp(Served):
    """msmtp, with GNU SASL."""

    def setUp(self) -> None:
        need("msmtp")
        super().setUp()

    def operate(self, *words: str) -> str:
        """What C{twisted-mta WORDS} says."""
        where = ("--directory", str(self.daemon.directory))
        return run(mta(*words, *where)).stdout

    def send(self, mechanism: str, password: str) -> subprocess.CompletedProcess[str]:
        return run(
            (
                *("msmtp", f"--host={SERVER}", f"--port={self.port('submission')}"),
                *("--tls=on", "--tls-starttls=on"),
                f"--tls-trust-file={self.certificate}",
                *(f"--auth={mechanism}", f"--user={ALICE}"),
                *(f"--passwordeval=echo '{password}'", f"--from={ALICE}", BOB),
            ),
            text=f"From: {ALICE}\nTo: {BOB}\nSubject: {mechanism}\n\nDear\n",
            check=False,
            HOME=str(self.home),
        )

    def test_each(self) -> None:
        """Every mechanism that both have; a wrong password sends nothing."""
        for mechanism in ("scram-sha-256", "scram-sha-1", "plain", "login"):
            done = self.send(mechanism, self.password(ALICE))
            self.assertEqual(done.returncode, 0, mechanism + done.stderr)
        done = self.send("scram-sha-256", "wrong")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("535 5.7.8", done.stderr)
        self.assertEqual(len(self.messages(BOB)), 4)

    def test_app_password(self) -> None:
        """A program's password, which is shown once, until it is taken back."""
        made = self.operate(
            "app-password", "add", ALICE, "laptop", "--protocols", "smtp"
        )
        password = made.splitlines()[2].strip()
        for mechanism in ("plain", "scram-sha-256"):
            done = self.send(mechanism, password)
            self.assertEqual(done.returncode, 0, mechanism + done.stderr)
        self.assertIn("laptop", self.operate("app-password", "list", ALICE))
        self.operate("app-password", "remove", ALICE, "laptop")
        self.assertNotEqual(self.send("plain", password).returncode, 0)
        self.assertEqual(len(self.messages(BOB)), 2)


class Bound(Vouched):
    """SCRAM-SHA-256-PLUS by Python's libraries: the login is tied to the TLS
    connection."""

    def context(self, version: ssl.TLSVersion) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.maximum_version = version
        return context

    def client(self, secure: Any) -> ScramClient:
        """For a connection: what Python can bind to is the server's certificate."""
        certificate = secure.getpeercert(True)
        octets = hashlib.sha256(certificate).digest()
        return ScramClient(
            Credentials(ALICE, self.password(ALICE)),
            "SCRAM-SHA-256-PLUS",
            ("tls-server-end-point", octets),
        )

    def test_smtp(self) -> None:
        """Submission."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            port = self.port("submissions")
            context = self.context(version)
            with smtplib.SMTP_SSL(SERVER, port, context=context) as session:
                session.ehlo()
                self.assertIn("SCRAM-SHA-256-PLUS", session.esmtp_features["auth"])
                client = self.client(session.sock)
                first = base64.b64encode(client.initial() or b"").decode()
                code, said = session.docmd("AUTH", f"{client.name} {first}")
                while code == 334:
                    answer = client.next(base64.b64decode(said))
                    code, said = session.docmd(base64.b64encode(answer).decode())
                self.assertEqual((code, client.verified), (235, True), said)

    def test_imap(self) -> None:
        """IMAP."""
        context = self.context(ssl.TLSVersion.TLSv1_3)
        with imaplib.IMAP4_SSL(
            SERVER, self.port("imaps"), ssl_context=context
        ) as session:
            self.assertIn("AUTH=SCRAM-SHA-256-PLUS", session.capabilities)
            client = self.client(session.sock)

            def answer(challenge: bytes) -> bytes:
                return client.next(challenge) if challenge else client.initial() or b""

            status, _ = session.authenticate(client.name, answer)
            self.assertEqual((status, client.verified), ("OK", True))

    def test_pop3(self) -> None:
        """POP3."""
        context = self.context(ssl.TLSVersion.TLSv1_3)
        session = poplib.POP3_SSL(SERVER, self.port("pop3s"), context=context)
        self.assertIn("SCRAM-SHA-256-PLUS", session.capa()["SASL"])
        client = self.client(session.sock)
        first = base64.b64encode(client.initial() or b"").decode()
        said = session._shortcmd(f"AUTH {client.name} {first}")  # type: ignore[attr-defined]
        while said.startswith(b"+ "):
            answer = client.next(base64.b64decode(said[2:]))
            said = session._shortcmd(base64.b64encode(answer).decode())  # type: ignore[attr-defined]
        self.assertTrue(said.startswith(b"+OK"), said)
        self.assertTrue(client.verified)
        session.quit()
