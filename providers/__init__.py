"""How a service speaks with its provider. A small library that knows no service."""
