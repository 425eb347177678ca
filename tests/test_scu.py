"""The service users: echo and store as blocking calls, planned contexts, and what they raise."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, ClassVar

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import LOCAL, SHIPPED, contents, listening, on_wire, secure, store
from pydicom.uid import CTImageStorage

from dicomnet import DicomDataSet, DicomNet, Timeouts, errors
from dicomnet.protocol.negotiation import propose
from dicomnet.scu import DicomConnection, DicomScp, StoreResult, StoreScu, plan_contexts
from dicomnet.transport.deadline import Deadline

pytestmark = pytest.mark.usefixtures("leak_check")

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT, EXPLICIT, JPEG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
PATIENT = b"\x10\x00\x10\x00PN\x04\x00A^B "
CT_FILE = next(path for path in SHIPPED if path.endswith("CT_small.dcm"))
JPEG_FILE = next(path for path in SHIPPED if on_wire(path)[0] == JPEG)


def instance(uid: str = "1.2.3", sop_class: str = CT, syntax: str = EXPLICIT) -> DicomDataSet:
    return DicomDataSet(PATIENT, syntax, sop_class=sop_class, sop_instance=uid)


def scp(server: DicomNet) -> DicomScp:
    return DicomScp(LOCAL, "PACS", server.host_port)


def opened(server: DicomNet, contexts: Any) -> DicomConnection:
    connection = DicomConnection(scp(server))
    connection.open(contexts)
    return connection


class Accepting(DicomNet):
    """A server whose links accept what `link` says."""

    def __init__(self, link: type[DicomNet]) -> None:
        super().__init__()
        self.link_class = link

    def on_accept(self, error: int) -> None:
        self.accept(self.link_class())


class OnlyImplicit(DicomNet):
    """A provider that takes CT in the default transfer syntax and answers as its class says."""

    supported_contexts: ClassVar = {CT: (IMPLICIT,)}
    status = 0

    def on_receive_c_store_request(
        self, presentation_id: int, message_id: int, affected_class: str, instance: str, *_: Any
    ) -> None:
        self.send_c_store_response(presentation_id, message_id, affected_class, instance, self.status)


# --- contexts ------------------------------------------------------------------------------------------


def test_each_pair_gets_a_context_of_its_own() -> None:
    (plan,) = plan_contexts([(CT, IMPLICIT), (CT, JPEG), (MR, JPEG), (CT, IMPLICIT)])
    assert plan == [(CT, (IMPLICIT,)), (CT, (JPEG,)), (MR, (JPEG,))]


def test_a23_the_default_syntax_is_offered_for_every_class_with_an_uncompressed_one() -> None:
    (plan,) = plan_contexts([(CT, EXPLICIT), (MR, JPEG)])
    assert plan == [(CT, (EXPLICIT,)), (CT, (IMPLICIT,)), (MR, (JPEG,))]


def test_a23_what_is_planned_is_proposed_unchanged() -> None:
    (plan,) = plan_contexts([(CT, EXPLICIT), (CT, JPEG), (MR, JPEG)])
    proposed = [(context.abstract_syntax, context.transfer_syntaxes) for context in propose(plan)]
    assert proposed == plan


def test_an_instance_without_a_syntax_is_offered_in_both_that_it_can_be_encoded_in() -> None:
    assert plan_contexts([(CT, "")]) == [[(CT, (EXPLICIT,)), (CT, (IMPLICIT,))]]


UIDS = st.integers(1, 60).map(lambda number: f"1.2.{number}")


@given(st.lists(st.tuples(UIDS, st.sampled_from([IMPLICIT, EXPLICIT, JPEG, "1.2.840.10008.1.2.4.90"]))))
def test_every_pair_is_in_one_plan_and_no_plan_is_longer_than_128(pairs: list[tuple[str, str]]) -> None:
    plans = plan_contexts(pairs)
    planned = [(sop_class, syntax) for plan in plans for sop_class, (syntax,) in plan]
    assert len(planned) == len(set(planned))
    assert set(pairs) <= set(planned)
    assert all(0 < len(plan) <= 128 for plan in plans)
    classes = [{sop_class for sop_class, _ in plan} for plan in plans]
    assert sum(map(len, classes)) == len(set().union(*classes))  # a class is in one association only


def test_find_context_takes_the_first_syntax_asked_for_that_was_accepted(tmp_path: Path) -> None:
    contexts = [(CT, (EXPLICIT,)), (CT, (IMPLICIT,)), (MR, (JPEG,))]
    with store(tmp_path) as server, opened(server, contexts) as connection:
        assert connection.find_context(CT) == 1
        assert connection.find_context(CT, IMPLICIT) == 3
        assert connection.find_context(CT, JPEG, IMPLICIT, EXPLICIT) == 3
        with pytest.raises(errors.NoAcceptedContext) as caught:
            connection.find_context(MR, EXPLICIT)
        assert (caught.value.proposed, caught.value.answered) == ((EXPLICIT,), (JPEG,))
        with pytest.raises(errors.NoAcceptedContext, match=r"does not accept SOP class 1\.2\.9\b"):
            connection.find_context("1.2.9")


# --- echo ------------------------------------------------------------------------------------------------


def test_echo_returns_the_status(tmp_path: Path) -> None:
    with store(tmp_path) as server, DicomConnection(scp(server)) as connection:
        assert [connection.echo() for _ in range(3)] == [0, 0, 0]


def test_a_connection_can_be_opened_again(tmp_path: Path) -> None:
    with store(tmp_path) as server:
        connection = DicomConnection(scp(server))
        for _ in range(2):
            with connection:
                assert connection.echo() == 0
            assert not connection.is_connected()


def test_echo_without_an_accepted_context_says_so() -> None:
    contexts = [(CT, (IMPLICIT,))]
    missing = pytest.raises(errors.NoAcceptedContext, match=r"1\.2\.840\.10008\.1\.1")
    with listening(Accepting(OnlyImplicit)) as server, opened(server, contexts) as connection, missing:
        connection.echo()


def test_a_rejection_is_raised_with_its_numbers_and_nothing_stays_open(tmp_path: Path) -> None:
    with store(tmp_path, ae_title="OTHER") as server:
        connection = DicomConnection(scp(server))
        with pytest.raises(errors.AssociationRejected) as caught:
            connection.open()
        assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 7)
        assert not connection.is_connected()


def test_a_title_that_is_none_fails_before_the_network() -> None:
    connection = DicomConnection(DicomScp("host.invalid", "longer than sixteen"))
    with pytest.raises(errors.LocalProtocolError):
        connection.open()


def test_a_peer_that_never_answers_ends_in_a_time_out() -> None:
    with socket.create_server((LOCAL, 0)) as listener:
        connection = DicomConnection(
            DicomScp(LOCAL, "X", listener.getsockname()[1]), timeouts=Timeouts(association=0.05)
        )
        with pytest.raises(errors.AssociationTimeout):
            connection.open()
        assert not connection.is_connected()


# --- store -----------------------------------------------------------------------------------------------


def test_one_file_or_several_of_any_kind(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(CT_FILE)
    mine = instance("1.2.4")
    with store(tmp_path) as server, StoreScu(scp(server)) as scu:
        for one in (CT_FILE, Path(CT_FILE), dataset, mine):
            (result,) = scu.store(one)
            assert result.stored
            assert str(result).endswith(": 0000H success")
        results = scu.store([CT_FILE, dataset, mine])
        assert [result.sop_instance for result in results] == [dataset.SOPInstanceUID] * 2 + ["1.2.4"]
        assert results[0].source == CT_FILE
        assert results[0].size == len(on_wire(CT_FILE)[1])
        assert mine.encoded == PATIENT  # what was passed in is the caller's to close
        assert server.stored == 7


def test_a_data_set_without_a_syntax_is_encoded_in_what_is_accepted() -> None:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.PatientName = CTImageStorage, "1.2.3", "A^B"
    with listening(Accepting(OnlyImplicit)) as server, StoreScu(scp(server)) as scu:
        (result,) = scu.store(dataset)
    assert result.stored


def test_results_come_one_by_one_and_nothing_is_sent_before_they_are_asked_for(tmp_path: Path) -> None:
    with store(tmp_path) as server, StoreScu(scp(server)) as scu:
        results = scu.store_each([instance("1.2.1"), instance("1.2.2")])
        assert not scu.is_connected()
        assert next(results).stored
        assert server.stored == 1
        assert next(results).stored
        assert scu.is_associated()
        assert list(results) == []
        assert not scu.is_connected()  # released


def test_leaving_the_results_early_aborts(tmp_path: Path) -> None:
    with store(tmp_path) as server, StoreScu(scp(server)) as scu:
        results = scu.store_each([instance("1.2.1"), instance("1.2.2")])
        next(results)
        results.close()
        assert not scu.is_connected()
        assert server.stored == 1


def test_files_that_cannot_be_sent_give_a_result_and_the_others_go(tmp_path: Path) -> None:
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM at all")
    nameless = DicomDataSet(PATIENT, EXPLICIT, sop_class=CT)
    bad_class = instance("1.2.5", "not a UID")
    gone = tmp_path / "gone.dcm"
    with listening(Accepting(OnlyImplicit)) as server, StoreScu(scp(server)) as scu:
        sources = [
            text,
            gone,
            nameless,
            bad_class,
            CT_FILE,
            instance("1.2.6", MR),
            instance("1.2.7", CT, IMPLICIT),
        ]
        results = scu.store(sources)
    by_source = {result.source: result for result in results}
    assert len(results) == len(sources)
    assert isinstance(by_source[str(text)].error, errors.DataSetError)
    assert isinstance(by_source[str(gone)].error, errors.DataSetError)
    assert "no SOP class or instance UID" in by_source[repr(nameless)].outcome
    assert "no SOP class or instance UID" in by_source[repr(bad_class)].outcome
    refused = by_source[CT_FILE].error
    assert isinstance(refused, errors.NoAcceptedContext)
    assert (refused.proposed, refused.answered) == ((EXPLICIT,), (IMPLICIT,))
    assert isinstance(by_source[repr(sources[5])].error, errors.NoAcceptedContext)
    assert [result.source for result in results if result.stored] == [repr(sources[6])]


def test_a_result_names_its_file_once(tmp_path: Path) -> None:
    result = StoreResult("a.dcm", error=errors.DataSetError("a.dcm is no DICOM file"))
    assert str(result) == "a.dcm is no DICOM file"
    assert str(StoreResult("a.dcm", error=errors.DataSetError("damaged"))) == "a.dcm: damaged"
    assert str(StoreResult("a.dcm")) == "a.dcm: not sent"


@pytest.mark.parametrize(
    ("status", "stored", "words"),
    [
        (0x0000, True, "0000H success"),
        (0xB007, True, "B007H data set does not match the SOP class (warning)"),
        (0xA700, False, "A700H out of resources (failure)"),
        (0x0124, False, "0124H not authorized (failure)"),
    ],
)
def test_the_status_of_the_response_decides(status: int, stored: bool, words: str) -> None:
    class Answering(OnlyImplicit):
        pass

    Answering.status = status
    with listening(Accepting(Answering)) as server, StoreScu(scp(server)) as scu:
        (result,) = scu.store(instance(syntax=IMPLICIT))
    assert (result.status, result.stored, result.outcome) == (status, stored, words)


def test_the_error_comment_of_a_failure_is_told_escaped() -> None:
    class Commenting(OnlyImplicit):
        status = 0xA700

        def on_before_send_command_set(self, command_set: DicomDataSet) -> None:
            command_set.ErrorComment = "disk\x1b full"

    with listening(Accepting(Commenting)) as server, StoreScu(scp(server)) as scu:
        (result,) = scu.store(instance(syntax=IMPLICIT))
    assert result.outcome == r"A700H out of resources (failure): disk\x1b full"


def test_128_contexts_do_not_limit_how_much_can_be_stored(tmp_path: Path) -> None:
    classes = [f"1.2.826.0.1.{number}" for number in range(150)]
    associations: list[int] = []

    class Counting(StoreScu):
        def on_receive_associate_accept(self, association: Any) -> None:
            associations.append(association.presentation_context_count)

    with store(tmp_path) as server, Counting(scp(server)) as scu:
        results = scu.store(instance(f"1.2.{number}", uid) for number, uid in enumerate(classes))
        assert all(result.stored for result in results)
        assert [result.sop_class for result in results] == classes
        assert server.stored == 150
    assert associations == [128, 128, 44]


def test_nothing_to_store_makes_no_connection() -> None:
    with StoreScu(DicomScp("host.invalid")) as scu:
        assert scu.store([]) == []


# --- the link breaks ---------------------------------------------------------------------------------------


NONSENSE = b"\x99\0\0\0\0\0"


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        (lambda link: link.close_forced(), errors.ConnectionLost),
        (lambda link: link.send_abort(0, 0), errors.AssociationAborted),
        (lambda link: link.send_abort(2, 1), errors.AssociationAborted),
        (lambda link: link.link.stream.write([NONSENSE], Deadline.after(30)), errors.RemoteProtocolError),
    ],
    ids=["closes", "user aborts", "provider aborts", "nonsense"],
)
def test_an_error_of_the_link_is_raised_after_the_results_before_it(
    do: Any, expected: type[errors.DicomException]
) -> None:
    class Breaking(OnlyImplicit):
        def on_receive_c_store_request(self, presentation_id: int, message_id: int, *rest: Any) -> None:
            if message_id == 1:
                super().on_receive_c_store_request(presentation_id, message_id, *rest)
            else:
                do(self)

    with listening(Accepting(Breaking)) as server:
        scu = StoreScu(scp(server))
        results = scu.store_each(instance(f"1.2.{number}", syntax=IMPLICIT) for number in range(3))
        assert next(results).stored
        with pytest.raises(expected):
            next(results)
        assert not scu.is_connected()


def test_a_peer_that_takes_the_data_and_never_answers() -> None:
    class Silent(OnlyImplicit):
        def on_receive_c_store_request(self, *arguments: Any) -> None:
            """Owe the response for ever."""

    with listening(Accepting(Silent)) as server:
        scu = StoreScu(scp(server), timeouts=Timeouts(response=0.05))
        with pytest.raises(errors.ResponseTimeout):
            scu.store(instance(syntax=IMPLICIT))
        assert not scu.is_connected()


# --- over TLS -----------------------------------------------------------------------------------------------


def test_over_tls_with_a_client_certificate(tmp_path: Path, certs: Path) -> None:
    with store(tmp_path, certs) as server:
        scu = StoreScu(scp(server))
        secure(scu, certs, "client")
        with scu:
            assert scu.store(JPEG_FILE)[0].stored
        assert contents(tmp_path.iterdir()) == contents([JPEG_FILE])


# --- subclasses, and what is kept ---------------------------------------------------------------------------


def test_callbacks_of_a_subclass_need_not_call_super(tmp_path: Path) -> None:
    class Own(StoreScu):
        def on_receive_c_echo_response(self, *arguments: Any) -> None:
            told.append("echo")

        def on_receive_c_store_response(self, *arguments: Any) -> None:
            told.append("store")

    told: list[str] = []
    with store(tmp_path) as server, Own(scp(server)) as scu:
        assert scu.store(CT_FILE)[0].stored
        scu.open([("1.2.840.10008.1.1", (IMPLICIT,))])
        assert scu.echo() == 0
    assert told == ["store", "echo"]


def test_store_hands_over_with_the_error_what_was_done_before_it() -> None:
    class Breaking(OnlyImplicit):
        def on_receive_c_store_request(self, presentation_id: int, message_id: int, *rest: Any) -> None:
            if message_id > 2:
                self.close_forced()
            else:
                super().on_receive_c_store_request(presentation_id, message_id, *rest)

    with listening(Accepting(Breaking)) as server, pytest.raises(errors.ConnectionLost) as caught:
        StoreScu(scp(server)).store(instance(f"1.2.{number}", syntax=IMPLICIT) for number in range(4))
    assert [(result.sop_instance, result.stored) for result in caught.value.results] == [
        ("1.2.0", True),
        ("1.2.1", True),
    ]
