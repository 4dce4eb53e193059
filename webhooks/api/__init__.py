"""Endpoints and their log over HTTP. Rules are in webhooks.services."""
