"""The order over HTTP: forms, shapes, kinds of problems, and streams. Rules are in orders.services."""
