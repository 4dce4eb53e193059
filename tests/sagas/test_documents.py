"""Documents of the archive: their chain breaks when an event is touched, not when a value is struck out."""

import copy
import hashlib
import json
import uuid

import pytest

from sagas import documents, ids

SAGA = uuid.UUID("0199c2e0-7a11-7d2b-8a3e-5f2f3c1d9e70")


def event(number, **more):
    plain = {"id": number, "kind": "step.done", "subject": "a", "actor": "engine", "reason": "", "data": {}}
    return {**plain, **more}


@pytest.fixture
def document():
    return documents.build(
        saga={
            "id": SAGA,
            "name": "toy",
            "facts": {"customer": {"name": "Alice"}, "total": 7},
            "failure": None,
        },
        steps=[{"id": 1, "name": "a", "facts": {"card": "4242"}, "error": None}],
        events=[
            event(1, kind="saga.begun", actor="alice"),
            event(2, data={"worker": "w1", "lines": [{"name": "Alice"}, 2]}),
            event(3, kind="operator.hold", actor="olga", reason="Alice rang"),
            event(4),
        ],
        signals=[{"id": 9, "facts": {"payer": "Alice"}, "fate": "applied"}],
        others={"notes": [{"id": 5, "reason": "Alice again"}]},
    )


def test_a_document_comes_out_as_it_went_in(document):
    packed = documents.pack(document)

    assert documents.unpack(packed, documents.NEWEST_DICTIONARY) == document
    assert [e["actor"] for e in documents.events_of(document)] == ["alice", "engine", "olga", "engine"]
    assert list(documents.events_of(document))[1]["data"] == {"worker": "w1", "lines": [{"name": "Alice"}, 2]}


def test_what_is_no_document_is_refused(document):
    with pytest.raises(ValueError, match="no document"):
        documents.unpack(b"nonsense", documents.NEWEST_DICTIONARY)
    assert not documents.verify({"events": "none"}, b"")


def changed(events):
    events[3]["to_state"] = "done"


def with_another_reason(events):
    events[2]["reason"][0] = "Nobody rang"


def with_nobodys_word_in_its_place(events):
    events[2]["actor"] = "engine"


def with_another_salt(events):
    events[2]["reason"][1] = events[2]["actor"][1]


def without_a_value(events):
    del events[1]["data"]["worker"]


def without_the_last(events):
    del events[3]


def without_one(events):
    del events[1]


def in_another_order(events):
    events[1], events[2] = events[2], events[1]


def with_one_more(events):
    events.append(copy.deepcopy(events[3]))


TOUCHED = [
    changed, with_another_reason, with_nobodys_word_in_its_place, with_another_salt, without_a_value,
    without_the_last, without_one, in_another_order, with_one_more,
]  # fmt: skip


@pytest.mark.parametrize("touch", TOUCHED)
def test_the_chain_breaks_when_an_event_is_touched(document, touch):
    digest = documents.digest_of(document)
    assert documents.verify(document, digest)

    touch(document["events"])

    assert not documents.verify(document, digest)


def test_the_chain_is_of_one_saga(document):
    digest = documents.digest_of(document)

    document["saga"]["id"] = str(ids.uuid7())

    assert not documents.verify(document, digest)


def names_alice(path, value):
    return isinstance(value, str) and "alice" in value.lower()


def test_the_chain_still_holds_when_values_are_struck_out(document):
    digest, before = documents.digest_of(document), json.dumps(document)
    salts = [document["events"][2]["reason"][1], document["events"][1]["data"]["lines"][1]]

    struck = documents.strike(document, names_alice)

    assert json.dumps(document) == before
    text = json.dumps(struck)
    assert "alice" not in text.lower()
    assert not any(salt in text for salt in salts)
    assert "olga" in text
    assert documents.verify(struck, digest)
    assert struck["saga"]["facts"] == {"customer": {"name": documents.STRUCK}, "total": 7}
    assert list(documents.events_of(struck))[1]["data"] == {"worker": "w1", "lines": documents.STRUCK}


def test_what_is_struck_out_cannot_be_found_by_trying(document):
    """Without its salt, not even somebody who knows all that it may have been can tell what it was."""
    struck = documents.strike(document, names_alice)
    left = struck["events"][2]["reason"]["struck"]

    assert left != hashlib.sha256(json.dumps("Alice rang").encode()).hexdigest()
    again = documents.build(saga={"id": SAGA}, steps=[], events=[event(3, reason="Alice rang")])
    assert documents.strike(again, names_alice)["events"][0]["reason"]["struck"] != left


def test_who_strikes_is_told_where_each_value_stands(document):
    seen = set()

    documents.strike(document, lambda path, value: seen.add(path))

    assert {
        ("saga", "facts", "customer", "name"), ("steps", "a", "facts", "card"),
        ("signals", "9", "facts", "payer"), ("others", "notes", "5", "reason"), ("events", "3", "reason"),
        ("events", "2", "data", "lines", "0", "name"),
    } <= seen  # fmt: skip
    assert not {("events", "4", "actor"), ("events", "4", "reason")} & seen


def test_a_dictionary_never_changes():
    """What was packed with it can be opened with nothing else: a better one gets a number of its own."""
    known = {1: "f53fd572b72728c77fc7fc4b931ce626bbce04bff60156156bee65acb0413f61"}

    assert {n: hashlib.sha256(text).hexdigest() for n, text in documents._DICTIONARIES.items()} == known


def test_an_id_tells_when_it_was_made():
    assert ids.made_at(SAGA).isoformat() == "2025-10-08T08:11:55.281000+00:00"
    assert ids.made_at(uuid.uuid4()) is None
