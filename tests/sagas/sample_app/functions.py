"""The steps' functions: local ones (make, unmake), remote ones (book, cancel, look_up) with a world.

By default the script in the database says what they answer, so that a worker in another process
reads it too.
"""

import ctypes
import os
import signal
import time
import uuid

from django.db import connection

from sagas import engine
from sagas.testing import scripts
from tests.sagas.sample_app import models, recorder


class Refused(Exception):
    """The world says no."""


class Unavailable(Exception):
    """It did not happen, and may go well another time."""


class Unknown(Exception):
    """It may have happened."""


class KeyExpired(Unavailable):
    """It did not happen, and does not for anybody until a person sees to it."""


def make(*, key):
    return WORLD.do(key, local=True)


def unmake(*, key):
    return WORLD.undo(key, local=True)


def make_within(*, key, limit):
    models.End.objects.create(key=key, kind=f"within {limit}")
    return make(key=key)


def book(*, key):
    return WORLD.do(key)


def cancel(*, key):
    return WORLD.undo(key)


def look_up(*, key):
    return WORLD.ask(key)


def meet(*, key):
    """Wait until the sibling is at work as well: it does not come for those that take turns."""
    saga_id, step = key.split(".")
    recorder.note(saga_id, f"met {step}")
    until = time.monotonic() + 20
    while len([line for line in recorder.lines(saga_id) if line.startswith("met ")]) < 2:
        if time.monotonic() > until:
            raise Refused("nobody came")
        time.sleep(0.02)
    return WORLD.do(key, local=True)


def hold(*, key):
    """Have the world at work for as long as the test wants: it writes `go`."""
    saga_id, step = key.split(".")
    recorder.note(saga_id, f"hold {step}")
    until = time.monotonic() + 9
    while "go" not in recorder.lines(saga_id):
        if time.monotonic() > until:
            raise Refused("nobody let go")
        time.sleep(0.02)
    return WORLD.do(key)


def completed(*, key):
    models.End.objects.create(key=key, kind="completed")


def compensated(*, key):
    models.End.objects.create(key=key, kind="compensated")


def attention(*, key):
    models.End.objects.create(key=key, kind="attention")


def asked(*, key):
    models.End.objects.create(key=key, kind="asked")


class Scripted:
    """The world that a script in the database describes."""

    def do(self, key, *, local=False):
        answer = self._answer("do", key)
        toy = models.Toy.objects.filter(key=key, closed=True).first()
        if toy is not None:
            raise Refused(f"{key} was closed before it began")
        if answer in ("well", "begin", "lose", "perish", "stay"):
            self._make(key, local)
        self._react(answer)
        return {"settled": answer == "well"}

    def undo(self, key, *, local=False):
        answer = self._answer("undo", key)
        if answer in ("well", "lose", "perish"):
            self._unmake(key, local)
        self._react(answer)

    def ask(self, key):
        answer = self._answer("ask", key)
        self._react(answer)
        if answer == "miss":
            models.Toy.objects.filter(key=key, unmade=0).update(made=0)  # What was begun came to nothing.
        made = models.Toy.objects.filter(key=key, made=1).exists()
        return {"settled": answer == "well"} if made else None

    def _answer(self, function, key):
        saga_id, step = key.split(".")
        root, place = recorder.place_of(saga_id)
        name = f"{place}.{step}" if place else step
        answer, meanwhile = recorder.answer(root, function, name)
        line = scripts.Line(function, name, answer, meanwhile)
        recorder.note(root, str(line), f"{function} {name}")
        if meanwhile == "cancelled":
            engine.cancel(saga_id, actor="customer", reason="changed my mind")
        elif meanwhile == "told":
            engine.receive(source="world", event_id=str(uuid.uuid4()), key=key, facts={"settled": True})
        return answer

    def _make(self, key, local):
        if local:
            # Not idempotent on purpose: whoever does it twice is found out.
            local_execute(
                "INSERT INTO sample_app_toy AS toy (key, made, unmade, closed) VALUES (%s, 1, 0, false)"
                " ON CONFLICT (key) DO UPDATE SET made = toy.made + 1",
                [key],
            )
        else:
            recorder.execute(
                "INSERT INTO sample_app_toy (key, made, unmade, closed) VALUES (%s, 1, 0, false)"
                " ON CONFLICT (key) DO UPDATE SET made = 1",
                [key],
            )

    def _unmake(self, key, local):
        execute = local_execute if local else recorder.execute
        execute(
            "INSERT INTO sample_app_toy (key, made, unmade, closed) VALUES (%s, 0, 0, true)"
            " ON CONFLICT (key) DO UPDATE SET unmade = sample_app_toy.made, closed = true",
            [key],
        )

    def _react(self, answer):
        """What comes of the call, apart from its effect."""
        if answer == "fail":
            raise Refused("no")
        if answer == "flake":
            raise Unavailable("later")
        if answer in ("lose", "drop"):
            raise Unknown("nobody knows")
        if answer == "break":
            raise ZeroDivisionError("a bug")
        if answer == "starve":
            raise MemoryError
        if answer in ("die", "perish"):
            die()
        if answer == "stay":
            time.sleep(0.3)  # Long enough for somebody else to come by.
        if answer == "stall":
            time.sleep(30)  # Until the soft limit says that it is enough.
        if answer == "block":
            local_execute("SELECT pg_sleep(30)", [])  # The same, inside the database.
        if answer == "jam":
            jam()
        if answer == "hang":
            until = time.monotonic() + 60
            while time.monotonic() < until:
                try:
                    time.sleep(60)
                except Exception:  # Deaf to the soft limit: only the hard one ends it.
                    continue


def jam():
    """Wait in C for a lock that nobody gives back, where no signal reaches Python."""
    c = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(128)  # Of zeros, as an unlocked mutex is.
    c.pthread_mutex_lock(mutex)
    c.pthread_mutex_lock(mutex)


def die():
    """As a worker dies whose memory was wanted elsewhere."""
    os.kill(os.getpid(), signal.SIGKILL)


def local_execute(sql, parameters):
    """Execute a statement in the engine's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


WORLD = Scripted()
