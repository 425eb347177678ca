"""dicomnet's ends of the benchmark: a server that drops or writes what it gets, and clients.

    serve   storage server; prints its port
    store   stores files over one association: `StoreScu`, or with --plain a `DicomNet` driven by hand
    hold    opens associations and keeps them until stdin is closed

A client prints one line of JSON: seconds from the connection to the release, CPU seconds, files, bytes, and
by how many bytes its resident set grew.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import memory

from dicomnet import DicomNet, DicomOpenSslContextCreationSettings, DiscardSink, FileSink, Limits
from dicomnet.enums import DicomNetSecurityMode, DicomTlsCertificateType, DicomTlsCipherSuiteType
from dicomnet.scu import DicomConnection, DicomScp, StoreScu

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicomnet.protocol.command_set import Command

_SUITES = {
    "1.2": DicomTlsCipherSuiteType.ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    "1.3": DicomTlsCipherSuiteType.AES_256_GCM_SHA384,
}


def secure(net: DicomNet, options: argparse.Namespace) -> None:
    """Give the object mutual TLS of the version asked for, if one is."""
    if options.tls:
        settings = DicomOpenSslContextCreationSettings(certification_authorities_file_name=options.ca)
        net.initialize(None, DicomNetSecurityMode.TLS, settings)
        net.set_tls_client_certificate(options.cert, DicomTlsCertificateType.PEM, options.key)
        net.set_tls_cipher_suite_by_index(0, DicomTlsCipherSuiteType.NONE)
        net.set_tls_cipher_suite_by_index(0, _SUITES[options.tls])


class Link(DicomNet):
    """One connection of the server."""

    supported_contexts = {"*": ("*",)}  # noqa: RUF012
    folder: Path | None = None
    count = 0

    def on_data_set(self, presentation_id: int, command: Command) -> DiscardSink | FileSink:
        """Drop the data set, or write it as a Part 10 file."""
        if self.folder is None:
            return DiscardSink()
        context = self.link.core.contexts[presentation_id]
        return FileSink(self.folder / f"{command.message_id}.dcm", context, command, exists="overwrite")

    def on_receive_c_store_request(
        self, presentation_id: int, message_id: int, affected_class: str, instance: str, *_rest: Any
    ) -> None:
        """Answer with success."""
        self.send_c_store_response(presentation_id, message_id, affected_class, instance, 0)


class Server(DicomNet):
    """The listening object."""

    folder: Path | None = None

    def on_accept(self, error: int) -> None:  # noqa: ARG002
        """Give each connection a link of its own."""
        link = Link(None, self.security_mode, limits=self.limits)
        link.folder = self.folder
        self.accept(link)


def serve(options: argparse.Namespace) -> None:
    server = Server(limits=Limits(max_pdu=options.pdu, links_per_address=500))
    server.folder = options.out
    secure(server, options)
    server.listen("127.0.0.1", 0)
    print(server.host_port, flush=True)
    server.run()


class ByHand(DicomConnection):
    """What a program does that uses `DicomNet` itself: send a request, wait for its response."""

    status = -1

    def on_receive_c_store_response(self, *arguments: Any) -> None:
        """Note the status."""
        self.status = arguments[-1]

    def store(self, paths: list[Path], sop_class: str, syntax: str) -> Iterator[int]:
        """Store the files; yield the status of each."""
        self.open([(sop_class, (syntax,))])
        for number, path in enumerate(paths, 1):
            self.status = -1
            instance = f"1.2.826.0.1.3680043.10.9999.1.1.{number}"
            self.send_c_store_request(1, number, sop_class, instance, 0, "", 0, path)
            self.wait(lambda: self.status >= 0)
            yield self.status
        self.release()


def store(options: argparse.Namespace) -> None:
    paths = sorted(options.files.iterdir())[: options.count]
    total = sum(path.stat().st_size for path in paths)
    scp, limits = DicomScp("127.0.0.1", "ANY-SCP", options.port), Limits(max_pdu=options.pdu)
    before = memory.resident()
    wall, cpu = time.perf_counter(), time.process_time()
    if options.plain:
        scu = ByHand(scp, limits=limits)
        secure(scu, options)
        failed: list[Any] = [
            status for status in scu.store(paths, options.sop_class, options.syntax) if status
        ]
    else:
        sender = StoreScu(scp, limits=limits)
        secure(sender, options)
        failed = [result for result in sender.store(paths) if not result.stored]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if failed:
        raise SystemExit(f"not stored: {failed}")
    print(json.dumps({"seconds": wall, "cpu": cpu, "count": len(paths), "bytes": total,
                      "grown": memory.peak() - before}))  # fmt: skip


def hold(options: argparse.Namespace) -> None:
    links = []
    for _ in range(options.count):
        link = DicomConnection(DicomScp("127.0.0.1", "ANY-SCP", options.port))
        secure(link, options)
        link.open()
        links.append(link)
    print("{}", flush=True)
    sys.stdin.read()
    for link in links:
        link.close_forced(True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["serve", "store", "hold"])
    parser.add_argument("--port", type=int, help="of the server")
    parser.add_argument("--pdu", type=int, default=131072, help="maximum PDU length to announce")
    parser.add_argument("--files", type=Path, help="folder of the files to store")
    parser.add_argument("--count", type=int, default=None, help="files, or associations to hold")
    parser.add_argument("--plain", action="store_true", help="store with DicomNet's own methods")
    parser.add_argument("--sop-class", default="1.2.840.10008.5.1.4.1.1.2")
    parser.add_argument("--syntax", default="1.2.840.10008.1.2.1")
    parser.add_argument("--out", type=Path, help="serve: write the data sets into this folder")
    parser.add_argument("--tls", choices=_SUITES, help="version of mutual TLS")
    for name in ("cert", "key", "ca"):
        parser.add_argument(f"--{name}", help="PEM file")
    logging.basicConfig(level=logging.WARNING)
    options = parser.parse_args()
    {"serve": serve, "store": store, "hold": hold}[options.what](options)


if __name__ == "__main__":
    main()
