"""Whether a certificate is made out to the host that we meant to reach (RFC 9525, by service-identity).

Only subject alternative names count, never the common name. A malformed name in the certificate is passed
over, so that it can't match, and can't spoil the others either.
"""

from __future__ import annotations

import ipaddress

from cryptography import x509
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import (
    DNS_ID,
    CertificatePattern,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    verify_service_identity,
)

from dicomnet.errors import CertificateNameMismatch, escape
from dicomnet.tls.certificates import alternative_names, describe

__all__ = ["check_name"]

_HOST_MISMATCH, _ADDRESS_MISMATCH = 62, 64  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_SHOWN = 20


def check_name(certificate: x509.Certificate, expected: str) -> None:
    """Check that a certificate is good for a host name or IP address; return if so.

    `expected` may be a host name (also an international one, with or without a final dot) or an IPv4 or
    IPv6 address (also in brackets or with a zone). A wildcard in the certificate stands for the first label.

    Raises `CertificateNameMismatch`, whose `findings` say what the certificate is good for.
    """
    host = expected.strip().removesuffix(".")
    address = _address(host)
    try:
        wanted = IPAddress_ID(address) if address else DNS_ID(_ascii(host))
        verify_service_identity(_patterns(certificate), [wanted], [])
    except (CertificateError, VerificationError, ValueError) as error:
        info = describe(certificate)
        finding = _finding(info.names, host)
        raise CertificateNameMismatch(
            f"the certificate of {info.subject} is not for '{escape(expected)}': {finding};"
            " connect by a name it lists, set the name to expect, or have the certificate issued anew",
            expected=expected,
            verify_code=_ADDRESS_MISMATCH if address else _HOST_MISMATCH,
            subject=info.subject,
            issuer=info.issuer,
            findings=(finding,),
            refused_by="us",
        ) from error


def _patterns(certificate: x509.Certificate) -> list[CertificatePattern]:
    patterns: list[CertificatePattern] = []
    for name in alternative_names(certificate):
        try:
            if isinstance(name, x509.DNSName):
                patterns.append(DNSPattern.from_bytes(name.value.encode("ascii")))
            elif isinstance(name, x509.IPAddress):
                patterns.append(IPAddressPattern.from_bytes(getattr(name.value, "packed", b"")))
        except (CertificateError, ValueError):
            continue
    return patterns


def _address(host: str) -> str:
    """Return an IP address in plain form (no brackets, zone or IPv4 mapping), or "" for a host name."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _ascii(host: str) -> str:
    # The codec that the socket module uses for the look-up, so that both mean the same host.
    return host if host.isascii() else host.encode("idna").decode("ascii")


def _finding(names: tuple[str, ...], host: str) -> str:
    if f"DNS:{host}" in names:
        return "it lists this as a DNS name, which it cannot be (an address must be listed as an IP address)"
    hosts = [name for name in names if name.startswith(("DNS:", "IP:"))]
    if not hosts:
        return "it lists no host name or address (a common name does not count)"
    more = f" and {len(hosts) - _SHOWN} more" if len(hosts) > _SHOWN else ""
    return f"it is good for {', '.join(hosts[:_SHOWN])}{more}"
