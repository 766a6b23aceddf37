"""Debian's programs that read mail, against the real daemon: curl, mutt, getmail
and fetchmail; mbsync has a module of its own."""

from __future__ import annotations

from pathlib import Path

from tests.system.clients import ALICE, Served, good, subject
from tests.system.daemon import need, run

SERVER = "localhost"

# What fetchmail(1) exits with.
FETCHMAIL_NO_MAIL = 1


class Curl(Served):
    """curl."""

    def setUp(self) -> None:
        need("curl")
        super().setUp()

    def _curl(self, scheme: str, path: str, *words: str) -> str:
        """
        @param scheme: also the listener's name.
        """
        return run(
            (
                *("curl", "--silent", "--show-error", "--ssl-reqd", "--cacert"),
                *(str(self.certificate), "--user", f"{ALICE}:{self.password(ALICE)}"),
                f"{scheme}://{SERVER}:{self.port(scheme)}/{path}",
                *words,
            )
        ).stdout

    def test_imap(self) -> None:
        """List, search, read, append, mark and expunge, with STARTTLS and with
        implicit TLS."""
        self.deliver("one", body="first body\n")
        for scheme in ("imap", "imaps"):
            with self.subTest(scheme):
                self._imap(scheme)

    def _imap(self, scheme: str) -> None:
        self.assertIn('"/" INBOX', self._curl(scheme, "").replace('"INBOX"', "INBOX"))
        found = self._curl(scheme, "INBOX", "-X", "SEARCH SUBJECT one")
        self.assertEqual("* SEARCH 1", found.strip())
        whole = self._curl(scheme, "INBOX;MAILINDEX=1")
        self.assertIn("first body", whole)
        head = self._curl(scheme, "INBOX;MAILINDEX=1;SECTION=HEADER.FIELDS%20(SUBJECT)")
        self.assertEqual("Subject: one", head.strip())
        mail = self.file("mail", "Subject: two\r", "\r", "appended\r")
        self._curl(scheme, "INBOX", "--upload-file", str(mail))
        self.assertEqual(["one", "two"], self.subjects())
        self._curl(scheme, "INBOX", "-X", r"STORE 2 +FLAGS (\Deleted)")
        self.assertIn("* 2 EXPUNGE", self._curl(scheme, "INBOX", "-X", "EXPUNGE"))
        self.assertEqual(["one"], self.subjects())

    def test_pop3(self) -> None:
        """List, read, look at the top and delete, with STLS and with implicit
        TLS."""
        for scheme in ("pop3", "pop3s"):
            with self.subTest(scheme):
                self._pop3(scheme)

    def _pop3(self, scheme: str) -> None:
        self.deliver("one", body="first body\n.dot\n")
        (octets,) = self.messages()
        self.assertEqual(f"1 {len(octets)}", self._curl(scheme, "").strip())
        self.assertEqual(octets.decode().split(), self._curl(scheme, "1").split())
        self.assertRegex(self._curl(scheme, "", "-X", "UIDL"), r"^1 \S+\s*$")
        self.assertNotIn("first body", self._curl(scheme, "", "-X", "TOP 1 0"))
        self._curl(scheme, "1", "-X", "DELE", "--list-only")
        self.assertEqual([], self.subjects())


class Mutt(Served):
    """mutt, with its keys pressed by its config."""

    def setUp(self) -> None:
        need("mutt", "script")
        super().setUp()
        self.saved = self.home / "saved"
        self.copy = f"<copy-message><kill-line>{self.saved}<enter>"

    def _mutt(self, scheme: str, listener: str, keys: str) -> None:
        login = ALICE.replace("@", "%40")
        folder = f"{scheme}://{login}@{SERVER}:{self.port(listener)}"
        rc = self.file(
            "muttrc",
            f"set imap_pass = '{self.password(ALICE)}'",
            f"set pop_pass = '{self.password(ALICE)}'",
            f"set ssl_ca_certificates_file = {self.certificate}",
            f"set certificate_file = {self.certificate}",
            "set ssl_force_tls = yes",
            f"set folder = '{folder if scheme.startswith('imap') else self.home}'",
            "unset confirmappend",
            "unset confirmcreate",
            "set quit = yes",
            "set delete = yes",
            "unset move",
        )
        inbox = f"{folder}/INBOX" if scheme.startswith("imap") else folder
        # It wants a terminal for its screen: script(1) gives it one. It drops
        # the keys that a config pushes before a folder is open.
        words = f"mutt -n -F {rc} -e 'push \"{keys}<quit>\"' -f '{inbox}'"
        run(
            ("script", "--quiet", "--return", "--command", words, "/dev/null"),
            HOME=str(self.home),
            TERM="xterm",
            LC_ALL="C.UTF-8",
        )

    def test_imap(self) -> None:
        """Copy to a file, flag and delete, over STARTTLS and TLS."""
        for scheme in ("imap", "imaps"):
            with self.subTest(scheme):
                self._imap(scheme)

    def _imap(self, scheme: str) -> None:
        self.deliver("one", body="first body\n")
        self.deliver("two", body="second body\n")
        marking = "<first-entry><flag-message><last-entry><delete-message>"
        self._mutt(scheme, scheme, f"<first-entry>{self.copy}{marking}")
        self.assertIn(b"first body", self.saved.read_bytes())
        self.assertEqual(["one"], self.subjects())
        with self.imap() as session:
            good(session.select())
            self.assertEqual([b"1"], good(session.search(None, "FLAGGED")))
        self.empty(ALICE)
        self.saved.unlink()

    def test_imap_save(self) -> None:
        """Saving to a folder of the server copies there and deletes here."""
        self.deliver("one")
        self._mutt("imaps", "imaps", "<save-message><kill-line>=Archive<enter>")
        self.assertEqual([], self.subjects())
        self.assertEqual(["one"], self.subjects(mailbox="Archive"))

    def test_pop3(self) -> None:
        """Copy to a file and delete, over STLS and TLS."""
        for scheme, listener in (("pop", "pop3"), ("pops", "pop3s")):
            with self.subTest(listener):
                self.deliver("one", body="first body\n")
                self._mutt(scheme, listener, f"{self.copy}<delete-message>")
                self.assertIn(b"first body", self.saved.read_bytes())
                self.assertEqual([], self.subjects())
                self.saved.unlink()


class Getmail(Served):
    """getmail, to a program that writes a file for each message. (As root, it
    does not write a Maildir.)"""

    def setUp(self) -> None:
        need("getmail")
        super().setUp()
        self._got = self.home / "got"
        self._got.mkdir()

    def _getmail(self, retriever: str, listener: str, *more: str) -> list[bytes]:
        """
        @return: what it fetched.
        """
        self.file(
            "getmailrc",
            "[retriever]",
            f"type = {retriever}",
            f"server = {SERVER}",
            f"port = {self.port(listener)}",
            f"username = {ALICE}",
            f"password = {self.password(ALICE)}",
            f"ca_certs = {self.certificate}",
            *more,
            "[destination]",
            "type = MDA_external",
            "path = /bin/sh",
            f"arguments = ('-c', 'cat > {self._got}/$$')",
            "allow_root_commands = true",
            "[options]",
            "read_all = false",
            "delete = true",
            "delivered_to = false",
            "received = false",
        )
        run(("getmail", f"--getmaildir={self.home}", "--rcfile=getmailrc"))
        return take(self._got)

    def _fetches(self, retriever: str, listener: str, *more: str) -> None:
        self.deliver("one", body="first body\n.dot\n")
        self.deliver("two")
        there = self.messages()
        got = self._getmail(retriever, listener, *more)
        self.assertEqual(sorted(map(essence, there)), sorted(map(essence, got)))
        self.assertEqual([], self.subjects())
        self.deliver("three")
        (third,) = self._getmail(retriever, listener, *more)
        self.assertIn(b"Subject: three", third)

    def test_imap(self) -> None:
        """Everything once, deleted on the server, and later what is new."""
        self._fetches("SimpleIMAPSSLRetriever", "imaps", 'mailboxes = ("INBOX",)')

    def test_pop3(self) -> None:
        """The same over POP3."""
        self._fetches("SimplePOP3SSLRetriever", "pop3s")


class Fetchmail(Served):
    """fetchmail, to a delivery agent and to a file of BSMTP."""

    def setUp(self) -> None:
        need("fetchmail")
        super().setUp()

    def _fetchmail(
        self,
        protocol: str,
        listener: str,
        *words: str,
        mda: bool = True,
        status: int = 0,
    ) -> None:
        implicit = "ssl" if listener.endswith("s") else "sslproto 'TLS1.2+'"
        sink = f"mda \"sh -c 'cat >> {self.home}/got'\"" if mda else ""
        rc = self.file(
            "fetchmailrc",
            f"poll {SERVER} protocol {protocol} port {self.port(listener)}",
            f"user '{ALICE}' password '{self.password(ALICE)}' is 'alice' here",
            f"{implicit} sslcertck sslcertfile '{self.certificate}'",
            sink,
        )
        done = run(
            ("fetchmail", "--fetchmailrc", str(rc), "--nodetach", *words),
            check=False,
            FETCHMAILHOME=str(self.home),
        )
        self.assertEqual(status, done.returncode, done.stdout + done.stderr)

    def _got(self) -> bytes:
        return (self.home / "got").read_bytes()

    def test_mda(self) -> None:
        """Each message goes to the delivery agent once and is gone from the
        server; over IMAP and POP3, with STARTTLS and with implicit TLS."""
        for protocol, listener in (
            ("IMAP", "imap"),
            ("IMAP", "imaps"),
            ("POP3", "pop3"),
            ("POP3", "pop3s"),
        ):
            with self.subTest(listener):
                self.deliver(f"one {listener}", body="first body\n.dot\n")
                self.deliver(f"two {listener}")
                self._fetchmail(protocol, listener)
                self.assertIn(b"first body\n.dot\n", self._got())
                for word in (b"one", b"two"):
                    wanted = b"Subject: %b %b\n" % (word, listener.encode())
                    self.assertEqual(1, self._got().count(wanted))
                self.assertEqual([], self.subjects())
                self._fetchmail(protocol, listener, status=FETCHMAIL_NO_MAIL)

    def test_keep(self) -> None:
        """With --keep, what was fetched once is not fetched again: by IMAP it
        is seen, by POP3 its unique id is known."""
        for protocol, listener in (("IMAP", "imaps"), ("POP3", "pop3s")):
            with self.subTest(listener):
                words = ("--keep", *(("--uidl",) if protocol == "POP3" else ()))
                self.deliver(f"kept {listener}")
                self._fetchmail(protocol, listener, *words)
                self._fetchmail(protocol, listener, *words, status=FETCHMAIL_NO_MAIL)
                self.assertIn(f"kept {listener}", self.subjects())
                wanted = f"Subject: kept {listener}\n".encode()
                self.assertEqual(1, self._got().count(wanted))

    def test_bsmtp(self) -> None:
        """As a batch of SMTP."""
        self.deliver("one", body=".dot\n")
        batch = self.home / "batch"
        self._fetchmail("IMAP", "imaps", "--bsmtp", str(batch), mda=False)
        text = batch.read_text()
        self.assertIn("MAIL FROM:<stranger@elsewhere.test>", text)
        self.assertIn("Subject: one", text)
        self.assertIn("\n..dot", text.replace("\r", ""))


def take(folder: Path) -> list[bytes]:
    """The files of a folder, which is empty then."""
    found = []
    for path in folder.iterdir():
        found.append(path.read_bytes())
        path.unlink()
    return found


def essence(octets: bytes) -> tuple[str, bytes]:
    """What getmail leaves alone: it adds to the header, and takes the empty
    lines off the end."""
    body = octets.replace(b"\r\n", b"\n").partition(b"\n\n")[2].rstrip()
    return subject(octets), body
