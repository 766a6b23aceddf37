"""Certificates of clients, for tests."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from twisted_mta.net.tls import Pair


def authority(directory: Path, word: str, *addresses: str) -> Pair:
    """A self-signed certificate of a client, which is its own authority."""
    return client(directory, word, *addresses)


def client(
    directory: Path, word: str, *addresses: str, issuer: Pair | None = None
) -> Pair:
    """A certificate of a client.

    @param addresses: the mail addresses in it.
    @param issuer: an authority; C{None}: itself.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, word)])
    by, signer = (name, key) if issuer is None else _signer(issuer)
    now = datetime.now(UTC)
    names = [x509.RFC822Name(each) for each in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(x509.BasicConstraints(issuer is None, None), True)
        .sign(signer, SHA256())
    )
    pair = Pair(directory / f"{word}.crt", directory / f"{word}.key")
    pair.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return pair


def revocations(issuer: Pair, *revoked: Pair, until: timedelta) -> bytes:
    """A list of revoked certificates, PEM.

    @param until: how long from now it is good.
    """
    by, signer = _signer(issuer)
    now = datetime.now(UTC)
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(by)
        .last_update(now - timedelta(days=1))
        .next_update(now + until)
    )
    for pair in revoked:
        entry = x509.RevokedCertificateBuilder()
        entry = entry.serial_number(_certificate(pair).serial_number)
        made = made.add_revoked_certificate(entry.revocation_date(now).build())
    return made.sign(signer, SHA256()).public_bytes(Encoding.PEM)


def _certificate(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def _signer(pair: Pair) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    key = load_pem_private_key(pair.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return _certificate(pair).subject, key
