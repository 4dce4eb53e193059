"""An employee gets exactly the accounts that are due, and keeps none without having come."""

import datetime

import pytest

from examples import onboarding
from sagas import engine, errors, testing
from sagas.testing import clocks
from tests.examples.conftest import states

CLERK = {"engineer": False, "contractor": False}
ENGINEER = {"engineer": True, "contractor": False}
FREELANCER = {"engineer": True, "contractor": True}


@pytest.mark.parametrize(
    ("who", "script"),
    [
        (CLERK, "approve approve-hire, do create-mailbox, [do add-to-payroll | do open-chat],"
                " approve confirm-arrival, do activate-badge, completed"),
        (ENGINEER, "approve approve-hire, do create-mailbox,"
                   " [do add-to-payroll | do open-chat | do open-repository],"
                   " approve confirm-arrival, do activate-badge, completed"),
        (FREELANCER, "approve approve-hire, do create-mailbox, [do open-chat | do open-repository],"
                     " approve confirm-arrival, do activate-badge, completed"),
        (CLERK, "refuse approve-hire, compensated"),
        (CLERK, "outwait approve-hire, compensated"),
        (ENGINEER, "approve approve-hire, do create-mailbox,"
                   " [do add-to-payroll | do open-chat | fail open-repository],"
                   " [undo add-to-payroll | undo open-chat | undo open-repository],"
                   " undo create-mailbox, compensated"),
        (CLERK, "approve approve-hire, do create-mailbox, [do add-to-payroll | do open-chat],"
                " outwait confirm-arrival, [undo add-to-payroll | undo open-chat],"
                " undo create-mailbox, compensated"),
    ],
)  # fmt: skip
def test_as_declared(who, script):
    assert testing.rehearse(onboarding.ONBOARDING, script, who) == testing.lines(script)


@pytest.fixture
def hire(world):
    """Begins with an employee whom the manager has approved, and plays on until somebody is to come."""

    def hire(**who):
        saga = world.play(onboarding.onboard(number="E-1", login="ada", **who))
        assert open_at() == set()
        engine.approve(saga.pk, "approve-hire", actor="carol")
        return world.play(saga)

    return hire


@pytest.mark.parametrize(
    ("who", "systems"),
    [
        (CLERK, {"mail", "payroll", "chat"}),
        (ENGINEER, {"mail", "payroll", "chat", "repository"}),
        (FREELANCER, {"mail", "chat", "repository"}),
    ],
)
def test_an_employee_has_what_is_due_when_the_first_day_comes(hire, world, who, systems):
    saga = hire(**who)
    assert open_at() == systems

    engine.approve(saga.pk, "confirm-arrival", actor="dave", facts={"badge": "B-17"})

    assert world.play(saga).state == "completed"
    assert open_at() == {*systems, "doors"}
    assert onboarding.Access.objects.get(system="doors").login == "B-17"


def test_who_says_that_somebody_has_come_names_the_badge(hire):
    saga = hire(**CLERK)

    with pytest.raises(errors.NotAllowed, match="badge"):
        engine.approve(saga.pk, "confirm-arrival", actor="dave")


def test_who_is_not_approved_gets_nothing(world):
    saga = world.play(onboarding.onboard(number="E-1", login="ada"))
    engine.refuse(saga.pk, "approve-hire", actor="carol", reason="no budget")

    assert world.play(saga).state == "compensated"
    assert open_at() == set()


def test_who_does_not_come_keeps_nothing(hire, world):
    saga = hire(**ENGINEER)

    clocks.pass_time(datetime.timedelta(days=60), saga.pk)
    engine.sweep()

    assert world.play(saga).state == "compensated"
    assert open_at() == set()


def test_where_one_system_refuses_the_accounts_in_the_others_are_closed(world):
    onboarding.open_account(key="of another", login="ada", system="repository")

    saga = world.play(onboarding.onboard(number="E-1", login="ada", **ENGINEER))
    engine.approve(saga.pk, "approve-hire", actor="carol")
    world.play(saga)

    assert saga.state == "compensated"
    assert saga.failure["message"] == "The name is taken in repository."
    assert states(saga)["confirm-arrival"] == "pending"
    assert open_at() == {"repository"}


def open_at():
    return set(onboarding.Access.objects.filter(closed=False).values_list("system", flat=True))
