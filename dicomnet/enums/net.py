"""Choices that are made when a link is set up."""

from __future__ import annotations

from enum import IntFlag

from dicomnet.enums.base import NamedIntEnum

__all__ = ["ClientPortUsageType", "DicomNetFlags", "DicomNetIpTypeFlags", "DicomNetSecurityMode"]


class DicomNetSecurityMode(NamedIntEnum):
    """The security layer of a `DicomNet` object (LEADTOOLS `DicomNetSecurityMode`)."""

    NONE = 0xABCD0000
    """Plain TCP."""
    ISCL = 0xABCD0001
    """Retired from the standard in 2018 and not implemented: asking for it is an error."""
    TLS = 0xABCD0002
    """TLS (PS3.15 B)."""


class DicomNetIpTypeFlags(IntFlag):
    """Which IP families may be used (LEADTOOLS `DicomNetIpTypeFlags`); NONE leaves the choice to us."""

    NONE = 0
    IPV4 = 1
    IPV6 = 2
    IPV4_OR_IPV6 = 3


class DicomNetFlags(IntFlag):
    """Per-object behaviour (LEADTOOLS `DicomNetFlags`)."""

    NONE = 0
    SEND_DATA_WITH_GROUP_LENGTH_STANDARD_DATA_ELEMENTS = 1
    """Write group length elements (gggg,0000) in data sets that are encoded for sending."""


class ClientPortUsageType(NamedIntEnum):
    """How the return connection of a C-MOVE is expected (LEADTOOLS `ClientPortUsageType`)."""

    NONE = 0
    UNSECURE = 1
    SECURE = 2
    SAME_AS_SERVER = 3
