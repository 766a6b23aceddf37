"""L{twisted_mta.net.verification}: certificates, by handshakes in memory."""

import contextlib
import hashlib
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL

from tests.net.chain import CLIENT, Made, certificate, written
from twisted_mta.mail.tlsa import Tlsa
from twisted_mta.net.tls import CertificateError, ServerTls, opportunistic
from twisted_mta.net.verification import (
    Fault,
    Unverified,
    check_authority,
    check_tlsa,
    fits,
    tlsa_of,
    watching,
)

HOST = "mx.there.test"
NOBODY: Any = None


def pinned(made: Made, usage: int, selector: int, matching: int) -> Tlsa:
    """The record of a certificate."""
    octets = made.certificate.public_bytes(Encoding.DER)
    if selector:
        octets = made.certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    digests = {0: lambda: octets}
    digests[1] = hashlib.sha256(octets).digest
    digests[2] = hashlib.sha512(octets).digest
    return Tlsa(usage, selector, matching, digests[matching]())


class Case(unittest.TestCase):
    """Handshakes."""

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.root = certificate("root", authority=True)
        self.middle = certificate("middle", self.root, authority=True)

    def leaf(self, **more: Any) -> Made:
        return certificate("leaf", self.middle, **{"names": (HOST,), **more})

    def met(self, *chain: Made, trust: Made | None = None) -> SSL.Connection:
        """The client's side of a connection to a server that shows a chain."""
        server = ServerTls([written(self.directory, *chain)])
        theirs = server.serverConnectionForTLS(NOBODY)
        theirs.set_accept_state()
        if trust is None:
            creator = opportunistic(HOST)
        else:
            path = self.directory / f"{trust.certificate.serial_number}.pem"
            path.write_bytes(trust.pem)
            creator = watching(HOST, path)
        ours = creator.clientConnectionForTLS(NOBODY)
        ours.set_connect_state()
        for _ in range(8):
            for one, other in ((ours, theirs), (theirs, ours)):
                with contextlib.suppress(SSL.WantReadError):
                    one.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(one.bio_read(65536))
        self.assertIsNotNone(ours.get_peer_certificate())
        return ours


class AuthorityTests(Case):
    """An authority vouches for a name."""

    def wrong(self, *chain: Made, trust: Made | None = None) -> Fault:
        handle = self.met(*chain, trust=trust or self.root)
        with self.assertRaises(Unverified) as caught:
            check_authority(handle, HOST)
        return caught.exception.fault

    def test_right(self) -> None:
        """A certificate of the name, or of a pattern that it fits, is right."""
        for names in ((HOST,), ("other.test", "*.there.test"), (HOST.upper(),)):
            chain = self.leaf(names=names), self.middle
            check_authority(self.met(*chain, trust=self.root), HOST)

    def test_name(self) -> None:
        """One of another name is not, nor one that has it as its common name only (RFC
        8461 4.2)."""
        for names in (("there.test",), ("*.test",), ("*.mx.there.test",)):
            wrong = self.wrong(self.leaf(names=names), self.middle)
            self.assertIs(wrong, Fault.NAME)
        common = certificate(HOST, self.middle, names=None)
        self.assertIs(self.wrong(common, self.middle), Fault.NAME)

    def test_time(self) -> None:
        """Its time must be now."""
        for days in ((-3, -1), (1, 3)):
            wrong = self.wrong(self.leaf(days=days), self.middle)
            self.assertIs(wrong, Fault.EXPIRED)

    def test_trust(self) -> None:
        """Nobody's word, a stranger's, or a missing link is not enough; that counts
        more than the time."""
        alone = certificate("leaf", names=(HOST,), days=(-3, -1))
        stranger = certificate("stranger", authority=True)
        self.assertIs(self.wrong(alone), Fault.TRUST)
        self.assertIs(self.wrong(self.leaf(), self.middle, trust=stranger), Fault.TRUST)
        self.assertIs(self.wrong(self.leaf()), Fault.TRUST)

    def test_use(self) -> None:
        """A client's certificate is none of a server; one who is no authority vouches
        for nobody."""
        leaf = self.leaf(use=CLIENT)
        self.assertIs(self.wrong(leaf, self.middle), Fault.OTHER)
        by_leaf = certificate("deep", self.leaf(), names=(HOST,))
        self.assertIsInstance(self.wrong(by_leaf), Fault)

    def test_each_by_itself(self) -> None:
        """What was wrong with one connection is not with the next."""
        self.wrong(certificate("leaf", names=(HOST,)))
        check_authority(self.met(self.leaf(), self.middle, trust=self.root), HOST)

    def test_no_trust(self) -> None:
        """A file without authorities is told."""
        empty = self.directory / "empty.pem"
        empty.write_text("")
        with self.assertRaises(CertificateError):
            watching(HOST, empty)


class TlsaTests(Case):
    """The DNS says what the certificate is."""

    def wrong(self, handle: SSL.Connection, *records: Tlsa, name: str = HOST) -> Fault:
        with self.assertRaises(Unverified) as caught:
            check_tlsa(handle, records, (name,))
        return caught.exception.fault

    def test_pinned(self) -> None:
        """The certificate or its key is what the record says, whatever its name and
        time (RFC 7672 3.1.1)."""
        leaf = certificate("leaf", names=("other.test",), days=(-3, -1))
        handle = self.met(leaf)
        stranger = certificate("leaf", names=(HOST,))
        for selector in (0, 1):
            for matching in (0, 1, 2):
                with self.subTest(selector=selector, matching=matching):
                    record = pinned(leaf, 3, selector, matching)
                    other = pinned(stranger, 3, selector, matching)
                    check_tlsa(handle, (other, record), (HOST,))
                    self.assertIs(self.wrong(handle, other), Fault.OTHER)
        self.assertEqual(tlsa_of(leaf.certificate), pinned(leaf, 3, 1, 1))

    def test_authority(self) -> None:
        """An authority that the record says vouches for a name, be it the root or one
        below; which must be shown, unless the record holds it whole."""
        leaf = self.leaf()
        handle = self.met(leaf, self.middle, self.root)
        for anchor in (self.middle, self.root):
            for selector in (0, 1):
                for matching in (0, 1, 2):
                    record = pinned(anchor, 2, selector, matching)
                    check_tlsa(handle, (record,), ("other.test", HOST))
        handle = self.met(leaf, self.middle)
        check_tlsa(handle, (pinned(self.root, 2, 0, 0),), (HOST,))
        self.assertIs(self.wrong(handle, pinned(self.root, 2, 0, 1)), Fault.TRUST)

    def test_authority_of_another(self) -> None:
        """Who shows the authority's certificate is not vouched for by that."""
        alone = certificate("leaf", names=(HOST,))
        handle = self.met(alone, self.middle)
        self.assertIs(self.wrong(handle, pinned(self.middle, 2, 1, 1)), Fault.TRUST)
        self.assertIs(self.wrong(handle, pinned(alone, 2, 1, 1)), Fault.TRUST)

    def test_authority_names(self) -> None:
        """With an authority the name counts, and the time, and the use; a common name
        where there is no other (RFC 7672 3.2.3)."""
        record = pinned(self.middle, 2, 0, 1)
        handle = self.met(self.leaf(), self.middle)
        self.assertIs(self.wrong(handle, record, name="mx.other.test"), Fault.NAME)
        handle = self.met(self.leaf(days=(-3, -1)), self.middle)
        self.assertIs(self.wrong(handle, record), Fault.EXPIRED)
        handle = self.met(self.leaf(use=CLIENT), self.middle)
        self.assertIs(self.wrong(handle, record), Fault.OTHER)
        common = certificate(HOST, self.middle, names=None, use=None)
        check_tlsa(self.met(common, self.middle), (record,), (HOST,))
        both = certificate(HOST, self.middle, names=("other.test",))
        self.assertIs(self.wrong(self.met(both, self.middle), record), Fault.NAME)

    def test_unreadable(self) -> None:
        """A certificate that cannot be read is a wrong one, and no bug."""
        handle = self.met(self.leaf())
        for error in (ValueError("x"), TypeError("y")):
            with mock.patch.object(
                SSL.Connection, "get_peer_certificate", side_effect=error
            ):
                self.assertIs(self.wrong(handle, Tlsa(3, 0, 0, b"x")), Fault.OTHER)
        garbage = Tlsa(2, 0, 0, b"no certificate")
        self.assertIs(self.wrong(handle, garbage), Fault.TRUST)


class NameTests(unittest.TestCase):
    """Names and patterns."""

    def test_fits(self) -> None:
        """A star is one whole label, the first, with two more at least."""
        for host, pattern, right in (
            ("mx.a.test", "mx.a.test", True),
            ("MX.a.test", "mx.A.test.", True),
            ("mx.a.test", "*.a.test", True),
            ("a.b.a.test", "*.a.test", False),
            ("a.test", "*.a.test", False),
            (".a.test", "*.a.test", False),
            ("a.test", "*.test", False),
            ("mx.a.test", "m*.a.test", False),
            ("mx.a.test", "mx.*.test", False),
            ("mx.a.test", "*", False),
        ):
            with self.subTest(host=host, pattern=pattern):
                self.assertIs(fits(host, pattern), right)
