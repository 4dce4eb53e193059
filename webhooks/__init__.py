"""Telling merchants of their orders: endpoints, deliveries, the sender. Orders do not know of it."""
