"""What two ends may agree on. Test names end with the rules of PS3.8 and PS3.7 that they hold to.

Rules: A = A-ASSOCIATE, U = user information, L = maximum length; clauses stand in the docstrings.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnet.errors import LocalProtocolError, RemoteProtocolError
from dicomnet.protocol import negotiation, pdu
from dicomnet.protocol.items import (
    AsynchronousOperationsWindow,
    ImplementationClassUid,
    ImplementationVersionName,
    MaximumLength,
    PresentationContextAc,
    PresentationContextRq,
    RoleSelection,
    SopClassCommonExtendedNegotiation,
    SopClassExtendedNegotiation,
    UnknownItem,
    UserIdentityRequest,
    UserIdentityResponse,
    UserInformation,
)
from dicomnet.protocol.negotiation import Context
from dicomnet.protocol.pdu import AssociateAc, AssociateRj, AssociateRq
from dicomnet.protocol.wire import is_valid_uid
from dicomnet.settings import Limits

VERIFICATION = "1.2.840.10008.1.1"
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
JPEG, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"


def request(*contexts, items=(), **fields):
    """An A-ASSOCIATE-RQ; contexts are (id, abstract syntax, transfer syntax, ...)."""
    proposed = tuple(
        PresentationContextRq(number, abstract, tuple(rest)) for number, abstract, *rest in contexts
    )
    name = fields.pop("application_context", negotiation.APPLICATION_CONTEXT)
    return AssociateRq("CALLED", "CALLING", name, proposed, UserInformation(tuple(items)), **fields)


def answer(*contexts, items=(), application_context=negotiation.APPLICATION_CONTEXT):
    """An A-ASSOCIATE-AC; contexts are (id, result, transfer syntax)."""
    answered = tuple(PresentationContextAc(*context) for context in contexts)
    return AssociateAc(b"CALLED".ljust(16), b"CALLING".ljust(16), application_context, answered,
                       UserInformation(tuple(items)))  # fmt: skip


def over_the_wire(thing):
    """What the other end makes of a PDU."""
    return pdu.decode(thing.kind, thing.encode()[6:], Limits())


# --- requests --------------------------------------------------------------------------------------


def test_a_plain_request_is_considered():
    assert negotiation.check_request(request((1, VERIFICATION, IMPLICIT))) is None


@pytest.mark.parametrize("version", [0, 2, 0xFFFE])
def test_version_bit_0_clear_is_rejected_A02(version):
    asked = request((1, VERIFICATION, IMPLICIT), protocol_version=version)
    assert negotiation.check_request(asked) == AssociateRj(1, 2, 2)


@pytest.mark.parametrize("version", [1, 3, 0xFFFF])
def test_only_bit_0_of_the_version_counts_A01(version):
    assert negotiation.check_request(request((1, VERIFICATION, IMPLICIT), protocol_version=version)) is None


@pytest.mark.parametrize("name", ["1.2.840.10008.3.1.1.2", "1.2.3", ""])
def test_another_application_context_is_rejected_A08_A09(name):
    asked = request((1, VERIFICATION, IMPLICIT), application_context=name)
    assert negotiation.check_request(asked) == AssociateRj(1, 1, 2)


def test_requestor_aborts_an_application_context_it_does_not_know_A09():
    negotiation.check_accept(answer((1, 0, IMPLICIT)))
    with pytest.raises(RemoteProtocolError) as caught:
        negotiation.check_accept(answer((1, 0, IMPLICIT), application_context="1.2.3\n"))
    assert "1.2.3\\n" in str(caught.value)


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_application_context_item_A08(count):
    """PS3.8 9.3.2: a request without, or with two, is invalid."""
    good = request((1, VERIFICATION, IMPLICIT)).encode()
    item = b"\x10\0" + len(negotiation.APPLICATION_CONTEXT).to_bytes(2, "big")
    item += negotiation.APPLICATION_CONTEXT.encode()
    assert item in good
    with pytest.raises(RemoteProtocolError) as caught:
        pdu.decode(1, good.replace(item, item * count)[6:], Limits())
    assert caught.value.abort_reason == 6


@pytest.mark.parametrize("number", [0, 2, 254])
def test_even_ids_are_not_accepted_A12(number):
    good = request((1, VERIFICATION, IMPLICIT)).encode()
    body = bytearray(good[6:])
    body[body.index(b"\x20\0", 68) + 4] = number
    with pytest.raises(RemoteProtocolError) as caught:
        pdu.decode(1, bytes(body), Limits())
    assert caught.value.abort_reason == 6


def test_repeated_ids_are_not_accepted_A12():
    good = request((1, VERIFICATION, IMPLICIT), (3, VERIFICATION, IMPLICIT)).encode()
    body = bytearray(good[6:])
    body[body.rindex(b"\x20\0", 68) + 4] = 1
    with pytest.raises(RemoteProtocolError):
        pdu.decode(1, bytes(body), Limits())


# --- proposing -------------------------------------------------------------------------------------


def test_proposed_ids_are_odd_and_unique_up_to_255_A12():
    proposed = negotiation.propose([(CT, [IMPLICIT])] * 128)
    assert [context.id for context in proposed] == list(range(1, 256, 2))
    over_the_wire(AssociateRq("A", "B", negotiation.APPLICATION_CONTEXT, proposed, UserInformation()))


def test_a_129th_context_is_refused_before_anything_is_sent_A12():
    with pytest.raises(LocalProtocolError, match="at most 128"):
        negotiation.propose([(CT, [IMPLICIT])] * 129)


def test_one_abstract_syntax_and_its_transfer_syntaxes_in_order_A11():
    (context,) = negotiation.propose([(CT, [JPEG, EXPLICIT, IMPLICIT])])
    assert context == PresentationContextRq(1, CT, (JPEG, EXPLICIT, IMPLICIT))


def test_a_context_without_transfer_syntax_is_not_sent_A11():
    with pytest.raises(LocalProtocolError):
        request((1, CT)).encode()


def test_the_same_abstract_syntax_under_several_ids_A13():
    asked = request((1, CT, JPEG), (3, CT, EXPLICIT, IMPLICIT), (5, CT, RLE))
    given = negotiation.answer_contexts(asked, {CT: [EXPLICIT, RLE]})
    assert [(c.id, c.result) for c in given] == [(1, 4), (3, 0), (5, 0)]
    usable = negotiation.accepted_contexts(
        asked, answer(*[(c.id, c.result, c.transfer_syntax) for c in given])
    )
    assert {number: context.transfer_syntax for number, context in usable.items()} == {3: EXPLICIT, 5: RLE}


@pytest.mark.parametrize(
    ("given", "proposed"),
    [
        ([EXPLICIT], (EXPLICIT, IMPLICIT)),
        ([BIG, JPEG], (BIG, JPEG, IMPLICIT)),
        ([IMPLICIT, EXPLICIT], (IMPLICIT, EXPLICIT)),
        ([JPEG], (JPEG,)),
        ([], ()),
        (["*"], ("*",)),
    ],
)
def test_the_default_syntax_comes_with_every_uncompressed_one_A23(given, proposed):
    """PS3.5 10.1."""
    assert negotiation.with_default_syntax(given) == proposed


def test_implicit_is_proposed_and_accepted_A23():
    (context,) = negotiation.propose([(CT, [EXPLICIT])])
    assert IMPLICIT in context.transfer_syntaxes
    (given,) = negotiation.answer_contexts(request((1, CT, IMPLICIT)), {CT: [EXPLICIT]})
    assert (given.result, given.transfer_syntax) == (0, IMPLICIT)
    (given,) = negotiation.answer_contexts(request((1, CT, IMPLICIT)), {CT: [JPEG]})
    assert given.result == 4


# --- answering -------------------------------------------------------------------------------------


def test_results_A16():
    """PS3.8 table 9-18."""
    asked = request((1, CT, IMPLICIT), (3, MR, IMPLICIT), (5, CT, JPEG))
    given = negotiation.answer_contexts(asked, {CT: [EXPLICIT]})
    assert [(context.id, context.result) for context in given] == [(1, 0), (3, 3), (5, 4)]


def test_the_requestor_order_decides_A17():
    asked = request((1, CT, RLE, EXPLICIT, JPEG))
    (given,) = negotiation.answer_contexts(asked, {CT: [JPEG, EXPLICIT]})
    assert given.transfer_syntax == EXPLICIT


@pytest.mark.parametrize(
    ("supported", "expected"),
    [
        ({"*": [EXPLICIT]}, [(0, EXPLICIT), (0, EXPLICIT)]),
        ({CT: ["*"]}, [(0, JPEG), (3, None)]),
        ({"*": ["*"]}, [(0, JPEG), (0, JPEG)]),
        ({"*": ["*"], CT: [EXPLICIT]}, [(0, EXPLICIT), (0, JPEG)]),
        ({}, [(3, None), (3, None)]),
        ({CT: []}, [(4, None), (3, None)]),
    ],
)
def test_any_stands_for_all(supported, expected):
    asked = request((1, CT, JPEG, EXPLICIT), (3, MR, JPEG, EXPLICIT))
    given = negotiation.answer_contexts(asked, supported)
    assert [(c.result, None if c.result else c.transfer_syntax) for c in given] == expected


@given(
    st.lists(
        st.tuples(st.sampled_from([CT, MR, "", "1.02", "x" * 70, "1.2.3"]),
                  st.lists(st.sampled_from([IMPLICIT, JPEG, "", "1.02", "nonsense \n"]), min_size=1)),
        min_size=1, max_size=6,
    ),
    st.sampled_from([{"*": ["*"]}, {"*": [IMPLICIT]}, {CT: ["*"]}, {}]),
)  # fmt: skip
def test_every_answer_can_be_sent_and_holds_A14_A17_whatever_was_proposed(contexts, supported):
    asked = request(*[(2 * i + 1, abstract, *syntaxes) for i, (abstract, syntaxes) in enumerate(contexts)])
    given = negotiation.answer_contexts(asked, supported)
    assert [context.id for context in given] == [context.id for context in asked.contexts]
    sent = negotiation.accept(asked, given, negotiation.user_information(0))
    usable = negotiation.accepted_contexts(asked, over_the_wire(sent))
    for context in asked.contexts:
        accepted = next(c for c in given if c.id == context.id).result == 0
        assert (context.id in usable) == accepted
        if accepted:
            assert usable[context.id].transfer_syntax in context.transfer_syntaxes
            assert is_valid_uid(usable[context.id].transfer_syntax)


def test_rejected_contexts_go_out_with_a_transfer_syntax_A18():
    """PS3.8 9.3.3.2: the sub-item is not significant, but it is there."""
    (context,) = over_the_wire(answer((1, 3, negotiation.rejected(1, 3).transfer_syntax))).contexts
    assert context.transfer_syntax == IMPLICIT


def test_the_answer_repeats_the_fixed_fields_of_the_request_A15():
    asked = replace(
        request((1, CT, IMPLICIT), reserved=bytes(range(32))),
        titles=b"  CALLED\0       " + b"calling".ljust(16),
    )
    sent = negotiation.accept(asked, (PresentationContextAc(1, 0, IMPLICIT),), UserInformation())
    assert sent.encode()[10:74] == asked.titles + asked.reserved
    assert sent.protocol_version == 1


# --- what was agreed -------------------------------------------------------------------------------


def test_answers_are_matched_by_id_A14():
    asked = request((1, CT, EXPLICIT, IMPLICIT), (3, MR, JPEG), (5, VERIFICATION, IMPLICIT))
    given = answer((5, 0, IMPLICIT), (3, 4, ""), (1, 0, EXPLICIT))
    assert negotiation.accepted_contexts(asked, given) == {
        1: Context(1, CT, EXPLICIT, scu=True, scp=False),
        5: Context(5, VERIFICATION, IMPLICIT, scu=True, scp=False),
    }


@pytest.mark.parametrize("syntax", [RLE, "", "*", EXPLICIT + ".1", "\0"])
def test_a_syntax_that_was_not_proposed_makes_the_context_unusable_A17(syntax):
    asked = request((1, CT, EXPLICIT), (3, MR, EXPLICIT))
    assert set(negotiation.accepted_contexts(asked, answer((1, 0, syntax), (3, 0, EXPLICIT)))) == {3}


@pytest.mark.parametrize("result", [1, 2, 3, 4, 5, 255])
@pytest.mark.parametrize("syntax", ["", IMPLICIT, "garbage"])
def test_a_rejected_context_is_rejected_whatever_its_syntax_says_A16_A18(result, syntax):
    asked = request((1, CT, IMPLICIT))
    assert negotiation.accepted_contexts(asked, answer((1, result, syntax))) == {}


def test_all_contexts_rejected_is_still_an_association_A19():
    asked = request((1, CT, IMPLICIT), (3, MR, IMPLICIT))
    given = answer((1, 3, ""), (3, 1, ""))
    negotiation.check_accept(given)
    assert negotiation.accepted_contexts(asked, given) == {}
    assert negotiation.peer_max_pdu(given.user_information) == 16384


def test_missing_answers_are_rejections_and_unknown_ones_ignored_A20():
    asked = request((1, CT, IMPLICIT), (3, MR, IMPLICIT))
    given = answer((7, 0, IMPLICIT), (3, 0, IMPLICIT), (2, 0, IMPLICIT))
    assert set(negotiation.accepted_contexts(asked, given)) == {3}


def test_of_two_answers_to_one_id_the_first_counts_A20():
    asked = request((1, CT, IMPLICIT, EXPLICIT))
    given = answer((1, 0, EXPLICIT), (1, 0, IMPLICIT), (1, 3, ""))
    assert negotiation.accepted_contexts(asked, given)[1].transfer_syntax == EXPLICIT


# --- roles -----------------------------------------------------------------------------------------


def roles_after(proposed, granted):
    """(scu, scp) of the usable context, or None; `proposed` and `granted` are role pairs or None."""
    asked = request((1, CT, IMPLICIT), items=[RoleSelection(CT, *proposed)] if proposed else [])
    given = answer((1, 0, IMPLICIT), items=[RoleSelection(CT, *granted)] if granted else [])
    context = negotiation.accepted_contexts(asked, given).get(1)
    return context and (context.scu, context.scp)


PAIRS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_without_role_selection_the_requestor_is_scu_U09():
    assert roles_after(None, None) == (True, False)


@pytest.mark.parametrize("granted", PAIRS)
def test_unasked_role_selection_is_ignored_U10(granted):
    assert roles_after(None, granted) == (True, False)


@pytest.mark.parametrize("proposed", PAIRS)
def test_no_answer_to_role_selection_means_default_roles_U11(proposed):
    assert roles_after(proposed, None) == (True, False)


@pytest.mark.parametrize("proposed", PAIRS)
@pytest.mark.parametrize("granted", PAIRS)
def test_a_role_needs_proposal_and_grant_U10_U12(proposed, granted):
    both = tuple(bool(asked and given) for asked, given in zip(proposed, granted, strict=True))
    assert roles_after(proposed, granted) == (both if any(both) else None)


def test_c_get_needs_the_scp_role_for_storage_classes_U11():
    """PS3.7 9.1.3.2: the requestor of a C-GET stores what it gets."""
    asked = request(
        (1, CT, IMPLICIT), (3, MR, IMPLICIT), items=[RoleSelection(CT, 0, 1), RoleSelection(MR, 0, 1)]
    )
    given = answer((1, 0, IMPLICIT), (3, 0, IMPLICIT), items=[RoleSelection(CT, 0, 1)])
    usable = negotiation.accepted_contexts(asked, given)
    assert (usable[1].scu, usable[1].scp) == (False, True)
    assert (usable[3].scu, usable[3].scp) == (True, False)


def test_role_bytes_other_than_0_and_1_are_no_roles_U08():
    assert roles_after((2, 1), (2, 1)) == (False, True)
    assert roles_after((1, 1), (255, 1)) == (False, True)


def test_one_role_selection_for_each_sop_class_U08():
    with pytest.raises(LocalProtocolError, match="RoleSelection"):
        negotiation.user_information(0, roles=[RoleSelection(CT, 1, 1), RoleSelection(CT, 1, 0)])
    asked = request((1, CT, IMPLICIT), items=[RoleSelection(CT, 0, 1), RoleSelection(CT, 1, 1)])
    given = answer((1, 0, IMPLICIT), items=[RoleSelection(CT, 0, 1), RoleSelection(CT, 1, 1)])
    assert negotiation.accepted_contexts(asked, given)[1] == Context(1, CT, IMPLICIT, scu=False, scp=True)


def test_roles_belong_to_the_sop_class_and_so_to_all_its_contexts_U08():
    asked = request((1, CT, IMPLICIT), (3, CT, JPEG), items=[RoleSelection(CT, 1, 1)])
    given = answer((1, 0, IMPLICIT), (3, 0, JPEG), items=[RoleSelection(CT, 1, 1)])
    assert all(context.scp for context in negotiation.accepted_contexts(asked, given).values())


# --- maximum length --------------------------------------------------------------------------------


def test_exactly_one_maximum_length_is_sent_L01():
    assert negotiation.user_information(4711).all(MaximumLength) == (MaximumLength(4711),)
    with pytest.raises(LocalProtocolError, match="MaximumLength"):
        negotiation.user_information(4711, others=[MaximumLength(5)])


def test_the_maximum_length_is_a_number_of_four_bytes_L01():
    with pytest.raises(LocalProtocolError):
        negotiation.user_information(1 << 32).encode()


@pytest.mark.parametrize(
    ("items", "length"),
    [
        ([], 16384),
        ([ImplementationClassUid("1.2.3")], 16384),
        ([MaximumLength(0)], 0),
        ([MaximumLength(7)], 7),
        ([MaximumLength(0xFFFFFFFF)], 0xFFFFFFFF),
        ([MaximumLength(100), MaximumLength(5)], 100),
    ],
)
def test_what_the_peer_takes_L03_L07(items, length):
    assert negotiation.peer_max_pdu(UserInformation(tuple(items))) == length


# --- implementation --------------------------------------------------------------------------------


def test_our_implementation_identification_can_be_sent_U01_U02():
    sent = negotiation.user_information(0)
    assert sent.all(ImplementationClassUid) == (ImplementationClassUid(negotiation.IMPLEMENTATION_CLASS_UID),)
    assert is_valid_uid(negotiation.IMPLEMENTATION_CLASS_UID)
    (version,) = sent.all(ImplementationVersionName)
    assert version.name.startswith("DICOMNET_")
    assert 1 <= len(version.name) <= 16
    sent.encode()


def test_the_version_name_may_be_left_out_U02():
    assert not negotiation.user_information(0, implementation_version="").all(ImplementationVersionName)


@pytest.mark.parametrize(
    "items", [[], [ImplementationVersionName("")], [ImplementationVersionName("x" * 40)]]
)
def test_odd_identification_of_the_peer_does_no_harm_U03(items):
    asked = request((1, CT, IMPLICIT), items=items)
    assert negotiation.check_request(asked) is None
    given = answer((1, 0, IMPLICIT), items=items)
    negotiation.check_accept(given)
    assert set(negotiation.accepted_contexts(asked, given)) == {1}


def test_sub_items_are_sent_in_ascending_order_P07():
    sent = negotiation.user_information(
        0,
        roles=[RoleSelection(CT, 1, 1)],
        async_window=AsynchronousOperationsWindow(2, 3),
        others=[
            UserIdentityRequest(1, False, b"me"),
            UnknownItem(0x60, b""),
            SopClassExtendedNegotiation(CT, b"\1"),
        ],
    )
    kinds = [item.encode()[0] for item in sent.items]
    assert kinds == [0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x58, 0x60]


# --- asynchronous operations -----------------------------------------------------------------------


def window_after(proposed, granted):
    asked = request((1, CT, IMPLICIT), items=[AsynchronousOperationsWindow(*proposed)] if proposed else [])
    given = answer((1, 0, IMPLICIT), items=[AsynchronousOperationsWindow(*granted)] if granted else [])
    window = negotiation.operations_window(asked, given)
    return window.invoked, window.performed


def test_without_window_one_operation_each_U04_U07():
    assert window_after(None, None) == (1, 1)
    assert window_after((5, 5), None) == (1, 1)


@pytest.mark.parametrize(
    ("proposed", "granted", "agreed"),
    [
        (None, (8, 8), (1, 1)),
        ((5, 3), (2, 3), (2, 3)),
        ((5, 3), (9, 9), (5, 3)),
        ((0, 0), (7, 0), (7, 0)),
        ((4, 2), (0, 0), (4, 2)),
        ((1, 0), (1, 65535), (1, 65535)),
    ],
)
def test_the_answer_is_not_above_the_proposal_U05(proposed, granted, agreed):
    assert window_after(proposed, granted) == agreed


def test_the_answer_keeps_the_viewpoint_of_the_requestor_U06():
    """PS3.7 D.3.3.3.2: invoked stays what the requestor may have outstanding."""
    asked = request((1, CT, IMPLICIT), items=[AsynchronousOperationsWindow(6, 2)])
    sent = negotiation.accept(
        asked, (), negotiation.user_information(0, async_window=AsynchronousOperationsWindow(4, 1))
    )
    assert sent.user_information.first(AsynchronousOperationsWindow) == AsynchronousOperationsWindow(4, 1)


def test_at_most_one_window_U04():
    with pytest.raises(LocalProtocolError, match="AsynchronousOperationsWindow"):
        negotiation.user_information(
            0, async_window=AsynchronousOperationsWindow(1, 1), others=[AsynchronousOperationsWindow(2, 2)]
        )


# --- what an answer may hold -----------------------------------------------------------------------

COMMON = SopClassCommonExtendedNegotiation(CT, "1.2.840.10008.4.2", ())


def sent_in_answer(proposed, wanted):
    asked = request((1, CT, IMPLICIT), items=proposed)
    return negotiation.accept(asked, (), UserInformation(tuple(wanted))).user_information.items


EXTENDED = SopClassExtendedNegotiation(CT, b"\1")
KERBEROS, SAML = UserIdentityRequest(3, True, b"ticket"), UserIdentityRequest(4, True, b"<saml/>")
RESPONSE = UserIdentityResponse(b"response")
UNKNOWN = UnknownItem(0x60, b"\7")

ANSWERS = {  # rule and case: (in the request, wanted in the answer, sent in the answer)
    "U05 window unasked": ([], [AsynchronousOperationsWindow(2, 2)], []),
    "U10 role unasked": ([], [RoleSelection(CT, 1, 1)], []),
    "U10 role for another class": ([RoleSelection(MR, 1, 1)], [RoleSelection(CT, 1, 1)], []),
    "U10 role not proposed": (
        [RoleSelection(CT, 0, 1)],
        [RoleSelection(CT, 1, 1)],
        [RoleSelection(CT, 0, 1)],
    ),
    "U13 extended unasked": ([], [EXTENDED], []),
    "U13 extended asked": ([EXTENDED], [EXTENDED, SopClassExtendedNegotiation(MR, b"")], [EXTENDED]),
    "U14 common extended never answered": ([COMMON], [COMMON], []),
    "U15 identity belongs in requests": ([KERBEROS], [KERBEROS], []),
    "U16 response unasked": ([], [RESPONSE], []),
    "U16 response not wanted": ([replace(KERBEROS, response_requested=False)], [RESPONSE], []),
    "U16 Kerberos": ([KERBEROS], [RESPONSE], [RESPONSE]),
    "U16 SAML": ([SAML], [RESPONSE], [RESPONSE]),
    "U16 empty for type 1": ([replace(SAML, type=1)], [RESPONSE], [UserIdentityResponse(b"")]),
    "U16 empty for type 2": ([replace(SAML, type=2)], [RESPONSE], [UserIdentityResponse(b"")]),
    "U16 empty for type 5": ([replace(SAML, type=5)], [RESPONSE], [UserIdentityResponse(b"")]),
    "P06 unknown items are kept": ([], [UNKNOWN, UNKNOWN], [UNKNOWN, UnknownItem(0x60, b"\7")]),
    "L01 in every answer": ([], [MaximumLength(5), MaximumLength(6)], [MaximumLength(5)]),
    "U01 in every answer": ([], [ImplementationClassUid("1.2")], [ImplementationClassUid("1.2")]),
}


@pytest.mark.parametrize(("proposed", "wanted", "sent"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_holds_only_what_was_asked_for(proposed, wanted, sent):
    assert list(sent_in_answer(proposed, wanted)) == sent


def test_a_peer_that_grants_unasked_is_read_the_same_way_U10_U13_U16():
    asked = request((1, CT, IMPLICIT))
    given = answer(
        (1, 0, IMPLICIT),
        items=[
            RoleSelection(CT, 1, 1),
            SopClassExtendedNegotiation(CT, b"\1"),
            UserIdentityResponse(b"x"),
            COMMON,
        ],
    )
    assert negotiation.agreed_information(asked, given) == UserInformation()


@pytest.mark.parametrize("item", [EXTENDED, COMMON, KERBEROS, RESPONSE], ids=lambda item: type(item).__name__)
def test_at_most_one_of_each_U13_U14_U15(item):
    with pytest.raises(LocalProtocolError, match="more than one"):
        negotiation.user_information(0, others=[item, item])
    two_classes = [SopClassExtendedNegotiation(CT, b""), SopClassExtendedNegotiation(MR, b"")]
    assert len(negotiation.user_information(0, others=two_classes).all(SopClassExtendedNegotiation)) == 2


def test_common_extended_negotiation_may_be_empty_and_survives_the_wire_U14():
    items = [COMMON, SopClassCommonExtendedNegotiation(MR, "1.2.840.10008.4.2", (CT, VERIFICATION))]
    asked = over_the_wire(request((1, CT, IMPLICIT), items=items))
    assert list(asked.user_information.items) == items


@pytest.mark.parametrize("kind", [1, 3, 4, 5])
def test_only_type_2_has_a_passcode_U15(kind):
    with pytest.raises(LocalProtocolError) as caught:
        request((1, CT, IMPLICIT), items=[UserIdentityRequest(kind, False, b"me", b"swordfish")]).encode()
    assert "swordfish" not in str(caught.value)
    sent = request((1, CT, IMPLICIT), items=[UserIdentityRequest(2, False, b"me", b"swordfish")])
    assert over_the_wire(sent).user_information.items == sent.user_information.items


def test_an_acceptor_that_ignores_the_identity_still_makes_an_association_U17():
    asked = request((1, CT, IMPLICIT), items=[KERBEROS])
    given = answer((1, 0, IMPLICIT))
    negotiation.check_accept(given)
    assert set(negotiation.accepted_contexts(asked, given)) == {1}
    assert negotiation.agreed_information(asked, given).first(UserIdentityResponse) is None


def test_rejections_by_name_R02_R04_A06_A07_U18():
    names = {
        name: (rejection.result, rejection.source, rejection.reason)
        for name, rejection in vars(negotiation).items()
        if name.startswith("REJECT_")
    }
    assert names == {
        "REJECT_NO_REASON": (1, 1, 1),
        "REJECT_APPLICATION_CONTEXT": (1, 1, 2),
        "REJECT_CALLING_TITLE": (1, 1, 3),
        "REJECT_CALLED_TITLE": (1, 1, 7),
        "REJECT_USER_IDENTITY": (1, 2, 1),
        "REJECT_VERSION": (1, 2, 2),
        "REJECT_CONGESTION": (2, 3, 1),
        "REJECT_LIMIT": (2, 3, 2),
    }
