"""The verdict on a peer's certificates: what `on_verify` is told, what its answer does, and the rest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from authority import NOW, Authority
from OpenSSL import SSL
from tls_peers import (
    LONG,
    NONE,
    PEER,
    TLS12,
    TLS13,
    bare,
    bare_context,
    error_of,
    identity_settings,
    in_thread,
    pair,
    settings,
    tcp_pair,
)

from dicomnet import errors
from dicomnet.enums import DicomExceptionCode, DicomSecurityCertificateExceptionCode
from dicomnet.tls import openssl, verification
from dicomnet.tls.context import context_for
from dicomnet.tls.link_security import inspect_link
from dicomnet.transport.deadline import Deadline
from dicomnet.transport.tcp import TcpStream

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("leak_check")

VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS1.2", "TLS1.3"])
Code = DicomSecurityCertificateExceptionCode


class Judge:
    """An `on_verify` that remembers what it was told, and gives the answers it was given, or OpenSSL's."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.told: list[tuple[int, str, int, str]] = []

    def __call__(self, ok: int, text: str, error: errors.DicomSecurityCertificateException) -> Any:
        self.told.append((ok, text, error.code, str(error)))
        answer = self.answers.pop(0) if self.answers else ok
        if isinstance(answer, BaseException):
            raise answer
        return answer


# --- what it is told --------------------------------------------------------------------------------------


@VERSIONS
def test_it_is_told_of_each_certificate_from_the_root_down(certs: Path, version: int) -> None:
    judge = Judge()
    with pair(
        settings(certs, "client", version=version),
        settings(certs, "chained", version=version),
        on_verify=judge,
    ) as both:
        both.ready()
    assert [(ok, code) for ok, _, code, _ in judge.told] == [(1, Code.SUCCESS)] * 3
    root, intermediate, leaf = (text for _, text, _, _ in judge.told)
    assert "Test Root CA" in root
    assert "Test Intermediate CA" in intermediate
    assert "CN=chained" in leaf


@VERSIONS
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("stranger", Code.UNABLE_TO_GET_ISSUER_CERT_LOCALLY),
        ("self_signed", Code.DEPTH_ZERO_SELF_SIGNED_CERT),
        ("expired", Code.CERT_HAS_EXPIRED),
        ("not_yet_valid", Code.CERT_NOT_YET_VALID),
        ("client_only", Code.INVALID_PURPOSE),
        ("wrong_name", Code.HOSTNAME_MISMATCH),
    ],
)
def test_it_is_told_what_is_wrong_and_may_accept_it(certs: Path, name: str, code: Code, version: int) -> None:
    judge = Judge(*[1] * 9)
    with pair(
        settings(certs, "client", version=version),
        settings(certs, name, version=version),
        on_verify=judge,
        expected_name="localhost",
    ) as both:
        both.ready()
        both.client.write([b"accepted"], Deadline.after(LONG))
        both.server.read_into(memoryview(bytearray(9)), Deadline.after(LONG))
    bad = [told for told in judge.told if not told[0]]
    assert bad[0][2] == code
    assert all(name in text for _, text, _, _ in bad)
    assert bad[0][3], "a sentence that says what is wrong"
    assert len({told[2] for told in bad}) == len(bad), "nothing is asked twice"
    assert both.client.overruled == bad[0][3], "what it was let in in spite of stays known"
    report = inspect_link(both.client, settings(certs, "client", version=version))
    assert f"no: on_verify let it in although {bad[0][3]}" in str(report)
    assert (report.secure, report.peer_verified, report.profiles_met) == (True, False, ())


@VERSIONS
@pytest.mark.parametrize("judge", [None, Judge(1, 1, 1)], ids=["none", "agrees"])
def test_a_good_peer_is_verified_with_it_and_without(certs: Path, judge: Judge | None, version: int) -> None:
    with pair(
        settings(certs, "client", version=version), settings(certs, version=version), on_verify=judge
    ) as both:
        both.ready()
    report = inspect_link(both.client, settings(certs, "client", version=version))
    assert (report.overruled, report.peer_verified) == ("", True)
    assert report.profiles_met


def test_a_problem_further_up_the_chain_is_told_as_one(certs: Path) -> None:
    made = verification.Verification(settings(certs), server_side=False, on_verify=lambda *_: 1)
    certificate = settings(certs).credentials.certificate
    made._judge(certificate, 10, 1)
    made._judge(certificate, 0, 0)
    assert made.overruled_finding.startswith("of CN=")
    assert " in its chain holds that it expired at " in made.overruled_finding


def test_openssls_newer_codes_reach_it_under_leadtools_numbers() -> None:
    assert verification._LEADTOOLS_CODES[79] == Code.INVALID_CA
    assert verification._LEADTOOLS_CODES[69] == Code.INVALID_CALL
    assert {verification._LEADTOOLS_CODES[code] for code in (66, 67, 68)} == {Code.UNSPECIFIED}


def test_every_kind_of_problem_has_words_and_advice(certs: Path) -> None:
    made = verification.Verification(settings(certs), server_side=False)
    certificate = settings(certs).credentials.certificate
    for code in [*verification._KINDS, 4, 34, 999]:
        made.problem = made._problem(code, 0, certificate)
        error = made.error("192.0.2.1:2762")
        assert error.verify_code == code
        assert error.findings[0]
        assert "{" not in str(error)
        assert str(error).endswith(f"(X.509 verify code {code})")
    made.problem = made._problem(20, 0, None)
    assert "cannot be decoded" in str(made.error("192.0.2.1:2762"))


def test_openssls_words_have_a_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    assert openssl.verify_text(24)
    monkeypatch.setattr(openssl, "lib", None)
    assert openssl.verify_text(24) == "X.509 verify code 24"


# --- what its answer does ---------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("side", ["client", "server"])
def test_it_may_refuse_a_good_certificate(certs: Path, side: str, version: int) -> None:
    option = {"client": "on_verify", "server": "server_on_verify"}[side]
    with pair(
        settings(certs, "client", version=version),
        settings(certs, version=version),
        **{option: Judge(1, 0)},
    ) as both:
        client, server = both.handshake(
            lambda: both.client.read_into(memoryview(bytearray(9)), Deadline.after(LONG))
        )
    ours, theirs = (client, server) if side == "client" else (server, client)
    assert type(ours) is errors.CertificateVerificationError
    assert "on_verify returned 0" in str(ours)
    assert (ours.verify_code, ours.code) == (28, DicomExceptionCode.TLS_CERT_REJECTED)
    assert isinstance(theirs, errors.TlsError)
    assert theirs.refused_by == "peer"


@VERSIONS
@pytest.mark.parametrize("where", ["client", "server"])
@pytest.mark.parametrize("raised", [LookupError("no such peer"), KeyboardInterrupt("stop"), SystemExit(3)])
def test_what_it_raises_comes_out_of_the_handshake(
    certs: Path, where: str, raised: BaseException, version: int, capfd: pytest.CaptureFixture[str]
) -> None:
    option = {"client": "on_verify", "server": "server_on_verify"}[where]
    with pair(
        settings(certs, "client", version=version),
        settings(certs, version=version),
        **{option: Judge(raised)},
    ) as both:
        client, server = both.handshake(
            lambda: both.client.read_into(memoryview(bytearray(9)), Deadline.after(LONG))
        )
        assert (client if where == "client" else server) is raised
        assert (both.client if where == "client" else both.server).fileno() == -1
    assert "Traceback" not in capfd.readouterr().err, "cffi prints what a callback lets through"


@pytest.mark.parametrize("answer", [None, "1", 2, -1, 1.0, b"", object()])
def test_an_answer_that_is_neither_0_nor_1_is_an_error(certs: Path, answer: object) -> None:
    with pair(settings(certs, "client"), settings(certs), on_verify=Judge(answer)) as both:
        client, _ = both.handshake()
    assert isinstance(client, TypeError)
    assert "on_verify must return 1 to go on or 0 to stop" in str(client)


@pytest.mark.parametrize("answer", [True, False])
def test_a_bool_is_an_answer(certs: Path, answer: bool) -> None:
    with pair(settings(certs, "client"), settings(certs), on_verify=Judge(answer)) as both:
        client, _ = both.handshake()
    assert (client is None) is answer


@VERSIONS
@pytest.mark.parametrize(
    ("judge", "raised"),
    [(Judge(), None), (Judge(0), errors.CertificateUnknownCa), (Judge(LookupError("x")), LookupError)],
    ids=["OpenSSL's verdict", "refuses", "raises"],
)
def test_where_nothing_is_verified_only_its_own_word_counts(
    certs: Path, judge: Judge, raised: type[BaseException] | None, version: int
) -> None:
    judge = Judge(*judge.answers) if raised else Judge(*[1] * 9)
    with pair(
        settings(certs, "client", ca=None, verify=NONE, version=version),
        settings(certs, "stranger", version=version, verify=NONE),
        on_verify=judge,
    ) as both:
        client, _ = both.handshake()
    assert type(client) is (raised or type(None))
    assert judge.told[0][0] == 0


@VERSIONS
def test_without_verification_and_without_it_anything_is_accepted(certs: Path, version: int) -> None:
    with pair(
        settings(certs, "client", ca=None, verify=NONE, version=version),
        settings(certs, "expired", version=version, verify=NONE),
        expected_name="other.example",
    ) as both:
        both.ready()
        assert both.client.peer_certificate is not None


def test_an_error_in_one_handshake_does_not_come_out_of_another(certs: Path) -> None:
    """pyOpenSSL keeps what a context's callback raises, for whichever link comes next."""
    for raised in (LookupError("mine"), None):
        with pair(
            settings(certs, "client"), settings(certs), on_verify=Judge(raised) if raised else None
        ) as both:
            client, _ = both.handshake()
            assert client is raised


# --- names ------------------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("name", ["localhost", "PACS.example.", "127.0.0.1", "::1", "[::1]"])
def test_a_name_that_the_certificate_has(certs: Path, name: str, version: int) -> None:
    with pair(
        settings(certs, "client", version=version), settings(certs, version=version), expected_name=name
    ) as both:
        both.ready()


@VERSIONS
@pytest.mark.parametrize(
    ("name", "code"), [("pacs", 62), ("192.0.2.9", 64), ("2001:db8::9", 64), ("ä" * 99, 62)]
)
def test_a_name_that_it_does_not_have(certs: Path, name: str, code: int, version: int) -> None:
    with pair(
        settings(certs, "client", version=version), settings(certs, version=version), expected_name=name
    ) as both:
        client, server = both.handshake()
    assert type(client) is errors.CertificateNameMismatch
    assert (client.verify_code, client.expected, client.depth) == (code, name, 0)
    assert isinstance(server, errors.TlsHandshakeError)


def test_the_name_is_checked_by_us_where_openssl_cannot_be_told(
    certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssl, "expect_name", lambda *_: None)
    with pair(settings(certs, "client"), settings(certs), expected_name="pacs") as both:
        client, _ = both.handshake()
    assert type(client) is errors.CertificateNameMismatch


def test_the_check_of_the_name_can_be_switched_off_by_name(certs: Path) -> None:
    with pair(settings(certs, "client", check_name=False), settings(certs), expected_name="pacs") as both:
        both.ready()


def test_a_common_name_is_no_name(certs: Path, authority: Authority) -> None:
    with pair(
        settings(certs, "client"),
        identity_settings(certs, authority.issue("pacs.example")),
        expected_name="pacs.example",
    ) as both:
        client, _ = both.handshake()
    assert type(client) is errors.CertificateNameMismatch


def test_a_server_checks_the_name_it_was_given(certs: Path) -> None:
    near, far = tcp_pair()
    server = context_for(settings(certs), server_side=True).stream(
        TcpStream(far), expected_name="modality.example"
    )
    client = context_for(settings(certs, "client"), server_side=False).stream(TcpStream(near))
    shaking = in_thread(lambda: error_of(lambda: server.handshake(Deadline.after(LONG))))
    error_of(lambda: client.handshake(Deadline.after(LONG)))
    client.kill()
    assert type(shaking()) is errors.CertificateNameMismatch


# --- what the chain must be like ---------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "passes"), [(1, True), (0, False)])
def test_the_depth_counts_the_cas_between(certs: Path, depth: int, passes: bool) -> None:
    with pair(settings(certs, "client", depth=depth), settings(certs, "chained")) as both:
        client, _ = both.handshake()
    assert (client is None) is passes
    if client is not None:
        assert type(client) is errors.CertificateVerificationError
        assert client.verify_code in (20, 22)


def test_an_intermediate_that_is_named_as_trusted_is_trusted(certs: Path) -> None:
    with pair(settings(certs, "client", ca="intermediate"), settings(certs, "chained")) as both:
        both.ready()


def test_a_certificate_that_is_not_a_ca_issues_nothing(certs: Path, authority: Authority) -> None:
    from authority import Identity

    false_ca = authority.intermediate("False CA")
    leaf = authority.issue("False CA", slot="ca:False CA")
    issued = false_ca.issue("victim", dns=("localhost",))
    identity = Identity(issued.certificate, issued.key, (leaf.certificate,))
    with pair(settings(certs, "client"), identity_settings(certs, identity)) as both:
        client, _ = both.handshake()
    assert isinstance(client, errors.CertificateVerificationError)
    assert client.verify_code in (24, 26, 32, 79)


@pytest.mark.parametrize(
    ("lists", "code", "kind"),
    [
        (lambda a: (Authority("Other").crl(),), 3, errors.CertificateVerificationError),
        (
            lambda a: (a.crl(last_update=NOW.replace(year=2001), next_update=NOW.replace(year=2002)),),
            12,
            errors.CertificateVerificationError,
        ),
    ],
    ids=["no list of its CA", "an old list"],
)
def test_with_revocation_lists_a_certificate_needs_a_current_one(
    certs: Path, authority: Authority, lists: Any, code: int, kind: type[BaseException]
) -> None:
    with pair(settings(certs, "client", crls=lists(authority)), settings(certs)) as both:
        client, _ = both.handshake()
    assert type(client) is kind
    assert client.verify_code == code
    assert "revocation list" in str(client)


def test_with_a_current_revocation_list_a_good_certificate_passes(certs: Path, authority: Authority) -> None:
    other = authority.issue("someone else").certificate
    with pair(settings(certs, "client", crls=(authority.crl(other),)), settings(certs)) as both:
        both.ready()


@pytest.mark.parametrize("level", ["2", "0"])
def test_a_weak_key_is_refused_also_where_a_suite_lowers_openssls_level(
    certs: Path, authority: Authority, level: str
) -> None:
    weak = authority.issue("weak", key="rsa1024", dns=("localhost",))
    near, far = tcp_pair()
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"ALL:eNULL:@SECLEVEL=0")
    context.set_max_proto_version(TLS12)
    context.use_certificate(weak.certificate)
    context.use_privatekey(weak.key)
    peer = bare(context, far, server_side=True)
    suites = (0xC030,) if level == "2" else (0x003B,)  # the second has no encryption
    ours = context_for(settings(certs, "client", suites=suites), server_side=False).stream(TcpStream(near))
    shaking = in_thread(lambda: error_of(peer.do_handshake))
    error = error_of(lambda: ours.handshake(Deadline.after(LONG)))
    far.close()
    shaking()
    assert isinstance(error, errors.CertificateVerificationError)
    assert "1024" in str(error)


@VERSIONS
def test_a_certificate_that_only_openssl_can_read_is_refused(
    certs: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_certificate: object) -> None:
        raise ValueError("invalid version")

    monkeypatch.setattr("OpenSSL.crypto.X509.to_cryptography", fail)
    with pair(
        settings(certs, "client", version=version), settings(certs, verify=PEER, version=version)
    ) as both:
        client, _ = both.handshake()
    assert type(client) is errors.CertificateVerificationError
    assert "cannot be decoded" in str(client)
    assert client.verify_code == 1


def test_the_references_of_a_link_do_not_outlive_it(certs: Path) -> None:
    judge = Judge()
    before = sys.getrefcount(judge)
    with pair(settings(certs, "client"), settings(certs), on_verify=judge) as both:
        both.ready()
    del both
    import gc

    gc.collect()
    assert sys.getrefcount(judge) == before


def test_a_bare_peer_gets_the_right_alert(certs: Path) -> None:
    near, far = tcp_pair()
    peer = bare(
        bare_context(certs, server_side=True, name="wrong_name", version=TLS13), far, server_side=True
    )
    ours = context_for(settings(certs, "client"), server_side=False).stream(
        TcpStream(near), expected_name="localhost"
    )
    shaking = in_thread(lambda: error_of(peer.do_handshake))
    error_of(lambda: ours.handshake(Deadline.after(LONG)))
    assert "alert bad certificate" in str(shaking())
    far.close()
