"""A small certificate authority for the tests: every certificate, good or bad, is made when it is needed.

Keys are made once per process and slot, since RSA keys are slow to make.
"""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

__all__ = ["NOW", "PASSWORD", "Authority", "Identity", "make_key", "pem", "write"]

PASSWORD = "correct horse"
"""The password of every encrypted key in the `certs` folder."""

NOW = datetime.now(timezone.utc).replace(microsecond=0)

_MAKERS: dict[str, Callable[[], Any]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
    "rsa3072": lambda: rsa.generate_private_key(65537, 3072),
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ec384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "dsa": lambda: dsa.generate_private_key(2048),
}


@functools.cache
def make_key(kind: str = "rsa", slot: str = "leaf") -> Any:
    """Return the key of that kind ("rsa", "ec", ...) and slot; the same one each time it is asked for."""
    return _MAKERS[kind]()


def pem(*parts: Any) -> bytes:
    """Return certificates and (unencrypted, PKCS#8) keys as one PEM text, in the order given."""
    return b"".join(_pem(part) for part in parts)


def _pem(part: Any) -> bytes:
    if isinstance(part, x509.Certificate):
        return part.public_bytes(serialization.Encoding.PEM)
    if isinstance(part, x509.CertificateRevocationList):
        return part.public_bytes(serialization.Encoding.PEM)
    return key_bytes(part)


def key_bytes(
    key: Any,
    *,
    encoding: str = "PEM",
    layout: str = "PKCS8",
    password: str | bytes | None = None,
) -> bytes:
    """Return a private key in the encoding "PEM" or "DER" and layout "PKCS8" or "TraditionalOpenSSL"."""
    if isinstance(password, str):
        password = password.encode()
    return key.private_bytes(
        getattr(serialization.Encoding, encoding),
        getattr(serialization.PrivateFormat, layout),
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
    )


def write(path: Path, data: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(data)
    return path


@dataclass(frozen=True, eq=False)
class Identity:
    """A certificate, its key, and the intermediates between it and the root (leaf's issuer first)."""

    certificate: x509.Certificate
    key: Any
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """Certificate and chain."""
        return pem(self.certificate, *self.chain)

    @property
    def der(self) -> bytes:
        """The certificate alone, DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        """The key, PKCS#8, not encrypted."""
        return pem(self.key)

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write `name`.pem (certificate and chain) and `name`.key; return both paths."""
        return write(folder / f"{name}.pem", self.pem), write(folder / f"{name}.key", self.key_pem)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test Hospital"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _hash(key: Any) -> Any:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


@dataclass(eq=False)
class Authority:
    """A root CA, or an intermediate one made by `intermediate()`."""

    name: str = "Test Root CA"
    kind: str = "rsa"
    slot: str = ""
    parent: Authority | None = None
    not_before: datetime = NOW - timedelta(days=365)
    not_after: datetime = NOW + timedelta(days=365)
    path_length: int | None = None
    key: Any = field(init=False)
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        self.key = make_key(self.kind, self.slot or f"ca:{self.name}")
        signer = self.parent or self
        builder = _builder(self.name, signer, self.key, self.not_before, self.not_after)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=self.path_length), critical=True
        )
        usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        self.certificate = builder.sign(signer.key, _hash(signer.key))

    @property
    def pem(self) -> bytes:
        """The CA certificate."""
        return pem(self.certificate)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What a leaf has to send beside its own certificate: this CA up to, without, the root."""
        return () if self.parent is None else (self.certificate, *self.parent.chain)

    def intermediate(self, name: str = "Test Intermediate CA", **options: Any) -> Authority:
        """Make a CA below this one."""
        return Authority(name, parent=self, **{"kind": self.kind, **options})

    def issue(
        self,
        name: str,
        *,
        dns: Iterable[str] = (),
        ips: Iterable[str] = (),
        key: str = "rsa",
        slot: str = "leaf",
        not_before: datetime = NOW - timedelta(days=1),
        not_after: datetime = NOW + timedelta(days=90),
        client: bool = True,
        server: bool = True,
        ca: bool = False,
        extensions: Sequence[x509.ExtensionType] = (),
        serial: int | None = None,
        self_signed: bool = False,
    ) -> Identity:
        """Issue a certificate for the common name `name`; `client` and `server` are its purposes."""
        own = make_key(key, slot)
        signer = _Subject(name, own) if self_signed else self
        builder = _builder(name, signer, own, not_before, not_after, serial)
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        purposes = [
            oid
            for wanted, oid in (
                (server, ExtendedKeyUsageOID.SERVER_AUTH),
                (client, ExtendedKeyUsageOID.CLIENT_AUTH),
            )
            if wanted
        ]
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        names = [*map(x509.DNSName, dns), *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return Identity(builder.sign(signer.key, _hash(signer.key)), own, () if self_signed else self.chain)

    def crl(
        self,
        *revoked: x509.Certificate,
        last_update: datetime = NOW - timedelta(days=1),
        next_update: datetime = NOW + timedelta(days=30),
    ) -> x509.CertificateRevocationList:
        """Return a revocation list of this CA."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(last_update).next_update(next_update)
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(last_update).build())
        return builder.sign(self.key, _hash(self.key))


@dataclass(frozen=True)
class _Subject:
    name: str
    key: Any


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _builder(
    name: str,
    signer: Authority | _Subject,
    key: Any,
    not_before: datetime,
    not_after: datetime,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key
    builder = x509.CertificateBuilder().subject_name(_name(name)).issuer_name(_name(signer.name))
    builder = builder.public_key(key.public_key()).serial_number(serial or x509.random_serial_number())
    builder = builder.not_valid_before(not_before).not_valid_after(not_after)
    builder = builder.add_extension(identifier(key.public_key()), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    return builder.add_extension(issuer, critical=False)
