"""Certificates of servers, with authorities above them, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twisted_mta.net.tls import Pair

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True)
class Made:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def certificate(
    word: str,
    issuer: Made | None = None,
    *,
    names: tuple[str, ...] | None = (),
    authority: bool = False,
    days: tuple[int, int] = (-1, 1),
    use: x509.ObjectIdentifier | None = SERVER,
) -> Made:
    """Make one.

    @param word: its common name.
    @param issuer: C{None}: itself.
    @param names: C{None}: no subjectAltName.
    @param days: from when until when, from now on.
    @param use: what it is for.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, word)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(authority, None), True)
    )
    if names:
        san = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
        builder = builder.add_extension(san, False)
    if use is not None and not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), False)
    return Made(builder.sign(issuer.key if issuer else key, SHA256()), key)


def written(directory: Path, *chain: Made) -> Pair:
    """The files of a server that shows these, its own first."""
    directory.mkdir(exist_ok=True)
    pair = Pair(directory / "chain.pem", directory / "key.pem")
    pair.certificate.write_bytes(b"".join(one.pem for one in chain))
    pair.key.write_bytes(
        chain[0].key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return pair
