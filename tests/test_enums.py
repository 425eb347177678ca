"""The enumerations: LEADTOOLS' numbers, numbers nobody knows, and the registry of cipher suites."""

from __future__ import annotations

import copy
import enum
import json
import pickle

import pytest
from cryptodatahub.tls.algorithm import TlsCipherSuite

from dicomnet import enums
from dicomnet.enums import (
    DicomAbortReasonType,
    DicomAbortSourceType,
    DicomAssociateAcceptResultType,
    DicomAssociateRejectReasonType,
    DicomAssociateRejectResultType,
    DicomAssociateRejectSourceType,
    DicomCommandPriorityType,
    DicomCommandStatusType,
    DicomCommandType,
    DicomExceptionCode,
    DicomNetIpTypeFlags,
    DicomNetSecurityMode,
    DicomOpenSslOptionsFlags,
    DicomOpenSslVerificationFlags,
    DicomPduType,
    DicomRoleSupport,
    DicomSecurityCertificateExceptionCode,
    DicomSslMethodType,
    DicomTlsAuthenticationMethodType,
    DicomTlsCertificateType,
    DicomTlsCipherSuiteType,
    DicomTlsEncryptionMethodType,
    DicomTlsExchangeMethodType,
    DicomTlsMacMethodType,
    DicomUserIdentityType,
    OpenIntEnum,
    abort_text,
    reject_reason,
    reject_reason_name,
    reject_text,
)

ENUMERATIONS = [
    kind
    for name in enums.__all__
    if isinstance(kind := getattr(enums, name), type) and issubclass(kind, enum.Enum) and len(kind)
]
OPEN = [kind for kind in ENUMERATIONS if issubclass(kind, OpenIntEnum)]


@pytest.mark.parametrize("kind", OPEN, ids=lambda kind: kind.__name__)
def test_a_number_nobody_knows_is_a_value(kind):
    unknown = kind(0xFACE)
    assert unknown == 0xFACE
    assert isinstance(unknown, kind)
    assert unknown.name == str(unknown) == "UNKNOWN_0xFACE"
    assert hash(unknown) == hash(0xFACE)
    assert kind(unknown) == unknown
    assert "UNKNOWN_0xFACE" not in kind.__members__
    for twin in (pickle.loads(pickle.dumps(unknown)), copy.copy(unknown), copy.deepcopy(unknown)):
        assert (twin, twin.name, type(twin)) == (unknown, unknown.name, kind)


@pytest.mark.parametrize("value", [-1, "1", None, 1.5])
def test_what_is_not_a_number_of_the_wire_is_refused(value):
    with pytest.raises(ValueError):
        DicomCommandStatusType(value)


def test_settings_do_not_take_unknown_numbers():
    for kind in (DicomTlsCipherSuiteType, DicomNetSecurityMode, DicomTlsCertificateType, DicomSslMethodType):
        with pytest.raises(ValueError):
            kind(0xFACE)


def test_text_number_and_json_of_a_member():
    status = DicomCommandStatusType(0xA700)
    assert f"{status}" == str(status) == "REFUSED_OUT_OF_RESOURCES"
    assert f"{status:04X}" == "A700"
    assert f"{status:d}" == "42752"
    assert json.loads(json.dumps({"status": status})) == {"status": 42752}


@pytest.mark.parametrize("kind", ENUMERATIONS, ids=lambda kind: kind.__name__)
def test_members_pickle_and_are_documented(kind):
    assert kind.__doc__
    for member in kind:
        assert pickle.loads(pickle.dumps(member)) is member


# What ported code and its settings files rely on: LEADTOOLS' own numbers.
LEADTOOLS = {
    DicomNetSecurityMode: {"NONE": 2882338816, "TLS": 2882338818},
    DicomNetIpTypeFlags: {"NONE": 0, "IPV4": 1, "IPV6": 2, "IPV4_OR_IPV6": 3},
    DicomTlsEncryptionMethodType: {"NONE": 0, "DES": 1, "THREE_DES": 2, "RC4": 3, "RC2": 4, "IDEA": 5}
    | {"FORTEZZA": 6, "AES": 7},
    DicomTlsMacMethodType: {"NONE": 0, "SHA1": 16, "MD5": 17},
    DicomTlsAuthenticationMethodType: {"NONE": 0, "RSA": 32, "DSS": 33, "DH": 34},
    DicomTlsExchangeMethodType: {"NONE": 0, "RSA_SIGNED_DHE": 64, "RSA": 65, "DH": 66, "DSS": 67}
    | {"FORTEZZA": 68},
    DicomTlsCipherSuiteType: {
        "NONE": 0,
        "DHE_RSA_WITH_DES_CBC_SHA": 18,
        "DHE_RSA_WITH_3DES_EDE_CBC_SHA": 19,
        "DHE_RSA_AES256_SHA": 20,
        "RSA_WITH_AES128_CBC_SHA": 21,
        "RSA_WITH_3DES_EDE_CBC_SHA": 22,
        "DHE_RSA_WITH_AES128_GCM_SHA256": 23,
        "ECDHE_RSA_WITH_AES128_GCM_SHA256": 24,
        "DHE_RSA_WITH_AES256_GCM_SHA384": 25,
        "ECDHE_RSA_WITH_AES256_GCM_SHA384": 26,
    },
    DicomSslMethodType: {"SSL_V2": 1, "SSL_V3": 2, "TLS_V1": 3, "SSL_V23": 4, "TLS": 5},
    DicomOpenSslVerificationFlags: {"NONE": 0, "PEER": 1, "FAIL_IF_NO_PEER_CERTIFICATE": 2, "CLIENT_ONCE": 4}
    | {"ALL": 7},
    DicomOpenSslOptionsFlags: {"NO_SSL_V2": 16777216, "NO_SSL_V3": 33554432, "NO_TLS_V1": 67108864}
    | {"NO_TLS_V12": 134217728, "NO_TLS_V11": 268435456, "NO_COMPRESSION": 131072}
    | {"ALL_BUG_WORKAROUNDS": 2147486719},
    DicomTlsCertificateType: {"PEM": 1, "ASN1": 2},
    DicomExceptionCode: {"SUCCESS": 0, "PARAMETER": 9, "BAD_PDU_TYPE": 17, "NET_FAILURE": 29}
    | {"NET_CONNECTION_ABORTED": 34, "NET_CONNECTION_REFUSED": 35, "NET_TIMEOUT": 56}
    | {"NET_HOST_NOT_FOUND": 58, "NET_VERSION_NOT_SUPPORTED": 64, "TLS_INTERNAL_ERROR": 66}
    | {"TLS_LIBRARY_NOT_LOADED": 68, "TLS_CLOSE_NOTIFY": 128, "TLS_HANDSHAKE_FAILURE": 134}
    | {"TLS_CLOSED_CONTROLLED": 152, "TLS_CERT_HAS_EXPIRED": 168, "TLS_INVALID_CTX": 192}
    | {"PRIVATE_KEY_LOAD_FAILED": 218, "KEYS_MISMATCH": 221, "IPV4_IPV6_CONFLICT": 307}
    | {"NET_HOST_UNREACHABLE": 423, "CLASS_NOT_SUPPORTED": 425},
}


@pytest.mark.parametrize("kind", LEADTOOLS, ids=lambda kind: kind.__name__)
def test_numbers_of_leadtools(kind):
    assert {name: kind[name].value for name in LEADTOOLS[kind]} == LEADTOOLS[kind]


def test_added_algorithms_cannot_collide_with_leadtools():
    for kind in (
        DicomTlsEncryptionMethodType,
        DicomTlsMacMethodType,
        DicomTlsAuthenticationMethodType,
        DicomTlsExchangeMethodType,
    ):
        added = [member for member in kind if member.name not in LEADTOOLS[kind]]
        assert added
        assert min(added) >= 0x1000


# PS3.7 annex C and E, PS3.8 9.3: the standard's numbers, in the order of its tables.
STANDARD = {
    DicomPduType: {
        "ASSOCIATE_REQUEST": 1, "ASSOCIATE_ACCEPT": 2, "ASSOCIATE_REJECT": 3, "DATA_TRANSFER": 4,
        "RELEASE_REQUEST": 5, "RELEASE_RESPONSE": 6, "ABORT": 7,
    },
    DicomAssociateAcceptResultType: {
        "SUCCESS": 0, "USER_REJECT": 1, "PROVIDER_REJECT": 2, "ABSTRACT_SYNTAX": 3, "TRANSFER_SYNTAX": 4,
    },
    DicomRoleSupport: {"UNSUPPORTED": 0, "SUPPORTED": 1},
    DicomAssociateRejectResultType: {"PERMANENT": 1, "TRANSIENT": 2},
    DicomAssociateRejectSourceType: {"USER": 1, "PROVIDER1": 2, "PROVIDER2": 3},
    DicomAbortSourceType: {"USER": 0, "PROVIDER": 2},
    DicomAbortReasonType: {
        "UNKNOWN": 0, "UNRECOGNIZED": 1, "UNEXPECTED": 2, "UNRECOGNIZED_PARAMETER": 4,
        "UNEXPECTED_PARAMETER": 5, "INVALID_PARAMETER_VALUE": 6,
    },
    DicomUserIdentityType: {"USERNAME": 1, "USERNAME_AND_PASSCODE": 2, "KERBEROS": 3, "SAML": 4, "JWT": 5},
    DicomCommandPriorityType: {"MEDIUM": 0, "HIGH": 1, "LOW": 2},
    DicomCommandType: {
        "C_STORE": 0x0001, "C_GET": 0x0010, "C_FIND": 0x0020, "C_MOVE": 0x0021, "C_ECHO": 0x0030,
        "N_REPORT": 0x0100, "N_GET": 0x0110, "N_SET": 0x0120, "N_ACTION": 0x0130, "N_CREATE": 0x0140,
        "N_DELETE": 0x0150, "C_CANCEL": 0x0FFF,
    },
    DicomCommandStatusType: {
        "SUCCESS": 0x0000, "NO_SUCH_ATTRIBUTE": 0x0105, "INVALID_ATTRIBUTE_VALUE": 0x0106,
        "ATTRIBUTE_LIST_ERROR": 0x0107, "PROCESSING_FAILURE": 0x0110, "DUPLICATE_INSTANCE": 0x0111,
        "NO_SUCH_OBJECT_INSTANCE": 0x0112, "NO_SUCH_EVENT_TYPE": 0x0113, "NO_SUCH_ARGUMENT": 0x0114,
        "INVALID_ARGUMENT_VALUE": 0x0115, "ATTRIBUTE_OUT_OF_RANGE": 0x0116,
        "INVALID_OBJECT_INSTANCE": 0x0117, "NO_SUCH_CLASS": 0x0118, "CLASS_INSTANCE_CONFLICT": 0x0119,
        "MISSING_ATTRIBUTE": 0x0120, "MISSING_ATTRIBUTE_VALUE": 0x0121, "CLASS_NOT_SUPPORTED": 0x0122,
        "NO_SUCH_ACTION_TYPE": 0x0123, "NOT_AUTHORIZED": 0x0124, "DUPLICATE_INVOCATION": 0x0210,
        "UNRECOGNIZED_OPERATION": 0x0211, "MISTYPED_ARGUMENT": 0x0212, "RESOURCE_LIMITATION": 0x0213,
        "REFUSED_OUT_OF_RESOURCES": 0xA700, "REFUSED_MOVE_DESTINATION_UNKNOWN": 0xA801,
        "DATA_SET_DOES_NOT_MATCH_CLASS": 0xA900, "CANCEL": 0xFE00, "PENDING": 0xFF00,
        "PENDING_WARNING": 0xFF01,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", STANDARD, ids=lambda kind: kind.__name__)
def test_numbers_of_the_standard_S02(kind):
    assert {name: kind[name].value for name in STANDARD[kind]} == STANDARD[kind]


def test_both_spellings_of_the_class_instance_conflict():
    assert DicomCommandStatusType.CLASE_INSTANCE_CONFLICT is DicomCommandStatusType.CLASS_INSTANCE_CONFLICT
    assert DicomCommandStatusType(0x0119).name == "CLASS_INSTANCE_CONFLICT"


def test_certificate_codes_are_those_of_openssl():
    code = DicomSecurityCertificateExceptionCode
    assert (code.CERT_HAS_EXPIRED, code.SELF_SIGNED_CERT_IN_CHAIN, code.HOSTNAME_MISMATCH) == (10, 19, 62)
    assert code(79).name == "UNKNOWN_0x004F"


def test_exception_codes_are_distinct():
    assert len(DicomExceptionCode) == len(DicomExceptionCode.__members__)


# --- reject and abort ------------------------------------------------------------------------------


REASONS = {  # PS3.8 table 9-21, R02
    (1, 1): "UNKNOWN",
    (1, 2): "APPLICATION",
    (1, 3): "CALLING",
    (1, 7): "CALLED",
    (2, 1): "UNKNOWN",
    (2, 2): "VERSION",
    (3, 1): "CONGESTION",
    (3, 2): "LIMIT",
}


@pytest.mark.parametrize(("source", "reason"), REASONS)
def test_reject_reasons_are_named_by_source_R02(source, reason):
    name = REASONS[source, reason]
    member = reject_reason(source, reason)
    assert reject_reason_name(source, reason) == member.name == str(member) == name
    assert member == reason == DicomAssociateRejectReasonType[name]


@pytest.mark.parametrize(("source", "reason"), [(1, 4), (2, 3), (3, 0), (3, 7), (9, 2), (0, 0)])
def test_reserved_reject_values_keep_their_numbers_R05(source, reason):
    assert reject_reason(source, reason) == reason
    assert reject_reason_name(source, reason) == f"UNKNOWN_0x{reason:04X}"
    assert str(reason) in reject_text(1, source, reason)


def test_reject_text_tells_the_sources_apart():
    texts = {reject_text(2, source, 2) for source in (1, 2, 3, 4)}
    assert len(texts) == 4
    assert "congestion" in reject_text(2, 3, 1)
    assert "reserved result 7" in reject_text(7, 1, 1)
    enumerated = reject_text(
        DicomAssociateRejectResultType(7), DicomAssociateRejectSourceType(4), reject_reason(4, 9)
    )
    assert enumerated == reject_text(7, 4, 9)


def test_abort_text_R10_R11():
    assert abort_text(0, 0) == abort_text(0, 5)  # the reason has no meaning here
    assert len({abort_text(2, reason) for reason in range(8)}) == 8
    assert "reserved reason 3" in abort_text(2, 3)
    assert "reserved source 1" in abort_text(DicomAbortSourceType(1), DicomAbortReasonType.UNKNOWN)


# --- cipher suites ---------------------------------------------------------------------------------

IANA_OF_LEADTOOLS = {
    0x0015: 0x12, 0x0016: 0x13, 0x0039: 0x14, 0x002F: 0x15, 0x000A: 0x16,
    0x009E: 0x17, 0xC02F: 0x18, 0x009F: 0x19, 0xC030: 0x1A,
}  # fmt: skip


def test_every_registered_suite_has_its_name_and_number():
    registered = {
        suite.value.iana_name.removeprefix("TLS_").upper(): suite.value.code
        for suite in TlsCipherSuite
        if suite.value.iana_name and suite.value.iana_name.startswith("TLS_")
    }
    members = DicomTlsCipherSuiteType.__members__
    common = registered.keys() & members.keys()
    assert len(common) >= 330
    wrong = {
        name: (hex(members[name]), hex(registered[name]))
        for name in common
        if members[name] != IANA_OF_LEADTOOLS.get(registered[name], 0x10000 | registered[name])
    }
    assert wrong == {}


def test_suites_are_350_and_none_has_two_numbers():
    assert len(DicomTlsCipherSuiteType) == 350 + 1  # and NONE
    codes = {member.value & 0xFFFF for member in DicomTlsCipherSuiteType if member >= 0x10000}
    assert codes.isdisjoint(IANA_OF_LEADTOOLS)
    assert len(codes) + len(IANA_OF_LEADTOOLS) == 350


def test_suites_of_leadtools_answer_to_their_registered_names():
    suite = DicomTlsCipherSuiteType
    assert suite.ECDHE_RSA_WITH_AES_128_GCM_SHA256 is suite.ECDHE_RSA_WITH_AES128_GCM_SHA256
    assert suite.DHE_RSA_WITH_AES_256_CBC_SHA is suite.DHE_RSA_AES256_SHA
    assert suite.AES_256_GCM_SHA384 == 0x11302
