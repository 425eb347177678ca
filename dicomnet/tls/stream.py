"""A stream over a TLS connection.

Why each call is legal in the state it is made in:

* An SSL object bears one thread at a time. So one lock is held around each OpenSSL call, and never while
  waiting; the descriptor is non-blocking, so no call lasts. The reader and the writer share nothing else.
* Reading may want to write and writing may want to read; whichever is wanted is waited for. OpenSSL may hold
  data that poll(2) knows nothing of, so it is always tried first.
* A write that could not be finished must be repeated with the same bytes: nothing else may be sent before,
  not even the alert that ends the link. A write that is given up poisons the stream (`_unwritable`), and
  only TCP can be closed then.
* After a fatal error OpenSSL has nothing more to say, so the first one is kept and raised again. A failed
  SSL_write closes the reading side too. That would lose what a peer said before it hung up: an alert, an
  A-ABORT. So each write first looks whether the connection is gone, and leaves it readable if it is.
* In TLS 1.3 the client is done before the server has looked at its certificate. A refusal comes as an alert
  with the first read, or is looked for before a write, as long as nothing was received.
* An end without close_notify is a loss: an attacker can send a FIN.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING

from OpenSSL import SSL

from dicomnet import errors
from dicomnet.tls import openssl
from dicomnet.tls.failures import explain, timed_out
from dicomnet.transport.deadline import Deadline, DeadlineExpired
from dicomnet.transport.stream import Stream
from dicomnet.transport.system_errors import reason
from dicomnet.transport.waiting import READ, WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cryptography import x509

    from dicomnet.tls.evidence import Evidence
    from dicomnet.transport.tcp import TcpStream

__all__ = ["TlsStream"]

PIECE = 1024 * 1024  # bytes given to OpenSSL at once: 64 records, about a millisecond under the lock
LINGER = 1.0  # seconds that the peer gets to read our alert after a handshake that failed
_HEADS = {  # by how it goes on
    b"\4\0\0": b"\7\0\0\0\0",  # an A-ABORT: the answer of a DICOM server to a ClientHello
    b"1.": b"HTTP/",
    b".0-": b"SSH-2",
}
FIRST_BYTES = 2048  # bytes of the peer's first packet kept for messages: a ClientHello has up to 1.6 KiB


class TlsStream(Stream):
    """A TLS link over a `TcpStream`, which belongs to it from then on; made by `TlsContext.stream`.

    `handshake` comes first. If it fails, the connection is closed.
    """

    __slots__ = (
        "_evidence",
        "_failure",
        "_handshaking",
        "_lock",
        "_pending",
        "_shut",
        "_tcp",
        "_unwritable",
        "cipher_name",
        "connection",
        "group",
        "local_address",
        "own_certificate",
        "peer_address",
        "peer_certificate",
        "peer_chain",
        "version",
    )

    connection: SSL.Connection
    """OpenSSL's object. Not to be used while another thread may use the stream."""

    version: int
    """The version negotiated, 0x0304 = TLS 1.3, 0 before; kept after the end, like what follows."""

    cipher_name: str
    """OpenSSL's name of the suite negotiated, for example "ECDHE-RSA-AES256-GCM-SHA384"."""

    group: str | None
    """OpenSSL's name of the key-exchange group; `None` where it does not tell (RSA key exchange, DHE)."""

    own_certificate: x509.Certificate | None
    """Our certificate, where it was shown to the peer."""

    peer_certificate: x509.Certificate | None
    """The peer's certificate, where it showed one."""

    peer_chain: tuple[x509.Certificate, ...]
    """The chain as verified, the peer's own certificate first; as it was sent where none was verified."""

    def __init__(self, tcp: TcpStream, connection: SSL.Connection, evidence: Evidence) -> None:
        self.connection = connection
        self.local_address = tcp.local_address
        self.peer_address = tcp.peer_address
        self.version, self.cipher_name, self.group = 0, "", None
        self.own_certificate = self.peer_certificate = None
        self.peer_chain = ()
        self._tcp = tcp
        self._evidence = evidence
        self._lock = threading.Lock()
        self._failure: errors.DicomException | None = None  # nothing works any more, and this is why
        self._unwritable: errors.DicomException | None = None  # nothing can be written any more
        self._pending = False  # OpenSSL holds a part of a write
        self._handshaking = False
        self._shut = False

    def __repr__(self) -> str:
        return f"<TlsStream to {self.peer}, {self.cipher_name or 'no handshake yet'}>"

    @property
    def server_side(self) -> bool:
        """True where we are the TLS server."""
        return self._evidence.server_side

    @property
    def overruled(self) -> str:
        """Why the peer would have been refused, had `on_verify` not let it in; "" where it has not."""
        return self._evidence.verification.overruled_finding

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 after the end."""
        return self._tcp.fileno()

    # --- handshake -----------------------------------------------------------------------------------

    def handshake(self, deadline: Deadline) -> None:
        """Make the TLS handshake, all of it before `deadline`. If it fails, the connection is closed.

        Raises `HandshakeTimeout`; `ConnectionLost`; `LinkClosed` after `shutdown`; a `TlsHandshakeError` that
        says which end refuses the other, and why; what `on_verify` raises. The peer gets up to a second to
        read the alert that tells it.
        """
        self._handshaking, self._evidence.glimpse = True, self._glimpse
        try:
            self._negotiate(deadline)
            self._take_stock()
        except DeadlineExpired:
            error = timed_out(self._evidence, deadline)
            self._keep(error)
            self._tcp.kill()
            raise error from None
        except BaseException as error:
            self._keep(error if isinstance(error, errors.DicomException) else self._tcp.lost(None))
            self._tcp.close(deadline.sooner(LINGER))
            raise
        finally:
            self._handshaking, self._evidence.glimpse = False, None

    def _negotiate(self, deadline: Deadline) -> None:
        evidence = self._evidence
        if evidence.server_side:
            self._tcp.wait(READ, deadline)  # the client speaks first; OpenSSL must not swallow it unseen
        while True:
            evidence.first_bytes = evidence.first_bytes or self._peek()
            try:
                with self._lock:
                    self.connection.do_handshake()
                return
            except SSL.WantReadError:
                wanted = READ
            except SSL.WantWriteError:
                wanted = WRITE
            except SSL.Error as error:
                if evidence.verification.raised is not None:
                    raise evidence.verification.raised from None
                evidence.first_bytes = evidence.first_bytes or self._pieced_together()
                raise self._explained(error) from error
            self._tcp.wait(wanted, deadline)

    def _pieced_together(self) -> bytes:
        """Return what a peer without TLS sent, where its answer was too fast to be seen before OpenSSL read.

        OpenSSL stops after five bytes, the length of a record's header. What is left tells what those were.
        """
        with suppress(errors.DicomException):
            rest = self._peek()
            return next((_HEADS[start] + rest for start in _HEADS if rest.startswith(start)), b"")
        return b""

    def _peek(self) -> bytes:
        """Return what has arrived, and leave it there."""
        sock = socket.socket(fileno=self._tcp.fileno())
        try:
            sock.settimeout(0)  # else socket.setdefaulttimeout() counts, and the read may wait
            return sock.recv(FIRST_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""
        except OSError as error:  # the system tells only once
            raise self._explained(SSL.SysCallError(error.errno or -1, reason(error))) from error
        finally:
            sock.detach()

    def _glimpse(self) -> bytes:
        """Do the same inside a call of OpenSSL's, which must not miss an error of the socket."""
        poll = select.poll()
        poll.register(self._tcp.fileno(), select.POLLIN)
        return self._peek() if [event for _, event in poll.poll(0)] == [select.POLLIN] else b""

    def _take_stock(self) -> None:
        """Note what was negotiated, and say the last word on the peer's certificate."""
        connection, evidence = self.connection, self._evidence
        with self._lock:
            self.version = connection.get_protocol_version()
            self.cipher_name = connection.get_cipher_name() or ""
            self.group = connection.get_group_name()
            self.peer_chain = self._chain()
        self.own_certificate = evidence.own_certificate
        self.peer_certificate = next(iter(self.peer_chain), None)
        evidence.verification.conclude(self.peer_certificate)
        if evidence.verification.refused:
            raise evidence.verification.error(self.peer, self.peer_chain, state="TLS handshake")
        evidence.version = self.version

    def _chain(self) -> tuple[x509.Certificate, ...]:
        """Return the peer's chain, its own certificate first; a resumed session has that one only."""
        connection = self.connection
        with suppress(ValueError):  # OpenSSL takes certificates that cryptography does not
            chain = connection.get_verified_chain(as_cryptography=True)
            chain = chain or connection.get_peer_cert_chain(as_cryptography=True)
            own = connection.get_peer_certificate(as_cryptography=True)
            if own is not None and own not in (chain or ())[:1]:  # a server's list of sent ones may lack it
                return (own, *(chain or ()))
            return tuple(chain or ())
        return ()

    # --- reading -------------------------------------------------------------------------------------

    def read_into(self, buffer: memoryview, deadline: Deadline) -> int:
        """Fill `buffer` from as many records as are there, one byte at least; 0 is the peer's close_notify.

        Beside what `Stream` says, raises `TlsError` for a damaged record or an alert from the peer, and
        `CertificateRequiredByPeer` or `CertificateRefusedByPeer` where a TLS 1.3 server refuses us late.
        """
        while (n := self._read(buffer)) < 0:
            self._tcp.wait(-n, deadline)
        return n

    def try_read_into(self, buffer: memoryview) -> int | None:
        """Do the same without waiting; `None` where nothing is there."""
        n = self._read(buffer)
        return n if n >= 0 else None

    def _read(self, buffer: memoryview) -> int:
        """Return the number of bytes read, 0 at the end, or minus what has to be waited for."""
        if not len(buffer):
            raise ValueError("a read needs room for one byte at least")
        with self._lock:
            self._check()
            filled, end = openssl.fill(self.connection, buffer)
            if filled:
                self._evidence.received = True
            if end is None or isinstance(end, SSL.WantReadError):
                return filled or -READ
            if isinstance(end, SSL.WantWriteError):
                return filled or -WRITE
            if isinstance(end, SSL.ZeroReturnError):
                if self._shut and not filled:
                    raise self._tcp.lost(None)
                return filled
            failure = self._fail(end)  # what came before it is delivered first
        if filled:
            return filled
        raise failure from end

    # --- writing -------------------------------------------------------------------------------------

    def write(
        self,
        buffers: Sequence[bytes | memoryview],
        deadline: Deadline,
        *,
        stall: float | None = None,
        on_readable: Callable[[], bool] | None = None,
    ) -> None:
        """Write all buffers as one run of bytes, in records as full as can be; see `Stream.write`."""
        quiet: Deadline | None = None  # set while nothing moves
        several = sum(map(len, buffers)) > openssl.RECORD
        if several:
            self._tcp.gather(on=True)
        try:
            for piece in _pieces(buffers):
                while wanted := self._send(piece):
                    quiet = quiet or deadline.sooner(stall)
                    if on_readable is None:
                        ready = self._tcp.wait(wanted, quiet)
                    else:  # poll(2) does not see what OpenSSL holds
                        ready = READ if self._holds_data() else self._tcp.wait(wanted | READ, quiet)
                    if ready & WRITE:  # the peer has taken something
                        quiet = None
                    if on_readable is not None and ready != WRITE and not on_readable():
                        on_readable = None
        except BaseException:
            if self._pending and self._unwritable is None:
                self._unwritable = errors.ConnectionLost(
                    f"nothing more can be sent to {self.peer}: a write was given up within a TLS record",
                    peer=self.peer,
                )
            raise
        finally:
            if several:
                self._tcp.gather(on=False)

    def _send(self, piece: bytes | memoryview) -> int:
        """Write or go on writing; return 0 when it is done, or what has to be waited for."""
        with self._lock:
            self._check()
            if self._unwritable is not None:
                raise copy(self._unwritable)
            self._look()
            try:
                self.connection.send(piece)
            except SSL.WantWriteError:
                self._pending = True
                return WRITE
            except SSL.WantReadError:
                self._pending = True
                return READ
            except SSL.Error as error:
                raise self._fail(error) from error
            self._pending = False
            return 0

    def _holds_data(self) -> bool:
        with self._lock:
            return self._failure is None and self.connection.pending() > 0

    def _look(self) -> None:
        """Before a write: raise if the peer has refused us or is gone, so that what it said can be read."""
        poll = select.poll()
        poll.register(self._tcp.fileno(), READ if self._evidence.unproven else 0)
        for _, ready in poll.poll(0):
            if ready & READ:
                self._look_for_refusal()
            if ready & (select.POLLERR | select.POLLHUP):
                self._unwritable = self._explained(SSL.SysCallError(errno.EPIPE, "EPIPE"))
                raise copy(self._unwritable)

    def _look_for_refusal(self) -> None:
        try:
            self.connection.recv(1, socket.MSG_PEEK)
            self._evidence.received = True
        except (SSL.WantReadError, SSL.WantWriteError, SSL.ZeroReturnError):
            pass
        except SSL.Error as error:
            raise self._fail(error) from error

    # --- the end -------------------------------------------------------------------------------------

    def quick_ack(self) -> None:
        """Acknowledge what was read at once."""
        self._tcp.quick_ack()

    def shutdown(self) -> None:
        """End both directions of the TCP connection and wake whoever waits; from any thread."""
        self._shut = True
        self._tcp.shutdown()

    def close(self, deadline: Deadline) -> None:
        """Send close_notify and FIN, read and drop until the peer's FIN or the deadline, then close.

        During the handshake (from `on_verify`, say) this is `shutdown`, and `handshake` closes.
        """
        if self._handshaking:
            self.shutdown()
            return
        with suppress(SSL.Error, DeadlineExpired, errors.DicomException):
            while not self._said_goodbye():
                self._tcp.wait(WRITE, deadline)
        self._keep(self._closed())
        self._tcp.close(deadline)

    def kill(self) -> None:
        """Close the descriptor now, without a word; during the handshake, see `close`."""
        self.shutdown()
        if not self._handshaking:
            self._keep(self._closed())
            self._tcp.kill()

    def _said_goodbye(self) -> bool:
        """Send close_notify, if that is possible; False where it has to wait."""
        with self._lock:
            broken = self._failure or self._unwritable or self._pending or self._shut
            if self._evidence.done and not broken:
                try:
                    self.connection.shutdown()
                except SSL.WantWriteError:
                    return False
        return True

    def _closed(self) -> errors.DicomException:
        return errors.LinkClosed(f"the connection to {self.peer} was closed on our side", peer=self.peer)

    def _keep(self, error: errors.DicomException) -> None:
        """From now on every call raises `error`, or the one that came before it."""
        with self._lock:
            if self._failure is None:
                self._failure = copy(error)

    def _check(self) -> None:
        if self._failure is not None:
            raise copy(self._failure)

    def _fail(self, error: SSL.Error) -> errors.DicomException:
        """Take note of a fatal error of OpenSSL's; the lock is held."""
        failure = self._explained(error)
        self._failure = copy(failure)
        return failure

    def _explained(self, error: SSL.Error) -> errors.DicomException:
        if self._shut:
            return self._tcp.lost(None)
        error.__traceback__ = None  # it would keep the caller's buffer alive
        chain = () if self._evidence.done else self._chain()
        return explain(self._evidence, error, chain)


def _pieces(buffers: Sequence[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield all bytes in contiguous pieces of about `PIECE`: small buffers are joined, large ones cut."""
    group: list[memoryview] = []
    size = 0
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        if size and size + len(view) > PIECE:
            yield _joined(group)
            group, size = [], 0
        if len(view) > PIECE:
            yield from (view[start : start + PIECE] for start in range(0, len(view), PIECE))
        else:
            group.append(view)
            size += len(view)
    if size:  # OpenSSL takes an empty write for an end
        yield _joined(group)


def _joined(group: Sequence[memoryview]) -> bytes | memoryview:
    return group[0] if len(group) == 1 else b"".join(group)
