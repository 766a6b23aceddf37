"""Certificates that nobody vouches for, for a server without others.

Their keys are ECDSA P-256, cheaper by far than RSA.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
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

from twisted_mta.net.tls import CertificateError, Pair, ServerTls

# What they live at most before clients object: Apple's limit for roots that a user
# added.
_DAYS = 825
_RENEW_DAYS = 30


def self_signed(pair: Pair, names: Sequence[str]) -> None:
    """Make a certificate, if there is none or it ends within a month. The files are
    readable by their owner alone.

    @param names: DNS names and IP addresses; the first is also the subject.
    """
    now = datetime.now(UTC)
    if _lasts_until(pair) > now + timedelta(days=_RENEW_DAYS):
        return
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A day back: clocks differ.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_DAYS - 1))
        .add_extension(
            x509.SubjectAlternativeName(map(_general, names)), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .sign(key, SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(pair.key, secret)
    _write(pair.certificate, certificate.public_bytes(Encoding.PEM))


def _lasts_until(pair: Pair) -> datetime:
    """When a certificate ends; long ago if there is none that can be used."""
    try:
        ServerTls([pair])
    except CertificateError:
        return datetime.fromtimestamp(0, UTC)
    leaf = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    return leaf.not_valid_after_utc


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, octets: bytes) -> None:
    """Replace a file as a whole, never readable by others."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(octets)
    new.replace(path)
