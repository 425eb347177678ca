"""What ended a link, in sentences that say what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicomnet import errors
from dicomnet.enums import reject_text
from dicomnet.protocol.state_machine import State

if TYPE_CHECKING:
    from dicomnet.protocol.pdu import AssociateRj, AssociateRq

__all__ = ["lost", "mismatch", "rejected"]

_LOG = "Its log should say why"
_LOST = {  # for a requestor
    State.STA5: "It may want TLS on this port, or not let us in; its log should say",
    State.STA6: "What it has not answered for may be lost; its log should say why",
}
_MISMATCH = {  # for a requestor or not, where it is TLS or not
    (True, True): "Connect with DicomNetSecurityMode.TLS",
    (True, False): "Look whether this is the port of its DICOM server",
    (False, True): "Serve this port with DicomNetSecurityMode.TLS, or switch TLS off there",
    (False, False): "It seems to have the wrong port",
}
_REJECTED = {  # PS3.8 table 9-21, source and reason
    (1, 1): "It may take none of what was proposed, or not know an AE title; its log should say",
    (1, 2): "Look whether it is a DICOM server",
    (1, 3): "Have our AE title {calling!r} made known to it, or call under one that it knows",
    (1, 7): "It was called {called!r}: call it by the AE title that it has",
    (3, 1): "Try again later",
    (3, 2): "Try again later, or with fewer associations at a time",
}


def lost(
    error: errors.DicomException | None, peer: str, state: State, *, requestor: bool
) -> errors.DicomException:
    """Return the error for a transport that is gone; None is an end without any error.

    A `ConnectionLost` of plain TCP knows nothing but that; others tell enough themselves.
    """
    error = error or errors.ConnectionLost(f"{peer} closed the connection")
    if type(error) is errors.ConnectionLost and not error.state:
        text = f"{error} in {state}. {_LOST.get(state, _LOG) if requestor else _LOG}"
        error = errors.ConnectionLost(text, code=error.code, errno=error.errno)
    error.peer, error.state = error.peer or peer, error.state or str(state)
    return error


def mismatch(seen: str, peer: str, *, requestor: bool) -> errors.ProtocolMismatch:
    """Return the error for bytes of another protocol on a link without TLS."""
    advice = _MISMATCH[requestor, seen == "TLS"]
    return errors.ProtocolMismatch(f"{peer} speaks {seen} where DICOM was expected. {advice}", seen=seen)


def rejected(reject: AssociateRj, request: AssociateRq, peer: str) -> errors.AssociationRejected:
    """Return the error for an A-ASSOCIATE-RJ that answers our `request`."""
    numbers = (reject.result, reject.source, reject.reason)
    advice = _REJECTED.get(numbers[1:], _LOG).format(called=request.called, calling=request.calling)
    return errors.AssociationRejected(
        f"association with {peer} {reject_text(*numbers)}. {advice}",
        result=reject.result,
        source=reject.source,
        reason=reject.reason,
        peer=peer,
        state="association request",
    )
