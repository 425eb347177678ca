"""pynetdicom's ends of the benchmark: a storage server that drops what it gets, and a client.

serve   storage server; prints its port
store   reads each file with pydicom and stores it, over one association
"""

from __future__ import annotations

import argparse
import json
import ssl
import threading
import time
from pathlib import Path

import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def tls_context(options: argparse.Namespace, protocol: int) -> ssl.SSLContext | None:
    if not options.tls:
        return None
    context = ssl.SSLContext(protocol)
    context.minimum_version = context.maximum_version = _VERSIONS[options.tls]
    if options.tls == "1.2":
        context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(options.ca)
    context.load_cert_chain(options.cert, options.key)
    return context


def serve(options: argparse.Namespace) -> None:
    entity = AE()
    entity.maximum_pdu_size = options.pdu
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), ExplicitVRLittleEndian)
    server = entity.start_server(
        ("127.0.0.1", 0),
        block=False,
        ssl_context=tls_context(options, ssl.PROTOCOL_TLS_SERVER),
        evt_handlers=[(evt.EVT_C_STORE, lambda _event: 0x0000)],
    )
    assert server is not None
    print(server.server_address[1], flush=True)
    threading.Event().wait()


def store(options: argparse.Namespace) -> None:
    paths = sorted(options.files.iterdir())[: options.count]
    context = tls_context(options, ssl.PROTOCOL_TLS_CLIENT)
    wall, cpu = time.perf_counter(), time.process_time()
    entity = AE()
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = entity.associate(
        "127.0.0.1", options.port, max_pdu=options.pdu, tls_args=(context, "localhost") if context else None
    )
    if not association.is_established:
        raise SystemExit("no association")
    for path in paths:
        status = association.send_c_store(pydicom.dcmread(path))
        if "Status" in status and status.Status:
            raise SystemExit(f"not stored: {status}")
    association.release()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    total = sum(path.stat().st_size for path in paths)
    print(json.dumps({"seconds": wall, "cpu": cpu, "count": len(paths), "bytes": total}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["serve", "store"])
    parser.add_argument("--port", type=int, help="of the server")
    parser.add_argument("--pdu", type=int, default=131072, help="maximum PDU length to announce")
    parser.add_argument("--files", type=Path, help="folder of the files to store")
    parser.add_argument("--count", type=int, default=None, help="how many of them")
    parser.add_argument("--tls", choices=_VERSIONS, help="version of mutual TLS")
    for name in ("cert", "key", "ca"):
        parser.add_argument(f"--{name}", help="PEM file")
    options = parser.parse_args()
    {"serve": serve, "store": store}[options.what](options)


if __name__ == "__main__":
    main()
