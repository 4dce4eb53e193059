"""A trip: hotel, flight and car are booked at once, and when one of them is refused the others are cancelled.

After "Saga example: trip booking" of Temporal's Java samples, Camunda's "Trip booking saga", and the travel
application of Apache ServiceComb's Saga, which books the three at once.
"""

from typing import Any

from django.db import IntegrityError, models, transaction

from sagas import Parallel, Retry, Saga, Step, engine
from sagas.models import SagaInstance


class Taken(Exception):
    """Somebody else has it. Asking again will not change that."""


def book_trip(*, number: str, hotel: str, flight: str, car: str) -> SagaInstance:
    """Begin to book a trip."""
    with transaction.atomic():
        # Rows of our own that belong to the trip would be written here, too: both exist, or neither does.
        return engine.begin(TRIP_BOOKING, key=number, inputs={"hotel": hotel, "flight": flight, "car": car})


def book_hotel(*, key: str, hotel: str) -> dict[str, Any]:
    """Book a room."""
    return _book(key, hotel)


def book_flight(*, key: str, flight: str) -> dict[str, Any]:
    """Book a seat."""
    return _book(key, flight)


def rent_car(*, key: str, car: str) -> dict[str, Any]:
    """Rent a car."""
    return _book(key, car)


def cancel(*, key: str) -> None:
    """Cancel what is booked. Where nothing is, the row refuses a booking that comes too late."""
    Booking.objects.update_or_create(key=key, defaults={"cancelled": True})


def find(*, key: str) -> dict[str, Any] | None:
    """What was booked under the key, if anything was: for a reply that was lost."""
    booking = Booking.objects.filter(key=key, cancelled=False).first()
    return {"booking": booking.number} if booking else None


TRIP_BOOKING = Saga(
    name="trip-booking",
    inputs=["hotel", "flight", "car"],
    steps=[
        Parallel("book", steps=[
            Step("book-hotel", book_hotel, undo=cancel, ask=find, inputs=["hotel"],
                 reference="booking", remote=True, queue="hotels"),
            Step("book-flight", book_flight, undo=cancel, ask=find, inputs=["flight"],
                 reference="booking", remote=True, queue="airlines"),
            Step("rent-car", rent_car, undo=cancel, ask=find, inputs=["car"],
                 reference="booking", remote=True, queue="cars"),
        ]),
    ],
    retry=Retry(on=[ConnectionRefusedError]),
    refused=[Taken],
    unknown=[TimeoutError, ConnectionResetError],
)  # fmt: skip


class Booking(models.Model):
    """The world: the books of a hotel, an airline and a car rental. In life each is a system of others."""

    key = models.CharField(primary_key=True, max_length=100)
    what = models.CharField(max_length=100)
    cancelled = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["what"], condition=models.Q(cancelled=False), name="examples_booking_booked_once"
            ),
        ]

    @property
    def number(self) -> str:
        """What the provider calls it."""
        return f"{self.what} for {self.key}"


def _book(key: str, what: str) -> dict[str, Any]:
    try:
        booking, _ = Booking.objects.get_or_create(key=key, defaults={"what": what})
    except IntegrityError:
        raise Taken(f"{what} is taken.") from None
    if booking.cancelled:
        raise Taken(f"{what} was cancelled before it was booked.")
    return {"booking": booking.number}
