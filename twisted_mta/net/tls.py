"""TLS contexts: what a server shows, what a client believes.

A server context holds several certificates and shows the one for the name that
the client asks for (SNI, RFC 6066 section 3); its files can be read again while
it is in use. A client context either encrypts without asking whom it talks to
(opportunistic TLS, RFC 7435) or verifies the host's name. All speak TLS 1.2 and
later (RFC 8996) without compression or renegotiation. Each is what C{startTLS}
of a Twisted transport takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from OpenSSL.crypto import X509, X509StoreFlags
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from twisted_mta.mail.channel import NOT_CERTIFIED, CertifiedNames

# Mozilla's "intermediate" list without DHE: forward secrecy and AEAD only. The
# suites of TLS 1.3 are not chosen here.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"

# RSA key exchange and CBC are still all that some mail servers have; a cipher
# that is weaker than these is no better than none (RFC 7435 section 3).
_OPPORTUNISTIC_CIPHERS = b"HIGH:!aNULL:!eNULL:!MD5:!RC4:!3DES:@SECLEVEL=1"

# How a list of revoked certificates begins (RFC 7468 6).
_REVOKED = b"-----BEGIN X509 CRL-----"


class CertificateError(Exception):
    """A certificate or key cannot be used; says which file and what to do."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two PEM files.

    @ivar certificate: the certificate, then the intermediate ones.
    @ivar key: its private key.
    """

    certificate: Path
    key: Path


# --- what a connection is to a login ----------------------------------------


def channel_binding(handle: SSL.Connection, name: str) -> bytes | None:
    """What ties a login to this connection, so that nobody can pass it on.

    @param handle: pyOpenSSL's connection, after the handshake.
    @param name: C{tls-exporter} (RFC 9266, from TLS 1.3 on) or
        C{tls-server-end-point} (RFC 5929 4).
    @return: C{None} if there is none of that name.
    """
    if name == "tls-exporter":
        if handle.get_protocol_version_name() != "TLSv1.3":
            return None
        exported: bytes = handle.export_keying_material(
            b"EXPORTER-Channel-Binding", 32, b""
        )
        return exported
    shown = handle.get_certificate()
    if name != "tls-server-end-point" or shown is None:
        return None
    certificate = shown.to_cryptography()
    hashed = certificate.signature_hash_algorithm
    # RFC 5929 4.1: SHA-256 where the certificate uses MD5 or SHA-1.
    if hashed is None or hashed.name in ("md5", "sha1"):
        hashed = SHA256()
    fingerprint: bytes = certificate.fingerprint(hashed)
    return fingerprint


def certified(handle: SSL.Connection) -> CertifiedNames:
    """Whose the certificate is that the client showed, which was verified."""
    shown = handle.get_peer_certificate()
    if shown is None:
        return NOT_CERTIFIED
    certificate = shown.to_cryptography()
    named = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    common_names = tuple(str(one.value) for one in named)
    try:
        names = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (x509.ExtensionNotFound, ValueError):
        return CertifiedNames((), common_names)
    addresses = names.value.get_values_for_type(x509.RFC822Name)
    return CertifiedNames(tuple(addresses), common_names)


# --- the server -------------------------------------------------------------


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """The server's side, for any number of connections."""

    log = Logger()

    def __init__(self, pairs: Sequence[Pair], authorities: Path | None = None) -> None:
        """
        @param authorities: a PEM file of those whose client certificates are
            believed, and of their lists of revoked ones (RFC 5280 5), if it has any:
            then each needs one that is not too old. Clients are asked for a
            certificate: who has none goes on without, who shows one of another
            authority does not.
        @param pairs: at least one; the first is shown to a client that asks
            for no name, or one that none is for.
        @raise CertificateError:
        """
        self._pairs = tuple(pairs)
        self._authorities = authorities
        self._default, self._by_name = self._read()

    def reload(self) -> bool:
        """Read the files again. Connections that stand keep what they have.

        @return: whether the new ones are in use; if not, the log says why, and
            the old ones stay, all of them.
        """
        try:
            self._default, self._by_name = self._read()
        except CertificateError as error:
            self.log.error(
                "certificates not reloaded, the old ones stay in use: {error}",
                error=str(error),
            )
            return False
        self.log.info("certificates reloaded: {count}", count=len(self._pairs))
        return True

    def serverConnectionForTLS(
        self, tlsProtocol: TLSMemoryBIOProtocol
    ) -> SSL.Connection:
        """Called by Twisted for each handshake."""
        return SSL.Connection(self._default, None)

    def _read(self) -> tuple[SSL.Context, dict[str, SSL.Context]]:
        contexts: list[SSL.Context] = []
        by_name: dict[str, SSL.Context] = {}
        for pair in self._pairs:
            context = _server_context(pair)
            if self._authorities is not None:
                _ask_for_certificates(context, self._authorities)
            context.set_tlsext_servername_callback(self._chosen)
            contexts.append(context)
            for name in _names(pair.certificate):
                by_name.setdefault(name, context)
        return contexts[0], by_name

    def _chosen(self, connection: SSL.Connection) -> None:
        """The client said which name it wants."""
        asked = (connection.get_servername() or b"").decode("ascii", "replace")
        name = asked.lower().rstrip(".")
        above = name.partition(".")[2]
        context = self._by_name.get(name) or self._by_name.get(f"*.{above}")
        if context is not None:
            connection.set_context(context)


def _context(method: int, ciphers: bytes) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    # An idle connection holds 34 KB less.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(ciphers)
    return context


def _server_context(pair: Pair) -> SSL.Context:
    context = _context(SSL.TLS_SERVER_METHOD, _CIPHERS)
    # Clients resume by tickets; nothing is remembered here.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"twisted-mta")
    _show(context, pair)
    return context


def _show(context: SSL.Context, pair: Pair) -> None:
    try:
        for path in (pair.certificate, pair.key):
            path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror}")
    try:
        context.use_certificate_chain_file(str(pair.certificate))
    except SSL.Error:
        raise CertificateError(f"{pair.certificate}: holds no PEM certificate")
    try:
        context.use_privatekey_file(str(pair.key))
        context.check_privatekey()
    except SSL.Error:
        raise CertificateError(
            f"{pair.key}: is not the unencrypted PEM key of {pair.certificate}"
        )


def _ask_for_certificates(context: SSL.Context, authorities: Path) -> None:
    try:
        octets = authorities.read_bytes()
        context.load_verify_locations(str(authorities))
        context.set_client_ca_list(
            [
                X509.from_cryptography(each).get_subject()
                for each in x509.load_pem_x509_certificates(octets)
            ]
        )
    except OSError as error:
        raise CertificateError(f"{authorities}: cannot be read: {error.strerror}")
    except (SSL.Error, ValueError):
        raise CertificateError(f"{authorities}: holds no PEM certificates")
    if _REVOKED in octets:
        # They were loaded with the rest. One that is missing or too old makes the
        # certificates of its authority invalid.
        store = context.get_cert_store()
        if store is not None:
            store.set_flags(X509StoreFlags.CRL_CHECK)
    context.set_verify(SSL.VERIFY_PEER, lambda *said: bool(said[-1]))


def _names(certificate: Path) -> Sequence[str]:
    """The DNS names of a certificate, wildcards with their C{*}."""
    try:
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    except ValueError:
        raise CertificateError(f"{certificate}: holds a malformed certificate")
    return [name.lower() for name in names.value.get_values_for_type(x509.DNSName)]


# --- the client -------------------------------------------------------------


@implementer(IOpenSSLClientConnectionCreator)
class _Opportunistic:
    def __init__(self, context: SSL.Context, host: str) -> None:
        self._context = context
        self._host = host

    def clientConnectionForTLS(
        self, tlsProtocol: TLSMemoryBIOProtocol
    ) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if not is_address(self._host):
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        return connection


def client_context(pair: Pair | None) -> SSL.Context:
    """A client's context that believes whatever it is shown.

    @param pair: the certificate to show if the server asks for one.
    @raise CertificateError: it cannot be read.
    """
    context = _context(SSL.TLS_CLIENT_METHOD, _OPPORTUNISTIC_CIPHERS)
    if pair is not None:
        _show(context, pair)
    return context


_opportunistic_context = lru_cache(maxsize=16)(client_context)


def opportunistic(
    host: str, pair: Pair | None = None
) -> IOpenSSLClientConnectionCreator:
    """A client that encrypts and accepts any certificate.

    @param host: the peer's name as A-labels, which it is told; or its address.
    @param pair: the certificate to show if it asks for one. Read once.
    @raise CertificateError: it cannot be read.
    """
    return _Opportunistic(_opportunistic_context(pair), host)


@lru_cache(maxsize=64)
def verifying(
    host: str, trust: Path | None = None, pair: Pair | None = None
) -> IOpenSSLClientConnectionCreator:
    """A client that goes on only with a valid certificate of the host's name
    or address (RFC 6125).

    @param trust: a PEM file of the authorities to believe, else the system's.
        Read once for each host.
    @param pair: the certificate to show if it asks for one.
    @raise CertificateError: one of them cannot be read.
    """
    shown = None if pair is None else _shown(pair)
    if trust is None:
        return optionsForClientTLS(host, clientCertificate=shown)
    try:
        found = x509.load_pem_x509_certificates(trust.read_bytes())
    except (OSError, ValueError) as error:
        raise CertificateError(f"{trust}: holds no PEM certificates: {error}")
    roots = [Certificate.loadPEM(one.public_bytes(Encoding.PEM)) for one in found]
    root = trustRootFromCertificates(roots)  # type: ignore[no-untyped-call]
    return optionsForClientTLS(host, trustRoot=root, clientCertificate=shown)


def _shown(pair: Pair) -> PrivateCertificate:
    """The leaf alone: who asks for it has its authorities."""
    try:
        octets = pair.certificate.read_bytes() + b"\n" + pair.key.read_bytes()
        made: PrivateCertificate = PrivateCertificate.loadPEM(octets)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, crypto.Error) as error:
        raise CertificateError(f"{pair.certificate}, {pair.key}: {error}")
    return made


def is_address(host: str) -> bool:
    """Whether a host has no name but its address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
