"""The `dicomnet` command: what it prints, its exit status, its JSON, and its options."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from authority import PASSWORD
from peers import LOCAL, SHIPPED, Store, contents, listening, on_wire, store

from dicomnet import DicomNet
from dicomnet._version import __version__
from dicomnet.cli import report, show
from dicomnet.cli.commands import dicomnet

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("leak_check")

ROOT = Path(__file__).resolve().parents[1]
CT_FILE = next(path for path in SHIPPED if path.endswith("CT_small.dcm"))
DATA = str(Path(CT_FILE).parents[1])
LONG = 60


class Outcome:
    """What a command did: its exit status and what it printed."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def failed(self) -> str:
        """Check that it failed as commands fail, and return its one line on stderr."""
        assert self.status == 1, (self.out, self.err)
        assert self.err.count("\n") == 1
        assert self.err.startswith("dicomnet: ")
        assert "Traceback" not in self.err
        return self.err

    def succeeded(self) -> str:
        assert (self.status, self.err) == (0, ""), self.out
        return self.out


Run = Any


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process, without a terminal."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    def run(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            dicomnet(args=[str(argument) for argument in arguments], prog_name="dicomnet")
        return Outcome(ended.value.code, *capsys.readouterr())  # type: ignore[arg-type]

    return run


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    line = [sys.executable, "-m", "dicomnet.cli", *map(str, arguments)]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=LONG, check=False, cwd=ROOT, **options
    )


# --- the command itself ----------------------------------------------------------------------------------


def test_help_lists_the_commands_and_imports_nothing_slow() -> None:
    code = (
        "import sys, dicomnet.cli\n"
        "sys.argv = ['dicomnet', '--help']\n"
        "try: dicomnet.cli.main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0
    assert {"echo", "store", "serve", "demo"} <= set(done.stdout.split())
    assert not {"pydicom", "rich.console", "dicomnet.scp"} & set(done.stderr.split())


def test_version(run: Run) -> None:
    assert __version__ in run("--version").succeeded()


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_line_says_how_to_get_it(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from dicomnet.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr == f"dicomnet: the command needs {missing}: pip install 'dicomnet[cli]'\n"


@pytest.mark.parametrize("name", ["echo", "store", "serve"])
def test_commands_have_the_common_options(run: Run, name: str) -> None:
    text = run(name, "--help").succeeded()
    for option in (
        "aet",
        "aec",
        "tls",
        "cert",
        "key",
        "key-password-file",
        "ca",
        "no-verify",
        "timeout",
        "json",
    ):
        assert f"--{option}" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("echo", "Missing argument"),
        ("echo host", "Missing argument"),
        ("echo host 0", "not in the range"),
        ("echo host port", "not a valid integer"),
        ("echo host 104 --timeout 0", "not in the range"),
        ("echo host 104 --aec this-title-is-too-long", "AE title"),
        ("echo host 104 --aet back\\slash", "AE title"),
        ("echo host 104 --tls", "--ca FILE"),
        ("echo host 104 --no-verify", "add --tls"),
        ("echo host 104 --cert {file}", "add --tls"),
        ("echo host 104 --ca {file}", "add --tls"),
        ("echo host 104 --tls --ca {file} --no-verify", "--no-verify"),
        ("echo host 104 --tls --ca {file} --key {file}", "--cert FILE"),
        ("echo host 104 --tls --ca {file} --key-password-file {file}", "--cert FILE"),
        ("echo host 104 --tls --ca nowhere.pem", "does not exist"),
        ("echo host 104 --tls --no-verify --cert {file} --key-password-file {empty}", "no password"),
        ("store host 104", "Missing argument"),
        ("store host 104 nowhere", "does not exist"),
        ("serve 11112", "--dir"),
        ("serve 65536 --dir in", "not in the range"),
        ("serve 0 --dir in --tls --ca {file}", "--cert FILE"),
        ("serve 0 --dir in --tls --cert {file}", "--ca FILE"),
        ("demo --keep {folder}", "not empty"),
        ("nonsense", "No such command"),
    ],
)
def test_wrong_usage_ends_with_2(run: Run, tmp_path: Path, arguments: str, says: str) -> None:
    (tmp_path / "file.pem").write_text("x")
    (tmp_path / "empty").write_text("\n")
    places = {"file": tmp_path / "file.pem", "empty": tmp_path / "empty", "folder": tmp_path}
    outcome = run(*(argument.format(**places) for argument in arguments.split()))
    assert outcome.status == 2
    assert says in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.7, "1.0 kB"),
        (38_870, "38.9 kB"),
        (999_990, "1.0 MB"),
        (5e9, "5.0 GB"),
    ],
)
def test_sizes_are_told_in_three_figures(size: float, text: str) -> None:
    assert report.size_text(size) == text


def test_what_nobody_expected_is_one_line_without_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DicomNet, "connect", lambda *_: 1 / 0)
    assert "unexpected ZeroDivisionError" in run("echo", LOCAL, "104").failed()
    monkeypatch.setenv("DICOMNET_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        dicomnet(args=["echo", LOCAL, "104"], standalone_mode=False)


def test_an_interruption_is_a_failure(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DicomNet, "connect", interrupted)
    assert run("echo", LOCAL, "104").failed() == "dicomnet: interrupted\n"


# --- echo --------------------------------------------------------------------------------------------------


def test_echo(run: Run, tmp_path: Path) -> None:
    with store(tmp_path, ae_title="PACS") as server:
        text = run("echo", LOCAL, server.host_port, "--aec", "PACS").succeeded()
        assert re.match(rf"PACS at 127.0.0.1:{server.host_port} answered in [0-9.]+ ms", text)
    assert "not secured" in text


def test_echo_as_json(run: Run, tmp_path: Path) -> None:
    with store(tmp_path) as server:
        result = run("echo", LOCAL, server.host_port, "--json", "--aet", "ME").json
    assert result["ok"] is True
    assert (result["command"], result["status"], result["security"]) == ("echo", 0, None)
    assert (result["calling"], result["called"]) == ("ME", "ANY-SCP")
    assert 0 < result["echo_seconds"] < LONG


def test_echo_with_another_status_fails(run: Run) -> None:
    class Link(DicomNet):
        def on_receive_c_echo_request(
            self, presentation_id: int, message_id: int, affected_class: str
        ) -> None:
            self.send_c_echo_response(presentation_id, message_id, affected_class, 0x0122)

    class Server(DicomNet):
        def on_accept(self, error: int) -> None:
            self.accept(Link())

    with listening(Server()) as server:
        line = run("echo", LOCAL, server.host_port).failed()
        assert "0122H SOP class not supported" in line
        outcome = run("echo", LOCAL, server.host_port, "--json")
    assert outcome.failed() == line
    assert (outcome.json["ok"], outcome.json["status"]) == (False, 0x0122)


def test_echo_over_mutual_tls(run: Run, tmp_path: Path, certs: Path) -> None:
    with store(tmp_path, certs) as server:
        identity = ["--cert", certs / "client.pem", "--key", certs / "client.key"]
        place = ["localhost", server.host_port, "--tls", "--ca", certs / "ca.pem", *identity]
        text = run("echo", *place).succeeded()
        assert re.search(r"TLS 1\.3 TLS_\w+, peer CN=server,O=Test Hospital verified as localhost", text)
        security = run("echo", *place, "--json").json["security"]
    assert security["version"] == "TLS 1.3"
    assert security["peer_verified"] is True
    assert "CN=client" in security["own_certificate"]["subject"]


TRUST, BLIND = "--tls --ca {certs}/ca.pem", "--tls --no-verify"
CLIENT = "--cert {certs}/client.pem --key {certs}/client.key"
LOCKED = "--cert {certs}/server.pem --key {certs}/server_pkcs8.key"
CANNOT_WORK = {
    "no certificate": (TRUST, ["client certificate", "--cert FILE --key FILE"]),
    "other ca": (f"--tls --ca {{certs}}/stranger_ca.pem {CLIENT}", ["--ca FILE"]),
    "other key": (f"{BLIND} --cert {{certs}}/client.pem --key {{certs}}/server.key", ["does not belong"]),
    "other certificate": (f"{BLIND} --cert {{certs}}/ca.pem --key {{certs}}/client.key", ["does not belong"]),
    "no certificate in file": (f"{BLIND} --cert {{certs}}/client.key", ["certificate"]),
    "no password": (f"{BLIND} {LOCKED}", ["--key-password-file"]),
    "wrong password": (f"{BLIND} {LOCKED} --key-password-file {{certs}}/ca.pem", ["password"]),
    "needless password": (f"{BLIND} {CLIENT} --key-password-file {{certs}}/ca.pem", ["not encrypted"]),
    "plain": ("", ["TLS"]),
}


@pytest.mark.parametrize(("arguments", "says"), CANNOT_WORK.values(), ids=CANNOT_WORK)
def test_tls_that_cannot_work_says_which_option_helps(
    run: Run, tmp_path: Path, certs: Path, arguments: str, says: list[str]
) -> None:
    with store(tmp_path, certs) as server:
        line = run("echo", LOCAL, server.host_port, *arguments.format(certs=certs).split()).failed()
    for part in says:
        assert part in line
    assert PASSWORD not in line


def test_the_key_password_is_read_from_a_file(run: Run, tmp_path: Path, certs: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\r\nsecond line\n")
    with store(tmp_path / "in", certs) as server:
        identity = ["--cert", certs / "server.pem", "--key", certs / "server_pkcs8.key"]
        options = ["--tls", "--ca", certs / "ca.pem", *identity, "--key-password-file", tmp_path / "password"]
        run("echo", LOCAL, server.host_port, *options).succeeded()


def test_the_key_password_is_asked_for_on_a_terminal(
    run: Run, tmp_path: Path, certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Any]] = []
    answers = iter(["wrong", PASSWORD])

    def prompt(text: str, **options: Any) -> str:
        asked.append((text, options["hide_input"]))
        return next(answers)

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(click, "prompt", prompt)
    with store(tmp_path, certs) as server:
        identity = ["--cert", certs / "server.pem", "--key", certs / "server_pkcs8.key"]
        run("echo", LOCAL, server.host_port, "--tls", "--ca", certs / "ca.pem", *identity).succeeded()
    path = certs / "server_pkcs8.key"
    assert asked == [(f"Password of {path}", True), (f"Wrong. Password of {path}", True)]


@pytest.mark.parametrize("option", ["--password", "--key-password"])
def test_there_is_no_option_for_the_password_itself(run: Run, option: str) -> None:
    outcome = run("echo", LOCAL, "104", option, "secret")
    assert (outcome.status, "secret" in outcome.err) == (2, False)


def test_a_closed_port_an_unknown_host_and_a_silent_peer(run: Run) -> None:
    with socket.create_server((LOCAL, 0)) as listener:
        port = listener.getsockname()[1]
        outcome = run("echo", LOCAL, port, "--timeout", "0.05", "--json")
        assert "--timeout SECONDS" in outcome.failed()
        assert outcome.json["error"]["type"] == "AssociationTimeout"
    outcome = run("echo", LOCAL, port, "--json")
    assert "Nothing listens there" in outcome.failed()
    assert outcome.json["error"] == {"type": "ConnectionRefused", "message": outcome.err[10:].strip()}
    assert "nosuchhost.invalid" in run("echo", "nosuchhost.invalid", "104").failed()


@pytest.mark.parametrize("option", ["--aec", "--aet"])
def test_a_rejection_names_the_option_for_the_title(run: Run, tmp_path: Path, option: str) -> None:
    class Link(DicomNet):
        def on_receive_associate_request(self, association: Any) -> None:
            self.send_associate_reject(1, 1, 7 if option == "--aec" else 3)

    class Server(DicomNet):
        def on_accept(self, error: int) -> None:
            self.accept(Link())

    with listening(Server()) as server:
        assert f"{option} TITLE" in run("echo", LOCAL, server.host_port).failed()


# --- store -------------------------------------------------------------------------------------------------


def test_store_a_folder(run: Run, tmp_path: Path) -> None:
    with store(tmp_path) as server:
        text = run("store", LOCAL, server.host_port, DATA).succeeded()
    assert text.startswith(f"stored {len(SHIPPED)} of {len(SHIPPED)} files, ")
    assert text.endswith(" other files left out\n")
    assert contents(tmp_path.iterdir()) == contents(SHIPPED)


def test_store_as_json_over_tls(run: Run, tmp_path: Path, certs: Path) -> None:
    identity = ["--cert", certs / "client.pem", "--key", certs / "client.key"]
    with store(tmp_path, certs) as server:
        options = ["--tls", "--ca", certs / "ca.pem", *identity, "--json"]
        result = run("store", LOCAL, server.host_port, CT_FILE, CT_FILE, *options).json
    assert (result["ok"], result["files"], result["stored"], result["failed"]) == (True, 1, 1, 0)
    assert result["security"]["version"] == "TLS 1.3"
    (one,) = result["results"]
    assert (one["path"], one["stored"], one["status"], one["outcome"]) == (CT_FILE, True, 0, "0000H success")


def test_store_what_is_not_dicom(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("nothing")
    os.mkfifo(tmp_path / "fifo")
    with store(tmp_path / "in") as server:
        line = run("store", LOCAL, server.host_port, text, CT_FILE).failed()
        assert "1 of 2 files were not stored" in line
        assert line.count(str(text)) == 1
        assert "2 other files left out" in run("store", LOCAL, server.host_port, tmp_path).succeeded()
        assert server.stored == 2
        (tmp_path / "empty").mkdir()
        assert "no DICOM file found" in run("store", LOCAL, server.host_port, tmp_path / "empty").failed()


def test_store_what_the_peer_does_not_take(run: Run, tmp_path: Path) -> None:
    class OnlyOne(Store):
        def accepts(self, abstract_syntax: str) -> bool:
            return abstract_syntax.endswith("1.1.2")

    with listening(OnlyOne(tmp_path)) as server:
        outcome = run("store", LOCAL, server.host_port, *SHIPPED)
    assert "not stored, first" in outcome.failed()
    listed = [line for line in outcome.out.splitlines() if line.startswith("not stored: ")]
    assert len(listed) == 21
    assert re.fullmatch(r"not stored: \d+ more", listed[-1])
    assert contents(tmp_path.iterdir()) == contents(path for path in SHIPPED if is_ct(path))


def is_ct(path: str) -> bool:
    from dicomnet.dataset.part10 import read_header

    return read_header(path).sop_class == "1.2.840.10008.5.1.4.1.1.2"


def test_a_link_that_breaks_tells_how_far_it_came(run: Run, tmp_path: Path) -> None:
    class Breaking(Store):
        def on_instance(self, instance: Any) -> None:
            if self.stored == 4:
                self.get_client(0).send_abort(0, 0)

    with listening(Breaking(tmp_path)) as server:
        outcome = run("store", LOCAL, server.host_port, DATA, "--json")
    assert f"3 of {len(SHIPPED)} files were stored, then: association" in outcome.failed()
    assert outcome.json["error"]["type"] == "AssociationAborted"
    assert (outcome.json["stored"], outcome.json["failed"]) == (3, len(SHIPPED) - 3)


# --- serve -------------------------------------------------------------------------------------------------


class Serving:
    """A `dicomnet serve` process that listens."""

    def __init__(self, process: subprocess.Popen[str], port: int, announcement: str) -> None:
        self.process, self.port, self.announcement = process, port, announcement

    def end(self, number: int = signal.SIGTERM) -> Outcome:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=LONG)
        return Outcome(self.process.returncode, out, err)


@contextmanager
def serving(folder: Path, *options: object, first: str = "") -> Iterator[Serving]:
    """Run `dicomnet serve`; `first` is Python that runs before it."""
    code = f"{first}from dicomnet.cli import main; main()"
    line = [sys.executable, "-c", code, "serve", "0", "--dir", folder, "--bind", LOCAL, *options]
    process = subprocess.Popen(
        [str(part) for part in line],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    with process:
        stream = process.stderr if "--json" in options else process.stdout
        assert stream is not None
        announcement = stream.readline()
        try:
            yield Serving(process, int(announcement.partition("port ")[2].split()[0]), announcement)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_stores_until_it_is_interrupted(run: Run, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "in"
    with serving(folder) as server:
        assert f"listening on port {server.port} (plain TCP), storing in {folder}" in server.announcement
        run("store", LOCAL, server.port, DATA).succeeded()
        outcome = server.end(number)
    lines = outcome.succeeded().splitlines()
    assert len(lines) == len(SHIPPED) + 1
    assert all(line.startswith("stored ") for line in lines[:-1])
    assert lines[-1].startswith(f"{len(SHIPPED)} instances stored, ")
    assert contents(folder.iterdir()) == contents(SHIPPED)


def test_serve_goes_on_storing_when_nobody_reads_what_it_prints(run: Run, tmp_path: Path) -> None:
    with serving(tmp_path / "in") as server:
        assert server.process.stdout is not None
        server.process.stdout.close()  # as `dicomnet serve | head -1` does
        run("store", LOCAL, server.port, DATA).succeeded()
    assert contents((tmp_path / "in").iterdir()) == contents(SHIPPED)


def test_names_are_looked_up_for_uids_only_and_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert show.uid_name("1.2.840.10008.5.1.4.1.1.2") == "CT"
    assert show.uid_name("1.2.3") == "1.2.3"
    monkeypatch.setattr(show, "_name", None)
    for uid in ("", "1." * 40, "1.02", "no UID", "1.2\n"):
        assert show.uid_name(uid) == uid
    monkeypatch.undo()
    assert show._name.cache_info().maxsize == 256


def test_serve_as_json_prints_one_object(run: Run, tmp_path: Path) -> None:
    with serving(tmp_path, "--json") as server:
        run("store", LOCAL, server.port, CT_FILE).succeeded()
        outcome = server.end()
    assert outcome.status == 0
    result = outcome.json
    assert (result["ok"], result["port"], result["stored"], result["failed"]) == (True, server.port, 1, 0)
    assert result["bytes"] == len(on_wire(CT_FILE)[1])


def test_serve_over_mutual_tls_and_what_it_says_of_others(run: Run, tmp_path: Path, certs: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    options = ["--tls", "--ca", certs / "ca.pem", "--cert", certs / "server.pem", "--aet", "PACS"]
    options += ["--key", certs / "server_pkcs8.key", "--key-password-file", tmp_path / "password"]
    identity = ["--cert", certs / "client.pem", "--key", certs / "client.key"]
    trust = ["--tls", "--ca", certs / "ca.pem"]
    with serving(tmp_path / "in", *options) as server:
        assert "(TLS, clients need a certificate, AE title PACS)" in server.announcement
        run("store", LOCAL, server.port, CT_FILE, *trust, *identity, "--aec", "PACS").succeeded()
        run("echo", LOCAL, server.port, *trust, *identity, "--aec", "OTHER").failed()
        run("echo", LOCAL, server.port, *trust, "--aec", "PACS").failed()
        run("echo", LOCAL, server.port, "--aec", "PACS").failed()
        outcome = server.end()
    assert outcome.status == 0
    assert "called AE title is not recognized" in outcome.err
    assert "plain DICOM" in outcome.err
    assert all(line.startswith("dicomnet: ") for line in outcome.err.splitlines())
    assert contents((tmp_path / "in").iterdir()) == contents([CT_FILE])


def test_serve_with_a_full_disk(run: Run, tmp_path: Path) -> None:
    big = next(path for path in SHIPPED if os.path.getsize(path) > 150_000)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    with serving(tmp_path, first=limit) as server:
        outcome = run("store", LOCAL, server.port, big, CT_FILE)
        ended = server.end()
    assert "A700H out of resources" in outcome.failed()
    assert contents(tmp_path.iterdir()) == contents([CT_FILE])
    assert ended.out.splitlines()[-1] == "1 instances stored, 38.9 kB, 1 failed"
    (line,) = ended.err.splitlines()
    assert str(tmp_path) in line


def test_serve_lets_an_association_end(run: Run, tmp_path: Path) -> None:
    from dicomnet.scu import DicomScp, StoreScu

    with serving(tmp_path) as server, StoreScu(DicomScp(LOCAL, "X", server.port)) as client:
        results = client.store_each([CT_FILE, CT_FILE])
        assert next(results).stored
        ended: list[Outcome] = []
        thread = threading.Thread(target=lambda: ended.append(server.end()))
        thread.start()
        while True:  # the signal has arrived when nothing more is accepted
            try:
                socket.create_connection((LOCAL, server.port)).close()
            except OSError:
                break
        assert [result.stored for result in results] == [True]
        thread.join()
    assert ended[0].status == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_serve_a_port_that_is_taken(run: Run, tmp_path: Path) -> None:
    with socket.create_server((LOCAL, 0)) as taken:
        port = taken.getsockname()[1]
        line = run("serve", port, "--bind", LOCAL, "--dir", tmp_path).failed()
    assert str(port) in line


def test_serve_into_what_is_no_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be made" in run("serve", 0, "--bind", LOCAL, "--dir", tmp_path / "file" / "in").failed()


def test_serve_on_a_terminal_shows_a_table(tmp_path: Path, run: Run) -> None:
    import pty

    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "dicomnet.cli", "serve", "0", "--dir", str(tmp_path), "--bind", LOCAL]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    with subprocess.Popen(
        line, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment
    ) as process:
        os.close(theirs)
        shown = ""
        try:
            shown = read_until(ours, shown, r"listening on port (\d+)")
            port = int(re.search(r"listening on port (\d+)", shown)[1])  # type: ignore[index]
            run("store", LOCAL, port, CT_FILE).succeeded()
            shown = read_until(ours, shown, "1 instances stored")
            process.send_signal(signal.SIGINT)
            shown = read_until(ours, shown, None)
        finally:
            process.kill()
            os.close(ours)
    assert process.returncode == 0
    for text in ("Time", "SOP class", "DICOMNET", "CT", "38.9 kB"):
        assert text in shown


def read_until(terminal: int, shown: str, pattern: str | None) -> str:
    """Read a terminal until it has shown `pattern`, or with None to its end."""
    while pattern is None or not re.search(pattern, shown):
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            assert pattern is None, shown
            break
        shown += data.decode()
    return shown
