"""L{twisted_mta.net.tls}: contexts, by handshakes in memory and over loopback."""

import contextlib
import hashlib
import ssl
import unittest
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import capturedLogs
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import TestCase

from tests.net.authority import authority, client, revocations
from tests.net.lines import Lines
from twisted_mta.mail.channel import NOT_CERTIFIED, CertifiedNames
from twisted_mta.net import tls
from twisted_mta.net.admission import Admission
from twisted_mta.net.listener import Listener, Spoken
from twisted_mta.net.selfsigned import self_signed
from twisted_mta.net.stream import Stream
from twisted_mta.net.tls import CertificateError, Pair, ServerTls


def made(directory: Path, names: Sequence[str], word: str = "pair") -> Pair:
    """A self-signed pair."""
    pair = Pair(directory / f"{word}.crt", directory / f"{word}.key")
    self_signed(pair, names)
    return pair


def trusting_all() -> ssl.SSLContext:
    """A client that wants to see a certificate, whichever."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def handshake(
    server: ServerTls, context: ssl.SSLContext, name: str | None = None
) -> ssl.SSLObject:
    """Python's client against our server, in memory.

    @raise ssl.SSLError: the client will not.
    @raise SSL.Error: the server will not.
    """
    ours = server.serverConnectionForTLS(cast(TLSMemoryBIOProtocol, None))
    ours.set_accept_state()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = context.wrap_bio(incoming, outgoing, server_hostname=name)
    for _ in range(8):
        try:
            theirs.do_handshake()
        except ssl.SSLWantReadError:
            ours.bio_write(outgoing.read())
        else:
            return theirs
        with contextlib.suppress(SSL.WantReadError):
            ours.do_handshake()
        incoming.write(ours.bio_read(65536))
    raise AssertionError("no end of the handshake")


def logged_in_by(
    server: ServerTls, context: ssl.SSLContext
) -> tuple[Sequence[str], SSL.Connection, ssl.SSLObject]:
    """The addresses in a client's certificate, and both ends of the connection."""
    ours = server.serverConnectionForTLS(cast(TLSMemoryBIOProtocol, None))
    ours.set_accept_state()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = context.wrap_bio(incoming, outgoing)
    done = False
    for _ in range(8):
        with contextlib.suppress(ssl.SSLWantReadError):
            theirs.do_handshake()
        if said := outgoing.read():
            ours.bio_write(said)
        with contextlib.suppress(SSL.WantReadError):
            ours.do_handshake()
            done = True
        with contextlib.suppress(SSL.WantReadError):
            incoming.write(ours.bio_read(65536))
    assert done
    return tls.certified(ours), ours, theirs


def shown(server: ServerTls, name: str | None) -> Sequence[str]:
    """The DNS names of the certificate that a client of this name gets."""
    octets = handshake(server, trusting_all(), name).getpeercert(True)
    leaf = x509.load_der_x509_certificate(octets or b"")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.DNSName)


class Files(unittest.TestCase):
    """A directory for certificates."""

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)


class SelfSignedTests(Files):
    def test_files_are_private(self) -> None:
        """Certificate and key are readable by their owner alone."""
        pair = made(self.directory, ["localhost"])
        for path in (pair.certificate, pair.key):
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(len(list(self.directory.iterdir())), 2)

    def test_ecdsa_p256_and_names(self) -> None:
        """The key is ECDSA P-256; a client that trusts the file accepts every
        name and address in it."""
        names = ["localhost", "example.test", "127.0.0.1", "::1"]
        pair = made(self.directory, names)
        leaf = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        key = leaf.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.assertIsInstance(key.curve, ec.SECP256R1)
        trusting = ssl.create_default_context(cafile=pair.certificate)
        for name in names:
            handshake(ServerTls([pair]), trusting, name)
        with self.assertRaises(ssl.SSLCertVerificationError):
            handshake(ServerTls([pair]), trusting, "example.org")

    def test_kept_while_it_lasts(self) -> None:
        """A pair that is there is not replaced; one that cannot be used is."""
        pair = made(self.directory, ["localhost"])
        before = pair.certificate.read_bytes(), pair.key.read_bytes()
        made(self.directory, ["localhost"])
        after = pair.certificate.read_bytes(), pair.key.read_bytes()
        self.assertEqual(before, after)
        pair.key.unlink()
        made(self.directory, ["localhost"])
        self.assertNotEqual(before[0], pair.certificate.read_bytes())
        ServerTls([pair])


class ServerTests(Files):
    def test_sni(self) -> None:
        """A client gets the certificate of the name it asks for, wildcards
        included, in any case; else the first."""
        first = made(self.directory, ["mx.example.org", "example.org"], "a")
        second = made(self.directory, ["*.example.net", "example.net"], "b")
        server = ServerTls([first, second])
        for name, expected in (
            (None, "example.org"),
            ("mx.example.org", "example.org"),
            ("example.net", "example.net"),
            ("IMAP.Example.NET", "example.net"),
            ("a.b.example.net", "example.org"),
            ("elsewhere.test", "example.org"),
        ):
            with self.subTest(name=name):
                self.assertIn(expected, shown(server, name))

    def test_versions(self) -> None:
        """TLS 1.2 and 1.3 are spoken, older ones are not (RFC 8996)."""
        server = ServerTls([made(self.directory, ["localhost"])])
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = trusting_all()
            context.minimum_version = context.maximum_version = version
            spoken = handshake(server, context).version()
            self.assertEqual(spoken, version.name.replace("_", "."))
        old = SSL.Context(SSL.TLS_CLIENT_METHOD)
        old.set_min_proto_version(SSL.TLS1_1_VERSION)
        old.set_max_proto_version(SSL.TLS1_1_VERSION)
        old.set_cipher_list(b"ALL:@SECLEVEL=0")
        client = SSL.Connection(old, None)
        client.set_connect_state()
        self.assertRaises(SSL.WantReadError, client.do_handshake)
        ours = server.serverConnectionForTLS(cast(TLSMemoryBIOProtocol, None))
        ours.set_accept_state()
        ours.bio_write(client.bio_read(65536))
        self.assertRaisesRegex(SSL.Error, "unsupported protocol", ours.do_handshake)

    def test_reload(self) -> None:
        """New files are in use after a reload, without a new object."""
        pair = made(self.directory, ["old.test"])
        server = ServerTls([pair])
        new = made(self.directory, ["new.test"], "new")
        new.certificate.replace(pair.certificate)
        new.key.replace(pair.key)
        self.assertEqual(shown(server, None), ["old.test"])
        self.assertTrue(server.reload())
        self.assertEqual(shown(server, None), ["new.test"])

    def test_bad_reload_keeps_the_old(self) -> None:
        """When one file of several is bad, all stay as they were, and the log
        says which file it is."""
        first = made(self.directory, ["first.test"], "a")
        second = made(self.directory, ["second.test"], "b")
        server = ServerTls([first, second])
        made(self.directory, ["third.test"], "c").certificate.replace(first.certificate)
        with capturedLogs() as captured:
            self.assertFalse(server.reload())
        (event,) = captured
        self.assertIn(str(first.key), event["error"])
        self.assertEqual(shown(server, None), ["first.test"])
        self.assertEqual(shown(server, "second.test"), ["second.test"])

    def test_files_that_cannot_be_used(self) -> None:
        """The error says which file, and what is wrong with it."""
        good = made(self.directory, ["a.test"], "good")
        other = made(self.directory, ["b.test"], "other")
        text = self.directory / "text"
        text.write_text("hello")
        missing = self.directory / "missing"
        for pair, path, what in (
            (Pair(missing, good.key), missing, "No such file"),
            (Pair(good.certificate, missing), missing, "No such file"),
            (Pair(text, good.key), text, "no PEM certificate"),
            (Pair(good.certificate, text), text, "not the unencrypted PEM key"),
            (Pair(good.certificate, other.key), other.key, "not the unencrypted"),
        ):
            with self.assertRaises(CertificateError) as caught:
                ServerTls([pair])
            self.assertIn(f"{path}: ", str(caught.exception))
            self.assertIn(what, str(caught.exception))


async def start_tls_on_first_line(stream: Stream, context: object) -> None:
    """A server's session: TLS after a line, then echo."""
    await stream.next_event()
    stream.write(b"go\r\n")
    if await stream.start_tls(context):
        while isinstance(line := await stream.next_event(), bytes):
            stream.write(line + b"\r\n")


class ClientTests(TestCase):
    """Our client against our server, with STARTTLS over loopback."""

    def setUp(self) -> None:
        self.pair = made(Path(self.mktemp()).parent, ["mx.example.test"], self.id())

    async def outcome(self, context: object) -> bytes:
        """What a client with this context comes to: a line through TLS, or
        nothing."""
        server = ServerTls([self.pair])
        clock = cast(IReactorTime, reactor)

        async def session(stream: Stream) -> None:
            await start_tls_on_first_line(stream, server)

        listener = Listener(
            clock,
            "t",
            ["tcp:0:interface=127.0.0.1"],
            Spoken(Lines, session, lambda name: b""),
            Admission(10),
        )
        await listener.start()
        done: Deferred[bytes] = Deferred()

        async def client(stream: Stream) -> None:
            stream.write(b"STARTTLS\r\n")
            await stream.next_event()
            line = b""
            if await stream.start_tls(context):
                stream.write(b"hello\r\n")
                answer = await stream.next_event()
                line = answer if isinstance(answer, bytes) else b""
            done.callback(line)

        made_stream = Stream(clock, Lines(), client, "client")
        factory = Factory.forProtocol(cast(Any, lambda: made_stream))
        await TCP4ClientEndpoint(reactor, *listener.where[0]).connect(factory)
        line = await done
        await listener.stop()
        return line

    async def test_opportunistic(self) -> None:
        """Any certificate will do, whoever the peer says it is."""
        for host in ("elsewhere.test", "192.0.2.1"):
            self.assertEqual(await self.outcome(tls.opportunistic(host)), b"hello")

    async def test_verifying(self) -> None:
        """Only a certificate of that name, from an authority we believe."""
        trust = self.pair.certificate
        for host, roots, expected in (
            ("mx.example.test", trust, b"hello"),
            ("mx.example.test", None, b""),
            ("other.example.test", trust, b""),
            ("127.0.0.1", trust, b""),
        ):
            context = tls.verifying(host, roots)
            self.assertEqual(await self.outcome(context), expected, host)

    def test_trust_that_cannot_be_read(self) -> None:
        """The error names the file."""
        missing = Path("missing.pem")
        with self.assertRaisesRegex(CertificateError, "missing.pem"):
            tls.verifying("mx.example.test", missing)


class LoginTests(Files):
    """What a connection is to a login."""

    def test_certified(self) -> None:
        """A client's certificate of an authority that is believed has addresses; who
        shows none has none; one of another authority is no client."""
        bob = authority(self.directory, "bob", "bob@example.test", "b@example.test")
        eve = authority(self.directory, "eve", "bob@example.test")
        server = ServerTls([made(self.directory, ["mx.test"])], bob.certificate)
        context = trusting_all()
        self.assertEqual(logged_in_by(server, context)[0], NOT_CERTIFIED)
        context.load_cert_chain(bob.certificate, bob.key)
        found = logged_in_by(server, context)[0]
        said = CertifiedNames(("bob@example.test", "b@example.test"), ("bob",))
        self.assertEqual(found, said)
        context = trusting_all()
        context.load_cert_chain(eve.certificate, eve.key)
        with self.assertRaises((SSL.Error, ssl.SSLError)):
            logged_in_by(server, context)
        with self.assertRaises(CertificateError):
            ServerTls([made(self.directory, ["mx.test"])], self.directory / "none")

    def test_revoked(self) -> None:
        """A certificate that its authority has taken back is none; nor is one of which
        that cannot be known, since the list is too old."""
        mine = authority(self.directory, "mine")
        bob = client(self.directory, "bob", "bob@example.test", issuer=mine)
        eve = client(self.directory, "eve", "eve@example.test", issuer=mine)
        believed = self.directory / "believed.pem"
        day = timedelta(days=1)

        def shown(pair: Pair) -> tuple[str, ...]:
            context = trusting_all()
            context.load_cert_chain(pair.certificate, pair.key)
            found: CertifiedNames = logged_in_by(server, context)[0]
            return found.addresses

        believed.write_bytes(mine.certificate.read_bytes())
        server = ServerTls([made(self.directory, ["mx.test"])], believed)
        self.assertEqual(shown(eve), ("eve@example.test",))
        fresh = revocations(mine, eve, until=day)
        believed.write_bytes(mine.certificate.read_bytes() + fresh)
        self.assertTrue(server.reload())
        self.assertEqual(shown(bob), ("bob@example.test",))
        with self.assertRaises((SSL.Error, ssl.SSLError)):
            shown(eve)
        old = revocations(mine, until=-day / 2)
        believed.write_bytes(mine.certificate.read_bytes() + old)
        self.assertTrue(server.reload())
        with self.assertRaises((SSL.Error, ssl.SSLError)):
            shown(bob)

    def test_not_asked(self) -> None:
        """Without authorities nobody is asked for one."""
        bob = authority(self.directory, "bob", "bob@example.test")
        server = ServerTls([made(self.directory, ["mx.test"])])
        context = trusting_all()
        context.load_cert_chain(bob.certificate, bob.key)
        self.assertEqual(logged_in_by(server, context)[0], NOT_CERTIFIED)

    def test_channel_binding(self) -> None:
        """The certificate as the client sees it; from TLS 1.3 on something that only
        the two ends know, and no other connection has."""
        server = ServerTls([made(self.directory, ["mx.test"])])
        exported = set()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = trusting_all()
            context.maximum_version = version
            for _ in range(2):
                _, ours, theirs = logged_in_by(server, context)
                seen = hashlib.sha256(theirs.getpeercert(True) or b"").digest()
                self.assertEqual(
                    tls.channel_binding(ours, "tls-server-end-point"), seen
                )
                self.assertIsNone(tls.channel_binding(ours, "tls-unique"))
                octets = tls.channel_binding(ours, "tls-exporter")
                if version == ssl.TLSVersion.TLSv1_2:
                    self.assertIsNone(octets)
                else:
                    self.assertEqual(len(octets or b""), 32)
                    exported.add(octets)
        self.assertEqual(len(exported), 2)
