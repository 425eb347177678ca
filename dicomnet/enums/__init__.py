"""The enumerations, under LEADTOOLS' names and numbers, with members added where LEADTOOLS has none."""

from __future__ import annotations

from dicomnet.enums.association import (
    DicomAbortReasonType,
    DicomAbortSourceType,
    DicomAssociateAcceptResultType,
    DicomAssociateRejectReasonType,
    DicomAssociateRejectResultType,
    DicomAssociateRejectSourceType,
    DicomPduType,
    DicomRoleSupport,
    DicomUserIdentityType,
    abort_text,
    reject_reason,
    reject_reason_name,
    reject_text,
)
from dicomnet.enums.base import NamedIntEnum, OpenIntEnum
from dicomnet.enums.cipher_suite import DicomTlsCipherSuiteType
from dicomnet.enums.dimse import DicomCommandPriorityType, DicomCommandStatusType, DicomCommandType
from dicomnet.enums.exception_code import DicomExceptionCode, DicomSecurityCertificateExceptionCode
from dicomnet.enums.net import (
    ClientPortUsageType,
    DicomNetFlags,
    DicomNetIpTypeFlags,
    DicomNetSecurityMode,
)
from dicomnet.enums.tls import (
    DicomOpenSslOptionsFlags,
    DicomOpenSslVerificationFlags,
    DicomSslMethodType,
    DicomTlsAuthenticationMethodType,
    DicomTlsCertificateType,
    DicomTlsEncryptionMethodType,
    DicomTlsExchangeMethodType,
    DicomTlsMacMethodType,
)

__all__ = [
    "ClientPortUsageType",
    "DicomAbortReasonType",
    "DicomAbortSourceType",
    "DicomAssociateAcceptResultType",
    "DicomAssociateRejectReasonType",
    "DicomAssociateRejectResultType",
    "DicomAssociateRejectSourceType",
    "DicomCommandPriorityType",
    "DicomCommandStatusType",
    "DicomCommandType",
    "DicomExceptionCode",
    "DicomNetFlags",
    "DicomNetIpTypeFlags",
    "DicomNetSecurityMode",
    "DicomOpenSslOptionsFlags",
    "DicomOpenSslVerificationFlags",
    "DicomPduType",
    "DicomRoleSupport",
    "DicomSecurityCertificateExceptionCode",
    "DicomSslMethodType",
    "DicomTlsAuthenticationMethodType",
    "DicomTlsCertificateType",
    "DicomTlsCipherSuiteType",
    "DicomTlsEncryptionMethodType",
    "DicomTlsExchangeMethodType",
    "DicomTlsMacMethodType",
    "DicomUserIdentityType",
    "NamedIntEnum",
    "OpenIntEnum",
    "abort_text",
    "reject_reason",
    "reject_reason_name",
    "reject_text",
]
