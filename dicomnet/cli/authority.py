"""A throwaway certificate authority for the demo: one CA, a server and a client, EC keys under a password."""

from __future__ import annotations

import ipaddress
import os
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_identities", "write_secret"]

_VALIDITY = timedelta(days=30)
_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def make_identities(folder: Path, password: bytes) -> None:
    """Write ca.pem, server.pem, client.pem, and the keys, encrypted with `password`, into `folder`.

    The server's certificate is made out to localhost and the loopback addresses. Keys are P-256 (fast to
    make, and every TLS 1.2 and 1.3 peer knows it); the CA's own key is not kept.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("demo CA")
    builder = _builder(name, name, key.public_key(), ca=True)
    authority = builder.sign(key, hashes.SHA256())
    (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    _issue(folder, "server", ExtendedKeyUsageOID.SERVER_AUTH, authority, key, password)
    _issue(folder, "client", ExtendedKeyUsageOID.CLIENT_AUTH, authority, key, password)


def _issue(
    folder: Path,
    role: str,
    purpose: x509.ObjectIdentifier,
    authority: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
    password: bytes,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    addresses = [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    certificate = (
        _builder(_name(f"demo {role}"), authority.subject, key.public_key(), ca=False)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), critical=False)
        .add_extension(issued_by, critical=False)
        .sign(signer, hashes.SHA256())
    )
    (folder / f"{role}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encryption = serialization.BestAvailableEncryption(password)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    write_secret(folder / f"{role}.key", private)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    usages = dict.fromkeys(_USAGES, False)
    usages.update({"key_cert_sign": True, "crl_sign": True} if ca else {"digital_signature": True})
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(x509.KeyUsage(**usages), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "dicomnet"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
