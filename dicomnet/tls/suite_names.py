"""The names of cipher suites: IANA's, which the enumeration has, and OpenSSL's, which follow from them.

What the linked OpenSSL really has is asked at run time; here a name says only that some version of OpenSSL
has had the suite under it. TLS 1.3 names are the same for both.
"""

from __future__ import annotations

import re

from dicomnet.enums import DicomTlsCipherSuiteType

__all__ = ["openssl_name", "registered_names"]

# Suites that no version of OpenSSL has had.
_NAMELESS = re.compile(
    r"NULL_WITH_NULL.*|KRB5_.*|ECCPWD_.*|.*_MGM_[LS]|.*_ARIA_\d+_CBC_.*|.*_CAMELLIA_\d+_GCM_.*"
    r"|(EC)?DH_.*_ARIA_.*|ECDHE_PSK_WITH_AES_\d+_(GCM|CCM|CCM_8)_SHA\d+",
)

# Suites whose OpenSSL name follows no rule.
_IRREGULAR = {
    "ECDHE_RSA_WITH_ARIA_128_GCM_SHA256": "ECDHE-ARIA128-GCM-SHA256",
    "ECDHE_RSA_WITH_ARIA_256_GCM_SHA384": "ECDHE-ARIA256-GCM-SHA384",
    "GOSTR341112_256_WITH_KUZNYECHIK_CTR_OMAC": "GOST2012-KUZNYECHIK-KUZNYECHIKOMAC",
    "GOSTR341112_256_WITH_MAGMA_CTR_OMAC": "GOST2012-MAGMA-MAGMAOMAC",
    "GOSTR341112_256_WITH_28147_CNT_IMIT": "IANA-GOST2012-GOST8912-GOST8912",
}

# Applied one after the other to the registered name without TLS_.
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^(.*)_EXPORT_WITH", r"EXP_\1_WITH"),
        (r"^((?:EXP_)?)RSA_WITH_", r"\1"),
        (r"DH_anon", "ADH"),
        (r"^ECADH", "AECDH"),
        (r"^PSK_DHE", "DHE_PSK"),
        (r"^SRP_SHA", "SRP"),
        (r"(?<!EC)DHE_(RSA|DSS)_WITH_(3?DES)", r"EDH_\1_\2"),
        (r"^((?!SRP|.*PSK).*)3DES_EDE_CBC", r"\1DES_CBC3"),
        (r"DES40_CBC", "DES_CBC"),
        (r"RC4_\d+", "RC4"),
        (r"RC2_CBC_\d+", "RC2_CBC"),
        (r"SEED_CBC", "SEED"),
        (r"^((?!SRP).*)(AES|CAMELLIA|ARIA)_(\d+)", r"\1\2\3"),
        (r"^((?!.*PSK).*AES\d+|.*CAMELLIA\d+)_CBC", r"\1"),
        (r"CCM_8", "CCM8"),
        (r"POLY1305_SHA256", "POLY1305"),
        (r"_WITH", ""),
        (r"_", "-"),
    )
)


def registered_names() -> dict[DicomTlsCipherSuiteType, str]:
    """Return the IANA name, without `TLS_`, of every suite of the enumeration.

    LEADTOOLS' own names come first in it and the registered ones follow as aliases, so the last counts.
    """
    names = {member: name for name, member in DicomTlsCipherSuiteType.__members__.items()}
    del names[DicomTlsCipherSuiteType.NONE]
    return {member: name.replace("_ANON", "_anon") for member, name in names.items()}


def openssl_name(name: str) -> str:
    """Return OpenSSL's name for a registered name without `TLS_`; "" where it has never had the suite."""
    if _NAMELESS.fullmatch(name):
        return ""
    if "_WITH_" not in name:  # TLS 1.3, and the two signalling values
        return f"TLS_{name}"
    result = _IRREGULAR.get(name, "")
    if not result:
        result = name
        for pattern, replacement in _RULES:
            result = pattern.sub(replacement, result)
    return result
