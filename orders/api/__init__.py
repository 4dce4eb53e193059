"""The order over HTTP: shapes, problems, tokens, pages and streams. Rules are in orders.services."""
