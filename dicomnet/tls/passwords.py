"""Private keys, plain or encrypted: one loop asks for the password until the key opens.

The loaders of `cryptography` are used and never pyOpenSSL's, whose own password prompt writes to the
terminal and blocks. They are called without a password first: only for a key that turns out to be
encrypted is one asked for.

Of several hundred wrong passwords one decrypts to what looks like correct padding, and the loader then
complains about the data instead of the password. So once a key is known to be encrypted, every failure
counts as a wrong password, except for a cipher that the loader does not have.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from dicomnet.enums import DicomExceptionCode
from dicomnet.errors import CertificateFileError, PasswordNotNeeded, PasswordRequired, WrongPassword

__all__ = ["MAX_ATTEMPTS", "PasswordCallback", "PasswordRequest", "PrivateKey", "load_private_key"]

MAX_ATTEMPTS = 3
"""How many passwords a callback may try for one key."""


@dataclass(frozen=True)
class PasswordRequest:
    """What a password is asked for.

    `path` is the file that holds the key, `role` "client", "server" or "" for the side the key serves, and
    `attempt` 1 for the first password, 2 after one that was wrong, up to `MAX_ATTEMPTS`.
    """

    path: str
    role: str = ""
    attempt: int = 1


PasswordCallback = Callable[[PasswordRequest], "str | bytes | None"]
"""Returns the password (a `str` is encoded as UTF-8), or `None` or "" where there is none to give."""

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | dsa.DSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)
"""The kinds of key that a certificate for TLS may have."""

_KEPT = 64
_secret = secrets.token_bytes(32)
_parsed: dict[bytes, PrivateKey] = {}
_parsing = threading.Lock()


def load_private_key(
    data: bytes,
    path: str,
    ask: PasswordCallback | None = None,
    *,
    role: str = "",
    password: str | bytes | None = None,
) -> PrivateKey:
    """Return the private key in `data`: one PEM block (PKCS#1, PKCS#8 or SEC1), or DER.

    `path` names its file in requests and errors. A key is parsed once in a process for the same data and
    password, since the validation of an RSA key takes long; `ask` is called each time all the same.

    An explicit `password` is tried once, and `ask` is not called then. Raises `PasswordRequired`,
    `WrongPassword` after `MAX_ATTEMPTS` or when `ask` gives up, `PasswordNotNeeded` for an explicit password
    of a plain key, and `CertificateFileError` for a key that cannot be read. What `ask` raises comes through.
    """
    try:
        key = _parse(data, None)
    except TypeError:  # how the loaders say that the key is encrypted
        return _decrypt(data, path, ask, role, password)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateFileError(
            f"the private key in {path} is damaged or of a kind that cannot be used;"
            " export it again as PKCS#8",
            path=path,
            code=DicomExceptionCode.PRIVATE_KEY_LOAD_FAILED,
        ) from error
    if password:
        raise PasswordNotNeeded(
            f"a password was given for the private key in {path}, which is not encrypted;"
            " leave the password out, or check that this is the file you mean",
            path=path,
        )
    return key


def _decrypt(
    data: bytes, path: str, ask: PasswordCallback | None, role: str, explicit: str | bytes | None
) -> PrivateKey:
    attempts = 0
    failure: Exception | None = None
    while attempts < (1 if explicit else MAX_ATTEMPTS):
        answer = explicit or (ask(PasswordRequest(path, role, attempts + 1)) if ask else None)
        if not answer:
            break
        attempts += 1
        try:
            return _parse(data, _encoded(answer))
        except (ValueError, UnsupportedAlgorithm) as error:
            if isinstance(error, UnsupportedAlgorithm) or "unknown" in str(error).lower():
                raise CertificateFileError(
                    f"the private key in {path} is encrypted with a cipher that is no longer supported"
                    " (DES, for example); encrypt it anew: openssl pkey -provider legacy -provider default"
                    f" -in {path} -aes256 -out NEW.key",
                    path=path,
                    code=DicomExceptionCode.PRIVATE_KEY_LOAD_FAILED,
                ) from error
            failure = error
    if not attempts:
        raise PasswordRequired(
            f"the private key in {path} is encrypted and no password was given;"
            " return it from on_private_key_password, or name a key file that is not encrypted",
            path=path,
        )
    raise WrongPassword(
        f"{f'none of {attempts} passwords opens' if attempts > 1 else 'the password does not open'}"
        f" the private key in {path}; check the password, or whether the file is damaged",
        path=path,
        attempts=attempts,
    ) from failure


def _encoded(password: str | bytes) -> bytes:
    if isinstance(password, str):
        # Never an error for lone surrogates: a UnicodeEncodeError would carry the password.
        return password.encode("utf-8", "surrogatepass")
    if isinstance(password, bytes):
        return password
    raise TypeError(f"a password must be str, bytes or None, not {type(password).__name__}")


def _parse(data: bytes, password: bytes | None) -> PrivateKey:
    """Parse a key, or return what the same data and password gave before."""
    mark = hashlib.blake2b(b"%d:%b%b" % (len(data), data, password or b""), key=_secret).digest()
    pem = data.startswith(b"-----BEGIN ")
    load = serialization.load_pem_private_key if pem else serialization.load_der_private_key
    with _parsing:
        if mark not in _parsed:
            key = load(data, password)
            if not isinstance(key, PrivateKey):
                raise UnsupportedAlgorithm(f"{type(key).__name__} cannot be the key of a TLS certificate")
            if len(_parsed) >= _KEPT:
                del _parsed[next(iter(_parsed))]
            _parsed[mark] = key
        return _parsed[mark]
