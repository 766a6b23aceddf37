"""Mail between two real daemons that know each other's extensions."""

import smtplib

from tests.system.daemon import PATIENCE_S
from tests.system.relaycase import (
    PASSWORD,
    TRUSTING,
    TwoServers,
    inbox,
    report,
    wait_for,
)

IMAGE = b"\x89PNG\0\r\n\x1a\n.\r\n\xff\r"


class FromAToB(TwoServers):
    """From C{a}, where Alice submits, to C{b}, where Blice reads."""

    def submitting(self):
        client = smtplib.SMTP(
            "127.0.0.1", self.a.ports["submission"], timeout=PATIENCE_S
        )
        self.addCleanup(client.close)
        client.starttls(context=TRUSTING)
        client.login("alice@a.test", PASSWORD)
        return client

    def begin(self, *options):
        client = self.submitting()
        code, said = client.mail("alice@a.test", options)
        self.assertEqual(code, 250, said)
        self.assertEqual(client.rcpt("blice@b.test")[0], 250)
        return client

    def require_tls(self):
        client = self.begin("REQUIRETLS")
        content = b"From: alice@a.test\r\nSubject: secret\r\n\r\nsecret\r\n"
        self.assertEqual(client.data(content)[0], 250)


class ExtensionTests(FromAToB):
    """Servers that know nothing of each other."""

    def test_chunks(self):
        """A small message goes in one chunk, whatever its lines are; a binary one in
        several, and arrives as it was, as far as those who read it can tell."""
        text = "From: alice@a.test\r\nSubject: x\r\n\r\n.\r\n..\r\nüber\r\n"
        self.submitting().sendmail("alice@a.test", ["blice@b.test"], text.encode())
        (message,) = wait_for(self.b, "blice@b.test", 1)
        self.assertEqual(
            message.get_payload(decode=True).replace(b"\r\n", b"\n"),
            ".\n..\nüber\n".encode(),
        )
        client = self.begin("BODY=BINARYMIME")
        octets = (
            b"From: alice@a.test\r\nSubject: image\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        ) + IMAGE * 20_000
        for at in range(0, len(octets), 50_000):
            chunk = octets[at : at + 50_000]
            last = b" LAST" if at + 50_000 >= len(octets) else b""
            client.send(b"BDAT %d%b\r\n" % (len(chunk), last) + chunk)
            self.assertEqual(client.getreply()[0], 250)
        _, message = wait_for(self.b, "blice@b.test", 2)
        self.assertEqual(message["Content-Transfer-Encoding"], "base64")
        self.assertEqual(message.get_payload(decode=True), IMAGE * 20_000)

    def test_require_tls(self):
        """What requires TLS is returned where nobody knows whom to verify;
        nothing of it is sent."""
        self.require_tls()
        (message,) = wait_for(self.a, "alice@a.test", 1)
        self.assertEqual(report(message).failed, {"blice@b.test": "5.7.30"})
        self.assertEqual(inbox(self.b, "blice@b.test"), [])


class VouchedTests(FromAToB):
    """Servers that believe each other's certificate."""

    vouched = True

    def test_require_tls(self):
        """What requires TLS arrives."""
        self.require_tls()
        (message,) = wait_for(self.b, "blice@b.test", 1)
        self.assertEqual(message["Subject"], "secret")
