"""A trip is booked whole, or not at all."""

import pytest

from examples import trip_booking as trips
from sagas import engine, testing


@pytest.mark.parametrize(
    "script",
    [
        "[do book-hotel | do book-flight | do rent-car], completed",
        # The reply was lost, and the airline knows the key.
        "[do book-hotel | lose book-flight, ask book-flight | do rent-car], completed",
        # The request was lost, and the airline does not know it.
        "[do book-hotel | drop book-flight, miss ask book-flight, do book-flight | do rent-car], completed",
        "[do book-hotel | do book-flight | fail rent-car],"
        " [undo book-hotel | undo book-flight | undo rent-car], compensated",
        "[do book-hotel | do book-flight | fail rent-car],"
        " [undo book-hotel | fail undo book-flight | undo rent-car], needs attention,"
        " retry, undo book-flight, compensated",
    ],
)
def test_as_declared(script):
    assert testing.rehearse(trips.TRIP_BOOKING, script) == testing.lines(script)


def test_all_three_are_booked(world):
    trip = world.play(trips.book_trip(number="trip-1", hotel="Aurora 17", flight="LA3054 12A", car="Uno 4"))

    assert trip.state == "completed"
    assert booked() == {"Aurora 17", "LA3054 12A", "Uno 4"}


@pytest.mark.parametrize("taken", ["hotel", "flight", "car"])
def test_where_one_is_taken_the_others_are_cancelled(world, taken):
    wanted = {"hotel": "Aurora 17", "flight": "LA3054 12A", "car": "Uno 4"}
    trips.Booking.objects.create(key="of another trip", what=wanted[taken])

    trip = world.play(trips.book_trip(number="trip-1", **wanted))

    assert trip.state == "compensated"
    assert trip.failure["message"] == f"{wanted[taken]} is taken."
    assert booked() == {wanted[taken]}


def test_of_two_trips_that_want_the_same_seat_one_is_booked(world):
    first = trips.book_trip(number="trip-1", hotel="Aurora 17", flight="LA3054 12A", car="Uno 4")
    second = trips.book_trip(number="trip-2", hotel="Aurora 18", flight="LA3054 12A", car="Uno 5")

    ends = {world.play(first).state, world.play(second).state}

    assert ends == {"completed", "compensated"}
    assert len(booked()) == 3


def test_a_trip_that_is_cancelled_while_it_is_booked_leaves_nothing_behind(world):
    trip = trips.book_trip(number="trip-1", hotel="Aurora 17", flight="LA3054 12A", car="Uno 4")
    world.messages.deliver()
    engine.cancel(trip.pk, actor="alice", reason="changed my mind")

    assert world.play(trip).state == "compensated"
    assert booked() == set()


def test_a_booking_that_comes_after_its_cancellation_is_refused(transactional_db):
    trips.cancel(key="trip-1.book-hotel")

    with pytest.raises(trips.Taken):
        trips.book_hotel(key="trip-1.book-hotel", hotel="Aurora 17")
    assert trips.find(key="trip-1.book-hotel") is None


def booked():
    return set(trips.Booking.objects.filter(cancelled=False).values_list("what", flat=True))
