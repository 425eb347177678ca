"""The 23 `send_*` methods for DIMSE messages, with LEADTOOLS' parameters in LEADTOOLS' order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from dicomnet.dataset import DataSetLike
from dicomnet.protocol import message_table as table
from dicomnet.protocol.status import category

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from dicomnet.enums import DicomCommandPriorityType, DicomCommandStatusType
    from dicomnet.protocol.message_table import Message

__all__ = ["DataSetLike", "Messages", "StatusDetails"]


class StatusDetails(TypedDict, total=False):
    """What a response may add to its status (PS3.7 C); given by keyword to each `send_*_response`."""

    error_comment: str
    """(0000,0902); what is longer than 64 characters is cut, what is not printable ASCII becomes "?"."""

    offending_elements: Sequence[int]
    """(0000,0901): tags as numbers, for example 0x00100010."""

    error_id: int
    """(0000,0903): a number of the implementation's own, 0 to 65535."""

    attributes: Sequence[int]
    """(0000,1005): the tags that a status about attributes concerns (0105H, 0107H, 0120H)."""


class Messages:
    """The `send_*` methods of `DicomNet` for the 23 DIMSE messages (PS3.7 9.3 and 10.3).

    They return when the message has been handed to the operating system; the answer to a request comes to
    the callback `on_receive_*_response`. They may be called from any thread and from inside a callback. A
    request waits for its turn where the asynchronous operations window is full (1 operation, unless more were
    negotiated).

    Common parameters:

    - `presentation_id`: the id of an accepted presentation context, 1 to 255 odd.
    - `message_id`: of a request its own id, 1 to 65535, which no outstanding request may have; of a response
      the id of the request that it answers.
    - `affected_class`, `instance`: SOP class and SOP instance UID. A response repeats those of the request,
      or leaves them out with "".
    - `priority`: `DicomCommandPriorityType` or its number.
    - `status`: `DicomCommandStatusType` or any other number of PS3.7 C. Every status but pending ends the
      operation.
    - `data_set`: a `DicomDataSet`, a pydicom `Dataset`, or the path of a DICOM file, which is sent byte for
      byte without being decoded; None for no data set.
    - `details`: see `StatusDetails`.

    All of them raise `LocalProtocolError` if a parameter cannot be encoded or contradicts the message,
    `WrongStateError` without an association, `NoAcceptedContext` if the presentation context was not
    accepted, `DataSetError` if the data set cannot be read or encoded, `WriteTimeout` and `NetworkError` if
    the peer does not take it.
    """

    def _send_message(
        self, message: Message, presentation_id: int, values: dict[str, Any], data_set: DataSetLike | None
    ) -> None:
        raise NotImplementedError

    # --- C-STORE ---------------------------------------------------------------------------------

    def send_c_store_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        priority: DicomCommandPriorityType | int,
        move_ae: str,
        move_message_id: int,
        data_set: DataSetLike,
    ) -> None:
        """Ask the peer to store `data_set` (C-STORE-RQ, PS3.7 9.3.1.1).

        `move_ae` and `move_message_id` are for a sub-operation of a C-MOVE: the AE title of the one who asked
        for the move, and the message id of its request. For a plain store they are "" and 0.
        """
        values = {
            "message_id": message_id,
            "affected_class": affected_class,
            "instance": instance,
            "priority": priority,
        }
        if move_ae:
            values |= {"move_ae": move_ae, "move_message_id": move_message_id}
        self._send_message(table.C_STORE_RQ, presentation_id, values, data_set)

    def send_c_store_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType | int,
        **details: Unpack[StatusDetails],
    ) -> None:
        """Answer a C-STORE request (C-STORE-RSP, PS3.7 9.3.1.2)."""
        values = _response(details, message_id, affected_class, status, instance=instance)
        self._send_message(table.C_STORE_RSP, presentation_id, values, None)

    # --- C-FIND ----------------------------------------------------------------------------------

    def send_c_find_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        priority: DicomCommandPriorityType | int,
        data_set: DataSetLike,
    ) -> None:
        """Ask for what matches the identifier `data_set` (C-FIND-RQ, PS3.7 9.3.2.1)."""
        values = {"message_id": message_id, "affected_class": affected_class, "priority": priority}
        self._send_message(table.C_FIND_RQ, presentation_id, values, data_set)

    def send_c_find_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        status: DicomCommandStatusType | int,
        data_set: DataSetLike | None,
        **details: Unpack[StatusDetails],
    ) -> None:
        """Answer a C-FIND request (C-FIND-RSP, PS3.7 9.3.2.2).

        Each match is one response with status pending and the match as `data_set`; one response with a final
        status and None ends the operation.
        """
        values = _response(details, message_id, affected_class, status)
        self._send_message(table.C_FIND_RSP, presentation_id, values, data_set)

    # --- C-GET and C-MOVE ------------------------------------------------------------------------

    def send_c_get_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        priority: DicomCommandPriorityType | int,
        data_set: DataSetLike,
    ) -> None:
        """Ask the peer to store here what matches the identifier `data_set` (C-GET-RQ, PS3.7 9.3.3.1).

        The instances come as C-STORE requests on this association, for which the SCP role of their SOP
        classes must have been negotiated.
        """
        values = {"message_id": message_id, "affected_class": affected_class, "priority": priority}
        self._send_message(table.C_GET_RQ, presentation_id, values, data_set)

    def send_c_get_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        status: DicomCommandStatusType | int,
        remaining: int,
        completed: int,
        failed: int,
        warning: int,
        data_set: DataSetLike | None,
        **details: Unpack[StatusDetails],
    ) -> None:
        """Report on a C-GET operation, or end it (C-GET-RSP, PS3.7 9.3.3.2).

        The four numbers count C-STORE sub-operations: still to come, successful, failed, ended with a
        warning. `remaining` is sent with pending and cancel only (PS3.4 C.4.3). `data_set` may come with a
        final status other than success: the Failed SOP Instance UID List (0008,0058).
        """
        counts = _sub_operations(status, remaining, completed, failed, warning)
        values = _response(details, message_id, affected_class, status, **counts)
        self._send_message(table.C_GET_RSP, presentation_id, values, data_set)

    def send_c_move_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        priority: DicomCommandPriorityType | int,
        move_ae: str,
        data_set: DataSetLike,
    ) -> None:
        """Ask the peer to send elsewhere what matches the identifier `data_set` (C-MOVE-RQ, PS3.7 9.3.4.1).

        `move_ae` is the AE title of the destination, whose address the peer must know.
        """
        values = {
            "message_id": message_id,
            "affected_class": affected_class,
            "priority": priority,
            "move_ae": move_ae,
        }
        self._send_message(table.C_MOVE_RQ, presentation_id, values, data_set)

    def send_c_move_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        status: DicomCommandStatusType | int,
        remaining: int,
        completed: int,
        failed: int,
        warning: int,
        data_set: DataSetLike | None,
        **details: Unpack[StatusDetails],
    ) -> None:
        """Report on a C-MOVE operation, or end it (C-MOVE-RSP, PS3.7 9.3.4.2).

        Numbers and `data_set` as in `send_c_get_response`.
        """
        counts = _sub_operations(status, remaining, completed, failed, warning)
        values = _response(details, message_id, affected_class, status, **counts)
        self._send_message(table.C_MOVE_RSP, presentation_id, values, data_set)

    def send_c_cancel_request(self, presentation_id: int, message_id: int) -> None:
        """Ask the peer to stop our C-FIND, C-GET or C-MOVE request `message_id` (C-CANCEL-RQ, PS3.7 9.3.2.3).

        There is no answer to it: the operation ends with status cancel, or as it would have ended anyway if
        the peer was faster. Nothing is sent if the final response has arrived already.
        """
        self._send_message(table.C_CANCEL_RQ, presentation_id, {"message_id": message_id}, None)

    # --- C-ECHO ----------------------------------------------------------------------------------

    def send_c_echo_request(self, presentation_id: int, message_id: int, affected_class: str) -> None:
        """Ask the peer for a sign of life (C-ECHO-RQ, PS3.7 9.3.5.1)."""
        values = {"message_id": message_id, "affected_class": affected_class}
        self._send_message(table.C_ECHO_RQ, presentation_id, values, None)

    def send_c_echo_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        status: DicomCommandStatusType | int,
        **details: Unpack[StatusDetails],
    ) -> None:
        """Answer a C-ECHO request (C-ECHO-RSP, PS3.7 9.3.5.2)."""
        values = _response(details, message_id, affected_class, status)
        self._send_message(table.C_ECHO_RSP, presentation_id, values, None)

    # --- N-EVENT-REPORT --------------------------------------------------------------------------

    def send_n_report_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        dicom_event: int,
        data_set: DataSetLike | None,
    ) -> None:
        """Report an event to the peer (N-EVENT-REPORT-RQ, PS3.7 10.3.1.1).

        `dicom_event` is the event type id of the SOP class, `data_set` the event information.
        """
        values = {
            "message_id": message_id,
            "affected_class": affected_class,
            "instance": instance,
            "dicom_event": dicom_event,
        }
        self._send_message(table.N_EVENT_REPORT_RQ, presentation_id, values, data_set)

    def send_n_report_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType | int,
        dicom_event: int,
        data_set: DataSetLike | None,
        **details: Unpack[StatusDetails],
    ) -> None:
        """Answer an N-EVENT-REPORT request (N-EVENT-REPORT-RSP, PS3.7 10.3.1.2).

        `data_set` is the event reply, with success only.
        """
        values = _response(
            details, message_id, affected_class, status, instance=instance, dicom_event=dicom_event
        )
        self._send_message(table.N_EVENT_REPORT_RSP, presentation_id, values, data_set)

    # --- N-GET -----------------------------------------------------------------------------------

    def send_n_get_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        attributes: Sequence[int],
        count: int | None = None,
    ) -> None:
        """Ask for attributes of a SOP instance (N-GET-RQ, PS3.7 10.3.2.1).

        `attributes` are tags as numbers, of which the first `count` are sent (None: all); none at all asks
        for every attribute.
        """
        values = {
            "message_id": message_id,
            "affected_class": affected_class,
            "instance": instance,
            "attributes": attributes[:count],
        }
        self._send_message(table.N_GET_RQ, presentation_id, values, None)

    def send_n_get_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType | int,
        data_set: DataSetLike | None,
        **details: Unpack[StatusDetails],
    ) -> None:
        """Answer an N-GET request (N-GET-RSP, PS3.7 10.3.2.2).

        `data_set` holds the attributes; success must have it.
        """
        values = _response(details, message_id, affected_class, status, instance=instance)
        self._send_message(table.N_GET_RSP, presentation_id, values, data_set)

    # --- N-SET -----------------------------------------------------------------------------------

    def send_n_set_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        data_set: DataSetLike,
    ) -> None:
        """Ask the peer to change attributes of a SOP instance (N-SET-RQ, PS3.7 10.3.3.1).

        `data_set` holds the attributes with their new values.
        """
        values = {"message_id": message_id, "affected_class": affected_class, "instance": instance}
        self._send_message(table.N_SET_RQ, presentation_id, values, data_set)

    def send_n_set_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType | int,
        data_set: DataSetLike | None,
        **details: Unpack[StatusDetails],
    ) -> None:
        """Answer an N-SET request (N-SET-RSP, PS3.7 10.3.3.2).

        `data_set` holds the attributes as they are now, where the SOP class wants them.
        """
        values = _response(details, message_id, affected_class, status, instance=instance)
        self._send_message(table.N_SET_RSP, presentation_id, values, data_set)

    # --- N-ACTION --------------------------------------------------------------------------------

    def send_n_action_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        action: int,
        data_set: DataSetLike | None,
    ) -> None:
        """Ask the peer for an action on a SOP instance (N-ACTION-RQ, PS3.7 10.3.4.1).

        `action` is the action type id of the SOP class, `data_set` the action information.
        """
        values = {
            "message_id": message_id,
            "affected_class": affected_class,
            "instance": instance,
            "action": action,
        }
        self._send_message(table.N_ACTION_RQ, presentation_id, values, data_set)

    def send_n_action_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType | int,
        action: int,
        data_set: DataSetLike | None,
        **details: Unpack[StatusDetails],
    ) -> None:
        """Answer an N-ACTION request (N-ACTION-RSP, PS3.7 10.3.4.2).

        `data_set` is the action reply, with success only.
        """
        values = _response(details, message_id, affected_class, status, instance=instance, action=action)
        self._send_message(table.N_ACTION_RSP, presentation_id, values, data_set)

    # --- N-CREATE --------------------------------------------------------------------------------

    def send_n_create_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        data_set: DataSetLike | None,
    ) -> None:
        """Ask the peer to create a SOP instance (N-CREATE-RQ, PS3.7 10.3.5.1).

        With `instance` "" the peer assigns the UID and returns it in its response. `data_set` holds the
        initial attributes.
        """
        values = {"message_id": message_id, "affected_class": affected_class, "instance": instance}
        self._send_message(table.N_CREATE_RQ, presentation_id, values, data_set)

    def send_n_create_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType | int,
        data_set: DataSetLike | None,
        **details: Unpack[StatusDetails],
    ) -> None:
        """Answer an N-CREATE request (N-CREATE-RSP, PS3.7 10.3.5.2).

        `instance` is needed with success if the request left the UID to us. `data_set` holds all attributes
        of the new instance, or is None.
        """
        values = _response(details, message_id, affected_class, status, instance=instance)
        self._send_message(table.N_CREATE_RSP, presentation_id, values, data_set)

    # --- N-DELETE --------------------------------------------------------------------------------

    def send_n_delete_request(
        self, presentation_id: int, message_id: int, affected_class: str, instance: str
    ) -> None:
        """Ask the peer to delete a SOP instance (N-DELETE-RQ, PS3.7 10.3.6.1)."""
        values = {"message_id": message_id, "affected_class": affected_class, "instance": instance}
        self._send_message(table.N_DELETE_RQ, presentation_id, values, None)

    def send_n_delete_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType | int,
        **details: Unpack[StatusDetails],
    ) -> None:
        """Answer an N-DELETE request (N-DELETE-RSP, PS3.7 10.3.6.2)."""
        values = _response(details, message_id, affected_class, status, instance=instance)
        self._send_message(table.N_DELETE_RSP, presentation_id, values, None)


def _response(
    details: StatusDetails, message_id: int, affected_class: str, status: int, **others: Any
) -> dict[str, Any]:
    """Return the values of a response; refuse a detail that does not exist."""
    unknown = details.keys() - StatusDetails.__annotations__.keys()
    if unknown:
        raise TypeError(f"a response has no {', '.join(sorted(unknown))}; see StatusDetails")
    fixed = {"message_id": message_id, "affected_class": affected_class, "status": status}
    return {**details, **fixed, **others}


def _sub_operations(status: int, remaining: int, completed: int, failed: int, warning: int) -> dict[str, int]:
    """Return the counts that go with this status: `remaining` with pending and cancel only (PS3.4 C.4.2)."""
    counts = {"completed": completed, "failed": failed, "warning": warning}
    return {"remaining": remaining, **counts} if category(status) in ("pending", "cancel") else counts
