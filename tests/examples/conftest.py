"""The examples, played as a project plays its own sagas: with the kit that ships with the engine."""

import random

import pytest
from django.apps import apps

from sagas import engine
from sagas.engine import transport
from sagas.testing import clocks, memory_transport
from tests.sagas import conftest as engines
from tests.support import database


@pytest.fixture
def transactional_db(django_db_setup, django_db_blocker):
    """In place of pytest-django's: only the engine's rows and the examples' are cleared."""
    with django_db_blocker.unblock():
        yield
        clear()


def clear():
    """Delete what a test left behind."""
    database.empty_anew(
        *engines.ROWS, *(model._meta.db_table for model in apps.get_app_config("examples").get_models())
    )


class World:
    """The engine on PostgreSQL, with messages and time that are the test's."""

    def __init__(self, messages):
        self.messages = messages

    def play(self, saga):
        """Go on until the saga has ended, or only a person can go on; returns it as it then is."""
        return self.messages.play(saga)

    def go_on(self):
        """Deliver a message; when there is none, let time pass until something is due."""
        if not self.messages.deliver():
            clocks.skip()
            engine.sweep()


def told(saga):
    """What happened to the saga, for whoever looks for a failure."""
    return list(saga.events.order_by("id").values_list("kind", "subject"))


def states(saga):
    """What became of each step."""
    return dict(saga.steps.order_by("position").values_list("name", "state"))


TRANSPORTS = {
    "a message for each step": {},
    "a message for as much as goes": {"inline": lambda: True},
    "messages lost, doubled and out of order": {"lose": 0.3, "double": 0.3, "shuffle": True},
}


@pytest.fixture(params=TRANSPORTS)
def world(request, transactional_db):
    """Each test is played on each kind of transport: what becomes of a saga is the same."""
    messages = memory_transport.MemoryTransport(chance=random.Random(7), **TRANSPORTS[request.param])
    with transport.use(messages):
        yield World(messages)
    assert messages.bugs == []
