"""Logins by tokens, by certificates and by SCRAM, of programs that are not ours: msmtp,
curl, mutt, mbsync and GNU SASL's own client, against the real daemon."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from joserfc import jwk, jwt

from tests.net.authority import authority
from tests.system.clients import ALICE, BOB, Served
from tests.system.daemon import Server, free_port_base, need, run
from tests.system.workercase import PASSWORD, TEMPLATE
from twisted_mta.auth.authenticator import MECHANISMS
from twisted_mta.net.tls import Pair

SERVER = "localhost"
ISSUER = "https://id.example.test"

# What programs exit with.
MSMTP_REFUSED_LOGIN = 77
CURL_REFUSED_LOGIN = 67


class Configured(Server):
    """C{twistd -n mta} with who vouches for people in its config.

    @ivar directory: where its data are.
    @ivar passwords: by address.
    @ivar token: a token for alice.
    @ivar pair: a certificate for alice, and its key.
    @ivar stranger: one that nobody here believes.
    """

    facts: dict[str, Any] = {"listeners": ()}

    def __init__(self, where: Path) -> None:
        where.mkdir()
        self.directory = where / "data"
        self.passwords = {ALICE: PASSWORD, BOB: PASSWORD}
        key = jwk.ECKey.generate_key("P-256", {"kid": "1"})
        keys = where / "jwks.json"
        keys.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
        claims = {"iss": ISSUER, "aud": "mail", "exp": int(time.time()) + 3600}
        header = {"alg": "ES256", "kid": "1"}
        self.token = jwt.encode(header, {**claims, "email": ALICE}, key)
        self.pair = authority(where, "alice", ALICE)
        self.stranger = authority(where, "stranger", ALICE)
        base = free_port_base()
        more = (
            f"login: {{authorities: {self.pair.certificate},"
            f" mechanisms: [{', '.join(MECHANISMS)}]}}\n"
            f"tokens: [{{kind: jwt, keys: {keys}, issuer: '{ISSUER}', "
            "audience: mail}]\n"
        )
        super().__init__(TEMPLATE.copy(where, base, 1, more), base)

    def stop(self) -> int:
        # twistd ends by the signal that ended it.
        status = super().stop()
        return 0 if status == -signal.SIGINT else status


class Vouched(Served):
    """With a server that believes an authority and an issuer of tokens."""

    daemon: Any

    @classmethod
    def started(cls, where: Path) -> Any:
        return Configured(where)

    def logins(self) -> int:
        """How many of alice are in the log since the test began."""
        return self.daemon.log[self._read :].count(f": login={ALICE}, client=")


class Msmtp(Vouched):
    """msmtp, submission."""

    def setUp(self) -> None:
        need("msmtp")
        super().setUp()

    def send(self, how: str, password: str = "", pair: Pair | None = None) -> int:
        """A message to bob; what it exits with."""
        shown = ()
        if pair is not None:
            shown = (
                f"--tls-cert-file={pair.certificate}",
                f"--tls-key-file={pair.key}",
            )
        return run(
            (
                *("msmtp", f"--host={SERVER}", f"--port={self.port('submission')}"),
                *("--tls=on", "--tls-starttls=on", *shown, f"--auth={how}"),
                f"--tls-trust-file={self.certificate}",
                *(f"--user={ALICE}", f"--passwordeval=echo '{password}'"),
                *(f"--from={ALICE}", BOB),
            ),
            text=f"From: {ALICE}\nTo: {BOB}\nSubject: {how}\n\nDear\n",
            check=False,
            HOME=str(self.home),
        ).returncode

    def test_tokens(self) -> None:
        """OAUTHBEARER and XOAUTH2; a token that is none sends nothing."""
        for how in ("oauthbearer", "xoauth2"):
            self.assertEqual(self.send(how, self.daemon.token), 0, how)
        for how in ("oauthbearer", "xoauth2"):
            refused = self.send(how, self.daemon.token[:-8] + "AAAAAAAA")
            self.assertEqual(refused, MSMTP_REFUSED_LOGIN, how)
        self.assertEqual(self.subjects(BOB), ["oauthbearer", "xoauth2"])

    def test_certificate(self) -> None:
        """EXTERNAL; without a certificate that is believed nothing is sent."""
        self.assertEqual(self.send("external", pair=self.daemon.pair), 0)
        self.assertNotEqual(self.send("external", pair=self.daemon.stranger), 0)
        self.assertNotEqual(self.send("external"), 0)
        self.assertEqual(self.subjects(BOB), ["external"])


class Curl(Vouched):
    """curl, IMAP and POP3."""

    def setUp(self) -> None:
        need("curl")
        super().setUp()

    def fetch(self, scheme: str, how: str, *words: str) -> int:
        """What it exits with."""
        return run(
            (
                *("curl", "--silent", "--cacert", str(self.certificate)),
                *("--login-options", f"AUTH={how}", *words),
                f"{scheme}://{SERVER}:{self.port(scheme)}/",
            ),
            check=False,
        ).returncode

    def test_each(self) -> None:
        """Everything that it knows and the server too."""
        password = ("--user", f"{ALICE}:{PASSWORD}")
        token = ("--user", ALICE, "--oauth2-bearer", self.daemon.token)
        pair = self.daemon.pair
        shown = ("--cert", str(pair.certificate), "--key", str(pair.key))
        certificate = ("--user", f"{ALICE}:", *shown)
        before = self.logins()
        for scheme in ("imap", "imaps", "pop3", "pop3s"):
            words = ("--ssl-reqd",) if not scheme.endswith("s") else ()
            for how, proof in (
                ("PLAIN", password),
                ("LOGIN", password),
                ("OAUTHBEARER", token),
                ("XOAUTH2", token),
                ("EXTERNAL", certificate),
            ):
                self.assertEqual(self.fetch(scheme, how, *words, *proof), 0, how)
        self.assertEqual(self.logins() - before, 4 * 5)

    def test_wrong(self) -> None:
        """A token that is none."""
        for scheme in ("imaps", "pop3s"):
            words = ("--user", ALICE, "--oauth2-bearer", self.daemon.token + "A")
            refused = self.fetch(scheme, "OAUTHBEARER", *words)
            self.assertEqual(refused, CURL_REFUSED_LOGIN, scheme)


class Gsasl(Vouched):
    """GNU SASL's own client: SCRAM with channel binding, which checks that the server
    knows the password, too."""

    def setUp(self) -> None:
        need("gsasl")
        super().setUp()

    def log_in(
        self, protocol: str, listener: str, how: str, *words: str
    ) -> subprocess.CompletedProcess[str]:
        return run(
            (
                *("gsasl", f"--{protocol}", f"--mechanism={how}"),
                f"--connect={SERVER}:{self.port(listener)}",
                *(f"--x509-ca-file={self.certificate}", f"--authentication-id={ALICE}"),
                *words,
            ),
            check=False,
        )

    def test_each(self) -> None:
        """SCRAM bound to the TLS connection and not, and by certificate; IMAP and
        submission."""
        pair = self.daemon.pair
        shown = (
            f"--x509-cert-file={pair.certificate}",
            f"--x509-key-file={pair.key}",
        )
        password = f"--password={PASSWORD}"
        ways = {
            "SCRAM-SHA-256-PLUS": (password,),
            "SCRAM-SHA-1-PLUS": (password,),
            "SCRAM-SHA-256": (password, "--no-cb"),
            "SCRAM-SHA-1": (password, "--no-cb"),
            "PLAIN": (password,),
            "EXTERNAL": shown,
        }
        for protocol, listener in (("imap", "imap"), ("smtp", "submission")):
            for how, words in ways.items():
                done = self.log_in(protocol, listener, how, *words)
                said = done.stdout + done.stderr
                self.assertIn("server trusted", said, (protocol, how))
        wrong = self.log_in("imap", "imap", "SCRAM-SHA-256-PLUS", "--password=wrong")
        self.assertNotIn("server trusted", wrong.stdout + wrong.stderr)


class Mutt(Vouched):
    """mutt, with GNU SASL: reads mail by SCRAM."""

    def setUp(self) -> None:
        need("mutt", "script")
        super().setUp()

    def test_scram(self) -> None:
        """IMAP and POP3."""
        self.deliver("one", body="first body\n")
        login = ALICE.replace("@", "%40")
        for scheme, how in (
            ("imaps", "scram-sha-256"),
            ("pops", "scram-sha-256"),
            ("imaps", "scram-sha-1"),
        ):
            port = self.port(scheme.replace("pops", "pop3s"))
            saved = self.home / f"{scheme}-{how}"
            rc = self.file(
                "muttrc",
                f"set imap_pass = '{PASSWORD}'",
                f"set pop_pass = '{PASSWORD}'",
                f"set imap_authenticators = {how}",
                f"set pop_authenticators = {how}",
                f"set ssl_ca_certificates_file = {self.certificate}",
                f"set certificate_file = {self.certificate}",
                f"set folder = {self.home}",
                "unset confirmappend",
                "unset confirmcreate",
                "set quit = yes",
                "unset move",
            )
            where = f"{scheme}://{login}@{SERVER}:{port}/"
            keys = f"<copy-message><kill-line>{saved}<enter><quit>"
            words = f"mutt -n -F {rc} -e 'push \"{keys}\"' -f '{where}'"
            run(
                ("script", "--quiet", "--return", "--command", words, "/dev/null"),
                HOME=str(self.home),
                TERM="xterm",
                LC_ALL="C.UTF-8",
            )
            self.assertIn(b"first body", saved.read_bytes(), (scheme, how))


class Mbsync(Vouched):
    """mbsync, with Cyrus SASL."""

    def setUp(self) -> None:
        need("mbsync")
        super().setUp()

    def sync(self, how: str, password: str) -> subprocess.CompletedProcess[str]:
        """Bring the INBOX down."""
        config = self.file(
            "mbsyncrc",
            "IMAPStore remote",
            f"Host {SERVER}",
            f"Port {self.port('imaps')}",
            f"User {ALICE}",
            f'Pass "{password}"',
            f"AuthMechs {how}",
            "SSLType IMAPS",
            f"CertificateFile {self.certificate}",
            "",
            "MaildirStore local",
            f"Path {self.home}/{how}/",
            f"Inbox {self.home}/{how}/INBOX",
            "",
            "Channel all",
            "Far :remote:",
            "Near :local:",
            "Create Near",
            "Sync Pull",
            "SyncState *",
        )
        (self.home / how).mkdir(exist_ok=True)
        words = ("mbsync", "--config", str(config), "--all")
        return run(words, check=False, HOME=str(self.home))

    def test_scram(self) -> None:
        """SCRAM alone; a wrong password brings nothing."""
        self.deliver("one", body="first body\n")
        for how in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
            done = self.sync(how, PASSWORD)
            self.assertEqual(done.returncode, 0, how + done.stdout + done.stderr)
            (got,) = (self.home / how / "INBOX").glob("*/*")
            self.assertIn(b"first body", got.read_bytes())
        self.assertNotEqual(self.sync("SCRAM-SHA-256", "wrong").returncode, 0)
