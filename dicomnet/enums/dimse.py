"""Numbers of the command set (PS3.7 9, 10 and annex C)."""

from __future__ import annotations

from dicomnet.enums.base import OpenIntEnum

__all__ = ["DicomCommandPriorityType", "DicomCommandStatusType", "DicomCommandType"]


class DicomCommandType(OpenIntEnum):
    """Command field (0000,0100) of the requests (PS3.7 E.1-1); a response adds 0x8000."""

    UNDEFINED = 0
    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    N_REPORT = 0x0100
    """N-EVENT-REPORT."""
    N_GET = 0x0110
    N_SET = 0x0120
    N_ACTION = 0x0130
    N_CREATE = 0x0140
    N_DELETE = 0x0150
    C_CANCEL = 0x0FFF


class DicomCommandPriorityType(OpenIntEnum):
    """Priority (0000,0700) of a C-STORE, C-FIND, C-GET or C-MOVE request."""

    MEDIUM = 0
    HIGH = 1
    LOW = 2


class DicomCommandStatusType(OpenIntEnum):
    """Status (0000,0900) of a response (PS3.7 annex C, PS3.4 annexes B and C; LEADTOOLS' names).

    The service classes define more Axxx, Bxxx and Cxxx codes than have names here; those are values too.
    """

    SUCCESS = 0x0000
    CANCEL = 0xFE00
    NO_SUCH_ATTRIBUTE = 0x0105
    INVALID_ATTRIBUTE_VALUE = 0x0106
    ATTRIBUTE_LIST_ERROR = 0x0107
    """A warning: some attributes were not recognized or not set."""
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_INSTANCE = 0x0111
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    NO_SUCH_ARGUMENT = 0x0114
    INVALID_ARGUMENT_VALUE = 0x0115
    ATTRIBUTE_OUT_OF_RANGE = 0x0116
    """A warning."""
    INVALID_OBJECT_INSTANCE = 0x0117
    NO_SUCH_CLASS = 0x0118
    CLASS_INSTANCE_CONFLICT = 0x0119
    CLASE_INSTANCE_CONFLICT = 0x0119
    """LEADTOOLS' spelling of CLASS_INSTANCE_CONFLICT."""
    MISSING_ATTRIBUTE = 0x0120
    MISSING_ATTRIBUTE_VALUE = 0x0121
    CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION_TYPE = 0x0123
    """Not in LEADTOOLS."""
    NOT_AUTHORIZED = 0x0124
    """Not in LEADTOOLS."""
    DUPLICATE_TRANSACTION_UID = 0x0131
    DUPLICATE_INVOCATION = 0x0210
    UNRECOGNIZED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    RESOURCE_LIMITATION = 0x0213
    REFUSED_OUT_OF_RESOURCES = 0xA700
    REFUSED_UNABLE_TO_CALCULATE_MATCHES = 0xA701
    REFUSED_UNABLE_TO_PERFORM_SUBOPERATIONS = 0xA702
    REFUSED_MOVE_DESTINATION_UNKNOWN = 0xA801
    DATA_SET_DOES_NOT_MATCH_CLASS = 0xA900
    """Data set or identifier does not match the SOP class. Not in LEADTOOLS."""
    FAILURE = 0xC001
    RESERVED2 = 0xC002
    RESERVED3 = 0xC003
    RESERVED4 = 0xC004
    WARNING = 0xB000
    """C-STORE: coercion of data elements; C-MOVE and C-GET: complete, with failures."""
    PENDING = 0xFF00
    PENDING_WARNING = 0xFF01
    """Pending, and optional keys are not supported."""
