"""Debian's programs that send mail, against the real daemon: swaks, curl, msmtp
and mutt."""

from __future__ import annotations

import json
from email import message_from_string
from pathlib import Path

from tests.system.clients import ALICE, BOB, STRANGER, Served
from tests.system.daemon import need, run

# They check the certificate for the name; Debian's all agree on this one.
SERVER = "localhost"

# What swaks(1) exits with.
SWAKS_REFUSED_RECIPIENTS = 24
SWAKS_REFUSED_LOGIN = 28


class Sending(Served):
    """What all of them do: alice writes to bob."""

    def said(self, *expected: str) -> None:
        """Bob has one message, from alice, with these texts in it."""
        text = self.only(BOB)
        self.assertEqual(f"<{ALICE}>", message_from_string(text)["Return-Path"])
        for one in expected:
            self.assertIn(one, text)

    def mail(self, subject: str) -> str:
        """A message's text."""
        return f"From: {ALICE}\nTo: {BOB}\nSubject: {subject}\n\nDear,\n.\n.end\n"


class Swaks(Sending):
    """swaks."""

    def setUp(self) -> None:
        need("swaks")
        super().setUp()

    def _swaks(self, listener: str, *words: str, status: int = 0) -> str:
        done = run(
            (
                *("swaks", "--server", SERVER, "--port", str(self.port(listener))),
                *("--helo", "client.example", "--tls-verify"),
                *("--tls-ca-path", str(self.certificate), *words),
            ),
            check=False,
            HOME=str(self.home),
        )
        self.assertEqual(status, done.returncode, done.stdout + done.stderr)
        return done.stdout

    def _as_alice(self, how: str) -> list[str]:
        return [
            *("--auth", how, "--auth-user", ALICE),
            *("--auth-password", self.password(ALICE), "--from", ALICE, "--to", BOB),
        ]

    def test_starttls(self) -> None:
        """Submission with STARTTLS and AUTH PLAIN."""
        self._swaks("submission", "--tls", *self._as_alice("PLAIN"), "--body", "dear")
        self.said("dear", "with ESMTPSA")

    def test_tls(self) -> None:
        """Submission with implicit TLS and AUTH LOGIN."""
        self._swaks("submissions", "--tlsc", *self._as_alice("LOGIN"), "--body", "oh")
        self.said("oh", "with ESMTPSA")

    def test_pipelining(self) -> None:
        """Commands that do not wait for each other's replies."""
        self._swaks("submissions", "--tlsc", "--pipeline", *self._as_alice("PLAIN"))
        self.said("with ESMTPSA")

    def test_wrong_password(self) -> None:
        """A wrong password sends nothing."""
        words = self._as_alice("PLAIN")
        words[words.index("--auth-password") + 1] = "wrong"
        out = self._swaks("submissions", "--tlsc", *words, status=SWAKS_REFUSED_LOGIN)
        self.assertIn("<** 535 5.7.8", out.replace("<~*", "<**"))
        self.assertEqual([], self.subjects(BOB))

    def test_mx(self) -> None:
        """From another server, with TLS and without."""
        self._swaks("smtp", "--from", STRANGER, "--to", BOB)
        self._swaks("smtp", "--tls", "--from", STRANGER, "--to", BOB)
        clear, secret = self.messages(BOB)
        self.assertIn(b"with ESMTP\r\n", clear)
        self.assertIn(b"with ESMTPS ", secret)

    def test_no_relay(self) -> None:
        """Who is not logged in sends nothing elsewhere."""
        out = self._swaks(
            *("smtp", "--from", STRANGER, "--to", "someone@elsewhere.example"),
            status=SWAKS_REFUSED_RECIPIENTS,
        )
        self.assertIn("<** 550 5.7.1", out)
        self.assertEqual([], json.loads(self.daemon.command("queue", "list", "--json")))

    def test_nobody(self) -> None:
        """Nobody's address is refused at RCPT."""
        out = self._swaks(
            *("smtp", "--from", STRANGER, "--to", "nobody@example.test"),
            status=SWAKS_REFUSED_RECIPIENTS,
        )
        self.assertIn("<** 550 5.1.1", out)

    def test_lmtp_is_not_spoken(self) -> None:
        """A client of LMTP is told that it is wrong here."""
        out = self._swaks(
            *("smtp", "--protocol", "LMTP", "--from", STRANGER, "--to", BOB),
            status=22,  # nothing usable after the greeting
        )
        self.assertIn("500 5.5", out)


class Curl(Sending):
    """curl."""

    def setUp(self) -> None:
        need("curl")
        super().setUp()

    def _curl(self, url: str, *recipients: str) -> None:
        mail = self.file("mail", self.mail("by curl"))
        run(
            (
                *("curl", "--silent", "--show-error", "--cacert"),
                *(str(self.certificate), "--ssl-reqd", "--url", url),
                *("--user", f"{ALICE}:{self.password(ALICE)}", "--crlf"),
                *("--mail-from", ALICE, "--upload-file", str(mail)),
                *(word for one in recipients for word in ("--mail-rcpt", one)),
            )
        )

    def test_smtp(self) -> None:
        """Submission with STARTTLS."""
        self._curl(f"smtp://{SERVER}:{self.port('submission')}/client.example", BOB)
        self.said("Subject: by curl", "from client.example")

    def test_smtps(self) -> None:
        """Submission with implicit TLS, to two."""
        self._curl(f"smtps://{SERVER}:{self.port('submissions')}", BOB, ALICE)
        self.said("Subject: by curl")
        self.assertEqual(["by curl"], self.subjects(ALICE))


class Msmtp(Sending):
    """msmtp."""

    def setUp(self) -> None:
        need("msmtp")
        super().setUp()

    def _config(self, listener: str, starttls: str) -> Path:
        return self.file(
            "msmtprc",
            "account default",
            f"host {SERVER}",
            f"port {self.port(listener)}",
            "tls on",
            f"tls_starttls {starttls}",
            f"tls_trust_file {self.certificate}",
            "auth on",
            f"user {ALICE}",
            f"password {self.password(ALICE)}",
            f"from {ALICE}",
            f"logfile {self.home}/log",
        )

    def _send(self, listener: str, starttls: str) -> None:
        config = self._config(listener, starttls)
        run(("msmtp", "--file", str(config), BOB), self.mail("by msmtp"))
        self.said("Subject: by msmtp", "\n.\n.end\n")

    def test_starttls(self) -> None:
        """Submission with STARTTLS."""
        self._send("submission", "on")

    def test_tls(self) -> None:
        """Submission with implicit TLS; recipients from the header."""
        config = self._config("submissions", "off")
        words = ("msmtp", "--file", str(config), "--read-recipients")
        run(words, self.mail("by msmtp"))
        self.said("Subject: by msmtp", "with ESMTPSA")

    def test_server_info(self) -> None:
        """What it shows of the server before anyone logs in."""
        config = self._config("submission", "on")
        shown = run(("msmtp", "--file", str(config), "--serverinfo")).stdout
        for word in ("SIZE", "PIPELINING", "STARTTLS", "SCRAM-SHA-256", "PLAIN"):
            self.assertIn(word, shown)

    def test_refused_recipient(self) -> None:
        """A refused recipient is told with the server's words; nobody gets the
        message."""
        config = self._config("submissions", "off")
        words = ("msmtp", "--file", str(config), BOB, "nobody@example.test")
        done = run(words, self.mail("by msmtp"), check=False)
        self.assertNotEqual(0, done.returncode)
        self.assertIn("550 5.1.1", done.stderr)
        self.assertEqual([], self.subjects(BOB))


class Mutt(Sending):
    """mutt, which keeps what it sent in a folder on the server."""

    def setUp(self) -> None:
        need("mutt")
        super().setUp()

    def _send(self, *settings: str) -> None:
        login = ALICE.replace("@", "%40")
        rc = self.file(
            "muttrc",
            f"set from = {ALICE}",
            "set realname = 'Alice Ä'",
            f"set smtp_pass = '{self.password(ALICE)}'",
            f"set imap_pass = '{self.password(ALICE)}'",
            f"set ssl_ca_certificates_file = {self.certificate}",
            f"set certificate_file = {self.certificate}",
            "set ssl_force_tls = yes",
            f"set record = 'imaps://{login}@{SERVER}:{self.port('imaps')}/Sent'",
            "set copy = yes",
            "set charset = utf-8",
            "set send_charset = 'us-ascii:utf-8'",
            f"set smtp_url = '{settings[0].format(login=login)}'",
            *settings[1:],
        )
        attachment = self.file("notes.txt", "an attachment")
        words = ("mutt", "-n", "-F", str(rc), "-s", "Grüße per mutt")
        run(
            (*words, "-a", str(attachment), "--", BOB),
            "Hallo Bob,\n.\n",
            HOME=str(self.home),
            LC_ALL="C.UTF-8",
        )
        self.said("=?utf-8?", "an attachment", "Hallo Bob,\n.\n")
        (sent,) = self.messages(ALICE, "Sent")
        self.assertIn(b'filename="notes.txt"', sent)

    def test_starttls(self) -> None:
        """Submission with STARTTLS."""
        self._send(f"smtp://{{login}}@{SERVER}:{self.port('submission')}/")

    def test_tls(self) -> None:
        """Submission with implicit TLS."""
        self._send(f"smtps://{{login}}@{SERVER}:{self.port('submissions')}/")
