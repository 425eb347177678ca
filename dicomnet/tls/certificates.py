"""Certificate files: our own certificate with its chain and key, the CAs that we trust, and descriptions.

The content of a file decides whether it is read as PEM or DER, for each file by itself. In a PEM file
everything that is not a certificate or private key is skipped. Our own certificate is the one that the
private key belongs to, wherever in the file it stands, and the chain follows from it by issuer; so the
order of a file does not matter.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from dicomnet.enums import DicomExceptionCode, DicomTlsCertificateType
from dicomnet.errors import CertificateFileError, KeyMismatch, escape
from dicomnet.tls.passwords import PasswordCallback, PrivateKey, load_private_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "CertificateInfo",
    "Credentials",
    "alternative_names",
    "certificate_text",
    "describe",
    "load_ca_certificates",
    "load_credentials",
]

_LARGEST = 4 * 1024 * 1024
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_CERTIFICATE_LABELS = ("CERTIFICATE", "X509 CERTIFICATE")
_PKCS12_START = re.compile(rb"\x30.{1,9}\x02\x01\x03\x30", re.DOTALL)  # RFC 7292 4: version 3 and authSafe

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for a part of a certificate that is absent, malformed or unknown to it."""

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Credentials:
    """A certificate, the intermediates that are sent with it (its issuer first, no root) and its key.

    `path` and `key_path` are the files it came from. Compared by identity: loading the same files again
    gives the same object as long as their content is the same.
    """

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)
    path: str
    key_path: str


@dataclass(frozen=True)
class CertificateInfo:
    """A certificate in words, fit for JSON (`dataclasses.asdict`) and logs: every text is escaped.

    A field that the certificate lacks, or that cannot be read, is empty.
    """

    subject: str
    """RFC 4514, for example "CN=pacs.example,O=Hospital"; `issuer` likewise."""
    issuer: str
    not_before: str
    """First moment of validity, ISO 8601 in UTC; `not_after` is the last."""
    not_after: str
    serial: str
    """Hexadecimal."""
    key_type: str
    """"RSA", "EC", "DSA", "Ed25519", "Ed448", or another name for a key of another kind."""
    key_bits: int
    curve: str
    """Curve of an EC key, for example "secp256r1"."""
    signature_hash: str
    """Hash of the issuer's signature, for example "sha256"; empty where the algorithm has none of its own."""
    names: tuple[str, ...]
    """Subject alternative names: "DNS:pacs.example", "IP:10.0.0.5", ..."""
    is_ca: bool
    sha256: str
    """SHA-256 fingerprint, hexadecimal with colons."""


# --- loading -------------------------------------------------------------------------------------


def load_credentials(
    certificate_path: str | os.PathLike[str],
    certificate_type: DicomTlsCertificateType | int = DicomTlsCertificateType.PEM,
    key_path: str | os.PathLike[str] | None = None,
    ask: PasswordCallback | None = None,
    role: str = "",
    *,
    password: str | bytes | None = None,
) -> Credentials:
    """Load a certificate, its chain and its private key (LEADTOOLS `SetTlsClientCertificate`).

    `key_path` `None` or "" means that the key is in the certificate file, which must then be PEM.
    `certificate_type` is LEADTOOLS' and checked to be one of its values; a file of the other type is read
    all the same. `ask`, `role` and `password` are those of `load_private_key`.

    Raises `CertificateFileError` with the `path` of the file concerned, `KeyMismatch` where the key belongs
    to none of the certificates, and the errors of `load_private_key`.
    """
    DicomTlsCertificateType(certificate_type)
    path = os.fspath(certificate_path)
    key_file = os.fspath(key_path) if key_path else path
    blocks = _read(path)
    certificates = _certificates(blocks, path)
    keys = _keys(blocks if key_file == path else _read(key_file))
    if not keys or (key_file == path and not keys[0][0]):  # DER holds one object only
        raise CertificateFileError(
            f"{key_file} holds no private key; name the file that does as the key file",
            path=key_file,
            code=DicomExceptionCode.PRIVATE_KEY_LOAD_FAILED,
        )
    key = load_private_key(keys[0][1], key_file, ask, role=role, password=password)
    return _pair(certificates, key, path, key_file)


def load_ca_certificates(path: str | os.PathLike[str]) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a CA file: PEM with any number of them, or one in DER; never none.

    Raises `CertificateFileError` for a file that cannot be read, is damaged or holds no certificate.
    """
    name = os.fspath(path)
    return _certificates(_read(name), name)


_Blocks = list[tuple[str, bytes]]


def _read(path: str) -> _Blocks:
    """Return the PEM blocks of a file with their labels, or the whole of another file labelled ""."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise CertificateFileError(f"{path} cannot be read: {reason}", path=path) from error
    blocks = [(match[1].decode("ascii"), match[0]) for match in _PEM_BLOCK.finditer(data)]
    if not data:
        problem = "is empty"
    elif len(data) > _LARGEST:
        problem = f"is larger than {_LARGEST} bytes, which no certificate file is"
    elif data.count(b"-----BEGIN ") != len(blocks):
        problem = "is damaged: a PEM block in it has no end, or not the right one"
    elif _PKCS12_START.match(data):
        problem = f"is a PKCS#12 file; convert it: openssl pkcs12 -in {path} -out NEW.pem"
    else:
        return blocks or [("", data)]
    raise CertificateFileError(f"{path} {problem}", path=path)


def _keys(blocks: _Blocks) -> _Blocks:
    return [block for block in blocks if not block[0] or block[0].endswith("PRIVATE KEY")]


def _certificates(blocks: _Blocks, path: str) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a file, each once, in its order."""
    chosen = [(label, data) for label, data in blocks if not label or label in _CERTIFICATE_LABELS]
    if not chosen:
        labels = ", ".join(sorted({label for label, _ in blocks}))
        raise CertificateFileError(
            f"{path} holds no certificate, only {labels}; name the file that does", path=path
        )
    found = []
    for number, (label, data) in enumerate(chosen, 1):
        load = x509.load_pem_x509_certificate if label else x509.load_der_x509_certificate
        try:
            found.append(load(data))
        except ValueError as error:
            problem = f"certificate {number} is damaged" if label else "is neither PEM nor a DER certificate"
            raise CertificateFileError(f"{path}: {problem}; export it again", path=path) from error
    return tuple(dict.fromkeys(found))


@functools.lru_cache(maxsize=64)
def _pair(
    certificates: tuple[x509.Certificate, ...], key: PrivateKey, path: str, key_path: str
) -> Credentials:
    own = next((c for c in certificates if _try(c.public_key) == key.public_key()), None)
    if own is None:
        subjects = ", ".join(_name(c.subject) for c in certificates)
        raise KeyMismatch(
            f"the private key in {key_path} does not belong to the certificate in {path} ({subjects});"
            " name the key file that was made with the certificate request",
            path=key_path,
        )
    return Credentials(own, tuple(_chain(own, certificates)), key, path, key_path)


def _chain(own: x509.Certificate, pool: Iterable[x509.Certificate]) -> Iterable[x509.Certificate]:
    """Yield the issuers of a certificate as far as the pool has them, without the root."""
    left = [c for c in pool if c.issuer != c.subject and c != own]
    current = own
    while named := [c for c in left if c.subject == current.issuer]:
        # A CA that was renewed with a new key is there twice under one name.
        current = next((c for c in named if _issued(current, c)), named[0])
        left.remove(current)
        yield current


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except _UNREADABLE:
        return False
    return True


# --- describing ----------------------------------------------------------------------------------

_KEY_TYPES: tuple[tuple[type, str, int], ...] = (
    (rsa.RSAPublicKey, "RSA", 0),
    (ec.EllipticCurvePublicKey, "EC", 0),
    (dsa.DSAPublicKey, "DSA", 0),
    (ed25519.Ed25519PublicKey, "Ed25519", 256),
    (ed448.Ed448PublicKey, "Ed448", 456),
)
"""Class, name, and the number of bits where all keys of the class have the same."""

_PURPOSES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "TLS server",
    ExtendedKeyUsageOID.CLIENT_AUTH: "TLS client",
    ExtendedKeyUsageOID.CODE_SIGNING: "code signing",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "e-mail",
    ExtendedKeyUsageOID.TIME_STAMPING: "time stamping",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSP signing",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "any",
}


def describe(certificate: x509.Certificate) -> CertificateInfo:
    """Return what a certificate says, escaped; also for one from a peer that is malformed within."""
    key = _try(certificate.public_key)
    kind, bits = next(
        ((name, bits) for cls, name, bits in _KEY_TYPES if isinstance(key, cls)),
        (type(key).__name__ if key else "", 0),
    )
    return CertificateInfo(
        subject=_name(_try(lambda: certificate.subject)),
        issuer=_name(_try(lambda: certificate.issuer)),
        not_before=_moment(certificate, "not_valid_before_utc"),
        not_after=_moment(certificate, "not_valid_after_utc"),
        serial=f"{_try(lambda: certificate.serial_number) or 0:X}",
        key_type=kind,
        key_bits=bits or getattr(key, "key_size", 0),
        curve=key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else "",
        signature_hash=getattr(_try(lambda: certificate.signature_hash_algorithm), "name", ""),
        names=tuple(_labelled(name) for name in alternative_names(certificate)),
        is_ca=bool(getattr(_extension(certificate, x509.BasicConstraints), "ca", False)),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    )


def certificate_text(certificate: x509.Certificate) -> str:
    """Return the text that LEADTOOLS' `OnVerify` is given, one line for each property of the certificate."""
    info = describe(certificate)
    length = getattr(_extension(certificate, x509.BasicConstraints), "path_length", None)
    limit = "" if length is None else f", path length {length}"
    lines = {
        "Subject": info.subject,
        "Issuer": info.issuer,
        "Not before": info.not_before,
        "Not after": info.not_after,
        "Serial number": info.serial,
        "Basic constraints": ("CA" if info.is_ca else "not a CA") + limit,
        "Purposes": ", ".join(_purposes(certificate)) or "any",
        "Alternative names": ", ".join(info.names) or "none",
    }
    return "\n".join(f"{title}: {text}" for title, text in lines.items())


def alternative_names(certificate: x509.Certificate) -> tuple[x509.GeneralName, ...]:
    """Return the subject alternative names of a certificate; none where they are absent or malformed."""
    return tuple(_extension(certificate, x509.SubjectAlternativeName) or ())


def _purposes(certificate: x509.Certificate) -> list[str]:
    usages = _extension(certificate, x509.ExtendedKeyUsage) or ()
    return [_PURPOSES.get(oid, oid.dotted_string) for oid in usages]


def _labelled(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName():
            text = f"DNS:{name.value}"
        case x509.IPAddress():
            text = f"IP:{name.value}"
        case x509.UniformResourceIdentifier():
            text = f"URI:{name.value}"
        case x509.RFC822Name():
            text = f"email:{name.value}"
        case x509.DirectoryName():
            text = f"name:{name.value.rfc4514_string()}"
        case _:
            text = f"other:{getattr(name, 'type_id', name.value).dotted_string}"
    return escape(text)


def _name(name: x509.Name | None) -> str:
    return escape(name.rfc4514_string()) if name else ""


def _moment(certificate: x509.Certificate, attribute: str) -> str:
    moment = _try(lambda: getattr(certificate, attribute))
    return moment.isoformat() if moment else ""


_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    return _try(lambda: certificate.extensions.get_extension_for_class(kind).value)


def _try(read: Callable[[], _T]) -> _T | None:
    """Return what `read` gives, or `None` where that part of a certificate cannot be read."""
    try:
        return read()
    except _UNREADABLE:
        return None
