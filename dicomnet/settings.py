"""Time-outs and limits: two frozen dataclasses that a `DicomNet` is given, or whose defaults it takes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DicomSocketOptions", "Limits", "Timeouts"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Timeouts:
    """How long each wait may take, in seconds; `None` waits for ever.

    Each of them ends in its own class of `TimeoutExpired`, and always frees the socket.
    """

    connect: float | None = 10.0
    """Name look-up and TCP connection, all addresses of the name together."""

    handshake: float | None = 10.0
    """The whole TLS handshake."""

    artim: float | None = 30.0
    """PS3.8 9.1.5: from the accepted connection to the complete A-ASSOCIATE-RQ, and the wait for the
    peer to close after our A-ASSOCIATE-RJ, A-RELEASE-RP or A-ABORT."""

    association: float | None = 30.0
    """From our A-ASSOCIATE-RQ to the complete answer."""

    read: float | None = 30.0
    """Silence within a PDU or message; with `Limits.minimum_rate` also what bounds a trickle."""

    write: float | None = 30.0
    """A write that makes no progress because the peer does not read."""

    response: float | None = 60.0
    """From a request sent to its next response."""

    reply: float | None = 60.0
    """From a request received to the final response that our handler owes."""

    release: float | None = 10.0
    """From our A-RELEASE-RQ to the answer."""

    idle: float | None = None
    """An association that carries nothing. `None` takes the role's default: 600 as acceptor, never as
    requestor; use `float("inf")` for an acceptor that waits for ever."""


@dataclass(frozen=True)
class Limits:
    """How much a peer may ask of us. A length is checked against these before anything is allocated."""

    max_pdu: int = 131072
    """Maximum length of P-DATA-TF that we announce and accept (PS3.8 D.1); 0 announces no limit."""

    max_pdu_send: int = 131072
    """The largest P-DATA-TF that we send, also to a peer that announces more or no limit."""

    association_pdu: int = 256 * KIB
    """Longest A-ASSOCIATE-RQ or -AC."""

    items: int = 8192
    """Items and sub-items together in one A-ASSOCIATE PDU, transfer syntaxes included."""

    contexts: int = 128
    """Presentation contexts in one A-ASSOCIATE PDU; 128 is all that odd ids allow."""

    command_set: int = 64 * KIB
    """Bytes of one command set."""

    data_set: int = 16 * 1024 * MIB
    """Bytes of one data set, wherever it goes."""

    memory: int = 8 * MIB
    """Bytes of one received data set held in memory; what is longer goes to the spool."""

    spool: int = 64 * 1024 * MIB
    """Bytes that all spool files of one link may hold at a time."""

    minimum_rate: int = 1024
    """Bytes per second that a message must average once `Timeouts.read` has passed."""

    operations: int = 64
    """Requests of the peer that await our final response at a time, where the asynchronous operations window
    was negotiated without a limit (PS3.7 D.3.3.3)."""

    links: int = 500
    """Connections that one listening object serves at a time."""

    links_per_address: int = 100
    """The same from one address."""

    nesting: int = 8
    """Blocking calls inside callbacks inside blocking calls."""


@dataclass
class DicomSocketOptions:
    """Options of the TCP socket (LEADTOOLS `DicomSocketOptions`); they hold for links made afterwards."""

    no_delay: bool = True
    """TCP_NODELAY. It is always on: without it each message can wait 40 ms for an acknowledgement."""

    send_buffer_size: int = 0
    """SO_SNDBUF in bytes; 0 leaves it to the system, which adapts it."""

    receive_buffer_size: int = 0
    """SO_RCVBUF in bytes; 0 leaves it to the system, which adapts it."""
