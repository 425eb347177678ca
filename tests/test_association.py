"""`DicomAssociate`: LEADTOOLS' members, the way to and from PDUs, and pynetdicom's view of our bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import pdu as peer_pdu
from pynetdicom import pdu_primitives as peer
from pynetdicom.presentation import build_context

from dicomnet import errors
from dicomnet.association import DicomAssociate
from dicomnet.enums import (
    DicomAssociateAcceptResultType,
    DicomExceptionCode,
    DicomRoleSupport,
    DicomUserIdentityType,
)
from dicomnet.protocol import negotiation, pdu
from dicomnet.protocol.items import (
    MaximumLength,
    RoleSelection,
    SopClassCommonExtendedNegotiation,
    SopClassExtendedNegotiation,
    UserIdentityRequest,
    UserIdentityResponse,
)
from dicomnet.settings import Limits

VERIFICATION = "1.2.840.10008.1.1"
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT, EXPLICIT, JPEG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
SUCCESS = DicomAssociateAcceptResultType.SUCCESS
YES, NO = DicomRoleSupport.SUPPORTED, DicomRoleSupport.UNSUPPORTED


def associate(*contexts, request=True):
    """A request or answer whose contexts are (id, abstract syntax, transfer syntax, ...)."""
    made = DicomAssociate(request)
    made.called, made.calling = "CALLED", "CALLING"
    for number, abstract, *transfers in contexts:
        made.add_presentation_context(number, SUCCESS, abstract)
        for uid in transfers:
            made.add_transfer(number, uid)
    return made


def over_the_wire(thing):
    """What the other end makes of a PDU."""
    return pdu.decode(thing.kind, thing.encode()[6:], Limits())


def refused(call, *arguments):
    """The error of a call with a wrong argument."""
    with pytest.raises(errors.LocalProtocolError) as caught:
        call(*arguments)
    assert caught.value.code is DicomExceptionCode.PARAMETER
    return str(caught.value)


# --- LEADTOOLS' members ----------------------------------------------------------------------------


def test_a_new_association_names_us_and_dicom():
    made = DicomAssociate()
    assert made.is_request
    assert (made.version, made.application_context_name) == (1, "1.2.840.10008.3.1.1.1")
    assert made.implement_class == negotiation.IMPLEMENTATION_CLASS_UID
    assert made.implementation_version_name.startswith("DICOMNET_")
    assert (made.called, made.calling, made.max_length, made.presentation_context_count) == ("", "", 0, 0)
    assert not DicomAssociate(False).is_request


def test_presentation_contexts_by_index_and_id():
    made = associate((1, CT, IMPLICIT, JPEG), (5, MR, EXPLICIT), (3, CT, EXPLICIT))
    assert made.presentation_context_count == 3
    assert [made.get_presentation_context_id(index) for index in range(3)] == [1, 5, 3]
    assert (made.get_abstract(5), made.get_result(5)) == (MR, SUCCESS)
    assert made.find_abstract(CT) == 1
    assert made.find_next_abstract(1, CT) == 3
    assert made.find_next_abstract(3, CT) == 0
    assert made.find_next_abstract(5, MR) == 0
    assert made.find_abstract(FIND) == 0
    assert (made.get_abstract_count(CT), made.find_abstracts(CT), made.find_abstracts(FIND)) == (
        2,
        [1, 3],
        [],
    )
    made.set_presentation_context_id(1, 7)
    made.set_abstract(7, FIND)
    made.set_result(7, DicomAssociateAcceptResultType.USER_REJECT)
    assert (made.find_abstract(FIND), made.get_result(7)) == (7, DicomAssociateAcceptResultType.USER_REJECT)
    made.delete_presentation(1)
    assert [made.get_presentation_context_id(index) for index in range(2)] == [7, 3]


def test_numbers_are_as_good_as_enumerations():
    made = DicomAssociate(False)
    made.add_presentation_context(1, 3, CT)
    made.set_role_select(1, True, 0, 1)
    assert made.get_result(1) is DicomAssociateAcceptResultType.ABSTRACT_SYNTAX
    assert (made.get_user_role(1), made.get_provider_role(1)) == (NO, YES)
    made.set_result(1, 77)
    assert made.get_result(1).name == "UNKNOWN_0x004D"


@pytest.mark.parametrize("number", [0, 2, 256, 257, -1, 1])
def test_ids_are_odd_and_unique_A12(number):
    made = associate((1, CT, IMPLICIT), (3, MR, IMPLICIT))
    refused(made.add_presentation_context, number, 0, CT)
    refused(made.set_presentation_context_id, 1, number)
    made.set_presentation_context_id(1, 3)  # its own
    assert made.presentation_context_count == 2


def test_transfer_syntaxes():
    made = associate((1, CT, IMPLICIT, EXPLICIT))
    made.add_transfer(1, JPEG)
    assert [made.get_transfer(1, index) for index in range(made.get_transfer_count(1))] == [
        IMPLICIT,
        EXPLICIT,
        JPEG,
    ]
    made.set_transfer(1, 0, VERIFICATION)
    made.delete_transfer(1, 1)
    assert [made.get_transfer(1, index) for index in range(made.get_transfer_count(1))] == [
        VERIFICATION,
        JPEG,
    ]


def test_what_is_not_there_is_a_parameter_error():
    made = associate((1, CT, IMPLICIT), (3, MR, IMPLICIT))
    assert "1, 3" in refused(made.get_result, 5)
    for call in (made.get_abstract, made.delete_presentation, made.is_role_select, made.get_extended_data):
        refused(call, 5)
    refused(made.find_next_abstract, 5, CT)
    for index in (-1, 2):
        refused(made.get_presentation_context_id, index)
        refused(made.set_presentation_context_id, index, 5)
    for index in (-1, 1):
        refused(made.get_transfer, 1, index)
        refused(made.set_transfer, 1, index, JPEG)
        refused(made.delete_transfer, 1, index)
    for call in (
        made.get_user_information_type,
        made.get_user_information_data,
        made.delete_user_information,
    ):
        refused(call, 0)
    refused(made.set_user_information, 0, 0x58, b"")


def test_roles_and_extended_data():
    made = associate((1, CT, IMPLICIT))
    assert not made.is_role_select(1)
    assert (made.get_user_role(1), made.get_provider_role(1)) == (YES, NO)  # U09
    made.set_role_select(1, True, NO, YES)
    assert made.is_role_select(1)
    assert (made.get_user_role(1), made.get_provider_role(1)) == (NO, YES)
    made.set_role_select(1, False, NO, YES)
    assert not made.is_role_select(1)
    assert (made.get_extended_data(1), made.get_extended_data_length(1)) == (b"", 0)
    made.set_extended_data(1, bytearray(b"\1\2"))
    assert (made.get_extended_data(1), made.get_extended_data_length(1)) == (b"\1\2", 2)
    made.set_extended_data(1, None)
    assert made.to_request().user_information.all(SopClassExtendedNegotiation) == ()


def test_asynchronous_operations_U04():
    made = associate((1, CT, IMPLICIT))
    assert not made.is_asynchronous_operations
    assert (made.invoked_operations_count, made.performed_operations_count) == (1, 1)
    made.set_asynchronous_operations(True, 0, 7)
    assert made.is_asynchronous_operations
    assert (made.invoked_operations_count, made.performed_operations_count) == (0, 7)
    made.set_asynchronous_operations(False, 3, 3)
    assert not made.is_asynchronous_operations


def test_user_information_is_raw_bytes():
    made = DicomAssociate()
    identity = b"\2\1" + b"\0\4user" + b"\0\4pass"
    made.add_user_information(0x58, identity)
    made.add_user_information(0x77, b"anything")
    assert made.user_information_count == 2
    assert [made.get_user_information_type(index) for index in range(2)] == [0x58, 0x77]
    assert made.get_user_information_data(0) == identity
    assert made.get_user_information_data_length(1) == 8
    assert made.user_identity == UserIdentityRequest(2, True, b"user", b"pass")
    made.set_user_information(1, 0x78, b"")
    made.delete_user_information(0)
    assert (made.user_information_count, made.get_user_information_type(0)) == (1, 0x78)
    assert made.user_identity is None


@pytest.mark.parametrize("data", [b"", b"\1", b"\1\0\0\5user", b"\1\0\0\4user\0\1", b"\1\0\0\4user\0\0x"])
def test_raw_user_information_of_a_known_type_must_have_its_form(data):
    refused(DicomAssociate().add_user_information, 0x58, data)


@pytest.mark.parametrize("kind", range(0x51, 0x57))
def test_what_has_a_member_of_its_own_is_not_set_as_raw_bytes_L01(kind):
    with pytest.raises(errors.LocalProtocolError):
        DicomAssociate().add_user_information(kind, bytes(4))


def test_reset_and_default():
    made = associate((1, CT, IMPLICIT))
    made.max_length, made.version = 5, 3
    made.add_user_information(0x77, b"x")
    made.set_asynchronous_operations(True, 2, 2)
    made.default()
    assert made.is_request
    assert (made.get_abstract(1), made.get_transfer(1, 0), made.presentation_context_count) == (
        VERIFICATION,
        IMPLICIT,
        1,
    )
    made.reset(False)
    assert not made.is_request
    assert (made.presentation_context_count, made.user_information_count, made.max_length, made.version) == (
        0,
        0,
        0,
        1,
    )
    made.default()
    assert made.presentation_context_count == 0


def test_using_becomes_with():
    with DicomAssociate(False) as made:
        assert not made.is_request


# --- user identity ---------------------------------------------------------------------------------


def test_user_identity_U15():
    made = associate((1, CT, IMPLICIT))
    made.set_user_identity(DicomUserIdentityType.USERNAME_AND_PASSCODE, "Jörg", b"pass", True)
    made.set_user_identity(2, "Jörg", "pass")  # replaces
    sent = over_the_wire(made.to_request())
    assert sent.user_information.all(UserIdentityRequest) == (
        UserIdentityRequest(2, False, "Jörg".encode(), b"pass"),
    )
    assert DicomAssociate.from_pdu(sent).user_identity == made.user_identity


@pytest.mark.parametrize(("kind", "secondary"), [(0, ""), (6, ""), (1, "x"), (3, "x"), (5, "x")])
def test_user_identity_types_and_passcodes_U15(kind, secondary):
    refused(DicomAssociate().set_user_identity, kind, "me", secondary)


def test_two_user_identities_are_not_sent_U15():
    made = associate((1, CT, IMPLICIT))
    made.add_user_information(0x58, b"\1\0\0\2me\0\0")
    made.add_user_information(0x58, b"\1\0\0\3you\0\0")
    with pytest.raises(errors.LocalProtocolError, match="more than one") as caught:
        made.to_request()
    assert "me" not in str(caught.value).split()


def test_user_identity_response_U16_U17():
    asked = associate((1, CT, IMPLICIT))
    asked.set_user_identity(DicomUserIdentityType.KERBEROS, b"ticket", response_requested=True)
    reply = associate((1, CT, IMPLICIT), request=False)
    assert (
        DicomAssociate.answered(
            asked.to_request(), reply.to_accept(asked.to_request())
        ).user_identity_response
        is None
    )
    reply.user_identity_response = b"wrong"
    reply.user_identity_response = b"server ticket"
    accept = over_the_wire(reply.to_accept(asked.to_request()))
    assert accept.user_information.all(UserIdentityResponse) == (UserIdentityResponse(b"server ticket"),)
    assert DicomAssociate.answered(asked.to_request(), accept).user_identity_response == b"server ticket"
    reply.user_identity_response = None
    assert reply.user_information_count == 0


def test_secrets_are_not_shown_U19():
    made = associate((1, CT, IMPLICIT))
    made.set_user_identity(2, "somebody", "swordfish", True)
    made.user_identity_response = b"swordfish"
    shown = made.to_string() + str(made) + repr(made) + repr(made.user_identity)
    assert "swordfish" not in shown
    assert b"swordfish".hex() not in shown.replace(" ", "")


# --- requests --------------------------------------------------------------------------------------


def full_request():
    """A request with everything in it."""
    made = associate((1, CT, EXPLICIT, IMPLICIT), (3, FIND, IMPLICIT), (5, CT, JPEG))
    made.max_length = 46726
    made.implement_class, made.implementation_version_name = "1.2.3.4", "PORTED"
    made.set_role_select(1, True, YES, YES)
    made.set_extended_data(3, b"\1\0")
    made.set_asynchronous_operations(True, 4, 2)
    made.set_user_identity(1, "me")
    made.add_user_information(0x77, b"private")
    return made


def same(one, other):
    assert str(one) == str(other)
    for index in range(one.user_information_count):
        assert one.get_user_information_data(index) == other.get_user_information_data(index)


def test_a_request_survives_the_wire():
    sent = full_request()
    received = DicomAssociate.from_pdu(over_the_wire(sent.to_request()))
    same(sent, received)


def test_roles_and_extended_data_are_sent_once_for_a_sop_class_U08_U13():
    made = associate((1, CT, EXPLICIT), (3, CT, IMPLICIT))
    made.set_role_select(3, True, NO, YES)
    made.set_extended_data(1, b"\1")
    assert made.is_role_select(1)
    sent = over_the_wire(made.to_request()).user_information
    assert sent.all(RoleSelection) == (RoleSelection(CT, 0, 1),)
    assert sent.all(SopClassExtendedNegotiation) == (SopClassExtendedNegotiation(CT, b"\1"),)
    shown = DicomAssociate.from_pdu(over_the_wire(made.to_request()))
    assert all(shown.is_role_select(number) and shown.get_extended_data(number) == b"\1" for number in (1, 3))


@pytest.mark.parametrize(
    ("own", "link", "announced"),
    [(0, 131072, 131072), (46726, 131072, 46726), (200000, 131072, 131072), (0, 0, 0), (46726, 0, 46726)],
)
def test_never_more_is_announced_than_the_link_takes_L01_L04(own, link, announced):
    made = associate((1, CT, IMPLICIT))
    made.max_length = own
    assert made.to_request(link).user_information.all(MaximumLength) == (MaximumLength(announced),)
    assert made.to_accept(made.to_request(), link).user_information.first(MaximumLength).value == announced
    assert (
        associate((1, CT, IMPLICIT)).to_request().user_information.first(MaximumLength).value
        == Limits().max_pdu
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda made: setattr(made, "called", ""),
        lambda made: setattr(made, "calling", "x" * 17),
        lambda made: setattr(made, "implementation_version_name", "x" * 17),
        lambda made: setattr(made, "implement_class", "1.02"),
        lambda made: setattr(made, "max_length", -1),
        lambda made: made.set_abstract(1, "not a uid"),
        lambda made: made.add_transfer(1, ""),
        lambda made: made.delete_transfer(1, 0),
        lambda made: made.delete_presentation(1),
        lambda made: made.set_role_select(1, True, 2, 0),
        lambda made: made.set_asynchronous_operations(True, 65536, 1),
    ],
)
def test_what_the_standard_forbids_is_not_sent_A03_A10_A11_P15_U01_U02(spoil):
    made = associate((1, CT, IMPLICIT))
    made.to_request().encode()
    spoil(made)
    with pytest.raises(errors.LocalProtocolError):
        made.to_request(0).encode()


def test_a_request_without_identification_of_the_peer_is_shown_U03():
    made = associate((1, CT, IMPLICIT)).to_request()
    bare = over_the_wire(pdu.AssociateRq(made.called, made.calling, made.application_context, made.contexts,
                                         pdu.UserInformation()))  # fmt: skip
    shown = DicomAssociate.from_pdu(bare)
    assert (shown.implement_class, shown.implementation_version_name, shown.max_length) == ("", "", 0)


def test_strange_values_of_the_peer_are_shown_and_escaped():
    contexts = (pdu.PresentationContextRq(1, "1.\n\x1b[31m", ("\r\x00\u00ff",)),)
    items = (UserIdentityRequest(9, True, b"me", b"x"), SopClassCommonExtendedNegotiation("a b", "", ("",)),
             RoleSelection("1.\n\x1b[31m", 9, 200))  # fmt: skip
    request = pdu.AssociateRq("\x1b[2J", "\u00e4", "\n", contexts, pdu.UserInformation(items))
    shown = DicomAssociate.from_pdu(request)
    assert str(shown).isascii()
    assert {character for character in str(shown) + repr(shown) if not character.isprintable()} == {"\n"}
    assert len(str(shown).splitlines()) == str(shown).count("\n") + 1
    assert [shown.get_user_information_data(index) for index in range(2)] == [b"", b""]
    assert shown.get_user_role(1) == 9


# --- answers ---------------------------------------------------------------------------------------


def test_the_answer_of_leadtools_demo_server():
    """Same ids, Success and one transfer syntax, or the verdict; the requestor's maximum length echoed."""
    asked = full_request().to_request()
    shown, reply = DicomAssociate.from_pdu(asked), DicomAssociate(False)
    for index in range(shown.presentation_context_count):
        number = shown.get_presentation_context_id(index)
        if shown.get_abstract(number) == CT:
            reply.add_presentation_context(number, SUCCESS, CT)
            reply.add_transfer(number, shown.get_transfer(number, 0))
        else:
            verdict = DicomAssociateAcceptResultType.ABSTRACT_SYNTAX
            reply.add_presentation_context(number, verdict, shown.get_abstract(number))
    reply.max_length = shown.max_length
    accept = over_the_wire(reply.to_accept(asked))
    made = DicomAssociate.answered(asked, accept)
    assert [made.get_result(number) for number in (1, 3, 5)] == [0, 3, 0]
    assert (made.get_transfer(1, 0), made.get_transfer(5, 0), made.get_transfer_count(3)) == (
        EXPLICIT,
        JPEG,
        0,
    )
    assert (made.find_abstract(CT), made.find_next_abstract(1, CT), made.find_abstract(FIND)) == (1, 5, 3)
    assert (made.max_length, made.implement_class) == (46726, negotiation.IMPLEMENTATION_CLASS_UID)
    assert (made.called, made.calling, made.is_request) == ("CALLED", "CALLING", False)
    assert not made.is_asynchronous_operations
    assert made.user_information_count == 0


def test_the_request_itself_can_be_edited_into_the_answer_A17():
    asked = full_request().to_request()
    reply = DicomAssociate.from_pdu(over_the_wire(asked))
    reply.set_result(3, DicomAssociateAcceptResultType.USER_REJECT)
    reply.set_role_select(1, True, NO, YES)
    made = DicomAssociate.answered(asked, over_the_wire(reply.to_accept(asked)))
    assert [made.get_result(number) for number in (1, 3, 5)] == [0, 1, 0]
    assert (made.get_transfer_count(1), made.get_transfer(1, 0)) == (1, EXPLICIT)
    assert (made.get_user_role(1), made.get_provider_role(1)) == (NO, YES)
    assert (made.invoked_operations_count, made.performed_operations_count) == (4, 2)
    assert made.user_identity is None  # U15: it does not go back


def test_contexts_left_out_of_the_answer_are_rejected_A14_A20():
    asked = associate((1, CT, IMPLICIT), (3, MR, IMPLICIT)).to_request()
    accept = over_the_wire(associate((3, MR, IMPLICIT), request=False).to_accept(asked))
    assert [(context.id, context.result) for context in accept.contexts] == [(1, 1), (3, 0)]


def test_a_context_that_was_not_proposed_cannot_be_answered_A14():
    asked = associate((1, CT, IMPLICIT)).to_request()
    with pytest.raises(errors.LocalProtocolError, match="not proposed"):
        associate((1, CT, IMPLICIT), (3, MR, IMPLICIT), request=False).to_accept(asked)


@pytest.mark.parametrize("transfers", [(), (JPEG,), (JPEG, "*")])
def test_accepting_needs_a_transfer_syntax_that_was_proposed_A17(transfers):
    asked = associate((1, CT, IMPLICIT, EXPLICIT)).to_request()
    with pytest.raises(errors.LocalProtocolError, match="proposed were"):
        associate((1, CT, *transfers), request=False).to_accept(asked)
    accept = associate((1, CT, *transfers, EXPLICIT, IMPLICIT), request=False).to_accept(asked)
    assert [context.transfer_syntax for context in accept.contexts] == [EXPLICIT]


def test_what_was_not_asked_for_is_not_answered_U05_U10_U13_U14_U16():
    asked = associate((1, CT, IMPLICIT)).to_request()
    reply = full_request()
    reply.delete_presentation(3)
    reply.delete_presentation(5)
    reply.add_user_information(0x57, b"\0\3" + b"1.2" + b"\0\3" + b"1.3" + b"\0\0")
    reply.user_identity_response = b"x"
    accept = reply.to_accept(asked)
    assert [item.encode()[0] for item in accept.user_information.items] == [0x51, 0x52, 0x55, 0x77]


def test_answered_shows_broken_answers_as_rejections_A17_A20_U12():
    asked = full_request()
    asked.set_role_select(3, True, YES, NO)
    request = asked.to_request()
    accept = pdu.AssociateAc(
        b"x" * 16, b"y" * 16, negotiation.APPLICATION_CONTEXT,
        (pdu.PresentationContextAc(1, 0, JPEG), pdu.PresentationContextAc(3, 0, IMPLICIT),
         pdu.PresentationContextAc(9, 0, IMPLICIT)),
        pdu.UserInformation((RoleSelection(FIND, 0, 0),)),
    )  # fmt: skip
    made = DicomAssociate.answered(request, accept)
    assert made.presentation_context_count == 3
    assert [made.get_result(number) for number in (1, 3, 5)] == [2, 2, 2]
    assert [made.get_transfer_count(number) for number in (1, 3, 5)] == [0, 0, 0]
    assert (made.called, made.calling) == ("CALLED", "CALLING")  # the answer's own are not looked at, A15


def test_a_received_answer_by_itself():
    asked = associate((1, CT, IMPLICIT), (3, MR, IMPLICIT)).to_request()
    accept = over_the_wire(associate((3, MR, IMPLICIT), request=False).to_accept(asked))
    shown = DicomAssociate.from_pdu(accept)
    assert not shown.is_request
    assert (shown.called, shown.calling, shown.get_abstract(3)) == ("CALLED", "CALLING", "")
    assert (shown.get_result(1), shown.get_transfer_count(1), shown.get_transfer(3, 0)) == (1, 0, IMPLICIT)
    assert "USER_REJECT" in str(shown)


# --- accepting by a table --------------------------------------------------------------------------


def test_accepting_grants_the_roles_proposed_U10_U11():
    asked = associate((1, CT, IMPLICIT), (3, MR, IMPLICIT), (5, FIND, IMPLICIT))
    asked.set_role_select(1, True, NO, YES)
    asked.set_role_select(5, True, YES, YES)
    request = over_the_wire(asked.to_request())
    answers = negotiation.answer_contexts(request, {CT: [IMPLICIT], MR: [IMPLICIT]})
    reply = DicomAssociate.accepting(request, answers, 4096)
    accept = over_the_wire(reply.to_accept(request, 4096))
    assert accept.user_information.all(RoleSelection) == (RoleSelection(CT, 0, 1),)
    usable = negotiation.accepted_contexts(request, accept)
    assert {number: (context.scu, context.scp) for number, context in usable.items()} == {
        1: (False, True),
        3: (True, False),
    }
    assert reply.max_length == 4096


uids = st.sampled_from([CT, MR, IMPLICIT, "", "1.02", "1." * 40, "\n", "*"])
items = st.one_of(
    st.builds(RoleSelection, uids, st.integers(0, 255), st.integers(0, 255)),
    st.builds(SopClassExtendedNegotiation, uids, st.binary(max_size=3)),
    st.builds(SopClassCommonExtendedNegotiation, uids, uids, st.tuples(uids)),
    st.builds(
        UserIdentityRequest, st.integers(0, 255), st.booleans(), st.binary(max_size=3), st.binary(max_size=3)
    ),
    st.builds(UserIdentityResponse, st.binary(max_size=3)),
    st.builds(MaximumLength, st.integers(0, 2**32 - 1)),
)


@given(
    st.lists(st.tuples(uids, st.lists(uids, min_size=1, max_size=3)), min_size=1, max_size=4),
    st.lists(items, max_size=6),
)
def test_whatever_a_peer_proposes_can_be_shown_and_answered(contexts, proposed):
    request = pdu.AssociateRq(
        "CALLED", "CALLING", negotiation.APPLICATION_CONTEXT,
        tuple(pdu.PresentationContextRq(2 * i + 1, uid, tuple(s)) for i, (uid, s) in enumerate(contexts)),
        pdu.UserInformation(tuple(proposed)),
    )  # fmt: skip
    shown = DicomAssociate.from_pdu(request)
    assert str(shown).isascii()
    for index in range(shown.user_information_count):
        shown.get_user_information_data(index)
    answers = negotiation.answer_contexts(request, {"*": ["*"]})
    accept = over_the_wire(DicomAssociate.accepting(request, answers).to_accept(request))
    made = DicomAssociate.answered(request, accept)
    usable = negotiation.accepted_contexts(request, accept)
    assert [made.get_result(context.id) == 0 for context in request.contexts] == [
        context.id in usable for context in request.contexts
    ]


# --- pynetdicom ------------------------------------------------------------------------------------


def peer_request():
    """An A-ASSOCIATE request primitive of pynetdicom with everything in it."""
    asked = peer.A_ASSOCIATE()
    asked.application_context_name = "1.2.840.10008.3.1.1.1"
    asked.calling_ae_title, asked.called_ae_title = "PEER SCU", "US"
    contexts = [build_context(CT, [EXPLICIT, IMPLICIT]), build_context(FIND, [IMPLICIT])]
    for number, context in zip((1, 3), contexts, strict=True):
        context.context_id = number
    asked.presentation_context_definition_list = contexts
    length, uid, name = (
        peer.MaximumLengthNotification(),
        peer.ImplementationClassUIDNotification(),
        peer.ImplementationVersionNameNotification(),
    )
    length.maximum_length_received = 28672
    uid.implementation_class_uid = "1.2.3.4.5"
    name.implementation_version_name = "PEER"
    window, role = peer.AsynchronousOperationsWindowNegotiation(), peer.SCP_SCU_RoleSelectionNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 3, 5
    role.sop_class_uid, role.scu_role, role.scp_role = CT, True, True
    extended, identity = peer.SOPClassExtendedNegotiation(), peer.UserIdentityNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = FIND, b"\1\1"
    identity.user_identity_type, identity.primary_field, identity.secondary_field = 2, b"me", b"pass"
    identity.positive_response_requested = True
    asked.user_information = [length, uid, name, window, role, extended, identity]
    return asked


def test_a_request_of_pynetdicom_is_understood():
    encoded = peer_pdu.A_ASSOCIATE_RQ(peer_request()).encode()
    shown = DicomAssociate.from_pdu(pdu.decode(1, encoded[6:], Limits()))
    assert (shown.calling, shown.called) == ("PEER SCU", "US")
    assert [shown.get_abstract(number) for number in (1, 3)] == [CT, FIND]
    assert [shown.get_transfer(1, index) for index in range(shown.get_transfer_count(1))] == [
        EXPLICIT,
        IMPLICIT,
    ]
    assert (shown.max_length, shown.implement_class, shown.implementation_version_name) == (
        28672,
        "1.2.3.4.5",
        "PEER",
    )
    assert (shown.invoked_operations_count, shown.performed_operations_count) == (3, 5)
    assert (shown.get_user_role(1), shown.get_provider_role(1), shown.is_role_select(3)) == (YES, YES, False)
    assert shown.get_extended_data(3) == b"\1\1"
    assert shown.user_identity == UserIdentityRequest(2, True, b"me", b"pass")


def test_pynetdicom_understands_our_request():
    ours = full_request()
    ours.delete_user_information(1)  # pynetdicom has a KeyError for types that it does not know
    theirs = peer_pdu.A_ASSOCIATE_RQ()
    theirs.decode(ours.to_request().encode())
    seen = theirs.to_primitive()
    assert (seen.called_ae_title, seen.calling_ae_title) == ("CALLED", "CALLING")
    assert [
        (c.context_id, c.abstract_syntax, list(c.transfer_syntax))
        for c in seen.presentation_context_definition_list
    ] == [(1, CT, [EXPLICIT, IMPLICIT]), (3, FIND, [IMPLICIT]), (5, CT, [JPEG])]
    by_type = {type(item): item for item in seen.user_information}
    assert by_type[peer.MaximumLengthNotification].maximum_length_received == 46726
    assert by_type[peer.ImplementationClassUIDNotification].implementation_class_uid == "1.2.3.4"
    role = by_type[peer.SCP_SCU_RoleSelectionNegotiation]
    assert (role.sop_class_uid, role.scu_role, role.scp_role) == (CT, True, True)
    window = by_type[peer.AsynchronousOperationsWindowNegotiation]
    assert (window.maximum_number_operations_invoked, window.maximum_number_operations_performed) == (4, 2)
    assert by_type[peer.SOPClassExtendedNegotiation].service_class_application_information == b"\1\0"
    assert by_type[peer.UserIdentityNegotiation].primary_field == b"me"


def test_pynetdicom_understands_our_answer():
    encoded = peer_pdu.A_ASSOCIATE_RQ(peer_request()).encode()
    request = pdu.decode(1, encoded[6:], Limits())
    answers = negotiation.answer_contexts(request, {CT: [IMPLICIT]})
    reply = DicomAssociate.accepting(request, answers)
    reply.set_asynchronous_operations(True, 9, 1)
    reply.user_identity_response = b"ignored for a passcode"
    theirs = peer_pdu.A_ASSOCIATE_AC()
    theirs.decode(reply.to_accept(request).encode())
    seen = theirs.to_primitive()
    results = {
        c.context_id: (c.result, list(c.transfer_syntax))
        for c in seen.presentation_context_definition_results_list
    }
    assert results[1] == (0, [IMPLICIT])
    assert results[3][0] == 3
    by_type = {type(item): item for item in seen.user_information}
    window = by_type[peer.AsynchronousOperationsWindowNegotiation]
    assert (window.maximum_number_operations_invoked, window.maximum_number_operations_performed) == (3, 1)
    assert by_type[peer.SCP_SCU_RoleSelectionNegotiation].scp_role is True
    assert by_type[peer.UserIdentityNegotiation].server_response == b""
