"""The engine looks for declarations here: each example has its own in its file."""

from examples.create_order import CREATE_ORDER
from examples.marketplace import MARKETPLACE_ORDER, PARCEL
from examples.money_transfer import MONEY_TRANSFER
from examples.onboarding import ONBOARDING
from examples.trip_booking import TRIP_BOOKING

SAGAS = [CREATE_ORDER, MARKETPLACE_ORDER, PARCEL, MONEY_TRANSFER, ONBOARDING, TRIP_BOOKING]
