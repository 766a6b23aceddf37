"""Whether the certificate that a server showed is the right one, after the handshake.

Two proofs: an authority that is believed vouches for a name (RFC 8461 4.2), or the
certificate is what the DNS said (DANE, RFC 7672 3). What is wrong has one of the names
of RFC 8460 4.3, so that it can be told to whom it concerns. Nothing is said to a server
before this, so the handshake itself need not fail; a server that is held to nothing is
spoken to all the same.

BUGS: a DANE-TA record that holds the digest of a key, or a key, is of use only if the
server shows the authority's certificate, as RFC 7672 3.1.2 demands of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from functools import lru_cache
from hashlib import sha256, sha512
from pathlib import Path
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto
from OpenSSL.crypto import (
    X509,
    X509Store,
    X509StoreContext,
    X509StoreContextError,
    X509StoreFlags,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from twisted_mta.mail.tlsa import Selector, Tlsa, Usage
from twisted_mta.net.tls import CertificateError, Pair, client_context, is_address

# Certificates of a chain that are looked at. OpenSSL's limit is 100; the chains of the
# Web have 4.
_CHAIN_MOST = 10

# OpenSSL's numbers (x509_vfy.h): X509_V_ERR_CERT_NOT_YET_VALID, ..._HAS_EXPIRED.
_TIMES = frozenset({9, 10})
# Those that say that nobody who is believed vouches for it: ..._UNABLE_TO_GET_ISSUER_
# CERT, DEPTH_ZERO_SELF_SIGNED_CERT, SELF_SIGNED_CERT_IN_CHAIN, UNABLE_TO_GET_ISSUER_
# CERT_LOCALLY, UNABLE_TO_VERIFY_LEAF_SIGNATURE, CERT_UNTRUSTED.
_TRUST = frozenset({2, 18, 19, 20, 21, 27})

# What the library says to octets that OpenSSL takes for a certificate, and it not.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    crypto.Error,
)

# What OpenSSL found wrong with the certificates of a connection. What it holds for us
# itself (app data) is Twisted's.
_wrong: WeakKeyDictionary[SSL.Connection, list[int]] = WeakKeyDictionary()


class Fault(Enum):
    """What is wrong, as RFC 8460 4.3.1 calls it."""

    EXPIRED = "certificate-expired"
    NAME = "certificate-host-mismatch"
    TRUST = "certificate-not-trusted"
    OTHER = "validation-failure"


class Unverified(Exception):
    """The certificate is not the right one.

    @ivar fault: why.
    """

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


# --- by the authorities -----------------------------------------------------


@implementer(IOpenSSLClientConnectionCreator)
class _Watching:
    def __init__(self, context: SSL.Context, host: str) -> None:
        self._context = context
        self._host = host

    def clientConnectionForTLS(
        self, tlsProtocol: TLSMemoryBIOProtocol
    ) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        _wrong[connection] = []
        if not is_address(self._host):
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        return connection


def watching(
    host: str, trust: Path | None = None, pair: Pair | None = None
) -> IOpenSSLClientConnectionCreator:
    """A client that remembers for L{check_authority} what is wrong with the server's
    certificate, and goes on.

    @param host: the peer's name as A-labels, which it is told.
    @param trust: a PEM file of the authorities to believe, else the system's. Read
        once.
    @param pair: the certificate to show if it asks for one. Read once.
    @raise CertificateError: one of them cannot be read.
    """
    return _Watching(_watching_context(trust, pair), host)


@lru_cache(maxsize=16)
def _watching_context(trust: Path | None, pair: Pair | None) -> SSL.Context:
    context = client_context(pair)
    try:
        if trust is None:
            context.set_default_verify_paths()
        else:
            context.load_verify_locations(str(trust))
    except SSL.Error:
        raise CertificateError(f"{trust}: holds no PEM certificates")
    context.set_verify(SSL.VERIFY_PEER, _remember)
    return context


def _remember(
    connection: SSL.Connection, certificate: X509, number: int, depth: int, ok: int
) -> bool:
    if not ok:
        _wrong[connection].append(number)
    return True


def check_authority(handle: SSL.Connection, name: str) -> None:
    """Whether an authority that is believed vouches for a host.

    @param handle: a connection of L{watching}, after its handshake.
    @param name: the host's, as A-labels.
    @raise Unverified: no.
    """
    wrong = _wrong[handle]
    if wrong:
        number = next((one for one in wrong if one not in _TIMES), wrong[0])
        raise _fault(number, f"OpenSSL's error {number}")
    with _of_a_stranger():
        if not any(fits(name, pattern) for pattern in _dns_names(_leaf(handle))):
            raise Unverified(Fault.NAME, f"The certificate is not of {name}")


def _fault(number: int, text: str) -> Unverified:
    if number in _TIMES:
        return Unverified(Fault.EXPIRED, "The certificate's time is not now")
    if number in _TRUST:
        text = "Nobody who is believed vouches for the certificate"
        return Unverified(Fault.TRUST, text)
    return Unverified(Fault.OTHER, f"The certificate is not valid: {text}")


# --- by the DNS -------------------------------------------------------------


def check_tlsa(
    handle: SSL.Connection, records: Sequence[Tlsa], names: Sequence[str]
) -> None:
    """Whether the certificate is what the DNS said (RFC 7672 3).

    @param handle: after its handshake.
    @param records: authentic; those that are usable.
    @param names: as which the host may be certified by an authority; one that is
        pinned itself has any name, and no time (RFC 7672 3.1.1).
    @raise Unverified: no.
    """
    with _of_a_stranger():
        leaf = _leaf(handle)
        pinned = [one for one in records if one.usage == Usage.EE]
        if any(_matches(record, leaf) for record in pinned):
            return
        authorities = [one for one in records if one.usage == Usage.TA]
        if not authorities:
            text = "The certificate is not the one that the DNS says (TLSA)"
            raise Unverified(Fault.OTHER, text)
        _check_anchor(handle, leaf, authorities, names)


def _check_anchor(
    handle: SSL.Connection,
    leaf: x509.Certificate,
    records: Sequence[Tlsa],
    names: Sequence[str],
) -> None:
    """Verify the chain up to an authority of the DNS."""
    shown = (handle.get_peer_cert_chain() or [])[1:_CHAIN_MOST]
    above = [(one, one.to_cryptography()) for one in shown]
    anchors = [
        one for one, made in above if any(_matches(record, made) for record in records)
    ]
    anchors += _whole(records)
    if not anchors:
        text = "No authority that the DNS says (TLSA) vouches for the certificate"
        raise Unverified(Fault.TRUST, text)
    store = X509Store()
    for anchor in anchors:
        store.add_cert(anchor)
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    try:
        X509StoreContext(
            store, X509.from_cryptography(leaf), [one for one, _ in above]
        ).verify_certificate()
    except X509StoreContextError as error:
        raise _fault(error.errors[0], str(error))
    if not _is_server(leaf):
        text = "The certificate is not one of a server"
        raise Unverified(Fault.OTHER, text)
    said = list(_dns_names(leaf)) or list(_common_names(leaf))
    if not any(fits(name, pattern) for name in names for pattern in said):
        text = f"The certificate is not of {' or '.join(names)}"
        raise Unverified(Fault.NAME, text)


def _whole(records: Iterable[Tlsa]) -> Iterator[X509]:
    """Authorities that the DNS holds whole, so that nobody need show them."""
    for one in records:
        if one.matching == 0 and one.selector == Selector.CERTIFICATE:
            with suppress(ValueError):
                found = x509.load_der_x509_certificate(one.data)
                yield X509.from_cryptography(found)


def _matches(record: Tlsa, certificate: x509.Certificate) -> bool:
    if record.selector == Selector.CERTIFICATE:
        octets = certificate.public_bytes(Encoding.DER)
    else:
        octets = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    if record.matching == 0:
        return octets == record.data
    digest = sha256 if record.matching == 1 else sha512
    return digest(octets).digest() == record.data


def tlsa_of(certificate: x509.Certificate, usage: Usage = Usage.EE) -> Tlsa:
    """The record by which a certificate is best pinned: the digest of its key (RFC
    7672 3.1.1)."""
    octets = certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return Tlsa(usage, Selector.KEY, 1, sha256(octets).digest())


# --- certificates of strangers ----------------------------------------------


def fits(host: str, pattern: str) -> bool:
    """Whether a host is meant by a name that may have C{*} for its first label (RFC
    6125 6.4.3: that label alone, and whole)."""
    host, pattern = host.lower().rstrip("."), pattern.lower().rstrip(".")
    if pattern.startswith("*."):
        label, dot, above = host.partition(".")
        return bool(label and dot) and above == pattern[2:] and "." in above
    return host == pattern


@contextmanager
def _of_a_stranger() -> Iterator[None]:
    """What cannot be read in a certificate makes it a wrong one."""
    try:
        yield
    except _UNREADABLE as error:
        text = f"The certificate cannot be read: {type(error).__name__}"
        raise Unverified(Fault.OTHER, text)


def _leaf(handle: SSL.Connection) -> x509.Certificate:
    shown = handle.get_peer_certificate()
    if shown is None:
        raise Unverified(Fault.OTHER, "The server shows no certificate")
    return shown.to_cryptography()


def _dns_names(certificate: x509.Certificate) -> Sequence[str]:
    try:
        names = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        return names.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        return ()


def _common_names(certificate: x509.Certificate) -> Iterator[str]:
    """What stands for a name where no other does (RFC 7672 3.2.3)."""
    for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        yield str(one.value)


def _is_server(certificate: x509.Certificate) -> bool:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return True
    server = {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    }
    return bool(server & set(uses.value))
