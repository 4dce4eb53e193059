"""Django looks for models here: each example has its own in its file."""

from examples.create_order import Credit, Customer, Order
from examples.marketplace import Record
from examples.money_transfer import Account, Entry
from examples.onboarding import Access
from examples.trip_booking import Booking

__all__ = ["Access", "Account", "Booking", "Credit", "Customer", "Entry", "Order", "Record"]
