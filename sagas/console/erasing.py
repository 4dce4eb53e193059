"""What people wrote in the console that is of no single saga: struck out where it names a person."""

from sagas import engine
from sagas.console.models import BulkItem, BulkRun, Consent, FailureNote


def strike(values: engine.Values) -> None:
    """Strike the values out of notes about failures, of bulk runs, and of consents for these."""
    engine.strike_columns(FailureNote.objects.all(), ["text", "actor"], values)
    engine.strike_columns(BulkRun.objects.all(), ["reason", "stopped_why"], values)
    engine.strike_columns(BulkItem.objects.exclude(message=""), ["message"], values)
    engine.strike_columns(Consent.objects.filter(saga=None), ["arguments", "reason", "decision"], values)
