"""How the doctor goes about it: what depends on what, what is told once; and the engine's settings."""

import dataclasses
import time

import pytest
from django.core import checks
from django.db import OperationalError

from saga_project import celery
from sagas import checks as engine
from sagas import doctor, examinations

AWAY = doctor.Finding(
    id="shop.D001",
    severity=doctor.Severity.ERROR,
    what="It is away.",
    effect="All waits.",
    change="Start it.",
)
LESS = dataclasses.replace(AWAY, id="shop.D002", severity=doctor.Severity.WARNING)


@pytest.fixture(autouse=True)
def examinations_of_this_test(monkeypatch):
    monkeypatch.setattr(doctor, "_examinations", {})
    monkeypatch.setattr(doctor, "_modules", [])


def test_what_needs_a_part_that_is_away_is_left_out_and_said_so():
    @doctor.examination("The bank", proves="bank")
    def bank():
        raise doctor.Away(AWAY)
        yield

    @doctor.examination("Its books", proves="books", needs={"bank"})
    def books():
        raise AssertionError("not to be called")
        yield

    @doctor.examination("Each page", needs={"books"})
    def pages():
        raise AssertionError("not to be called")
        yield

    letter = doctor.examine()

    assert letter.findings == [("The bank", AWAY)]
    assert letter.left_out == [("Its books", "no bank"), ("Each page", "no books")]


def test_what_cannot_be_examined_is_a_finding_and_the_others_go_on():
    @doctor.examination("The rows")
    def rows():
        raise OperationalError("no such table\nLINE 1")
        yield

    @doctor.examination("The rest")
    def rest():
        yield "it is there"

    letter = doctor.examine()

    ((title, finding),) = letter.findings
    assert (title, finding.id) == ("The rows", "sagas.D000")
    assert "no such table" in finding.what
    assert "LINE 1" not in finding.what
    assert letter.well == [("The rest", "it is there")]


def test_what_two_find_is_told_once_and_the_gravest_first():
    @doctor.examination("One")
    def one():
        yield LESS

    @doctor.examination("Two")
    def two():
        yield from (LESS, AWAY)

    assert [finding for _, finding in doctor.examine().findings] == [AWAY, LESS]


def test_a_remark_is_no_finding_and_an_error_of_others_has_its_effect_added(monkeypatch):
    monkeypatch.setitem(doctor.effects, "other.E001", "Nobody is paid.")

    (found,) = doctor.of_checks(
        [checks.Info("By the way.", id="other.I001"), checks.Error("No.", id="other.E001")]
    )

    assert (found.severity, found.what, found.effect) == (doctor.Severity.ERROR, "No.", "Nobody is paid.")


@pytest.mark.django_db
@pytest.mark.parametrize(("seconds", "severity"), [(-30, "warning"), (400, "error")])
def test_a_host_whose_clock_is_off_is_told_by_how_much(monkeypatch, seconds, severity):
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + seconds)

    (found,) = [said for said in examinations.postgresql() if getattr(said, "id", "") == "sagas.D007"]

    way = "ahead of" if seconds > 0 else "behind"
    assert found.what == f"This host: its clock is {abs(seconds)} s {way} the database's."
    assert found.severity.value == severity


@pytest.mark.parametrize(("used", "most", "ids"), [(79, 100, []), (80, 100, ["sagas.D005"])])
def test_there_must_be_room_for_another_process(used, most, ids):
    assert [finding.id for finding in examinations.crowd(used, most)] == ids


def of_deployment():
    """What is found; the sagas of the tests' own app are locked in no file, which it says each time."""
    return [found for found in engine.check_deployment() if "sample_app" not in found.msg]


def test_the_engines_settings_for_production_are_sound():
    assert of_deployment() == []


@pytest.mark.parametrize(
    ("name", "value", "id"),
    [
        ("task_always_eager", True, "sagas.E020"),
        ("worker_prefetch_multiplier", 4, "sagas.W009"),
    ],
)
def test_celerys_settings_that_hurt_are_told_with_the_line(monkeypatch, name, value, id):
    monkeypatch.setitem(celery.app.conf, name, value)

    (found,) = of_deployment()

    assert found.id == id
    assert name in found.hint


def test_django_settings_that_hurt_are_told_with_the_line(settings):
    settings.USE_TZ = False
    settings.SAGAS_TRANSPORT = "sagas.testing.memory_transport.MemoryTransport"

    assert [(found.id, found.hint.split(" = ")[0]) for found in of_deployment()] == [
        ("sagas.E018", "USE_TZ"),
        ("sagas.E019", "SAGAS_TRANSPORT"),
    ]
