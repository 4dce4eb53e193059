"""`make mutants` finds what no test notices, and says which answers are lacking, and which are too many."""

import dataclasses

import pytest

from tests.mutants import __main__ as command
from tests.mutants import answers, page, trial
from tests.mutants.trial import KILLED, SURVIVED

# It starts mutmut, which forks.
pytestmark = pytest.mark.integration

SHOP = """
def total(price, pieces):
    return price * pieces


def is_free(price):
    return price <= 0
"""

TESTS = """
from shop import prices


def test_two_cost_twice_as_much():
    assert prices.total(7, 2) == 14


def test_what_has_a_price_is_not_free():
    assert not prices.is_free(7)
"""

MODULE = "shop/prices.py"


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """The mutants of a small shop, of whose tests one is blind."""
    tree, copied = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("copied")
    for name, text in {MODULE: SHOP, "shop/__init__.py": "", "tests/test_prices.py": TESTS}.items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(text)
    trial.copy(tree, copied, trial.Plan(source="shop", modules=[MODULE], tests=["tests"]))
    trial.generate(copied)
    there = trial.places(copied, MODULE)
    trial.run(copied, list(there))
    assert trial.untried(copied, MODULE) == set()
    return trial.results(copied, MODULE), list(there.values())


def answer(verdict, *mutants):
    return answers.Answer(verdict, "Because of that.", tuple(mutants))


def test_a_mutant_that_a_test_notices_is_killed_and_one_that_none_notices_survives(tried):
    fates = {(one.place.where, one.place.was, one.place.now): one.fate for one in tried[0]}

    assert fates["shop.prices.total", "return price * pieces", "return price / pieces"] == KILLED
    assert fates["shop.prices.is_free", "return price <= 0", "return price < 0"] == SURVIVED
    assert fates["shop.prices.is_free", "return price <= 0", "return price <= 1"] == SURVIVED


def test_each_survivor_wants_an_answer_and_each_answer_a_survivor(tried):
    found, there = tried
    survivors = [one.place for one in found if one.fate == SURVIVED]
    killed = next(one.place for one in found if one.fate == KILLED)
    gone = dataclasses.replace(killed, was="return price + pieces")

    def said(*given):
        return answers.complaints(found, there, given)

    assert len(survivors) == 2
    assert said(answer("accepted", *survivors), answer("killed", killed)) == []
    assert [line for line in said() if line.startswith("No answer")] == said()
    assert len(said()) == 2
    assert str(survivors[0]) in said(answer("equivalent", survivors[1]))[0]
    # A test was to notice it, and does not.
    assert str(survivors[1]) in said(answer("accepted", survivors[0]), answer("killed", survivors[1]))[0]
    (too_many,) = said(answer("accepted", *survivors, gone))
    assert too_many == f"Answered, and there is no such mutant any more: {gone}"
    (noticed,) = said(answer("accepted", *survivors, killed))
    assert noticed == f"Answered, and a test notices it now: {killed}"


def test_what_fails_without_any_mutant_is_told_with_what_was_printed(tmp_path):
    tree, copied = tmp_path / "tree", tmp_path / "copied"
    for name, text in {MODULE: SHOP, "tests/test_prices.py": TESTS.replace("14", "15")}.items():
        (tree / name).parent.mkdir(exist_ok=True, parents=True)
        (tree / name).write_text(text)
    trial.copy(tree, copied, trial.Plan(source="shop", modules=[MODULE], tests=["tests"]))
    trial.generate(copied)

    with pytest.raises(trial.Unusable, match="test_two_cost_twice_as_much"):
        trial.run(copied, list(trial.places(copied, MODULE)))


REAL_PARTS = """
from shop import prices


def test_what_costs_nothing_is_free():
    assert prices.is_free(0)
"""


def test_what_only_a_test_on_real_parts_notices_is_killed_by_it_and_the_rest_lives(tmp_path):
    tree, copied = tmp_path / "tree", tmp_path / "copied"
    real = "tests/test_on_real_parts.py"
    texts = {
        MODULE: SHOP, "shop/__init__.py": "", "tests/test_prices.py": TESTS, real: REAL_PARTS,
        command.EXPLORER: f"def {command.LONG}():\n    pass\n",
    }  # fmt: skip
    for name, text in texts.items():
        (tree / name).parent.mkdir(exist_ok=True, parents=True)
        (tree / name).write_text(text)
    trial.copy(tree, copied, trial.Plan(source="shop", modules=[MODULE], tests=["tests/test_prices.py"]))
    trial.generate(copied)
    of_free = {
        place.now: name
        for name, place in trial.places(copied, MODULE).items()
        if place.where == "shop.prices.is_free"
    }

    def fate(now):
        return command.on_postgres(copied, of_free.get(now, ""), [real])

    assert fate("") == SURVIVED
    assert fate("return price < 0") == KILLED
    assert fate("return price <= 1") == SURVIVED


def test_a_sample_is_the_same_for_the_same_seed():
    names = [f"mutant {number}" for number in range(100)]

    assert command.chosen(names, None, 1) == names
    assert len(command.chosen(names, 10, 1)) == 10
    assert command.chosen(names, 10, 1) == command.chosen(names[:], 10, 1) != command.chosen(names, 10, 2)


@pytest.mark.parametrize(
    "text",
    [
        "verdict = 'perhaps'\nbecause = 'x'\nmutants = [{where = 'a.b', was = 'c', now = 'd'}]",
        "verdict = 'accepted'\nbecause = ''\nmutants = [{where = 'a.b', was = 'c', now = 'd'}]",
        "verdict = 'accepted'\nbecause = 'x'\nmutants = []",
        "verdict = 'killed'\nbecause = 'x'\nmutants = [{where = 'a.b', was = 'c', now = 'd'}]",
        "verdict = 'accepted'\nbecause = 'x'\nmutants = [{where = 'a.b', was = 'c'}]",
        "verdict = 'accepted'\nbecause = 'x'\nmutants = [{where = 'a.b', was = 'c', now = 'd'},"
        " {where = 'a.b', was = 'c', now = 'd', nth = 1}]",
    ],
)
def test_an_answer_is_complete_and_given_once(text):
    with pytest.raises(answers.Invalid):
        answers.read(f"[[answer]]\n{text}")


# --- The answers that are given -----------------------------------------------------------------------


def given():
    return answers.read(answers.FILE.read_text())


def test_every_answer_speaks_of_code_that_is_there():
    assert answers.misplaced(page.ROOT, given()) == []


def test_an_answer_about_code_that_is_gone_is_named():
    gone = trial.Place("sagas.engine.parallel.is_free", "return step is None", "return step is not None")
    nowhere = trial.Place("sagas.engine.parallel.was_free", "", "return None")

    assert answers.misplaced(page.ROOT, [answer("accepted", gone)]) == [str(gone)]
    assert answers.misplaced(page.ROOT, [answer("accepted", nowhere)]) == [str(nowhere)]


def test_every_answer_is_about_the_core_and_every_test_that_it_names_is_there():
    modules = tuple(f"{answers.dotted(module)}." for module in command.CORE)
    for one in given():
        assert all(place.where.startswith(modules) for place in one.mutants)
        if one.verdict == "killed":
            path, _, name = one.says.partition("::")
            assert f"def {name}(" in (page.ROOT / path).read_text()


def test_the_page_has_the_answers_and_the_figures():
    text = page.PAGE.read_text()

    assert text == page.rewrite(text, given()), "run `python -m tests.mutants.page`"
