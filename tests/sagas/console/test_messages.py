"""What the rows keep in English is shown in the viewer's language, and a bug says where it came from."""

import re

import pytest
from django.utils import translation as languages

from sagas import models
from sagas.console import translation
from sagas.engine import messages
from tests.sagas import scripts
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")

PARTS = {
    "step": "take-payment", "message": messages.WORKER_VANISHED, "error": "ValueError",
    "wave": 2, "failed": 3, "tried": 5, "actor": "olga", "reason": "Enough.", "table": "inventory_product",
    "mismatch": "currency USD instead of BRL", "why": "type is too long",
    "total": 7, "child": "one.of.them",
}  # fmt: skip


def engines_sentences():
    names = [name for name in vars(messages) if name.isupper() and not name.startswith("_")]
    assert len(names) > 10
    return [vars(messages)[name] for name in names]


@pytest.mark.parametrize("sentence", engines_sentences())
def test_the_engines_sentences_are_said_in_the_viewers_language(sentence):
    kept = sentence % PARTS

    with languages.override("pt-br"):
        said = translation.translate(kept)

    assert said != kept
    assert not re.search(r"%\(|\b(the|its|it|cannot)\b", said.lower()), said
    with languages.override("en"):
        assert translation.translate(kept) == kept


def test_what_nobody_knows_is_shown_as_it_stands():
    with languages.override("pt-br"):
        assert translation.translate("Tea is out.") == "Tea is out."
        assert translation.translate("") == ""


def test_whatever_calls_a_person_is_told_in_portuguese():
    for saga, script in scripts.ALL:
        if "needs attention" in script:
            admin_client.play(saga, script)

    called = models.Event.objects.filter(kind="saga.attention")
    assert called
    with languages.override("pt-br"):
        for event in called:
            for kept in (event.data["why"], event.data["advice"]):
                assert translation.translate(kept) != kept


def test_a_bug_says_where_it_came_from_and_no_value():
    saga = admin_client.play(toys.LOCAL, "do a, break b, undo b, undo a, compensated")

    failure = saga.failure
    assert failure["kind"] == "bug"
    assert re.fullmatch(r"[\w/.-]+\.py:\d+ \w+", failure["frames"][-1])
    assert not any(frame.startswith("/") for frame in failure["frames"])
    event = models.Event.objects.get(saga=saga, kind="step.failed")
    assert event.data["frames"] == failure["frames"]

    page = admin_client.viewer().get(admin_client.page(saga)).content.decode()

    assert "Traceback" in page
    assert failure["frames"][-1] in page
