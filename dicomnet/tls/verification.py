"""The verdict on a peer's certificates: OpenSSL's, then ours, then the application's.

OpenSSL's callback runs inside the handshake, where an exception would be lost or raised from another link:
it is kept here, and raised by the stream once the handshake has stopped. The first problem that nobody
overrules stops the handshake, so that the peer gets OpenSSL's alert for it; what else is wrong with the
chain is found by looking at it afterwards, for the message.

What `on_verify` accepts is accepted, and what it refuses is refused, also where OpenSSL was told to verify
nothing. A resumed TLS session brings no chain to verify, so there the judgement is made after the handshake.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from dicomnet import errors
from dicomnet.enums import DicomExceptionCode, DicomSecurityCertificateExceptionCode
from dicomnet.tls.certificates import certificate_text, describe
from dicomnet.tls.identity import check_name
from dicomnet.tls.openssl import verify_text
from dicomnet.tls.profiles import weakness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography import x509
    from OpenSSL import crypto

    from dicomnet.tls.settings import TlsSettings

__all__ = ["OnVerify", "Problem", "Verification"]

OnVerify = Callable[[int, str, errors.DicomSecurityCertificateException], int]
"""`on_verify(ok, certificate_string, error)`: 1 goes on, 0 stops."""


class _Kind(NamedTuple):
    error: type[errors.CertificateVerificationError]
    finding: str
    advice: str


_TRUST = (
    "If that CA is the right one, add its certificate to {trusted}; if an intermediate CA issued the "
    "certificate, the peer has to send that CA's certificate along"
)
_RENEW = "It has to be renewed; if it is a new one, compare the clocks of the two ends"
_CLOCKS = "Compare the clocks of the two ends"
_LIST = "Give the current revocation list of that CA"
_STRONGER = "It has to be issued anew, with an RSA key of 2048 bits or a P-256 key, and signed with SHA-256"
_REISSUE = "It has to be issued anew by a CA that sets this right"
_OTHER_NAME = "Connect by a name it lists, set the name to expect, or have the certificate issued anew"
_ISSUER = "its issuer {issuer} is not among the CAs that we trust"

_BASE = errors.CertificateVerificationError
_KINDS = {
    2: _Kind(errors.CertificateUnknownCa, _ISSUER, _TRUST),
    3: _Kind(_BASE, "there is no revocation list of its issuer {issuer}", _LIST),
    7: _Kind(
        _BASE, "its signature was not made with the key of {issuer}", "Two CAs have the same name. " + _TRUST
    ),
    9: _Kind(errors.CertificateNotYetValid, "it is not valid before {not_before}", _CLOCKS),
    10: _Kind(errors.CertificateExpired, "it expired at {not_after}", _RENEW),
    11: _Kind(_BASE, "the revocation list of {issuer} is not valid yet", _CLOCKS),
    12: _Kind(_BASE, "the revocation list of {issuer} is out of date", _LIST),
    18: _Kind(
        errors.CertificateSelfSigned,
        "it is signed by itself, and is not one that we trust",
        "Have one issued by a CA, or add this very certificate to {trusted}",
    ),
    19: _Kind(errors.CertificateUnknownCa, "the chain ends in it, and we do not trust it", _TRUST),
    20: _Kind(errors.CertificateUnknownCa, _ISSUER, _TRUST),
    21: _Kind(errors.CertificateUnknownCa, _ISSUER, _TRUST),
    22: _Kind(
        _BASE, "the chain is longer than the {allowed} CAs allowed", "Allow a greater verification depth"
    ),
    23: _Kind(errors.CertificateRevoked, "{issuer} has revoked it", "The peer needs a new certificate"),
    25: _Kind(_BASE, "there are more CAs below it than it allows", _REISSUE),
    26: _Kind(_BASE, "it must not be used by a TLS {role} (extended key usage)", _REISSUE),
    62: _Kind(errors.CertificateNameMismatch, "it is for another host", _OTHER_NAME),
    64: _Kind(errors.CertificateNameMismatch, "it is for another address", _OTHER_NAME),
    66: _Kind(_BASE, "its key of {key_bits} bits ({key_type}) is too short", _STRONGER),
    67: _Kind(_BASE, "its key of {key_bits} bits ({key_type}) is too short", _STRONGER),
    68: _Kind(_BASE, "it is signed with {signature_hash}, which is too weak", _STRONGER),
    79: _Kind(_BASE, "it is not a CA and has issued a certificate", _REISSUE),
}
"""X509_V_ERR_... number -> our exception, what is wrong, and what to do about it."""

_UNSPECIFIED, _REJECTED, _NAMES = 1, 28, (62, 64)
_RESUMED = "its session was resumed, and its chain was not verified anew"

# LEADTOOLS' numbers are those of OpenSSL 1.0.2. Those above 64 have moved since, and 24 means another thing.
_LEADTOOLS_CODES = {24: 1, 65: 1, 66: 1, 67: 1, 68: 1, 69: 65, 70: 66, 72: 67, 79: 24}


@dataclass(frozen=True)
class Problem:
    """Why one certificate of the chain is refused."""

    code: int
    """OpenSSL's X509_V_ERR_... number."""

    depth: int
    """0 is the peer's own certificate."""

    certificate: x509.Certificate | None
    """`None` where it cannot be decoded."""

    finding: str
    """What is wrong, the middle of a sentence."""

    advice: str
    """What to do about it."""


class Verification:
    """The judgement on the certificates of one peer, in one handshake."""

    __slots__ = (
        "_asked",
        "_expected",
        "_level",
        "_name_settled",
        "_on_verify",
        "_role",
        "_settings",
        "_stopped",
        "overruled",
        "problem",
        "raised",
    )

    problem: Problem | None
    """What ended the verification, if anything did."""

    overruled: Problem | None
    """The first problem that there was although `on_verify` said 1: the peer is let in, but not verified."""

    raised: BaseException | None
    """What `on_verify` raised."""

    def __init__(
        self,
        settings: TlsSettings,
        *,
        server_side: bool,
        security_level: int = 2,
        expected_name: str = "",
        on_verify: OnVerify | None = None,
    ) -> None:
        self._settings = settings
        self._role = "client" if server_side else "server"
        self._level = security_level
        self._expected = expected_name if settings.check_name and settings.verify else ""
        self._on_verify = on_verify
        self._asked = False
        self._name_settled = False
        self._stopped = False
        self.overruled = None
        self.problem = None
        self.raised = None

    def judge(self, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
        """Be OpenSSL's verify callback: return whether the verification may go on."""
        try:
            return self._judge(_decoded(certificate), 0 if ok else code, depth)
        except BaseException as error:  # the stream raises it
            self.raised = error
            return False

    def conclude(self, certificate: x509.Certificate | None) -> None:
        """End a handshake that succeeded; `certificate` is the peer's own.

        After a resumption OpenSSL had no chain to verify: the certificate, which it has verified before, is
        judged here. What `on_verify` has overruled then is not known, so where there is one, the peer does
        not count as verified. Raises what `on_verify` has raised.
        """
        if self.raised is not None:
            raise self.raised
        if certificate is None or not self._settings.verify or self._asked:
            return
        if self._judge(certificate, 0, 0) and self._on_verify is not None and self.overruled is None:
            self.overruled = Problem(_UNSPECIFIED, 0, certificate, _RESUMED, "")

    @property
    def overruled_finding(self) -> str:
        """What is wrong with the peer that `on_verify` let in, the middle of a sentence; "" for nothing."""
        problem = self.overruled
        if problem is None or not problem.depth or problem.certificate is None:
            return problem.finding if problem is not None else ""
        return f"of {describe(problem.certificate).subject} in its chain holds that {problem.finding}"

    @property
    def expects_name(self) -> bool:
        """True where the peer's certificate must be for a certain name."""
        return bool(self._expected)

    @property
    def refused(self) -> bool:
        """True where the link must end: by our settings, or because the application says so."""
        return self.problem is not None and bool(self._settings.verify or self._stopped)

    def error(
        self, peer: str, chain: Sequence[x509.Certificate] = (), **fields: Any
    ) -> errors.CertificateVerificationError:
        """Return the exception for `problem`; `chain` is what the peer sent, its own certificate first."""
        problem = self.problem or self._problem(_UNSPECIFIED, 0, None)
        code, depth = problem.code, problem.depth
        kind = _KINDS[code].error if code in _KINDS else errors.CertificateVerificationError
        info = describe(problem.certificate) if problem.certificate else None
        findings = tuple(dict.fromkeys((problem.finding, *self._others(chain))))
        if issubclass(kind, errors.CertificateNameMismatch):
            fields["expected"] = self._expected
        which = f" ({info.subject})" if info else ""
        if depth:
            which = f": in its chain, that of {info.subject if info else 'a CA'} (depth {depth})"
        return kind(
            f"We refuse the certificate of {peer}{which}: {'; moreover, '.join(findings)}. {problem.advice}. "
            f"(X.509 verify code {code})",
            code=DicomExceptionCode(158 + code) if 2 <= code <= 32 else kind.default_code,
            verify_code=code,
            depth=depth,
            subject=info.subject if info else "",
            issuer=info.issuer if info else "",
            findings=findings,
            peer=peer,
            refused_by="us",
            **fields,
        )

    # --- one certificate -----------------------------------------------------------------------------

    def _judge(self, certificate: x509.Certificate | None, code: int, depth: int) -> bool:
        self._asked = True
        if certificate is not None and (not code or code in _NAMES):
            problem = self._own_problem(certificate, depth)
        else:
            problem = self._problem(code or _UNSPECIFIED, depth, certificate)
        if self._on_verify is not None and certificate is not None:
            if self._ask(self._on_verify, certificate, problem):
                self._name_settled |= problem is not None and problem.code in _NAMES
                self.overruled = self.overruled or problem
                return True
            self._stopped = True
            problem = problem or Problem(
                _REJECTED, depth, certificate, "the application does not want it", "on_verify returned 0"
            )
        self.problem = problem
        return problem is None

    def _own_problem(self, certificate: x509.Certificate, depth: int) -> Problem | None:
        """Look for what OpenSSL does not look for."""
        if self._level < 2 and (weak := weakness(describe(certificate))):
            return Problem(_REJECTED, depth, certificate, f"it {weak}", _STRONGER)
        return self._name_problem(certificate) if depth == 0 and not self._name_settled else None

    def _name_problem(self, certificate: x509.Certificate) -> Problem | None:
        if self._expected:
            try:
                check_name(certificate, self._expected)
            except errors.CertificateNameMismatch as error:
                finding = f"it is not for {errors.escape(self._expected)!r}: {error.findings[0]}"
                return Problem(error.verify_code, 0, certificate, finding, _OTHER_NAME)
        return None

    def _problem(self, code: int, depth: int, certificate: x509.Certificate | None) -> Problem:
        kind = _KINDS.get(code)
        if certificate is None or kind is None:
            what = "OpenSSL says" if certificate else "it cannot be decoded"
            return Problem(code, depth, certificate, f"{what}: {verify_text(code)}", _REISSUE)
        words = asdict(describe(certificate)) | {
            "trusted": self._settings.ca_path or "the CA certificates given",
            "allowed": self._settings.depth,
            "role": self._role,
        }
        return Problem(code, depth, certificate, kind.finding.format(**words), kind.advice.format(**words))

    @staticmethod
    def _ask(on_verify: OnVerify, certificate: x509.Certificate, problem: Problem | None) -> bool:
        """Ask the application, whose word counts."""
        code = problem.code if problem else 0
        told = errors.DicomSecurityCertificateException(
            DicomSecurityCertificateExceptionCode(_LEADTOOLS_CODES.get(code, code)),
            problem.finding if problem else "nothing is wrong with it",
        )
        answer = on_verify(0 if problem else 1, certificate_text(certificate), told)
        if not isinstance(answer, int) or answer not in (0, 1):
            raise TypeError(f"on_verify must return 1 to go on or 0 to stop, not {answer!r}")
        return bool(answer)

    def _others(self, chain: Sequence[x509.Certificate]) -> Iterator[str]:
        """Yield what else shows on the peer's own certificate."""
        for leaf in chain[:1]:
            info, now = describe(leaf), datetime.now(timezone.utc)
            if info.not_before and now < datetime.fromisoformat(info.not_before):
                yield _KINDS[9].finding.format(**asdict(info))
            if info.not_after and now > datetime.fromisoformat(info.not_after):
                yield _KINDS[10].finding.format(**asdict(info))
            if mismatch := self._name_problem(leaf):
                yield mismatch.finding


def _decoded(certificate: crypto.X509) -> x509.Certificate | None:
    try:
        return certificate.to_cryptography()
    except ValueError:  # OpenSSL takes more than cryptography does
        return None
