"""A person's data is struck out of a saga that has ended, wherever it is; its history still proves itself."""

import datetime

import pytest
from django.db import DatabaseError, connection, transaction

from sagas import documents, engine, errors, models, reading
from sagas.console.models import Consent, FailureNote
from sagas.declaration import registry
from sagas.engine import archive
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.django_db

WHO = {"name": "Zuleica Prado", "phone": 5511987654321}
VALUES = engine.Values(["Zuleica Prado"], words=["Zuleica", "Prado"])
NOTED = "ZULEICA rang about it"

PERSONAL = toys.saga("personal", toys.local("a"), toys.local("b"), inputs=["who", "total"], personal=["who"])
STRUCK = engine.STRUCK


@pytest.fixture
def ended(broker):
    saga = harness.begin(PERSONAL, inputs={"who": WHO, "total": {"of": "Zuleica", "amount": 5}})
    seen = engine.look(saga.pk)
    engine.hold(saga.pk, seen=seen, actor="olga", reason=NOTED)
    engine.release(saga.pk, seen=engine.look(saga.pk), actor="olga", reason="done")
    harness.drive(broker, saga)
    models.StepInstance.objects.filter(saga=saga, name="a").update(
        error={"kind": "bug", "message": "no such field: Zuléica", "at": "now"}, facts={"Prado": 1}
    )
    models.Signal.objects.create(
        source="world", event_id="1", step_key=f"{saga.pk}.a", refused="Prado said no"
    )
    Consent.objects.create(
        saga=saga, intervention="compensate", actor="olga", reason=NOTED, state=Consent.State.REFUSED,
        arguments={"facts": {"at": "Prado"}},
    )  # fmt: skip
    return saga


def striking():
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('sagas.striking', 'on', true)")


def strike(saga, values=VALUES):
    with transaction.atomic():
        engine.strike(saga.pk, values=values)


def everything_of(saga):
    """As its document has it: that of the archive, or one that is made of its rows."""
    one = reading.archived(saga.pk)
    if one is None:
        one_saga = models.SagaInstance.objects.get(pk=saga.pk)
        steps, events = list(one_saga.steps.values()), list(one_saga.events.values())
        signals = list(models.Signal.objects.filter(step_key__startswith=str(saga.pk)).values())
        return one_saga.facts, steps, events, signals, list(Consent.objects.filter(saga=saga).values())
    rows = ([_columns(row) for row in rows] for rows in (one.steps, one.events, one.signals))
    return one.saga.facts, *rows, [row for rows in one.others.values() for row in rows]


def _columns(row):
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


@pytest.mark.parametrize("archived", [False, True])
def test_what_is_hidden_goes_and_every_text_that_names_the_person(ended, archived):
    if archived:
        assert archive.run(older_than=datetime.timedelta(0)) == 1
        digest = bytes(models.ArchivedSaga.objects.get().digest)
    assert all(
        name in str(everything_of(ended)) for name in ("Zuleica", "ZULEICA", "Prado", "Zuléica", "98765")
    )

    strike(ended)

    facts, steps, events, signals, consents = everything_of(ended)
    told = str((facts, steps, events, signals, consents)).lower()
    assert not [name for name in ("zuleica", "prado", "zuléica", "98765") if name in told]
    assert facts == {"who": STRUCK, "total": {"of": STRUCK, "amount": 5}}
    assert steps[0]["error"] == {"kind": "bug", "message": STRUCK, "at": "now"}
    assert steps[0]["facts"] == STRUCK
    assert [event["reason"] for event in events if event["actor"] == "olga"] == [STRUCK, "done"]
    assert signals[0]["refused"] == consents[0]["reason"] == consents[0]["arguments"]["facts"]["at"] == STRUCK

    if archived:
        assert bytes(models.ArchivedSaga.objects.get().digest) == digest
    else:
        assert archive.run(older_than=datetime.timedelta(0)) == 1
    assert list(archive.broken()) == []
    before = bytes(models.ArchivedSaga.objects.get().document)
    strike(ended)
    assert bytes(models.ArchivedSaga.objects.get().document) == before


@pytest.mark.parametrize("archived", [False, True])
def test_of_one_that_was_struck_before_all_that_callbacks_told_goes_whomever_it_names(ended, archived):
    strike(ended)
    told = {"paid": False, "payer": {"name": "Nobody Knows", "cpf": 39053344705}, "also": ["Somebody Else"]}
    models.Signal.objects.create(
        source="world", event_id="2", step_key=f"{ended.pk}.a", kind="pix.paid", facts=told,
        mismatch="Who Else", compensation_error="Refused: Who Else", settled_by="olga", settlement="seen to",
        attention="Who Else?", attention_at=models.ClockTimestamp(), settled_at=models.ClockTimestamp(),
    )  # fmt: skip
    models.Event.objects.create(
        saga=ended, kind="signal.compensation-retry", actor="world", data={"error": "Refused: Who Else"}
    )
    if archived:
        archive.run(older_than=datetime.timedelta(0))
    strike(ended, engine.Values([]))
    before = everything_of(ended)
    assert "Who Else" in str(before)

    with transaction.atomic():
        engine.strike(ended.pk, values=engine.Values([]), callbacks_whole=True)

    facts, steps, events, signals, consents = everything_of(ended)
    struck = {"paid": False, "payer": {"name": STRUCK, "cpf": STRUCK}, "also": [STRUCK]}
    words = dict.fromkeys(("mismatch", "compensation_error", "attention"), STRUCK)
    assert signals[1] == before[3][1] | words | {"facts": struck}
    assert events[-1]["data"] == {"error": STRUCK}
    assert events[:-1] == before[2][:-1]
    assert (facts, steps, consents) == (before[0], before[1], before[4])
    archive.run(older_than=datetime.timedelta(0))
    assert list(archive.broken()) == []


def test_an_error_that_names_the_person_goes_from_an_event_too_and_the_class_of_one_stays(ended):
    for error in ("Refused: Zuleica has no account", "Prado"):
        models.Event.objects.create(saga=ended, kind="step.retry", data={"error": error})

    strike(ended)

    assert [event["data"] for event in everything_of(ended)[2][-2:]] == [
        {"error": STRUCK},
        {"error": "Prado"},
    ]


def test_of_a_saga_whose_declaration_is_gone_every_fact_goes(ended, monkeypatch):
    monkeypatch.setattr(registry, "get", unknown)

    strike(ended, engine.Values([]))

    assert everything_of(ended)[0] == {"who": STRUCK, "total": STRUCK}


def unknown(name, version):
    raise errors.UnknownSaga


def test_what_is_under_way_or_still_to_be_undone_is_refused_and_left_as_it_is(broker, ended):
    live = harness.begin(PERSONAL, inputs={"who": WHO, "total": 1})
    models.Signal.objects.filter(step_key=f"{ended.pk}.a").update(wake_at=models.ClockTimestamp())

    refused = engine.why_not_struck([live.pk, ended.pk])

    assert refused.keys() == {live.pk, ended.pk}
    assert len(set(refused.values())) == 2
    for saga in (live, ended):
        with pytest.raises(errors.NotAllowed):
            strike(saga)
        assert everything_of(saga)[0]["who"] == WHO


def test_what_was_changed_in_the_archive_is_not_made_to_look_whole(ended):
    archive.run(older_than=datetime.timedelta(0))
    row = models.ArchivedSaga.objects.get()
    document = documents.unpack(bytes(row.document), row.dictionary)
    document["events"][1]["to_state"] = "skipped"
    with transaction.atomic():
        striking()
        models.ArchivedSaga.objects.update(document=documents.pack(document))

    with pytest.raises(engine.Damaged):
        strike(ended)


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "another"}, {"actor": "nobody"}, {"data": {}}, {"data": {"more": STRUCK}},
        {"kind": STRUCK}, {"at": models.ClockTimestamp()},
    ],
)  # fmt: skip
def test_even_who_strikes_can_write_nothing_else_over_an_event(ended, change):
    event = ended.events.exclude(data={}).first()
    striking()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        models.Event.objects.filter(pk=event.pk).update(**change)


def test_nor_can_anybody_strike_an_event_who_does_not_say_so_or_whose_saga_is_live(ended):
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        ended.events.update(reason=STRUCK)
    live = harness.begin(PERSONAL, inputs={"who": WHO, "total": 1})
    striking()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        live.events.update(reason=STRUCK)


def test_what_is_of_no_saga_is_struck_too():
    FailureNote.objects.create(signature="s", text=NOTED, actor="olga")
    models.Circuit.objects.create(name="bank", error={"kind": "bug", "message": "for Zuleica Prado"})
    models.Signal.objects.create(
        source="w", event_id="1", step_key="?", fate="unmatched", facts={"payer": ["Zuleica Prado"]}
    )

    engine.strike_elsewhere(VALUES)

    assert FailureNote.objects.get().text == STRUCK
    assert models.Circuit.objects.get(name="bank").error == {"kind": "bug", "message": STRUCK}
    assert models.Signal.objects.get().facts == {"payer": [STRUCK]}


def test_digits_are_found_where_they_are_a_number_of_their_own():
    values = engine.Values(["01310100", "ana@example.com", "Rio"], words=["Dias"])

    assert values.stand_in("CEP 01310100.")
    assert values.stand_in("<ANA@example.com>")
    assert values.stand_in("o Sr. dias ligou")
    assert not values.stand_in("9901310100")
    assert not values.stand_in("Diaspora, Rio")
    assert values.struck({"a": [1310100, True, "x"], "n": 1310100}) == {
        "a": [1310100, True, "x"],
        "n": 1310100,
    }
