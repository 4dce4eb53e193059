"""Operators: test clients with a role each, and sagas that stand where they are wanted."""

import re

from django.contrib.auth import models as auth
from django.test import Client
from django.urls import reverse

from sagas import engine
from sagas.console import roles
from sagas.engine import transport
from sagas.testing import clocks, memory_transport
from tests.sagas import harness
from tests.sagas.sample_app import saga as toys

NOBODY = "nobody"


def client(role, name=None):
    """Somebody with that role, logged in; `nobody` is staff without any."""
    roles.make()
    user, _ = auth.User.objects.get_or_create(username=name or role.split()[-1], defaults={"is_staff": True})
    user.groups.set([] if role == NOBODY else [auth.Group.objects.get(name=role)])
    person = Client()
    person.force_login(user)
    person.user = user
    return person


def viewer():
    return client(roles.VIEWER)


def operator():
    return client(roles.OPERATOR)


def supervisor(name="supervisor"):
    return client(roles.SUPERVISOR, name)


def play(saga, script):
    """A saga where the script leaves it."""
    in_memory = harness.InMemory()
    in_memory.play(saga, script)
    return in_memory.player.saga


def under_way(saga, script, messages):
    """A saga after so many messages, with the rest of them lying about."""
    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        instance = harness.begin(saga, script)
        for _ in range(messages):
            posted.deliver()
    instance.refresh_from_db()
    return instance


def begin(saga, script, messages=None, **inputs):
    """One with these inputs, false unless they are given, after all of its messages, or so many."""
    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        instance = harness.begin(saga, script, inputs={name: inputs.get(name, False) for name in saga.inputs})
        if messages is None:
            posted.deliver_all()
        for _ in range(messages or 0):
            posted.deliver()
    instance.refresh_from_db()
    return instance


def finish(saga):
    """Let it go on until it ends or stands."""
    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        for _ in range(60):
            saga.refresh_from_db()
            if saga.state in ("completed", "compensated", "needs_attention"):
                return saga
            if saga.wake_at is not None:
                clocks.skip()
            engine.sweep()
            posted.deliver_all()
    raise AssertionError(f"{saga.pk} does not come to rest: {saga.state}")


def finish_again(saga):
    """One that needs attention tries again by itself, and stands again."""
    posted = memory_transport.MemoryTransport()
    with transport.use(posted):
        clocks.skip()
        engine.sweep()
        saga.refresh_from_db()
        assert saga.state != "needs_attention"
    finish(saga)
    assert saga.state == "needs_attention"


def attention():
    """Its undo was refused."""
    return play(toys.LOCAL, "do a, do b, fail c, fail undo b, needs attention")


def stuck():
    """Past its pivot, and nobody knows whether that happened."""
    return play(toys.PIVOTAL, "do a, lose p, 2x flake ask p, needs attention")


def waiting():
    """It waits for a callback, and the world could be asked."""
    return play(toys.WAIT, "do a, begin w")


def asked(declared=toys.APPROVED):
    """It waits for a person's yes or no."""
    return play(declared, "do a")


def reviewer(name="rita"):
    """Somebody who sees sagas, and may approve toys."""
    person = client(roles.VIEWER, name)
    person.user.user_permissions.set([auth.Permission.objects.get(codename="approve_toy")])
    return person


def answering(saga, answer, step="ok"):
    """The address of the page on which an approval is answered."""
    return reverse("admin:sagas_saga_answer", args=[saga.pk, step, answer])


def act(operation, saga, **said):
    """An operator who looks, and acts at once on what is seen."""
    return operation(saga.pk, seen=engine.look(saga.pk), **said)


def page(saga):
    return reverse("admin:sagas_sagainstance_change", args=[saga.pk])


def intervention(saga, name, seen=None):
    """The address of an intervention's page, as a saga's page that shows it as it stands now links to it."""
    page = reverse("admin:sagas_saga_intervention", args=[saga.pk, name])
    return f"{page}?seen={seen or engine.look(saga.pk)}"


def said(saga, seen=None, **fields):
    """What an intervention's form sends, rendered when the saga stood so; by default as it stands now."""
    return {"seen": str(seen or engine.look(saga.pk)), **fields}


def text(response):
    """What a page says, without its marks."""
    body = re.sub(r"<(script|style|title|desc)\b.*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).replace("&#x27;", "'")
