"""What a declaration may not say: each refusal has an id and a hint, and is made at import."""

import datetime
import functools
import subprocess
import sys

import pytest

from sagas import Approval, BadDeclaration, Child, ForEach, Parallel, Retry, Saga, Step, Wait
from sagas.declaration import registry


class Refused(Exception):
    pass


class RefusedForNow(Refused):
    pass


class Unavailable(Exception):
    pass


def do(*, key):
    return {}


def undo(*, key):
    pass


def ask(*, key):
    return None


def charge(*, key, total):
    return {"receipt": 1}


def positional(key):
    return {}


def keyless(*, total):
    return {}


def anything(**given):
    return {}


def greedy(*, key, total, **rest):
    return {}


async def awaited(*, key):
    return {}


RETRY = Retry(on=[Unavailable])
NO_TIME = datetime.timedelta(0)
SECOND = datetime.timedelta(seconds=1)


def saga(*steps, **rest):
    return Saga(**{"name": "trip", "steps": steps, "retry": RETRY, **rest})


def pivot(name):
    return Step(name, do, kind="pivot")


def step(name="book", do=do, **rest):
    return Step(name, do, **{"undo": undo, **rest})


REFUSED = {
    "no steps": ("E001", lambda: saga()),
    "a name that is no name": ("E001", lambda: saga(step(), name="Trip to Rio")),
    "a step's name that is too long": ("E001", lambda: saga(step("b" * 51))),
    "a version before the first": ("E001", lambda: saga(step(), version=0)),
    "two steps of one name": ("E002", lambda: saga(step("book"), step("book"))),
    "a fact from two sources": ("E002", lambda: saga(step(outputs=["total"]), inputs=["total"])),
    "a function without a key": ("E003", lambda: saga(step(do=keyless, inputs=["total"]), inputs=["total"])),
    "a function that wants more than it is given": ("E003", lambda: saga(step(do=charge))),
    "a function that is given too much": ("E003", lambda: saga(step(inputs=["total"]), inputs=["total"])),
    "an undo that wants facts": ("E003", lambda: saga(step(undo=charge))),
    "an ask that wants facts": ("E003", lambda: saga(step(ask=charge, remote=True))),
    "a hook that wants what is no fact": ("E003", lambda: saga(step(), on_completed=charge)),
    "a hook that wants what is struck out": (
        "E003",
        lambda: saga(
            step(do=charge, inputs=["total"], secrets=["total"]), inputs=["total"], on_closed=charge
        ),
    ),
    "a function that cannot be called": ("E003", lambda: saga(step(undo="undo"))),
    "a function that wants more, and takes anything": ("E003", lambda: saga(step(do=greedy))),
    "a function that nobody would await": ("E003", lambda: saga(step(do=awaited))),
    "a fact of the engine's own name": ("E003", lambda: saga(step(inputs=["key"]), inputs=["key"])),
    "a fact that nobody provides": ("E004", lambda: saga(step(do=charge, inputs=["total"]))),
    "a fact that only a later step gives": (
        "E004",
        lambda: saga(step(do=charge, inputs=["total"]), step("price", outputs=["total"])),
    ),
    "a fact that an earlier step forgot": (
        "E004",
        lambda: saga(
            step("pay", do=charge, inputs=["total"], secrets=["total"]),
            step("book", do=charge, inputs=["total"]),
            inputs=["total"],
        ),
    ),
    "a fact that may be skipped with its step": (
        "E004",
        lambda: saga(step("price", outputs=["total"], optional=True), step(do=charge, inputs=["total"])),
    ),
    "a step without an undo": ("E005", lambda: saga(step(undo=None))),
    "a pivot with an undo": ("E005", lambda: saga(step(kind="pivot"))),
    "an unknown kind": ("E006", lambda: saga(step(kind="magic"))),
    "two pivots": ("E006", lambda: saga(pivot("a"), pivot("b"))),
    "a step to be undone after the pivot": ("E006", lambda: saga(pivot("a"), step("b"))),
    "a pivot after what only goes on": (
        "E006",
        lambda: saga(step("a", kind="retriable", undo=None), pivot("b")),
    ),
    "a poll with nobody to ask": (
        "E007",
        lambda: saga(step(wait=Wait(until="paid", limit=SECOND, poll=SECOND), remote=True)),
    ),
    "a poll without a pause": (
        "E007",
        lambda: saga(step(wait=Wait(until="paid", limit=SECOND, poll=NO_TIME), remote=True, ask=ask)),
    ),
    "a wait for no time": ("E007", lambda: saga(step(wait=Wait(until="paid", limit=NO_TIME)))),
    "a local step with an ask": ("E007", lambda: saga(step(ask=ask))),
    "no attempts": ("E008", lambda: saga(step(), retry=Retry(on=[Unavailable], attempts=0))),
    "pauses that shrink": ("E008", lambda: saga(step(retry=Retry(on=[Unavailable], factor=0.5)))),
    "more chance than there is": ("E008", lambda: saga(step(), undo_retry=Retry(on=[Unavailable], jitter=2))),
    "a cap before time began": ("E008", lambda: saga(step(), retry=Retry(on=[Unavailable], cap=-SECOND))),
    "a pause before time began": ("E008", lambda: saga(step(), retry=Retry(on=[Unavailable], first=-SECOND))),
    "an attempt of no time": ("E008", lambda: saga(step(timeout=NO_TIME))),
    "a budget of no time": ("E008", lambda: saga(step(budget=NO_TIME))),
    "a deadline before it begins": ("E008", lambda: saga(step(), deadline=NO_TIME)),
    "an undo's deadline before it begins": ("E008", lambda: saga(step(), undo_deadline=NO_TIME)),
    "resumed without a pause": ("E008", lambda: saga(step(), resume_every=NO_TIME)),
    "an error of two minds": ("E009", lambda: saga(step(), refused=[Unavailable])),
    "a step's error of two minds": (
        "E009",
        lambda: saga(step(retry=Retry(on=[Refused])), refused=[Refused]),
    ),
    "an error's name instead of the error": ("E009", lambda: saga(step(), refused=["Refused"])),
    "an error that would be taken for another": (
        "E009",
        lambda: saga(step(), refused=[Refused], unknown=[RefusedForNow]),
    ),
    "an outage that is a refusal": ("E009", lambda: saga(step(), refused=[Refused], outage=[Refused])),
    "an outage that would be taken for a refusal": (
        "E009",
        lambda: saga(step(), refused=[Refused], outage=[RefusedForNow]),
    ),
    "what may have happened, and would be taken for an outage": (
        "E009",
        lambda: saga(step(), outage=[Refused], unknown=[RefusedForNow]),
    ),
    "a retry of an outage": ("E009", lambda: saga(step(), outage=[Unavailable])),
    "a retry of what was refused": (
        "E009",
        lambda: saga(step(retry=Retry(on=[RefusedForNow])), refused=[Refused]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_senseless_declaration_is_refused_with_a_hint(what):
    id_, declare = REFUSED[what]

    with pytest.raises(BadDeclaration) as refused:
        declare()

    problems = [problem for problem in refused.value.problems if problem.id == f"sagas.{id_}"]
    assert problems, refused.value
    assert all(problem.hint.endswith(".") for problem in problems)
    assert problems[0].message in str(refused.value)
    assert problems[0].hint in str(refused.value)


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(BadDeclaration) as refused:
        saga(step("a", undo=None, inputs=["nothing"]), step("a"), name="No Name")

    assert {problem.id for problem in refused.value.problems} >= {
        "sagas.E001", "sagas.E002", "sagas.E003", "sagas.E004", "sagas.E005",
    }  # fmt: skip


def test_a_function_may_be_anything_that_takes_its_arguments_by_name():
    declared = saga(
        step("a", do=positional),
        step("b", do=anything, inputs=["total"]),
        step("c", do=functools.partial(charge, total=1)),
        inputs=["total"],
    )

    assert len(declared.fingerprint) == 16
    assert declared.step("c").queue == "tests"


def test_one_name_and_version_is_one_declaration():
    first = registry.add(saga(step(), name="trip-twice"))

    assert registry.add(saga(step(), name="trip-twice")) == first

    with pytest.raises(BadDeclaration, match=r"sagas\.E010"):
        registry.add(saga(step("ride"), name="trip-twice"))


def test_the_fingerprint_changes_with_the_steps_and_with_nothing_else():
    plain = saga(step("a"), step("b"))

    assert plain.fingerprint == saga(step("a"), step("b"), deadline=SECOND, retry=Retry(on=[])).fingerprint
    others = [
        saga(step("b"), step("a")),
        saga(step("a"), step("c")),
        saga(step("a"), step("b", remote=True)),
        saga(step("a"), step("b", undo=None, kind="pivot")),
        saga(step("a"), step("b", do=anything)),
        saga(step("a"), step("b"), version=2),
    ]
    assert len({plain.fingerprint, *(other.fingerprint for other in others)}) == 7


def test_pauses_grow_to_a_cap_and_are_left_to_chance():
    retry = Retry(on=[Unavailable], first=SECOND, factor=2, cap=10 * SECOND, jitter=0.5)

    assert [retry.pause(attempt=n, chance=0) / SECOND for n in (1, 2, 3, 4, 5, 99)] == [1, 2, 4, 8, 10, 10]
    assert retry.pause(attempt=1, chance=0.999).total_seconds() == pytest.approx(0.5, abs=0.01)


def test_an_undo_is_tried_far_longer_than_an_action():
    declared = saga(step())

    assert declared.retry_of(declared.all_steps[0], undo=False).attempts == 5
    assert declared.retry_of(declared.all_steps[0], undo=True).attempts == 50


@pytest.mark.integration
def test_the_declaration_needs_neither_django_nor_celery():
    code = (
        "import sys; from sagas import Saga, testing; testing.rehearse;"
        "assert not {'django', 'celery', 'kombu'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_versions_share_a_steps_task_and_so_the_longest_of_their_timeouts():
    registry.add(saga(step(timeout=5 * SECOND), name="trip-timed"))
    registry.add(saga(step(timeout=60 * SECOND), name="trip-timed", version=2))
    registry.add(saga(step(timeout=9 * SECOND), step("pay"), name="trip-timed", version=3))

    assert registry.timeout("trip-timed", "book") == 60 * SECOND
    assert registry.timeout("trip-timed", "pay") == 10 * SECOND


def made(name, **rest):
    return Step(name, **{"do": do, "undo": undo, **rest})


DAY = datetime.timedelta(days=1)
CHILD = Saga(
    name="child", inputs=["total"], steps=[made("c", do=charge, inputs=["total"])], retry=Retry(on=[])
)
FINAL = Saga(name="final", steps=[made("c"), Step("p", do, kind="pivot")], retry=Retry(on=[]))


def tell(*, key, who):
    return {"said": who}


def use(*, key, card):
    return {}


def show(*, key, receipt):
    return {}


PAID = Saga(
    name="paid", inputs=["total"], retry=Retry(on=[]),
    steps=[made("c", do=charge, inputs=["total"], outputs=["receipt"])],
)  # fmt: skip
PERSONAL = Saga(
    name="personal", inputs=["who"], personal=["who"], retry=Retry(on=[]),
    steps=[made("c", do=tell, inputs=["who"], outputs=["said"], personal=["said"])],
)  # fmt: skip
SEVERAL = Saga(
    name="several", inputs=["who", "much"], personal=["who"], retry=Retry(on=[]),
    steps=[made("c", do=tell, inputs=["who"])],
)  # fmt: skip
ONE_CARD = Saga(
    name="one-card", inputs=["card"], retry=Retry(on=[]),
    steps=[made("c", do=use, inputs=["card"], secrets=["card"])],
)  # fmt: skip
PAYS = Saga(
    name="pays", inputs=["card", "much"], retry=Retry(on=[]),
    steps=[made("c", do=use, inputs=["card"], secrets=["card"])],
)  # fmt: skip
ELSEWHERE = Saga(
    name="elsewhere", inputs=["card"], retry=Retry(on=[]),
    steps=[made("c", do=use, inputs=["card"])],
)  # fmt: skip


def approval(**rest):
    return Approval("review", **{"permission": "shop.review", "limit": DAY, **rest})


STAGES = {
    "one step at once": ("E014", [Parallel("all", steps=[made("a")])]),
    "a pivot beside others": ("E014", [Parallel("all", steps=[made("a"), Step("b", do, kind="pivot")])]),
    "two kinds beside each other": (
        "E014", [Parallel("all", steps=[made("a"), Step("b", do, kind="retriable")])],
    ),
    "undone in an unknown way": ("E014", [Parallel("all", steps=[made("a"), made("b")], undo="never")]),
    "what is no step": ("E014", [made("a"), "b"]),
    "stages within each other": (
        "E014", [Parallel("all", steps=[made("a"), Parallel("more", steps=[made("b"), made("c")])])],
    ),
    "never to be done": ("E014", [made("a", when="total", unless="total")]),
    "a condition that nothing provides": ("E004", [made("a", when="nothing")]),
    "a condition that is not always there": (
        "E004", [made("a", outputs=["x"], when="total"), made("b", when="x")],
    ),
    "an output that is not always there": (
        "E004", [made("a", outputs=["x"], when="total"), made("b", do=lambda *, key, x: x, inputs=["x"])],
    ),
    "an output of a sibling": (
        "E004",
        [Parallel("all", steps=[made("a", outputs=["x"]), made("b", do=lambda *, key, x: x, inputs=["x"])])],
    ),
    "a name of a stage that a step has": ("E002", [Parallel("a", steps=[made("a"), made("b")])]),
    "an output of two steps": ("E002", [made("a", outputs=["x"]), made("b", outputs=["x"])]),
    "no permission": ("E015", [approval(permission="review")]),
    "an approval behind the pivot": ("E015", [Step("p", do, kind="pivot"), approval()]),
    "a reminder when all is over": ("E015", [approval(remind=[2 * DAY])]),
    "a lapse that says nothing": ("E015", [approval(lapse="shrug")]),
    "nobody to approve": ("E015", [approval(persons=0)]),
    "silence that states facts": ("E015", [approval(lapse="approve", outputs=["x"])]),
    "a child that is not given what it takes": ("E016", [Child("c", saga=CHILD)]),
    "a child that could not be undone": ("E016", [Child("c", saga=FINAL)]),
    "outputs that no child has": ("E016", [Child("c", saga=CHILD, inputs=["total"], outputs=["x"])]),
    "elements that give nothing": ("E016", [ForEach("c", of="list", saga=CHILD, inputs=["total"])]),
    "less than no child at once": ("E016", [ForEach("c", of="list", saga=CHILD, limit=-1)]),
    "none needed": ("E016", [ForEach("c", of="list", saga=CHILD, need=0)]),
    "a failure that means nothing": ("E016", [ForEach("c", of="list", saga=CHILD, failed="shrug")]),
    "two lists of outcomes": ("E016", [ForEach("c", of="list", saga=CHILD, outputs=["x", "y"])]),
    "one input that is given twice": (
        "E016", [Child("c", saga=CHILD, inputs={"total": "total", "list": "total"})],
    ),
    "an input under a name that the child has not": (
        "E016", [Child("c", saga=CHILD, inputs={"total": "sum"})],
    ),
    "an output under a name that is taken": (
        "E002", [Child("c", saga=PAID, inputs=["total"], outputs={"receipt": "list"})],
    ),
    "an output that no child has, renamed": (
        "E016", [Child("c", saga=CHILD, inputs=["total"], outputs={"x": "y"})],
    ),
    "what is personal, to a child to which it is not": (
        "E017", [Child("c", saga=CHILD, inputs={"name": "total"})],
    ),
    "parts of what is personal": ("E017", [ForEach("c", of="names", saga=CHILD)]),
    "what is personal to a child, to another": (
        "E017",
        [
            Child("c", saga=PERSONAL, inputs={"total": "who"}, outputs={"said": "mark"}),
            Child("d", saga=CHILD, inputs={"mark": "total"}),
        ],
    ),
    "a list of what is personal to another's children": (
        "E017",
        [
            ForEach("c", of="list", saga=SEVERAL, outputs=["told"]),
            Child("d", saga=CHILD, inputs={"list": "total"}),
        ],
    ),
    "outcomes that tell what is personal": (
        "E017",
        [
            ForEach("c", of="list", saga=PERSONAL, outputs=["told"]),
            Child("d", saga=CHILD, inputs={"told": "total"}),
        ],
    ),
    "what is secret, from a child that shows it": (
        "E017",
        [
            Child("c", saga=PAID, inputs=["total"], outputs=["receipt"]),
            made("b", do=show, inputs=["receipt"], secrets=["receipt"]),
        ],
    ),
    "what is secret, to a child that keeps it": (
        "E017",
        [
            Child("c", saga=PERSONAL, inputs={"total": "who"}),
            made("b", do=charge, inputs=["total"], secrets=["total"]),
        ],
    ),
    "a list of secrets, to a child that keeps it": (
        "E017",
        [
            Child("d", saga=ELSEWHERE, inputs={"list": "card"}),
            ForEach("c", of="list", saga=PAYS),
        ],
    ),
    "what a child has had struck out": (
        "E004",
        [
            Child("c", saga=ONE_CARD, inputs={"total": "card"}),
            made("b", do=charge, inputs=["total"]),
        ],
    ),
    "parts of elements that were struck out": (
        "E004", [ForEach("c", of="list", saga=PAYS), ForEach("d", of="list", saga=PAYS)],
    ),
    "something personal that nobody states": ("E015", [approval(personal=["x"])]),
    "a rest that means nothing": ("E016", [ForEach("c", of="list", saga=CHILD, need=1, rest="shrug")]),
    "a rest of all": ("E016", [ForEach("c", of="list", saga=CHILD, rest="finish")]),
    "a rest that finishes, of as many as there are": (
        "E016", [ForEach("c", of="list", saga=CHILD, need=1, rest="finish", failed="keep")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", STAGES)
def test_a_senseless_stage_is_refused_with_a_hint(what):
    problem, steps = STAGES[what]

    with pytest.raises(BadDeclaration) as refused:
        Saga(
            name="trip",
            inputs=["total", "list", "name", "names"],
            personal=["name", "names"],
            steps=steps,
            retry=Retry(on=[Unavailable]),
        )

    assert [found.id for found in refused.value.problems] == [f"sagas.{problem}"]
    assert all(found.hint for found in refused.value.problems)


def test_a_choice_provides_one_fact_and_a_default_stands_in_for_what_is_left_out():
    def take(*, key, x, y=0):
        return {"x": x, "y": y}

    Saga(
        name="trip",
        inputs=["total"],
        steps=[
            made("a", outputs=["x"], when="total"),
            made("b", outputs=["x"], unless="total"),
            made("c", outputs=["y"], when="total"),
            made("d", do=take, inputs=["x", "y"]),
            made("e", do=lambda *, key, y: y, inputs=["y"], when="total"),
        ],
        retry=Retry(on=[]),
    )


def booked(*, key, **given):
    return {}


def cancelled(*, key):
    pass


booked.__module__ = cancelled.__module__ = "trips.services"
booked.__qualname__, cancelled.__qualname__ = "do", "undo"


def test_the_fingerprint_of_a_list_is_what_it_was_before_there_were_stages():
    listed = [Step("a", booked, undo=cancelled), Step("b", booked, kind="pivot")]

    assert Saga(name="trip", steps=listed, retry=Retry(on=[])).fingerprint == "a4ea122add51b6c6"


def test_the_fingerprint_of_stages_is_what_it_was_when_there_first_were_any():
    def step(name, **rest):
        return Step(name, booked, undo=cancelled, **rest)

    def of(*steps):
        return Saga(name="trip", inputs=["total", "list"], steps=steps, retry=Retry(on=[])).fingerprint

    only = step("c", inputs=["total"], secrets=["total"], outputs=["x"])
    child = Saga(name="child", inputs=["total"], steps=[only], retry=Retry(on=[]))
    ok = Approval("ok", permission="shop.review", limit=DAY, persons=2, outputs=["note"])

    assert of(ok, step("b")) == "597a65216353cf90"
    assert of(Child("c", saga=child, inputs=["total"], outputs=["x"])) == "8d35ae38261c5e55"
    assert of(ForEach("c", of="list", saga=child)) == "de691b3e9ee45002"
    several = ForEach("c", of="list", saga=child, need=2, failed="keep", limit=3, outputs=["told"])
    assert of(several) == "a01733bc390c47c4"
    at_once = Parallel("all", steps=[step("a", when="total"), step("b")], undo="reverse")
    assert of(at_once) == "2b1bc0859bbea470"


def test_the_fingerprint_tells_of_stages():
    def of(*steps):
        return Saga(name="trip", inputs=["total", "list"], steps=steps, retry=Retry(on=[])).fingerprint

    shapes = [
        of(made("a"), made("b")),
        of(made("a"), made("b", when="total")),
        of(made("a"), made("b", unless="total")),
        of(Parallel("all", steps=[made("a"), made("b")])),
        of(Parallel("all", steps=[made("a"), made("b")], undo="reverse")),
        of(Parallel("all", steps=[made("a"), made("b")], when="total")),
        of(approval(), made("b")),
        of(approval(persons=2), made("b")),
        of(Child("c", saga=CHILD, inputs=["total"])),
        of(ForEach("c", of="list", saga=CHILD)),
        of(ForEach("c", of="list", saga=CHILD, need=1)),
        of(ForEach("c", of="list", saga=CHILD, need=1, rest="finish")),
    ]

    assert len(set(shapes)) == len(shapes)


def test_what_is_personal_is_handed_down_to_a_child_to_which_it_is_so():
    declared = Saga(
        name="trip",
        inputs=["name", "names", "list", "token"],
        personal=["name", "names"],
        steps=[
            Child("a", saga=PERSONAL, inputs={"name": "who"}, outputs={"said": "mark"}),
            ForEach("b", of="names", saga=PERSONAL, outputs=["told"]),
            ForEach("c", of="list", saga=PAYS),
            Child("d", saga=ONE_CARD, inputs={"token": "card"}),
            Child("e", saga=PERSONAL, inputs={"mark": "who"}),
        ],
        retry=Retry(on=[]),
    )

    assert declared.hidden == {"name", "names", "mark", "token", "who", "said", "card"}
    assert declared.secrets == {"token"}
    facts = {"name": "n", "list": [{"card": "c", "much": 1}, {"card": "d", "much": 2}], "token": "t"}
    assert declared.without_secrets(facts) == {"name": "n", "list": [{"much": 1}, {"much": 2}]}
    nothing = {"name": "n", "list": [{"much": 1}]}
    assert declared.without_secrets(nothing) is nothing


def test_the_fingerprint_says_what_is_renamed_for_a_child():
    def of(*steps):
        return Saga(name="trip", inputs=["total", "sum"], steps=steps, retry=Retry(on=[])).fingerprint

    same = {of(Child("c", saga=PAID, inputs=given)) for given in (["total"], {"total": "total"})}
    others = {
        of(Child("c", saga=PAID, inputs={"sum": "total"})),
        of(Child("c", saga=PAID, inputs=["total"], outputs=["receipt"])),
        of(Child("c", saga=PAID, inputs=["total"], outputs={"receipt": "bill"})),
    }
    assert (len(same), len(same | others)) == (1, 4)


def open_account(*, key, system, limits=(), how=None):
    return {}


class Clerk:
    def __call__(self, *, key):
        return {}


def test_the_fingerprint_says_what_a_partial_has_filled_in():
    def of(do):
        return saga(step("a", do=do)).fingerprint

    part = functools.partial
    shapes = [
        of(do),
        of(part(do)),
        of(part(open_account, system="chat")),
        of(part(open_account, system="mail")),
        of(part(open_account, system="mail", limits=[1, {"a": None}])),
        of(part(open_account, system="mail", limits=[1, {"a": True}])),
        of(part(open_account, system="mail", how=SECOND)),
        of(part(open_account, system="mail", how=NO_TIME)),
        of(part(open_account, system="mail", how=Clerk())),
        of(part(open_account, system="mail", how=ask)),
    ]

    assert shapes[0] == shapes[1]
    assert len(set(shapes)) == len(shapes) - 1
    # Nothing of it is of one process only, such as where an object lies in memory.
    for made_anew in (lambda: part(open_account, system="x", how=Clerk()), Clerk):
        assert of(made_anew()) == of(made_anew())
