"""Which broker an address names, and what Celery is told of it, beside what `sagas.celery` has it told.

RabbitMQ may be a cluster: several addresses, and every queue is a quorum queue, which a majority of the nodes
keeps. Valkey and Redis are one server, or Sentinel's. A Valkey or Redis Cluster is refused.
"""

import collections.abc
import dataclasses
import enum
import pathlib
import re
import ssl
from typing import Any
from urllib import parse as urls

from django.core import exceptions

REDELIVERY_S = 120
"""When the broker hands out a message anew that nobody acknowledged. Longer than any step's lease,
so that a slow step is not handed out while it runs; the sweep is there before it anyway."""

SEE = "see docs/configuration.md, BROKER_URL"


class Kind(enum.Enum):
    """What answers at the address."""

    RABBITMQ = "RabbitMQ"
    VALKEY = "Valkey or Redis"
    SENTINEL = "Sentinel, which knows the server"


SCHEMES = {
    "amqp": Kind.RABBITMQ,
    "pyamqp": Kind.RABBITMQ,
    "amqps": Kind.RABBITMQ,
    "redis": Kind.VALKEY,
    "rediss": Kind.VALKEY,
    "sentinel": Kind.SENTINEL,
}

PORTS = {"amqp": 5672, "pyamqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379, "sentinel": 26379}

TLS_SCHEMES = {"amqps", "rediss"}

CLUSTER_REFUSED = (
    "a Valkey or Redis Cluster cannot be the broker: Celery's messages need several keys in one command,"
    " which a cluster refuses where they lie on different nodes, and Celery has no client for it. Use one"
    " server (redis://), Sentinel (sentinel://) where it must outlive a machine, or RabbitMQ (amqp://)"
)


class BadAddress(exceptions.ImproperlyConfigured):
    """BROKER_URL names no broker that this project can use. The message says why, and repeats no password."""


class Unfit(Exception):
    """A broker that answers, and cannot be used as it stands. The message says what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broker:
    """A broker, as its address describes it."""

    kind: Kind
    addresses: tuple[str, ...]
    """One for each node of RabbitMQ, or for each Sentinel."""

    master: str = ""
    """Under what name Sentinel knows the server."""

    sentinel_password: str = ""
    """For Sentinel itself; the password in an address is the server's."""

    ca_file: str = ""
    """A file of those whose certificates are trusted (PEM); empty for whom the system trusts."""

    @property
    def speaks_tls(self) -> bool:
        """Whether what is said to it is encrypted."""
        return all(urls.urlsplit(address).scheme in TLS_SCHEMES for address in self.addresses)

    def hosts(self) -> list[tuple[str, int]]:
        """Where something should listen."""
        parts = [urls.urlsplit(address) for address in self.addresses]
        return [(part.hostname or "", part.port or PORTS[part.scheme]) for part in parts]

    def celery_settings(self, begin_with: int = 0) -> dict[str, Any]:
        """Celery's settings for this broker.

        Args:
            begin_with: which address this process tries first, counted round: where each takes another, the
                nodes share the work, and one that dies is missed by some of the processes only.
        """
        return {
            "broker_url": self._url(begin_with),
            "broker_transport_options": self.transport_options(),
            **({"broker_use_ssl": self._tls_options()} if self.speaks_tls else {}),
        }

    def transport_options(self) -> dict[str, Any]:
        """What Celery tells its connections, beside what `sagas.celery.configure` has them told."""
        if self.kind is Kind.RABBITMQ:
            return {}
        return {
            "visibility_timeout": REDELIVERY_S,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            **(self._sentinel_options() if self.kind is Kind.SENTINEL else {}),
        }

    def _url(self, begin_with: int) -> str:
        first = begin_with % len(self.addresses) if self.kind is Kind.RABBITMQ else 0
        return ";".join(self.addresses[first:] + self.addresses[:first])

    def _tls_options(self) -> dict[str, Any]:
        """The certificate is checked, and the name in it: without this kombu checks neither for `rediss://`."""
        trusted = self.ca_file or None
        if self.kind is Kind.RABBITMQ:
            # None: under the name in the address of each node.
            return {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": trusted, "server_hostname": None}
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": trusted, "ssl_check_hostname": True}

    def _sentinel_options(self) -> dict[str, Any]:
        asks: dict[str, Any] = {"socket_timeout": 1, "socket_connect_timeout": 1}
        if self.sentinel_password:
            asks["password"] = self.sentinel_password
        return {"master_name": self.master, "sentinel_kwargs": asks}


def parse(url: str, *, master: str = "", sentinel_password: str = "", ca_file: str = "") -> Broker:
    """Read BROKER_URL.

    Args:
        url: one address, or several of the same kind separated by `;`.
        master: under what name Sentinel knows the server.
        sentinel_password: for Sentinel itself.
        ca_file: who is trusted in place of whom the system trusts, where the broker speaks TLS (PEM).

    Raises:
        BadAddress: it names no broker that can be used.
    """
    addresses = tuple(address.strip() for address in url.split(";"))
    schemes = [_scheme(address, number) for number, address in enumerate(addresses, 1)]
    kinds = {SCHEMES[scheme] for scheme in schemes}
    if len(kinds) > 1 or len({scheme in TLS_SCHEMES for scheme in schemes}) > 1:
        raise BadAddress(f"BROKER_URL: its addresses are of different kinds ({', '.join(schemes)}); {SEE}.")
    (kind,) = kinds
    for number, address in enumerate(addresses, 1):
        _check(address, number, kind)
    if kind is Kind.VALKEY and len(addresses) > 1:
        raise BadAddress(
            "BROKER_URL names several servers of Valkey or Redis. Each has queues of its own, so that"
            " workers of one would not see the messages of another. Name one, or Sentinels (sentinel://);"
            f" {SEE}."
        )
    if kind is Kind.SENTINEL and not master:
        raise BadAddress(
            "BROKER_URL names Sentinels, but not whose server they are to tell: set BROKER_SENTINEL_MASTER to"
            f" the name in their `sentinel monitor NAME ...`, such as mymaster; {SEE}."
        )
    found = Broker(
        kind=kind, addresses=addresses, master=master, sentinel_password=sentinel_password, ca_file=ca_file
    )
    if ca_file and not found.speaks_tls:
        raise BadAddress(
            "BROKER_CA_FILE is set, and BROKER_URL speaks no TLS: write amqps:// or rediss://, or leave it"
            f" out; {SEE}."
        )
    if ca_file and not pathlib.Path(ca_file).is_file():
        raise BadAddress(f"BROKER_CA_FILE: there is no file {ca_file}; {SEE}.")
    return found


def begun_with_the_next(url: str) -> str:
    """The same addresses, with the first one at the end, where they are nodes of RabbitMQ."""
    first, *others = url.split(";")
    rabbit = SCHEMES[urls.urlsplit(first).scheme] is Kind.RABBITMQ
    return ";".join([*others, first]) if rabbit else url


def _scheme(address: str, number: int) -> str:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", address)
    if match is None:
        raise BadAddress(
            f"BROKER_URL, address {number}: it does not begin with a scheme such as amqp:// or redis://;"
            f" {SEE}."
        )
    scheme = match[1].lower()
    if "cluster" in scheme:
        raise BadAddress(f"BROKER_URL: {CLUSTER_REFUSED}; {SEE}.")
    if scheme == "valkey" or scheme == "valkeys":
        raise BadAddress(
            f"BROKER_URL, address {number}: Celery knows no {scheme}://; Valkey is spoken to with"
            f" {'redis' if scheme == 'valkey' else 'rediss'}://."
        )
    if scheme not in SCHEMES:
        raise BadAddress(
            f"BROKER_URL, address {number}: {scheme}:// is no broker that this project can use. It can use"
            f" RabbitMQ (amqp://, amqps://), Valkey or Redis (redis://, rediss://) and Sentinel"
            f" (sentinel://); {SEE}."
        )
    return scheme


def _check(address: str, number: int, kind: Kind) -> None:
    where = f"BROKER_URL, address {number}"
    try:
        parts = urls.urlsplit(address)
        port_is_well = parts.port is None or parts.port > 0
    except ValueError:  # Without what it says: it may repeat the password.
        port_is_well = False
    if not port_is_well:
        raise BadAddress(
            f"{where}: its port is no number from 1 to 65535. A /, # or ? in the password is written %2F, %23"
            f" or %3F; {SEE}."
        )
    if not parts.hostname or re.search(r"\s", address):
        raise BadAddress(f"{where}: it names no host; {SEE}.")
    if kind is not Kind.RABBITMQ and not re.fullmatch(r"/?|/\d{1,4}", parts.path):
        raise BadAddress(
            f"{where}: after the host there is the number of a database, such as /0, and nothing else; {SEE}."
        )


def precondition(queue: str, reason: str) -> Unfit:
    """What to say when RabbitMQ has a queue of this name that is not as it is wanted."""
    return Unfit(
        f"The queue {queue!r} is there, and is not a quorum queue as this project declares it. RabbitMQ does"
        " not change a queue's type. Nothing of worth is in it: the sagas are in the database, and the sweep"
        " sends again what was in the queue. Stop the workers, delete it"
        f" (`rabbitmqctl delete_queue {queue}`), and start them again; or name a new virtual host in"
        " BROKER_URL. docs/operations.md, 'From classic to quorum queues', has the whole way. RabbitMQ says:"
        f" {reason}"
    )


def check_valkey(information: collections.abc.Mapping[str, Any]) -> None:
    """Look at what a server of Valkey or Redis answers to `INFO cluster`.

    Raises:
        Unfit: it is a node of a cluster.
    """
    if str(information.get("cluster_enabled", 0)) == "1":
        raise Unfit(f"BROKER_URL: the server says cluster_enabled:1, and {CLUSTER_REFUSED}; {SEE}.")
