"""Every `on_*` method of `DicomNet`: its documentation, and what it does unless it is overridden."""

# ruff: noqa: ARG002 - empty bodies; LEADTOOLS' signatures have up to nine positional parameters

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicomnet.association import DicomAssociate
    from dicomnet.dataset import DicomDataSet
    from dicomnet.enums import (
        DicomAbortReasonType,
        DicomAbortSourceType,
        DicomAssociateRejectReasonType,
        DicomAssociateRejectResultType,
        DicomAssociateRejectSourceType,
        DicomCommandPriorityType,
        DicomCommandStatusType,
        DicomExceptionCode,
        DicomPduType,
    )
    from dicomnet.errors import DicomSecurityCertificateException
    from dicomnet.net import DicomNet
    from dicomnet.protocol.assembler import Sink
    from dicomnet.protocol.command_set import Command
    from dicomnet.tls.passwords import PasswordRequest

__all__ = ["Callbacks", "overridden"]


class Callbacks:
    """The callbacks of `DicomNet`. A subclass overrides those that it is interested in.

    **Threads.** Unless a docstring says otherwise a callback runs on the reader of its link: the thread that
    is inside `receive`, `wait`, `run` or another blocking call, or the link's own thread on an accepted link
    and after `start`. One link runs one callback at a time, except for those that nest: a blocking call in a
    callback goes on handling the link, so other callbacks run inside it.

    **What may be called.** Sending, `close` and aborting are always fine. Blocking calls are fine too, nested
    at most `Limits.nesting` (8) deep, but not from `on_receive` and `on_data_set`, which run inside a PDU;
    what cannot work raises `ReentrancyError`. A callback that takes long holds up its link, and no other.

    **Exceptions.** An exception that leaves the callback of a request is logged, and becomes a failure status
    as long as the response is owed. From any other callback it aborts the association and is raised from
    the call that is reading the link; on a link's own thread, and from `on_close`, it is logged.

    **Defaults.** The bodies here do nothing, so that calling `super()` is harmless. Whether a callback is
    overridden, and so what happens instead, is decided once per class: a function that is set on an object,
    or on a class that has been used already, is not called.

    Parameters that several callbacks share:

    - `error`: `DicomExceptionCode.SUCCESS`, or what went wrong.
    - `presentation_id`: the id of the presentation context that the message came in on.
    - `message_id`: the id of the request; in a response the id of the request that it answers.
    - `affected_class`, `instance`: SOP class and SOP instance UID, "" where the peer left them out.
    - `priority`: medium where the peer sent none or an undefined number.
    - `status`: any number of PS3.7 C, also one without a name; "processing failure" where the peer sent none.
    - `data_set`: the data set that came with the message, or None. It is not decoded until it is used, and
      outlives the callback.
    """

    # --- connection ------------------------------------------------------------------------------

    def on_connect(self, error: DicomExceptionCode) -> None:
        """The TCP connection is up, or could not be made.

        Client only. Runs on the thread that called `connect`, before it returns or raises. With TLS nothing
        can be sent yet: wait for `on_secure_link_ready`.

        By default nothing happens: `connect` reports failure by its exception.
        """

    def on_secure_link_ready(self, error: DicomExceptionCode) -> None:
        """The TLS handshake has ended, well or not. Not called on a link without TLS.

        Runs after `on_connect` and on the same thread; on an accepted link on its own thread, before anything
        else. With success the link can be used, and `link_security()` tells what was negotiated. After a
        failure the connection is closed.

        By default nothing happens: `connect` reports failure by its exception.
        """

    def on_accept(self, error: DicomExceptionCode) -> None:
        """A connection has come in on this listening object.

        Runs on the listening object's thread, before any TLS handshake. Make another `DicomNet`, configure
        it, and pass it to `self.accept(client)`; its own thread starts when this callback returns. Do no
        lengthy work here: it holds up other connections. An exception closes this connection and is logged.

        By default the connection is closed, as is every connection that is not passed to `accept`.
        """

    def on_close(self, error: DicomExceptionCode, net: DicomNet) -> None:
        """A link has ended. It comes once for each link, after all its other callbacks.

        On the link's own object `net` is that object, and the callback runs on the reader, or on the thread
        that called `close`. The listening object gets it too, on its own thread and with the accepted object
        as `net`. `error` is success after a release or a `close`, else what ended the link.

        By default nothing happens.
        """

    # --- PDUs ------------------------------------------------------------------------------------

    def on_receive(
        self, error: DicomExceptionCode, pdu_type: DicomPduType, buffer: bytes, length: int
    ) -> None:
        """A whole PDU has arrived; the callback for what it contains comes after this one.

        `buffer` holds its `length` bytes, header included. No blocking call may be made here.

        By default nothing happens; overriding it costs speed, since every PDU is then collected and copied.
        """

    def on_send(self, error: DicomExceptionCode, pdu_type: DicomPduType, length: int) -> None:
        """A PDU of `length` bytes, header included, was handed to the operating system.

        Runs on the thread that is sending, once for each PDU. Send nothing from here: a message may be only
        half out.

        By default nothing happens.
        """

    # --- association -----------------------------------------------------------------------------

    def on_receive_associate_request(self, association: DicomAssociate) -> None:
        """The peer asks for an association (A-ASSOCIATE-RQ). Acceptor only.

        `association` holds what it proposes. Answer with `send_associate_accept` or `send_associate_reject`,
        here or later from any thread, within `Timeouts.reply`.

        By default the class attribute `supported_contexts` decides which presentation contexts are
        accepted; if none of them is, the association is rejected.
        """

    def on_receive_associate_accept(self, association: DicomAssociate) -> None:
        """The peer has accepted our association request (A-ASSOCIATE-AC).

        `association` holds what was negotiated; some or all presentation contexts may have been refused.

        By default nothing happens.
        """

    def on_receive_associate_reject(
        self,
        result: DicomAssociateRejectResultType,
        source: DicomAssociateRejectSourceType,
        reason: DicomAssociateRejectReasonType,
    ) -> None:
        """The peer has rejected our association request (A-ASSOCIATE-RJ); the link is closed after this.

        `result` says whether trying again later is worth it, `source` which layer of the peer rejected; what
        `reason` means depends on `source` (PS3.8 table 9-21).

        By default nothing happens: the call that waits for the answer raises `AssociationRejected`.
        """

    def on_receive_release_request(self) -> None:
        """The peer wants to release the association (A-RELEASE-RQ).

        Responses that are still owed can be sent before `send_release_response`, which ends the association;
        it may come later from any thread, within `Timeouts.reply`.

        By default the release is confirmed at once.
        """

    def on_receive_release_response(self) -> None:
        """The peer has confirmed our release (A-RELEASE-RP); the link is closed after this.

        By default nothing happens.
        """

    def on_receive_abort(self, source: DicomAbortSourceType, reason: DicomAbortReasonType) -> None:
        """The peer has aborted the association (A-ABORT); the link is closed after this.

        `reason` means something only if `source` is the service provider (PS3.8 table 9-26).

        By default nothing happens: a call that waits for the peer raises `AssociationAborted`.
        """

    # --- messages in general -----------------------------------------------------------------------

    def on_data_set(self, presentation_id: int, command: Command) -> Sink | None:
        """Choose where the data set of a message goes; it runs before the first byte of it is taken.

        `command` is the command set that announces it. Return a `Sink` (see `dicomnet.dataset.sinks`, or
        write one with `write`, `finish` and `abandon`); what its `finish` returns is what the message's
        callback gets as `data_set`. If this callback or the sink raises, the association goes on: the rest
        of the data set is dropped and the request answered with a failure (C-STORE: A700H, out of
        resources). No blocking call may be made here.

        By default, and with None, a data set is held in memory up to `Limits.memory` and in a spool file
        beyond. A data set that nobody will get is discarded, and this callback not asked: that of a message
        whose callback is not overridden, of a request that is refused (a SOP class other than that of its
        context, a role that we do not have, an element missing), of a response to nothing.
        """
        return None

    def on_receive_data(
        self, presentation_id: int, command_set: DicomDataSet, data_set: DicomDataSet | None
    ) -> None:
        """A DIMSE message has arrived; the callback for its kind comes after this one.

        `command_set` holds the group 0000 elements as they came.

        By default nothing happens.
        """

    def on_receive_unknown(
        self, presentation_id: int, command_set: DicomDataSet, data_set: DicomDataSet | None
    ) -> None:
        """A message has arrived whose command field (0000,0100) PS3.7 does not know.

        An override may answer it with `send_data`.

        By default the association is aborted.
        """

    def on_before_send_command_set(self, command_set: DicomDataSet) -> None:
        """A DIMSE message is about to be sent; change `command_set` to change what goes out.

        Runs on the thread that is sending. The group length is computed afterwards. Do not send from here.

        By default nothing is changed; overriding it costs speed, since each command set is then decoded and
        encoded again.
        """

    # --- C-STORE -----------------------------------------------------------------------------------

    def on_receive_c_store_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        priority: DicomCommandPriorityType,
        move_ae: str,
        move_message_id: int,
        data_set: DicomDataSet,
    ) -> None:
        """The peer sends an instance to be stored (PS3.7 9.1.1): by itself, or as part of a C-MOVE or C-GET.

        `move_ae` and `move_message_id` name who asked for the C-MOVE that this belongs to and its message
        id; else they are "" and 0. Answer once with `send_c_store_response`, here or later from any
        thread, within `Timeouts.reply`.

        By default it is refused with "SOP class not supported", and the data set discarded.
        """

    def on_receive_c_store_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType,
    ) -> None:
        """The peer answers our C-STORE request: stored with success or a warning, else not.

        By default nothing happens.
        """

    # --- C-FIND ------------------------------------------------------------------------------------

    def on_receive_c_find_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        priority: DicomCommandPriorityType,
        data_set: DicomDataSet,
    ) -> None:
        """The peer asks for what matches the identifier `data_set` (PS3.7 9.1.2).

        Answer with `send_c_find_response`: pending for each match, then once a final status, here or later
        from any thread, within `Timeouts.reply`.

        By default it is refused with "SOP class not supported".
        """

    def on_receive_c_find_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        status: DicomCommandStatusType,
        data_set: DicomDataSet | None,
    ) -> None:
        """The peer answers our C-FIND request: one match in `data_set` with pending, or the end with None.

        By default nothing happens.
        """

    # --- C-GET and C-MOVE --------------------------------------------------------------------------

    def on_receive_c_get_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        priority: DicomCommandPriorityType,
        data_set: DicomDataSet,
    ) -> None:
        """The peer wants what matches the identifier `data_set` sent on this association (PS3.7 9.1.3).

        Send the instances with `send_c_store_request`, and the end, with or without reports before it, with
        `send_c_get_response`, here or later from any thread. `Timeouts.reply` runs from one sign of progress
        to the next.

        By default it is refused with "SOP class not supported".
        """

    def on_receive_c_get_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        status: DicomCommandStatusType,
        remaining: int,
        completed: int,
        failed: int,
        warning: int,
        data_set: DicomDataSet | None,
    ) -> None:
        """The peer reports on our C-GET request (pending), or ends it.

        `remaining`, `completed`, `failed` and `warning` count C-STORE sub-operations, 0 where the peer does
        not say. `data_set` may come with the end and then lists the failed instances in (0008,0058).

        By default nothing happens.
        """

    def on_receive_c_move_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        priority: DicomCommandPriorityType,
        move_ae: str,
        data_set: DicomDataSet,
    ) -> None:
        """The peer wants what matches the identifier `data_set` sent to `move_ae` (PS3.7 9.1.4).

        `move_ae` is an AE title; if it is unknown here, answer with A801H. Send the instances on another
        association, and the end, with or without reports before it, with `send_c_move_response`, here or
        later from any thread. `Timeouts.reply` runs from one report to the next.

        By default it is refused with "SOP class not supported".
        """

    def on_receive_c_move_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        status: DicomCommandStatusType,
        remaining: int,
        completed: int,
        failed: int,
        warning: int,
        data_set: DicomDataSet | None,
    ) -> None:
        """The peer reports on our C-MOVE request (pending), or ends it; as `on_receive_c_get_response`.

        By default nothing happens.
        """

    def on_receive_c_cancel_request(self, presentation_id: int, message_id: int) -> None:
        """The peer wants its C-FIND, C-GET or C-MOVE request `message_id` stopped (PS3.7 9.3.2.3).

        Only called while that request is under way. Stop, and send its final response with status cancel; the
        cancel itself is not answered.

        By default nothing happens, and the operation goes on to its end, as the standard allows.
        """

    # --- C-ECHO ------------------------------------------------------------------------------------

    def on_receive_c_echo_request(self, presentation_id: int, message_id: int, affected_class: str) -> None:
        """The peer asks for a sign of life (PS3.7 9.1.5).

        An override must answer once with `send_c_echo_response`, within `Timeouts.reply`.

        By default it is answered with success.
        """

    def on_receive_c_echo_response(
        self, presentation_id: int, message_id: int, affected_class: str, status: DicomCommandStatusType
    ) -> None:
        """The peer answers our C-ECHO request.

        By default nothing happens.
        """

    # --- N-EVENT-REPORT ----------------------------------------------------------------------------

    def on_receive_n_report_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        dicom_event: int,
        data_set: DicomDataSet | None,
    ) -> None:
        """The peer reports an event of a SOP instance (N-EVENT-REPORT, PS3.7 10.1.1).

        `dicom_event` is the event type id of the SOP class, `data_set` the event information. Answer once
        with `send_n_report_response`, here or later from any thread, within `Timeouts.reply`.

        By default it is refused with "SOP class not supported".
        """

    def on_receive_n_report_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType,
        dicom_event: int,
        data_set: DicomDataSet | None,
    ) -> None:
        """The peer answers our N-EVENT-REPORT request; `dicom_event` is 0 where it left the event type out.

        By default nothing happens.
        """

    # --- N-GET -------------------------------------------------------------------------------------

    def on_receive_n_get_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        attributes: tuple[int, ...],
    ) -> None:
        """The peer asks for attributes of a SOP instance (PS3.7 10.1.2).

        `attributes` are their tags as numbers; none means all. Answer once with `send_n_get_response`, here
        or later from any thread, within `Timeouts.reply`.

        By default it is refused with "SOP class not supported".
        """

    def on_receive_n_get_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType,
        data_set: DicomDataSet | None,
    ) -> None:
        """The peer answers our N-GET request; `data_set` holds the attributes.

        By default nothing happens.
        """

    # --- N-SET -------------------------------------------------------------------------------------

    def on_receive_n_set_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        data_set: DicomDataSet,
    ) -> None:
        """The peer wants the attributes in `data_set` changed in a SOP instance (PS3.7 10.1.3).

        Answer once with `send_n_set_response`, here or later from any thread, within `Timeouts.reply`.

        By default it is refused with "SOP class not supported".
        """

    def on_receive_n_set_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType,
        data_set: DicomDataSet | None,
    ) -> None:
        """The peer answers our N-SET request; `data_set` may hold the attributes as they are now.

        By default nothing happens.
        """

    # --- N-ACTION ----------------------------------------------------------------------------------

    def on_receive_n_action_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        action: int,
        data_set: DicomDataSet | None,
    ) -> None:
        """The peer wants an action on a SOP instance (PS3.7 10.1.4).

        `action` is the action type id of the SOP class, `data_set` the action information. Answer once with
        `send_n_action_response`, here or later from any thread, within `Timeouts.reply`.

        By default it is refused with "SOP class not supported".
        """

    def on_receive_n_action_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType,
        action: int,
        data_set: DicomDataSet | None,
    ) -> None:
        """The peer answers our N-ACTION request; `action` is 0 where it left the action type out.

        By default nothing happens.
        """

    # --- N-CREATE ----------------------------------------------------------------------------------

    def on_receive_n_create_request(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        data_set: DicomDataSet | None,
    ) -> None:
        """The peer wants a SOP instance created with the attributes in `data_set` (PS3.7 10.1.5).

        With `instance` "" the UID is ours to assign and goes into the response. Answer once with
        `send_n_create_response`, here or later from any thread, within `Timeouts.reply`.

        By default it is refused with "SOP class not supported".
        """

    def on_receive_n_create_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType,
        data_set: DicomDataSet | None,
    ) -> None:
        """The peer answers our N-CREATE request; `instance` is the UID that it assigned, where it did.

        By default nothing happens.
        """

    # --- N-DELETE ----------------------------------------------------------------------------------

    def on_receive_n_delete_request(
        self, presentation_id: int, message_id: int, affected_class: str, instance: str
    ) -> None:
        """The peer wants a SOP instance deleted (PS3.7 10.1.6).

        Answer once with `send_n_delete_response`, here or later from any thread, within `Timeouts.reply`.

        By default it is refused with "SOP class not supported".
        """

    def on_receive_n_delete_response(
        self,
        presentation_id: int,
        message_id: int,
        affected_class: str,
        instance: str,
        status: DicomCommandStatusType,
    ) -> None:
        """The peer answers our N-DELETE request.

        By default nothing happens.
        """

    # --- TLS -----------------------------------------------------------------------------------------

    def on_private_key_password(self, encryption: bool) -> str | None:
        """Return the password of the private key that is being loaded, or None if there is none to give.

        Runs inside the call that loads the key, on its thread, and only for an encrypted key. It is asked
        again, three times in all, if the password is wrong. `encryption` is always False: a key is read,
        not written.

        By default there is no password, and loading the key raises `PasswordRequired`.
        """
        return None

    def on_private_key_password_for(self, request: PasswordRequest) -> str | bytes | None:
        """Return the password, told which file and role it is for and which attempt this is.

        The second form of `on_private_key_password`, and the one that is asked: as it in all else.

        By default `on_private_key_password` is called.
        """
        return self.on_private_key_password(False)

    def on_verify(self, ok: int, certificate_string: str, error: DicomSecurityCertificateException) -> int:
        """Give the last word on one certificate of the peer's chain: return 1 to go on, 0 to refuse it.

        Runs during the handshake, on the thread that makes it, once or more for each certificate, from the CA
        down to the peer's own. `ok` is OpenSSL's verdict, 1 or 0, and `error.code` its reason.
        `certificate_string` describes the certificate (subject, issuer, validity, serial number, basic
        constraints, purposes). Returning 1 for `ok` 0 switches verification off for this certificate. The
        link cannot be used here, not even closed.

        By default OpenSSL's verdict stands.
        """
        return ok


def overridden(cls: type, name: str) -> bool:
    """True if `cls` overrides the callback `name`; looked up once per class, at the first question."""
    names: frozenset[str] | None = cls.__dict__.get("_overridden_callbacks")
    if names is None:
        own = {key for key in vars(Callbacks) if key.startswith("on_")}
        names = frozenset(key for key in own if getattr(cls, key) is not getattr(Callbacks, key))
        cls._overridden_callbacks = names  # type: ignore[attr-defined]
    return name in names
