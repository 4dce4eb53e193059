"""The API is tried on the orders': with the same people, catalogue and servers."""

from tests.orders.conftest import _shared_web, ana, bob, broker, catalogue, web

__all__ = ["_shared_web", "ana", "bob", "broker", "catalogue", "web"]
