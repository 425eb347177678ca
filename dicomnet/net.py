"""DicomNet: the class that integrators subclass. Its life cycle is here; the rest is inherited.

`dispatch.Dispatch` turns what arrives into callbacks, `messages.Messages` has the 23 `send_*` methods,
`callbacks.Callbacks` every `on_*`, `security.Security` the TLS settings and getters.
"""

from __future__ import annotations

import atexit
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any

from dicomnet import errors
from dicomnet.callbacks import overridden
from dicomnet.dataset.spool import Spool
from dicomnet.dispatch import Dispatch
from dicomnet.enums import DicomExceptionCode, DicomNetFlags, DicomNetIpTypeFlags, DicomNetSecurityMode
from dicomnet.link import Link
from dicomnet.listener import Client, Listener
from dicomnet.security import Security
from dicomnet.settings import DicomSocketOptions, Limits, Timeouts
from dicomnet.tls.context import context_for
from dicomnet.trace import Trace, log_trace, logger
from dicomnet.transport.accept import Acceptor, listen_tcp
from dicomnet.transport.connect import ConnectAttempt
from dicomnet.transport.deadline import Deadline
from dicomnet.transport.tcp import TcpStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from dicomnet.association import DicomAssociate
    from dicomnet.protocol.command_set import Command
    from dicomnet.tls.settings import TlsSettings
    from dicomnet.tls.stream import TlsStream
    from dicomnet.transport.stream import Stream

__all__ = ["DicomNet"]

_SUCCESS = DicomExceptionCode.SUCCESS
_PATIENCE = 0.05  # seconds that each of many links gets for its abort, when all are closed

_living: weakref.WeakSet[DicomNet] = weakref.WeakSet()
_living_lock = threading.Lock()


def _all_living() -> list[DicomNet]:
    with _living_lock:
        return list(_living)


def _socket_options(options: DicomSocketOptions) -> Iterator[tuple[int, int, int]]:
    for name, size in (
        (socket.SO_SNDBUF, options.send_buffer_size),
        (socket.SO_RCVBUF, options.receive_buffer_size),
    ):
        if size:
            yield socket.SOL_SOCKET, name, size


def _code_of(error: BaseException) -> DicomExceptionCode:
    return getattr(error, "code", DicomExceptionCode.NET_FAILURE)


def _cancelled(peer: str) -> errors.LinkClosed:
    return errors.LinkClosed(f"connecting to {peer} was cancelled", peer=peer, state="connecting")


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "dicomnet"


def _silent(_event: str, _fields: Mapping[str, Any]) -> None:
    """The trace hook of an object that has none."""


@atexit.register
def _close_links() -> None:
    for net in _all_living():
        net._end(forced=True)


class DicomNet(Dispatch, Security):
    """One end of a DICOM link, or a listening socket (LEADTOOLS `DicomNet`).

    A client calls `connect`, `send_associate_request` and the `send_*` methods, and handles what comes back
    in overridden `on_*` callbacks while it calls `receive`, `wait` or `run`, or lets `start` do so on a
    thread. A server calls `listen` and `run` (or `start`); for each connection `on_accept` makes a second
    object and passes it to `accept`. The object can be used again after `close`.

    `path` is the folder for the spool (the system's temporary folder by default); `reserved` is LEADTOOLS'
    third constructor argument: True means that `initialize` will follow.

    As a context manager, leaving the block releases the association and closes; an exception aborts.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse a subclass that would replace a method which the library calls itself."""
        super().__init_subclass__(**options)
        if _is_ours(cls):
            return
        ours = {
            name
            for base in cls.__mro__
            if _is_ours(base)
            for name, value in vars(base).items()
            if callable(value)
        }
        for name in vars(cls):
            if name in ours and name.startswith("_") and not name.endswith("__"):
                raise TypeError(
                    f"{cls.__name__}.{name} would replace a method of dicomnet: choose another name"
                )

    def __init__(
        self,
        path: str | None = None,
        security_mode: DicomNetSecurityMode | int = DicomNetSecurityMode.NONE,
        reserved: bool = False,  # noqa: ARG002 - LEADTOOLS has it; initialize() may always follow
        *,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        trace: Trace | None = log_trace,
    ) -> None:
        super().__init__()
        self.timeouts = timeouts or Timeouts()
        self.limits = limits or Limits()
        self.flags = DicomNetFlags.NONE
        self.socket_options = DicomSocketOptions()
        self._trace = trace
        self._path = path
        self._spool = Spool(path, self.limits.spool)
        self._link: Link | None = None
        self._stream: Stream | None = None  # while the link is being made
        self._attempt: ConnectAttempt | None = None
        self._listener: Listener | None = None
        self._offered: TcpStream | None = None
        self._server: DicomNet | None = None
        self._crowded = False
        self._accepted: DicomNet | None = None
        self._outcome = _SUCCESS
        self._given_up = False  # the link that is being made is not wanted any more
        self._home = 0  # the thread that connected
        self._thread: threading.Thread | None = None
        self._numbering = threading.Lock()
        self._association: DicomAssociate | None = None
        self._command: Command | None = None
        self._ip_type = DicomNetIpTypeFlags.IPV4_OR_IPV6
        self._addresses = ("", 0, "", 0)
        self._set_security_mode(security_mode)
        with _living_lock:
            _living.add(self)

    # --- the object -------------------------------------------------------------------------------

    @staticmethod
    def startup() -> None:
        """LEADTOOLS `Startup`: nothing has to be prepared here; kept for ported programs."""

    @staticmethod
    def shutdown() -> None:
        """LEADTOOLS `Shutdown`: end every link of this process that is still open."""
        _close_links()

    def initialize(
        self,
        path: str | None = None,
        mode: DicomNetSecurityMode | int | None = None,
        open_ssl_context_creation_settings: Any = None,
    ) -> None:
        """Set spool folder, security mode and OpenSSL settings (LEADTOOLS `Initialize`).

        What is None stays as it is. The settings are a `DicomOpenSslContextCreationSettings`; its values mean
        what they mean there. Settings for an object in mode `NONE` raise `TlsConfigurationError`, unless that
        mode is given as well.
        """
        self._require_unused()
        if path is not None:
            self._path, self._spool = path, Spool(path, self.limits.spool)
        if mode is not None:
            self._set_security_mode(mode)
        elif (
            open_ssl_context_creation_settings is not None and self.security_mode is DicomNetSecurityMode.NONE
        ):
            raise errors.TlsConfigurationError(
                "TLS settings for an object that makes plain links: give DicomNetSecurityMode.TLS as well"
            )
        if open_ssl_context_creation_settings is not None:
            self._configure_tls(open_ssl_context_creation_settings)

    def dispose(self) -> None:
        """Close at once (LEADTOOLS `Dispose`)."""
        self._end(forced=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._link is not None and self._link.associated:
                self._release(self._link)
        finally:
            self._end(forced=False)

    @property
    def server(self) -> DicomNet | None:
        """The listening object that accepted this one, None on any other."""
        return self._server

    @property
    def association(self) -> DicomAssociate | None:
        """The association in force, with the negotiated results; None before there is one."""
        return self._association

    @property
    def host_address(self) -> str:
        """Our own IP address."""
        return self._addresses[0]

    @property
    def host_port(self) -> int:
        """Our own port; after `listen` on port 0 the one that was found."""
        return self._addresses[1]

    @property
    def peer_address(self) -> str:
        """The peer's IP address as text, "" where there is no peer."""
        return self._addresses[2]

    @property
    def peer_port(self) -> int:
        """The peer's port."""
        return self._addresses[3]

    @property
    def ip_type(self) -> DicomNetIpTypeFlags:
        """The IP versions that `connect` or `listen` was called with."""
        return self._ip_type

    def is_activated(self) -> bool:
        """True while the object listens or is connected."""
        return (
            self._attempt is not None
            or self.is_connected()
            or (self._listener is not None and not self._listener.closed)
        )

    def is_connected(self) -> bool:
        """True from the established connection (before any TLS handshake) until the link has ended."""
        return self._stream is not None or (self._link is not None and not self._link.ended)

    def is_associated(self) -> bool:
        """True while an association is established (PS3.8 Sta6)."""
        return self._link is not None and self._link.associated

    # --- client -----------------------------------------------------------------------------------

    def connect(
        self,
        host_address: str | None,
        host_port: int,
        peer_address: str,
        peer_port: int,
        ip_type: DicomNetIpTypeFlags | int = DicomNetIpTypeFlags.IPV4_OR_IPV6,
    ) -> None:
        """Connect, and make the secure link where the mode is TLS; returns when the link is up.

        `host_address` and `host_port` choose our own end (None and 0: any). Calls `on_connect`, then in TLS
        mode `on_secure_link_ready`. On failure the callback gets the code first, then the error is raised:
        `HostNotFound`, `ConnectionRefused`, `ConnectTimeout`, `HandshakeTimeout`, any `TlsError`.
        """
        self._require_unused()
        self._ip_type = DicomNetIpTypeFlags(ip_type)
        secure = self.security_mode is DicomNetSecurityMode.TLS
        settings = self._tls_settings(False, peer_address) if secure else None
        if settings is not None:
            context_for(settings, server_side=False)  # settings that cannot work fail before the network
        local = (host_address or None, host_port)
        options = _socket_options(self.socket_options)
        self._server, self._crowded, self._given_up = None, False, False
        self._home = threading.get_ident()
        self._attempt = ConnectAttempt(
            peer_address, peer_port, local=local, ip_type=self._ip_type, options=options
        )
        try:
            stream = self._attempt.run(Deadline.after(self.timeouts.connect))
            self._adopt(stream)
            if self._given_up:
                self._stream = None
                stream.kill()
                raise _cancelled(stream.peer)
        except errors.DicomException as error:
            self.on_connect(error.code)
            raise
        finally:
            self._attempt = None
        try:
            if settings is None:
                self._open(stream, requestor=True)
            self.on_connect(_SUCCESS)
            if settings is not None:
                self._secure(stream, settings, requestor=True)
            if self.is_connected() and self._given_up:  # another thread's close() came between two steps
                raise _cancelled(stream.peer)
        except BaseException as error:
            self._fall(stream, error)
            raise

    def _adopt(self, stream: TcpStream) -> None:
        """Begin a new link on a connection."""
        self._stream, self._link, self._association = stream, None, None
        self._addresses = (*stream.local_address, *stream.peer_address)
        self._outcome = _SUCCESS

    def _secure(self, tcp: TcpStream, settings: TlsSettings | None, *, requestor: bool) -> None:
        """Make the TLS handshake; `on_secure_link_ready` gets its outcome."""
        try:
            settings = settings or self._tls_settings(True)
            on_verify = self._verify_callback()
            context = context_for(settings, server_side=not requestor, resumable=on_verify is None)
            name = settings.expected_name or None  # for SNI, too, where it is not to be checked
            stream = context.stream(tcp, expected_name=name, on_verify=on_verify)
            self._stream = stream
            if self._given_up:
                raise _cancelled(tcp.peer)
            stream.handshake(Deadline.after(self.timeouts.handshake))
        except Exception as error:
            tcp.kill()
            self.on_secure_link_ready(_code_of(error))
            raise
        self._open(stream, requestor=requestor)
        self.on_secure_link_ready(_SUCCESS)

    def _fall(self, stream: TcpStream, error: BaseException) -> None:
        """A link could not be made, or a callback of its making raised: close, and tell."""
        link = self._link
        if link is not None:
            cause = error if isinstance(error, errors.DicomException) else errors.AssociationAborted(
                f"a callback raised {error!r}; the link to {link.peer} was closed", by="us", peer=link.peer
            )  # fmt: skip
            link.kill(cause)
            return
        self._stream = None
        stream.kill()
        self._tell_closed(_code_of(error))

    def _tell_closed(self, code: DicomExceptionCode) -> None:
        self._outcome = code
        try:
            self.on_close(code, self)
        except Exception:
            logger.exception("on_close raised")

    def _open(self, stream: Stream, *, requestor: bool) -> None:
        cls = type(self)
        self._link = Link(
            stream,
            self,
            requestor=requestor,
            timeouts=self.timeouts,
            limits=self.limits,
            trace=self._trace,
            tap=self._show if overridden(cls, "on_receive") else None,
            sent=self._tell_sent if overridden(cls, "on_send") else None,
        )
        self._stream = None
        self._link.trace(
            "link.opened", tls=self.security_mode is DicomNetSecurityMode.TLS, requestor=requestor
        )

    def _tls_stream(self) -> TlsStream | None:
        stream = self._link.stream if self._link is not None else self._stream
        return None if stream is None or isinstance(stream, TcpStream) else stream  # type: ignore[return-value]

    def _verify_callback(self) -> Callable[..., int] | None:
        """`on_verify` of this object or else, as the TLS settings, of the one that accepted it."""
        for net in (self, self._server):
            if net is not None and overridden(type(net), "on_verify"):
                return net.on_verify
        return None

    def _require_unused(self) -> None:
        if self.is_activated():
            raise errors.WrongStateError("already connected or listening: call close() first")

    # --- server -----------------------------------------------------------------------------------

    def listen(
        self,
        host_address: str | None,
        host_port: int,
        max_number_of_peers: int = 128,
        ip_type: DicomNetIpTypeFlags | int = DicomNetIpTypeFlags.IPV4_OR_IPV6,
    ) -> None:
        """Open the listening socket; `run` or `start` then accepts.

        `host_address` None, "" or "*" listens on all addresses; `host_port` 0 takes a free port, which
        `host_port` then tells. `max_number_of_peers` is the system's queue of connections not yet accepted;
        `Limits.links` is how many are served at a time.
        """
        self._require_unused()
        if self.security_mode is DicomNetSecurityMode.TLS and self._tls_configured:
            context_for(self._tls_settings(True), server_side=True)  # else each link would fail
        self._ip_type = DicomNetIpTypeFlags(ip_type)
        listening = listen_tcp(host_address, host_port, max_number_of_peers, self._ip_type)
        self._listener = Listener(Acceptor(listening, self._trace or _silent), self, self.limits)
        self._addresses = (*self._listener.address, "", 0)

    def accept(self, net: DicomNet) -> None:
        """Give the connection that `on_accept` announced to `net`; its thread starts once that returns.

        `net.peer_address` and `peer_port` are valid on return. Only inside `on_accept`.
        """
        stream, self._offered = self._offered, None
        if stream is None:
            raise errors.WrongStateError("accept() belongs inside on_accept, once")
        try:
            net._require_unused()
        except BaseException:
            self._offered = stream
            raise
        net._adopt(stream)
        net._server, net._given_up = self, False
        net._inherit_tls(self)
        self._accepted = net

    def _offer(self, stream: TcpStream, *, crowded: bool) -> DicomNet | None:
        """Called by the accept loop with a new connection."""
        self._offered = stream
        try:
            self.on_accept(_SUCCESS)
        except Exception:
            logger.exception("on_accept raised; the connection is closed")
            if self._accepted is not None:
                self._accepted._stream = None
            self._accepted = None
        client, self._accepted, self._offered = self._accepted, None, None
        if client is not None:
            client._crowded = crowded
        return client

    def _serve(self) -> None:
        """Run an accepted link on its own thread (called by the accept loop)."""
        stream = self._stream
        assert isinstance(stream, TcpStream)
        try:
            if self._security_mode is DicomNetSecurityMode.TLS:
                self._secure(stream, None, requestor=False)
            else:
                self._open(stream, requestor=False)
            self.link.run()
        except Exception as error:
            self._report(error)
            self._fall(stream, error)
        finally:
            self._end(forced=True)  # for SystemExit and the like: else it has ended

    def _leave(self) -> None:
        """Called where the listening object is closed."""
        if self._link is not None:
            self._link.abort(patience=_PATIENCE)
        else:
            self._give_up()

    def _drop(self) -> None:
        """Called where the listening object is closed, after that."""
        self._end(forced=True)

    def _client_closed(self, client: Client) -> None:
        """Called by the accept loop when a client's link has ended."""
        assert isinstance(client, DicomNet)
        try:
            self.on_close(client._outcome, client)
        except Exception:
            logger.exception("on_close raised")

    def get_client_count(self) -> int:
        """How many accepted links this listening object serves now."""
        return len(self._listener.clients) if self._listener is not None else 0

    def get_client(self, index: int) -> DicomNet:
        """The accepted link at `index`, oldest first; IndexError where there is none."""
        if self._listener is None:
            raise errors.WrongStateError("not listening")
        client = self._listener.clients[index]
        assert isinstance(client, DicomNet)
        return client

    def server_close(self) -> None:
        """Stop listening; the links that were accepted go on."""
        if self._listener is not None:
            self._listener.close()

    # --- reading ----------------------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> bool:
        """Handle what arrives next, callbacks included; False if nothing came within `timeout` seconds.

        Raises what ended the link, unless that was a release, a rejection or our own close.
        """
        link = self.link
        with link.reader():
            handled = link.step(Deadline.after(timeout))
        if not handled and link.ended and link.failure is not None:
            raise link.failure
        return handled

    def wait(self, until: Callable[[], object] | threading.Event, timeout: float | None = None) -> bool:
        """Handle the link until `until` holds: a predicate, or a `threading.Event` that a callback sets.

        Return False if it does not within `timeout` seconds (None: the protocol's own time limits apply
        only). Raise the link's error once it can hold no more. From another thread than the one that reads,
        wait for that one.
        """
        predicate = until.is_set if isinstance(until, threading.Event) else until
        return self.link.wait(predicate, Deadline.after(timeout))

    def run(self) -> None:
        """Read until the link has ended, or accept until the listening object and its links are closed.

        Returns after a release, a rejection or a local close; raises what else ended the link.
        """
        self._run()

    def _run(self) -> None:
        if self._listener is not None:
            self._listener.run()
        else:
            self.link.run()

    def start(self) -> threading.Thread:
        """Do `run` on a daemon thread of its own, and return it; an error there goes to log and trace."""
        if self._listener is None:
            _ = self.link
        if self._thread is not None and self._thread.is_alive():
            raise errors.WrongStateError("already started")
        self._thread = threading.Thread(
            target=self._run_quietly, name=f"dicomnet {self.host_port}", daemon=True
        )
        self._thread.start()
        return self._thread

    def _run_quietly(self) -> None:
        try:
            self._run()
        except Exception as error:
            self._report(error)

    @staticmethod
    def breathe() -> None:
        """Handle what is pending on the links that this thread has connected (LEADTOOLS `Breathe`)."""
        me = threading.get_ident()
        for net in _all_living():
            link = net._link
            if link is not None and net._home == me:
                while not link.ended and link.poll():
                    pass

    def _report(self, error: Exception) -> None:
        """Say what ended a link, or an accept loop, that runs on a thread of its own."""
        if not isinstance(error, errors.DicomException):
            logger.error("a callback raised %r; its link was closed", error, exc_info=error)
        if self._trace is not None:
            peer = ":".join(map(str, self._addresses[2:]))
            self._trace("link.failed", {"peer": peer, "error": type(error).__name__, "message": str(error)})

    # --- the end ----------------------------------------------------------------------------------

    def release(self) -> None:
        """Release the association and wait for the answer; the link is closed then.

        The blocking form of `send_release_request`. Raises `ReleaseTimeout` if no answer comes, and what
        else ended the link.
        """
        self._release(self.link)

    def _release(self, link: Link) -> None:
        self._request_release()
        link.wait(lambda: link.ended)
        if link.failure is not None:
            raise link.failure

    def close(self) -> None:
        """End the link: an association is aborted first. A listening object closes its links too.

        May be called from any thread, also inside a callback, and more than once. Returns when the link is
        closed; a callback that is running on another thread is not waited for much longer than a second.
        """
        self._end(forced=False)

    def close_forced(self, forced: bool = True) -> None:
        """End the link at once, without abort or lingering (LEADTOOLS `CloseForced`); False: as `close`."""
        self._end(forced=forced)

    def _end(self, *, forced: bool) -> None:
        listener, link = self._listener, self._link
        if listener is not None:
            listener.stop(self.timeouts.release or 10.0, forced=forced)
            self._listener, self._thread = None, None
        self._give_up()
        if link is not None:
            (link.kill if forced else link.close)()

    def _give_up(self) -> None:
        """End the making of a link that is going on, in this thread or another one."""
        self._given_up = True
        attempt, stream = self._attempt, self._stream
        if attempt is not None:
            attempt.cancel()
        if stream is not None:
            stream.shutdown()

    def _link_ended(self) -> None:
        """Called by the link when its stream is closed and no callback of it runs any more."""
        link = self._link
        assert link is not None
        rejected = isinstance(link.error, errors.AssociationRejected)
        error = link.error if rejected else link.failure
        self._tell_closed(_SUCCESS if error is None else error.code)
