"""Signed links: they answer once, in the name of whom they were made for, and opening one changes nothing."""

import pytest
from django.core import exceptions
from django.test import Client

from sagas import engine, errors
from sagas.console import links
from sagas.testing import clocks
from tests.sagas.console import admin_client
from tests.sagas.sample_app import saga as toys

pytestmark = pytest.mark.usefixtures("rows")


def made(saga, answer="approve", person="rita", **more):
    return links.make(saga.pk, "ok", answer=answer, person=person, **more)


def test_opening_a_link_asks_once_more_and_changes_nothing():
    saga = admin_client.asked()
    link = made(saga)

    for _ in range(3):
        page = Client().get(link)
        assert page.status_code == 200
    Client().head(link)

    said = admin_client.text(page)
    assert "You answer as rita" in said
    assert "is approved, and the saga goes on" in said
    assert "no-store" in page["Cache-Control"]
    assert page["X-Robots-Tag"] == "noindex"
    assert not saga.events.filter(kind__startswith="approval.").exists()


@pytest.mark.parametrize(("answer", "ends"), [("approve", "completed"), ("refuse", "compensated")])
def test_a_link_answers_in_the_name_of_whom_it_was_made_for(answer, ends):
    saga = admin_client.asked()
    link = made(saga, answer)

    assert Client().post(link, {"reason": ""}).status_code == 400
    done = Client().post(link, {"reason": "Seen on the train"})

    assert (done.status_code, "Thank you" in admin_client.text(done)) == (200, True)
    event = saga.events.get(kind__startswith="approval.")
    assert (event.actor, event.reason, event.data["through"]) == ("link:rita", "Seen on the train", "link")
    assert admin_client.finish(saga).state == ends


def test_a_link_works_once():
    saga = admin_client.asked(toys.APPROVED_BY_TWO)
    link, other = made(saga), made(saga, "refuse")
    Client().post(link, {"reason": "fine"})

    for used in (link, other):
        for page in (Client().get(used), Client().post(used, {"reason": "again"})):
            assert page.status_code == 410
            assert "a link works once" in admin_client.text(page)
            assert "<form" not in page.content.decode()
    assert saga.events.filter(kind__startswith="approval.").count() == 1


def test_two_persons_need_two_links_and_one_who_logs_in_counts_once():
    saga = admin_client.asked(toys.APPROVED_BY_TWO)
    rita = admin_client.reviewer("rita")
    Client().post(made(saga), {"reason": "fine"})

    again = rita.post(admin_client.answering(saga, "approve"), {"reason": "fine, too"})
    assert again.status_code == 409
    Client().post(made(saga, person="rob@example.org"), {"reason": "fine, too"})

    assert admin_client.finish(saga).state == "completed"
    actors = [one["actor"] for one in saga.steps.get(name="ok").facts["approvals"]]
    assert actors == ["link:rita", "link:rob@example.org"]


def test_facts_are_stated_on_the_page():
    saga = admin_client.asked(toys.APPROVED_WITH_FACTS)
    link = made(saga)

    missing = Client().post(link, {"reason": "fine", "fact-limit": "7"})
    assert missing.status_code == 400
    Client().post(link, {"reason": "fine", "fact-limit": "7", "fact-note": "as agreed"})

    saga.refresh_from_db()
    assert (saga.facts["limit"], saga.facts["note"]) == (7, "as agreed")


def test_a_link_that_was_changed_leads_nowhere():
    saga = admin_client.asked()
    link = made(saga)

    for changed in (link[:-1], link[:-4] + "AAAA", "/approvals/nothing", "/approvals/a:b:c"):
        for page in (Client().get(changed), Client().post(changed, {"reason": "fine"})):
            assert page.status_code == 404
            assert "This link cannot be used" in admin_client.text(page)
    assert not saga.events.filter(kind__startswith="approval.").exists()


def test_a_link_is_over_with_the_approvals_limit_even_if_people_are_asked_anew():
    saga = admin_client.asked(toys.LAPSES["attention"])
    link = made(saga)
    clocks.pass_time(3 * toys.HOUR)
    admin_client.finish(saga)
    # The clock of this test sets rows back, and cannot set back what a link says.
    token = link.removeprefix("/approvals/")
    said = links.read(token)
    over = links.signing.dumps(
        [str(said.saga_id), said.step, said.answer, said.person, (said.until - 4 * toys.HOUR).isoformat()],
        salt=links.SALT,
    )

    page = Client().post(f"/approvals/{over}", {"reason": "fine"})

    assert page.status_code == 410
    assert "The time for an answer was over" in admin_client.text(page)
    assert not saga.events.filter(kind__startswith="approval.").exists()
    with pytest.raises(errors.NotAllowed, match="resume"):
        made(saga)


def test_a_link_to_what_nobody_is_asked_about_any_more_says_so():
    saga = admin_client.asked()
    link = made(saga)
    engine.cancel(saga.pk, actor="customer", reason="no")

    page = Client().post(link, {"reason": "fine"})

    assert page.status_code == 410
    assert "This link cannot be used" in admin_client.text(page)


def test_a_link_of_a_saga_that_is_gone_leads_nowhere():
    gone = links.signing.dumps(
        ["01980000-0000-7000-8000-000000000000", "ok", "approve", "rita", "2100-01-01T00:00:00+00:00"],
        salt=links.SALT,
    )

    assert Client().get(f"/approvals/{gone}").status_code == 404


def test_a_form_of_another_site_cannot_answer():
    saga = admin_client.asked()

    page = Client(enforce_csrf_checks=True).post(made(saga), {"reason": "fine"})

    assert page.status_code == 403
    assert not saga.events.filter(kind__startswith="approval.").exists()


def test_no_link_is_made_for_nobody_or_for_something_else(settings):
    saga = admin_client.asked()

    for wrong in ({"answer": "perhaps"}, {"person": " "}, {"person": "x" * 146}):
        with pytest.raises(ValueError, match="A link"):
            made(saga, **wrong)
    with pytest.raises(errors.NotFound):
        links.make(saga.pk, "nothing", answer="approve", person="rita")
    with pytest.raises(errors.NotAllowed):
        links.make(saga.pk, "a", answer="approve", person="rita")
    assert made(saga, base="https://shop.example").startswith("https://shop.example/approvals/")
    settings.ROOT_URLCONF = "sagas.console.api.urls"
    with pytest.raises(exceptions.ImproperlyConfigured, match=r"sagas\.console\.urls"):
        made(saga)


def test_a_link_speaks_the_language_of_its_reader():
    page = Client(headers={"Accept-Language": "pt-br"}).get(made(admin_client.asked()))

    assert 'lang="pt-br"' in page.content.decode()
    assert "Você responde como" in admin_client.text(page)
