"""DICOM networking over TCP and TLS, with the LEADTOOLS `DicomNet` programming model.

Subclass `DicomNet`, override its `on_*` callbacks, and call its methods from ordinary synchronous code; or
take a ready-made user or provider from `dicomnet.scu` and `dicomnet.scp`. Exceptions are in
`dicomnet.errors`, the enumerations in `dicomnet.enums`.
"""

from dicomnet import enums
from dicomnet._version import __version__
from dicomnet.association import DicomAssociate
from dicomnet.dataset import DicomDataSet
from dicomnet.dataset.sinks import CallableSink, DiscardSink, FileSink, MemorySink
from dicomnet.enums import *  # noqa: F403 - the enumerations keep their LEADTOOLS names
from dicomnet.errors import DicomException
from dicomnet.net import DicomNet
from dicomnet.security import DicomOpenSslVersion, LinkSecurity
from dicomnet.settings import DicomSocketOptions, Limits, Timeouts
from dicomnet.tls.passwords import PasswordRequest
from dicomnet.tls.settings import DicomOpenSslContextCreationSettings

__all__ = [
    "CallableSink",
    "DicomAssociate",
    "DicomDataSet",
    "DicomException",
    "DicomNet",
    "DicomOpenSslContextCreationSettings",
    "DicomOpenSslVersion",
    "DicomSocketOptions",
    "DiscardSink",
    "FileSink",
    "Limits",
    "LinkSecurity",
    "MemorySink",
    "PasswordRequest",
    "Timeouts",
    "__version__",
]
__all__ += enums.__all__
