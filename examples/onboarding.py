"""An employee begins: a person agrees, accounts are opened at once, a person says that the employee has come.

After the onboarding in the guide "External Application Interaction" of Elsa Workflows: a mailbox first, then
the other accounts at once.
"""

import functools

from django.db import IntegrityError, models, transaction

from sagas import DAY, Approval, Parallel, Retry, Saga, Step, engine
from sagas.models import SagaInstance


class Taken(Exception):
    """Another person has that name there. Asking again will not change that."""


def onboard(*, number: str, login: str, engineer: bool = False, contractor: bool = False) -> SagaInstance:
    """Begin to receive an employee.

    Arguments:
        number: the employee's number. It is the saga's key, which everybody sees who may see sagas.
        login: the name that the accounts are to have.
        engineer: whether there is to be a repository.
        contractor: whether somebody else pays.
    """
    with transaction.atomic():
        inputs = {"login": login, "engineer": engineer, "contractor": contractor}
        return engine.begin(ONBOARDING, key=number, inputs=inputs)


def create_mailbox(*, key: str, login: str) -> dict[str, str]:
    """Make a mailbox, which the other accounts are opened for."""
    open_account(key=key, login=login, system="mail")
    return {"mailbox": f"{login}@example.com"}


def open_account(*, key: str, login: str, system: str, mailbox: str = "") -> None:
    """Open an account in a system.

    Raises:
        Taken: the name is taken there, or the account was closed before it was opened.
    """
    try:
        access, _ = Access.objects.get_or_create(key=key, defaults={"system": system, "login": login})
    except IntegrityError:
        raise Taken(f"The name is taken in {system}.") from None
    if access.closed:
        raise Taken(f"The account in {system} was closed before it was opened.")


def activate_badge(*, key: str, badge: str) -> None:
    """Let the badge that the employee was handed open doors."""
    open_account(key=key, login=badge, system="doors")


def close_account(*, key: str) -> None:
    """Close the account. Where there is none, the row refuses one that would be opened too late."""
    Access.objects.update_or_create(key=key, defaults={"closed": True})


ONBOARDING = Saga(
    name="onboarding",
    inputs=["login", "engineer", "contractor"],
    personal=["login"],
    steps=[
        Approval("approve-hire", permission="examples.approve_hire",
                 limit=14 * DAY, remind=[7 * DAY, 12 * DAY], lapse="refuse"),
        Step("create-mailbox", create_mailbox, undo=close_account, inputs=["login"],
             outputs=["mailbox"], personal=["mailbox"], remote=True),
        Parallel("open-accounts", steps=[
            Step("add-to-payroll", functools.partial(open_account, system="payroll"), undo=close_account,
                 inputs=["login", "mailbox"], remote=True, unless="contractor"),
            Step("open-chat", functools.partial(open_account, system="chat"), undo=close_account,
                 inputs=["login", "mailbox"], remote=True),
            Step("open-repository", functools.partial(open_account, system="repository"), undo=close_account,
                 inputs=["login", "mailbox"], remote=True, when="engineer"),
        ]),
        Approval("confirm-arrival", permission="examples.confirm_arrival",
                 limit=60 * DAY, remind=[30 * DAY], lapse="refuse",
                 outputs=["badge"], personal=["badge"]),
        Step("activate-badge", activate_badge, undo=close_account, inputs=["badge"], remote=True),
    ],
    retry=Retry(on=[ConnectionRefusedError]),
    refused=[Taken],
    unknown=[TimeoutError, ConnectionResetError],
    deadline=90 * DAY,
)  # fmt: skip


class Access(models.Model):
    """The world: who has an account where. In life each system is another, and keeps its own list."""

    key = models.CharField(primary_key=True, max_length=100)
    system = models.CharField(max_length=20)
    login = models.CharField(max_length=50)
    closed = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["system", "login"], condition=models.Q(closed=False), name="examples_access_one_open"
            ),
        ]
        permissions = [
            ("approve_hire", "Can approve that an employee begins, or refuse it"),
            ("confirm_arrival", "Can say that an employee has come, or has not"),
        ]
