"""A ready-made service provider: a storage server that keeps what it gets as DICOM files.

    with StorageScp("received") as scp:
        scp.listen(None, 11112)
        scp.run()

Every instance becomes a Part 10 file with exactly the bytes that arrived, named after its SOP Instance UID.
"""

# ruff: noqa: ARG002 - callbacks get more than each of them needs
from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from dicomnet.association import DicomAssociate
from dicomnet.dataset.sinks import FileSink
from dicomnet.dataset.spool import failing, instance_file_name, sweep
from dicomnet.enums import DicomCommandStatusType, DicomNetSecurityMode
from dicomnet.net import DicomNet
from dicomnet.protocol import negotiation
from dicomnet.protocol.message_table import C_STORE_RQ
from dicomnet.tls.context import context_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from dicomnet.dataset import DicomDataSet
    from dicomnet.enums import DicomExceptionCode
    from dicomnet.protocol.command_set import Command

__all__ = ["StorageLink", "StorageScp", "StoredInstance", "is_storage_class"]

_VERIFICATION = "1.2.840.10008.1.1"

# PS3.4 table B.5-1: classes below the storage root, but for those of the query and approval services that
# were put there as well.
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_NO_STORAGE = re.compile(r"200\.[456]|201\.(1\.1|[2-6])")
# Storage classes elsewhere: RT delivery instructions, the non-patient objects of PS3.4 annex GG, and
# retired ones.
_OTHER_STORAGE = re.compile(
    r"1\.2\.840\.10008\.5\.1\.(4\.(34\.(1|7|10)|38\.1|39\.1|43\.1|44\.1|45\.1)|1\.(27|29|30))"
)
_STANDARD_ROOT = "1.2.840.10008."
_DRAIN_STEP = 0.05  # seconds between two looks at the links in progress


def is_storage_class(uid: str) -> bool:
    """Tell whether an abstract syntax is a storage SOP class of PS3.4 annexes B and GG, or a private one.

    What is not below DICOM's own UID root is taken for a private storage class.
    """
    if uid.startswith(_STORAGE_ROOT):
        return _NO_STORAGE.fullmatch(uid, len(_STORAGE_ROOT)) is None
    return _OTHER_STORAGE.fullmatch(uid) is not None or not uid.startswith(_STANDARD_ROOT)


@dataclass(frozen=True)
class StoredInstance:
    """One instance that a `StorageScp` has stored."""

    path: str
    """The file, complete and under its final name."""

    sop_class: str
    """Affected SOP Class UID of the request; a peer's string."""

    sop_instance: str
    """Affected SOP Instance UID of the request; a peer's string."""

    transfer_syntax: str
    """In which the data set arrived and was stored."""

    size: int
    """Bytes of the data set, without the file's header."""

    calling: str
    """AE title of the sender; a peer's string."""

    peer: str
    """The sender's "address:port"."""


class StorageLink(DicomNet):
    """One connection of a `StorageScp`; it has the settings of its server, TLS included."""

    def __init__(self, scp: StorageScp, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.scp = scp

    def on_receive_associate_request(self, association: DicomAssociate) -> None:
        """Accept storage and Verification, in the first transfer syntax that the peer names for each."""
        request = self.link.core.request
        assert request is not None
        if self.scp.ae_title not in ("", association.called):
            self.send_associate_reject(1, 1, 7)  # called AE title not recognized (PS3.8 table 9-21)
            return
        proposed = {_VERIFICATION, *(context.abstract_syntax for context in request.contexts)}
        supported = {uid: (negotiation.ANY,) for uid in proposed if self.scp.accepts(uid)}
        answers = negotiation.answer_contexts(request, supported)
        if any(answer.result == 0 for answer in answers):
            self.send_associate_accept(DicomAssociate.accepting(request, answers, self.limits.max_pdu))
        else:
            self.send_associate_reject(1, 1, 1)

    def on_data_set(self, presentation_id: int, command: Command) -> FileSink | None:
        """Write the data set of a C-STORE straight into a file of the server's folder."""
        if command.message is not C_STORE_RQ:
            return None
        return self.scp.open_sink_for(self, presentation_id, command)

    def on_receive_c_store_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        priority: int,
        move_ae: str,
        move_message_id: int,
        data_set: DicomDataSet,
    ) -> None:
        """Answer with success: the file is complete. Then it is the server's to tell of it."""
        link = self.link
        assert link.core.request is not None
        self.scp.add(
            StoredInstance(
                data_set.path,
                affected_class,
                instance,
                link.core.contexts[presentation_id].transfer_syntax,
                data_set.size,
                link.core.request.calling,
                link.peer,
            )
        )
        success = DicomCommandStatusType.SUCCESS
        self.send_c_store_response(presentation_id, message_id, affected_class, instance, success)


class _InstanceSink(FileSink):
    """A file sink that tells when its data set is lost."""

    __slots__ = ("_lost",)

    def __init__(self, lost: Callable[[], object], *args: Any, **options: Any) -> None:
        self._lost = lost
        super().__init__(*args, **options)

    def abandon(self) -> None:
        """Remove what was written."""
        super().abandon()
        self._lost()


class StorageScp(DicomNet):
    """A listening object that stores what it is sent (PS3.4 annex B, level 2: every attribute).

    `folder` takes one Part 10 file for each instance, called `UID.dcm`; a peer's UID that is no UID gets a
    generated name. Nothing is overwritten: an instance that comes again, in whatever transfer syntax and with
    whatever content, gets a name of its own (`UID_1.dcm`). A file has its name only when it is complete, and
    only then the sender is told of success; where it cannot be written the sender gets A700H (out of
    resources), and nothing stays. `sync` also waits until it is on the disk.

    These are patients' data: a folder that `listen` makes is its owner's alone (mode 0700). One that is there
    keeps its mode, and then the files can be read by whom the umask lets read them.

    `ae_title`, where given, is what the peer has to call: another title is rejected (A-ASSOCIATE-RJ "called
    AE title not recognized"). Accepted are Verification and the storage classes (`is_storage_class`), with
    `any_class` every abstract syntax, each in the transfer syntax that it comes in.

    For TLS pass `security_mode`, and set CA and certificate on this object as on any `DicomNet`. The other
    arguments are those of `DicomNet`.
    """

    link_class: ClassVar[type[StorageLink]] = StorageLink
    """What is made for each connection; a subclass can answer more services."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *args: Any,
        ae_title: str = "",
        any_class: bool = False,
        sync: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.folder = os.path.abspath(folder)  # noqa: PTH100 - the working folder may change
        self.ae_title = ae_title
        self.any_class = any_class
        self.sync = sync
        self.stored = 0
        """Instances stored so far."""
        self.stored_bytes = 0
        """Bytes of their data sets."""
        self.failed = 0
        """Data sets that were announced but not stored: cut off by the peer, or the disk was full."""
        self._counting = threading.Lock()

    def accepts(self, abstract_syntax: str) -> bool:
        """Tell whether an abstract syntax is accepted; override to choose."""
        return self.any_class or abstract_syntax == _VERIFICATION or is_storage_class(abstract_syntax)

    def on_instance(self, instance: StoredInstance) -> None:
        """An instance is stored, and its sender is about to be told so. By default nothing happens.

        Runs on the thread of its link, several at a time where there are several links. What it raises
        becomes the failure status of the response (`errors.StatusError`: its own); the file stays.
        """

    def listen(self, *args: Any, **options: Any) -> None:
        """Listen as `DicomNet.listen` does, and remove from the folder what a crash has left there.

        The folder is made, with mode 0700, if it is not there. Raises `DataSetError` where that fails, and
        `TlsConfigurationError` where the TLS settings cannot work.
        """
        if self.security_mode is DicomNetSecurityMode.TLS:
            context_for(self._tls_settings(True), server_side=True)
        with failing(self.folder, "made"):
            os.makedirs(self.folder, 0o700, exist_ok=True)  # noqa: PTH103
        sweep(self.folder)
        super().listen(*args, **options)

    def on_accept(self, error: DicomExceptionCode) -> None:
        """Give the connection a link of its own."""
        self.accept(
            self.link_class(
                self,
                self._path,
                self.security_mode,
                timeouts=self.timeouts,
                limits=self.limits,
                trace=self._trace,
            )
        )

    def drain(self, seconds: float) -> bool:
        """Stop listening and give the links `seconds` to end; True if all did. `close` ends the others."""
        self.server_close()
        until = monotonic() + seconds
        pause = threading.Event()
        while self.get_client_count() and monotonic() < until:
            pause.wait(_DRAIN_STEP)
        return not self.get_client_count()

    # --- what the links call -------------------------------------------------------------------------

    def open_sink_for(self, link: StorageLink, presentation_id: int, command: Command) -> FileSink:
        """Return the sink for a data set that `link` is about to receive."""
        core = link.link.core
        assert core.request is not None
        try:
            return _InstanceSink(
                self._lose,
                os.path.join(self.folder, instance_file_name(str(command.value(0x1000) or ""))),  # noqa: PTH118
                core.contexts[presentation_id],
                command,
                exists="next",
                sync=self.sync,
                source_ae=core.request.calling,
            )
        except Exception:
            self._lose()
            raise

    def add(self, instance: StoredInstance) -> None:
        """Count an instance that is stored, and tell of it."""
        with self._counting:
            self.stored += 1
            self.stored_bytes += instance.size
        self.on_instance(instance)

    def _lose(self) -> None:
        with self._counting:
            self.failed += 1
