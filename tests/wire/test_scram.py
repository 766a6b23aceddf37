"""L{twisted_mta.wire.scram}: each side by the RFCs' examples, and against the other."""

from __future__ import annotations

import base64
import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mta.errors import AuthenticationFailed, MailError
from twisted_mta.wire import scram
from twisted_mta.wire.sasl import Credentials, MalformedResponse
from twisted_mta.wire.saslprep import saslprep
from twisted_mta.wire.scram import Keys, ScramClient, ScramServer, make_keys, read_keys

BOUND = b"the end of this connection"
KEYS = {name: make_keys(name, "pencil") for name in scram.HASHES}


def unbound(name: str) -> bytes | None:
    return None


def bound(name: str) -> bytes | None:
    return BOUND if name in scram.BINDINGS else None


def salted(mechanism: str, salt: str, iterations: int) -> Keys:
    """The keys of C{pencil} with the salt of an example."""
    name = scram.HASHES[mechanism]
    octets = base64.b64decode(salt)
    password = scram._salted(name, "pencil", octets, iterations)
    client = scram._hmac(name, password, b"Client Key")
    stored = scram.hashlib.new(name, client).digest()
    server = scram._hmac(name, password, b"Server Key")
    return Keys(octets, iterations, stored, server)


# RFC 5802 5 and RFC 7677 3.
EXAMPLES = {
    "SCRAM-SHA-1": (
        "fyko+d2lbbFgONRv9qkxdawL",
        "3rfcNHYJY1ZVvWVs7j",
        "QSXCR+Q6sek8bf92",
        "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    "SCRAM-SHA-256": (
        "rOprNGfwEbeRWgbNEkqO",
        "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}


class ExampleTests(unittest.TestCase):
    def test_server(self) -> None:
        """The server's side of the RFCs' examples."""
        for name, (client, ours, salt, proof, signature) in EXAMPLES.items():
            server = ScramServer(name, unbound)
            wanted = server.first(f"n,,n=user,r={client}".encode())
            self.assertEqual(wanted.name, "user")
            server.found(salted(name, salt, 4096))
            server._nonce = client + ours
            server._server_first = f"r={client}{ours},s={salt},i=4096"
            last = server.final(f"c=biws,r={client}{ours},p={proof}".encode())
            self.assertEqual(last, f"v={signature}".encode())

    def test_client(self) -> None:
        """The client's side."""
        for name, (nonce, theirs, salt, proof, signature) in EXAMPLES.items():
            client = ScramClient(Credentials("user", "pencil"), name)
            client._nonce = nonce
            client._bare = f"n=user,r={nonce}"
            self.assertEqual(client.initial(), f"n,,n=user,r={nonce}".encode())
            final = client.next(f"r={nonce}{theirs},s={salt},i=4096".encode())
            self.assertEqual(final, f"c=biws,r={nonce}{theirs},p={proof}".encode())
            self.assertFalse(client.verified)
            self.assertEqual(client.next(f"v={signature}".encode()), b"")
            self.assertTrue(client.verified)


class BothSidesTests(unittest.TestCase):
    def talk(
        self,
        client: ScramClient,
        server: ScramServer,
        keys: Keys | None = None,
    ) -> str:
        """An exchange to its end: who it was."""
        name = server.first(client.initial() or b"").name
        first = server.found(keys or KEYS[server.mechanism])
        client.next(server.final(client.next(first)))
        assert client.verified
        return name

    def test_each(self) -> None:
        """With and without channel binding."""
        for name in scram.HASHES:
            client = ScramClient(Credentials("bob", "pencil"), name)
            self.assertEqual(self.talk(client, ScramServer(name, unbound)), "bob")
            for binding in scram.BINDINGS:
                client = ScramClient(
                    Credentials("bob", "pencil"), f"{name}-PLUS", (binding, BOUND)
                )
                server = ScramServer(f"{name}-PLUS", bound)
                self.assertEqual(self.talk(client, server), "bob")

    def test_several(self) -> None:
        """Of several passwords with one salt each is good, and the server knows which
        it was; a client with none of them is refused."""
        first = KEYS["SCRAM-SHA-256"]
        others = [make_keys("SCRAM-SHA-256", word, first) for word in ("pen", "ink")]
        for index, password in enumerate(("pencil", "pen", "ink", "brush")):
            client = ScramClient(Credentials("bob", password))
            server = ScramServer(client.name, unbound)
            server.first(client.initial() or b"")
            last = client.next(server.found(first, *others))
            if password == "brush":
                self.assertRaises(AuthenticationFailed, server.final, last)
            else:
                client.next(server.final(last))
                self.assertEqual((server.shown, client.verified), (index, True))

    def test_wrong(self) -> None:
        """A wrong password, and an account that is none, fail in the same way."""
        nobody = scram.no_keys("SCRAM-SHA-256", b"secret", "nobody")
        client = ScramClient(Credentials("bob", "pen"))
        with self.assertRaises(AuthenticationFailed):
            self.talk(client, ScramServer(client.name, unbound))
        for password in ("pencil", "x"):
            client = ScramClient(Credentials("nobody", password))
            with self.assertRaises(AuthenticationFailed):
                self.talk(client, ScramServer(client.name, unbound), nobody)

    def test_h40_nobodys_salt(self) -> None:
        """Who asks twice for a name that nobody has is told the same, and no other
        name has it."""
        first = scram.no_keys("SCRAM-SHA-256", b"secret", "nobody")
        self.assertEqual(first, scram.no_keys("SCRAM-SHA-256", b"secret", "nobody"))
        for other in (
            scram.no_keys("SCRAM-SHA-256", b"secret", "noone"),
            scram.no_keys("SCRAM-SHA-256", b"other", "nobody"),
            scram.no_keys("SCRAM-SHA-1", b"secret", "nobody"),
        ):
            self.assertNotEqual(first.salt, other.salt)
        real = KEYS["SCRAM-SHA-256"]
        self.assertEqual(
            (len(first.salt), first.iterations), (len(real.salt), real.iterations)
        )

    @given(
        st.text(min_size=1, max_size=20).filter(lambda t: t.isprintable()),
        st.text(min_size=1, max_size=20),
    )
    @settings(max_examples=30, deadline=None)
    def test_names_and_passwords(self, name: str, password: str) -> None:
        """Whatever can be a name and a password arrives."""
        try:
            client = ScramClient(Credentials(name, password), "SCRAM-SHA-1")
        except ValueError:
            return
        server = ScramServer("SCRAM-SHA-1", unbound)
        keys = make_keys("SCRAM-SHA-1", password)
        self.assertEqual(self.talk(client, server, keys), saslprep(name))


class BindingTests(unittest.TestCase):
    def refused(self, mechanism: str, header: str, binding: scram.Binding) -> None:
        with self.assertRaises(AuthenticationFailed, msg=header):
            ScramServer(mechanism, binding).first(f"{header},,n=bob,r=abc".encode())

    def test_h40_downgraded(self) -> None:
        """A client that could bind, and was told that it could not, was lied to."""
        self.refused("SCRAM-SHA-256", "y", bound)
        server = ScramServer("SCRAM-SHA-256", unbound)
        self.assertEqual(server.first(b"y,,n=bob,r=abc").name, "bob")

    def test_h40_mismatch(self) -> None:
        """-PLUS wants a binding, the others want none; it must be one there is."""
        self.refused("SCRAM-SHA-256-PLUS", "n", bound)
        self.refused("SCRAM-SHA-256-PLUS", "y", bound)
        self.refused("SCRAM-SHA-256-PLUS", "p=tls-unique", bound)
        self.refused("SCRAM-SHA-256-PLUS", "p=tls-exporter", unbound)
        self.refused("SCRAM-SHA-256", "p=tls-exporter", bound)

    def test_h40_relayed(self) -> None:
        """Who sits in between, at the ends of two connections, is found out."""
        client = ScramClient(
            Credentials("bob", "pencil"),
            "SCRAM-SHA-256-PLUS",
            ("tls-exporter", b"the end of another connection"),
        )
        server = ScramServer("SCRAM-SHA-256-PLUS", bound)
        server.first(client.initial() or b"")
        final = client.next(server.found(KEYS["SCRAM-SHA-256"]))
        self.assertRaises(AuthenticationFailed, server.final, final)


class HostileTests(unittest.TestCase):
    def test_h40_first(self) -> None:
        """What is no first message is refused."""
        for message in (
            b"",
            b"\xff",
            b"n,,",
            b"n=bob,r=abc",
            b"x,,n=bob,r=abc",
            b"n,,n=,r=abc",
            b"n,,n=bob,r=",
            b"n,,n=b,ob,r=abc",
            b"n,,n=b=ob,r=abc",
            b"n,,n=bob,r=" + b"a" * 600,
            b"n,,n=" + b"b" * 300 + b",r=abc",
            b"n,,n=b\0b,r=abc",
            b"n,,m=x,n=bob,r=abc",
        ):
            server = ScramServer("SCRAM-SHA-256", unbound)
            with self.assertRaises(MalformedResponse, msg=message[:30]):
                server.first(message)
        server = ScramServer("SCRAM-SHA-256", unbound)
        with self.assertRaises(AuthenticationFailed):
            server.first(b"n,a=alice,n=bob,r=abc")  # acting for another
        server = ScramServer("SCRAM-SHA-256", unbound)
        self.assertEqual(server.first(b"n,a=b=2Cb,n=b=2Cb,r=abc,x=y").name, "b,b")

    def test_h40_final(self) -> None:
        """What is no last message is refused; a nonce of another exchange fails."""
        for message, error in (
            (b"", MalformedResponse),
            (b"c=biws,r=abc", MalformedResponse),
            (b"c=biws,r={nonce},p=!", MalformedResponse),
            (b"c=biws,r={nonce},p=AAAA", MalformedResponse),
            (b"c=eSws,r={nonce},p=" + b"A" * 43 + b"=", AuthenticationFailed),
            (b"c=biws,r=abc,p=" + b"A" * 43 + b"=", AuthenticationFailed),
        ):
            server = ScramServer("SCRAM-SHA-256", unbound)
            server.first(b"n,,n=bob,r=abc")
            nonce = server.found(KEYS["SCRAM-SHA-256"]).partition(b",")[0][2:]
            with self.assertRaises(error, msg=message):
                server.final(message.replace(b"{nonce}", nonce))
        server = ScramServer("SCRAM-SHA-256", unbound)
        self.assertRaises(MalformedResponse, server.final, b"c=biws,r=abc,p=AAAA")

    def test_h40_server_that_asks_much(self) -> None:
        """A client does not compute for ever, nor with a nonce that is not its own."""
        for first in (
            "r={nonce}x,s=QSXCR+Q6sek8bf92,i=999999999",
            "r={nonce}x,s=QSXCR+Q6sek8bf92,i=0",
            "r={nonce},s=QSXCR+Q6sek8bf92,i=4096",
            "r=x{nonce},s=QSXCR+Q6sek8bf92,i=4096",
            "r={nonce}x,s=!,i=4096",
            "e=other-error",
            "",
        ):
            client = ScramClient(Credentials("bob", "pencil"))
            challenge = first.replace("{nonce}", client._nonce).encode()
            self.assertRaises(MalformedResponse, client.next, challenge)

    def test_h40_server_without_the_password(self) -> None:
        """A server that does not know the password is found out."""
        for last in (b"v=AAAA", b"e=invalid-proof", b"", b"v=" + b"A" * 43 + b"="):
            client = ScramClient(Credentials("bob", "pencil"))
            client.next(f"r={client._nonce}x,s=QSXCR+Q6sek8bf92,i=1".encode())
            self.assertRaises(MalformedResponse, client.next, last)
            self.assertFalse(client.verified)

    @given(st.binary(max_size=60), st.binary(max_size=80))
    @settings(max_examples=200, deadline=None)
    def test_h40_garbage(self, first: bytes, final: bytes) -> None:
        """Whatever comes, it is a domain error."""
        server = ScramServer("SCRAM-SHA-256", bound)
        try:
            server.first(first)
            server.found(KEYS["SCRAM-SHA-256"])
            server.final(final)
        except MailError:
            return
        raise AssertionError("let in")


class KeysTests(unittest.TestCase):
    def test_stored(self) -> None:
        """Keys are read as they were written; each has a salt of its own."""
        for keys in KEYS.values():
            self.assertEqual(read_keys(str(keys)), keys)
        self.assertNotEqual(
            make_keys("SCRAM-SHA-1", "a").salt, KEYS["SCRAM-SHA-1"].salt
        )
        for text in ("", "4096", "4096:AAAA$", "x:AAAA$AAAA:AAAA", "1:!$AAAA:AAAA"):
            self.assertRaises(ValueError, read_keys, text)

    def test_saslprep(self) -> None:
        """The examples of RFC 4013 3."""
        for text, prepared in (
            ("I\u00adX", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u00aa", "a"),
            ("\u2168", "IX"),
            ("a\u00a0b", "a b"),
        ):
            self.assertEqual(saslprep(text), prepared)
        for text in ("", "\u0007", "\u0627\u0031", "\u00ad", "\ue000"):
            self.assertRaises(ValueError, saslprep, text)
