"""Signatures and secrets, as Standard Webhooks has them."""

import base64
import datetime
import hashlib
import hmac
import secrets


def new_secret() -> str:
    """A secret as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(*, id_: str, sent_at: int, body: bytes, secret: str) -> str:
    """The signature of one message, sent at this second."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{id_}.{sent_at}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


def unexpired(old_secrets: list[dict[str, str]], now: datetime.datetime) -> list[dict[str, str]]:
    """The replaced secrets that messages are still signed with: `old_secrets` of an endpoint."""
    return [old for old in old_secrets if datetime.datetime.fromisoformat(old["until"]) > now]
