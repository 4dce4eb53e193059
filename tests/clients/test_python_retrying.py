"""How long the Python client waits before it tries again, and when it gives up."""

import itertools

import pytest

from saga_orders import errors, retrying

LOST = errors.ConnectionFailed("no answer")


def pauses(error: errors.Error, *, most: int = 8) -> list[float]:
    """All pauses until it gives up."""
    found: list[float] = []
    retries = retrying.Retries(most=most, first_pause_s=0.5)

    def go_on() -> None:
        while True:
            found.append(retries.pause(error))

    with pytest.raises(errors.Error) as given_up:
        go_on()
    assert given_up.value is error
    return found


def test_it_waits_twice_as_long_each_time_up_to_a_bound_and_half_of_that_is_chance() -> None:
    whole = [0.5, 1, 2, 4, 8, 8, 8, 8]
    runs = [pauses(LOST) for _ in range(50)]

    for run in runs:
        assert all(longest / 2 <= pause <= longest for pause, longest in zip(run, whole, strict=True))
    assert len(set(itertools.chain(*runs))) > 300


def test_it_waits_no_shorter_than_the_server_asks_for() -> None:
    busy = errors.Unavailable({}, status=503, retry_after=9)

    assert pauses(busy, most=3) == [9, 9, 9]


def test_what_would_not_pass_and_what_takes_longer_than_a_minute_is_not_waited_for() -> None:
    assert pauses(errors.NotFound({}, status=404)) == []
    assert pauses(errors.Throttled({}, status=429, retry_after=61)) == []
    assert pauses(LOST, most=0) == []


def test_what_went_on_meanwhile_is_counted_anew() -> None:
    retries = retrying.Retries(most=1, first_pause_s=0.5)
    retries.pause(LOST)
    retries.begin_anew()

    assert retries.pause(LOST) <= 0.5


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("3", 3),
        (" 3 ", 3),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
    ],
)
def test_what_retry_after_says(said: str, seconds: float | None) -> None:
    assert errors.retry_after({"Retry-After": said}) == seconds
