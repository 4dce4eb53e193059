"""What is done to the cluster: each fault breaks something, and makes it whole again.

A fault returns from `strike` when it has struck and from `heal` when all that it ended runs again. Meanwhile
the customers order on. What would let a drill pass that did nothing is checked by the fault itself.
"""

import abc
import contextlib
import os
import random
import signal
import socket
import time
from typing import ClassVar

import psycopg

from saga_project.local import release, supervisor
from saga_project.local.cluster import failover, hosts, network

BAR_S = 10.0
FAILOVER_BAR_S = 30.0
"""How soon the API must answer again after a fault."""


class DidNothing(Exception):
    """A fault was made, and nothing was broken by it: what the drill shows would mean nothing."""


class Fault(abc.ABC):
    """One fault, of one cluster."""

    name: ClassVar[str]
    bar_s: ClassVar[float] = BAR_S

    def __init__(self, cluster: hosts.Cluster, witness: failover.Witness, chance: random.Random) -> None:
        self.cluster = cluster
        self.keeper = cluster.keeper
        self.witness = witness
        self.told = self._choose(chance)
        """What is done, in a few words."""

    def strike(self) -> None:
        """Break it.

        Raises:
            DidNothing: nothing was broken by it.
        """
        self._strike()

    def heal(self) -> None:
        """Make it whole again.

        Raises:
            DidNothing: what it should have set off did not happen.
        """
        self._heal()

    @abc.abstractmethod
    def _choose(self, chance: random.Random) -> str:
        """Choose where it strikes, and say it."""

    @abc.abstractmethod
    def _strike(self) -> None: ...

    @abc.abstractmethod
    def _heal(self) -> None: ...

    def host(self, name: str) -> network.Host:
        """The host of that name."""
        return self.cluster.hosts[name]

    def expect(self, holds: bool, otherwise: str) -> None:
        """Make sure of what the fault is about."""
        if not holds:
            raise DidNothing(f"{self.name}: {otherwise}")


class BrokerKilled(Fault):
    """A RabbitMQ node is killed, and returns."""

    name = "A broker node is killed and returns"

    def _choose(self, chance: random.Random) -> str:
        self.node = chance.choice(self.cluster.shape.brokers)
        return f"{self.node}: SIGKILL"

    def _strike(self) -> None:
        kill(self.keeper, self.cluster.names_on(self.node))
        self.expect(not self.cluster.broker(self.node).ready(""), f"{self.node} still answers")

    def _heal(self) -> None:
        self.keeper.start_again(self.cluster.broker(self.node))


class BrokerCutOff(Fault):
    """A RabbitMQ node no longer reaches the other two, nor they it; clients reach all three."""

    name = "A broker node is cut off from the others"

    def _choose(self, chance: random.Random) -> str:
        self.node = chance.choice(self.cluster.shape.brokers)
        return f"{self.node}: no frame between it and the other two arrives"

    def _strike(self) -> None:
        others = [name for name in self.cluster.shape.brokers if name != self.node]
        for other in others:
            self.cluster.net.cut(self.host(self.node), self.host(other))
        port = self.cluster.rabbit.nodes[self.cluster.shape.brokers.index(self.node)].port
        for other in others:
            self.expect(
                not reaches(self.host(other), self.host(self.node), port), f"{other} reaches {self.node}"
            )

    def _heal(self) -> None:
        for other in self.cluster.shape.brokers:
            if other != self.node:
                self.cluster.net.mend(self.host(self.node), self.host(other))


class PrimaryLost(Fault):
    """The host of the primary is gone; the standby is promoted, and later the old one follows it."""

    name = "The database's primary is lost, the standby promoted"
    bar_s = FAILOVER_BAR_S

    def _choose(self, chance: random.Random) -> str:
        self.lost = self.cluster.host_of(self.cluster.pair.primary)
        return f"{self.lost}: cable pulled and SIGKILL; the witness promotes the other"

    def _strike(self) -> None:
        self.before = self.witness.failovers
        self.cluster.net.unplug(self.host(self.lost))
        self.cluster.node_of(self.lost).kill()
        self.keeper.halt(self.lost)

    def _heal(self) -> None:
        patience = time.monotonic() + FAILOVER_BAR_S
        while self.witness.failovers == self.before and time.monotonic() < patience:
            self.witness.check()
            time.sleep(0.1)
        self.expect(self.witness.failovers == self.before + 1, "nobody was promoted")
        self.cluster.net.replace(self.host(self.lost))
        self.cluster.pair.standby.copy_from(self.cluster.pair.primary.url)
        self.keeper.start_again(self.cluster.database(self.lost))
        self.cluster.follow()
        self.witness.asleep = False


class WorkerVanished(Fault):
    """A worker host is gone, in the middle of its work, and says goodbye to nobody."""

    name = "A worker host vanishes without a FIN"

    def _choose(self, chance: random.Random) -> str:
        self.lost = chance.choice(self.cluster.shape.workers)
        return f"{self.lost}: SIGSTOP, cable pulled, SIGKILL"

    def _strike(self) -> None:
        names = self.cluster.names_on(self.lost)
        # With a step in its hands: else nothing would have to be noticed.
        patience = time.monotonic() + AT_WORK_WITHIN_S
        while not self._caught_at_work(names):
            self.expect(time.monotonic() < patience, f"{self.lost} had nothing to do")
            time.sleep(0.1)
        self.cluster.net.unplug(self.host(self.lost))
        kill(self.keeper, names)

    def _caught_at_work(self, names: list[str]) -> bool:
        """Stop all its processes, and let them go on if none of them holds a lease."""
        signal_all(self.keeper, names, signal.SIGSTOP)
        with psycopg.connect(self.cluster.pair.primary.url) as link:
            held = link.execute(
                "SELECT 1 FROM sagas_step WHERE worker LIKE %s AND lease_until > clock_timestamp() LIMIT 1",
                [f"%@{self.lost}"],
            ).fetchone()
        if held is None:
            signal_all(self.keeper, names, signal.SIGCONT)
        return held is not None

    def _heal(self) -> None:
        self.cluster.net.replace(self.host(self.lost))
        self.keeper.start_again(*self.cluster.workers(self.lost))


class WebDrained(Fault):
    """A web host is taken out of the proxy's rotation, stopped, and put back."""

    name = "A web host is drained"

    def _choose(self, chance: random.Random) -> str:
        self.web = chance.choice(self.cluster.shape.webs)
        return f"{self.web}: drained by the proxy, then SIGTERM"

    def _strike(self) -> None:
        drain(self.cluster, self.web)
        self.keeper.halt(self.web)

    def _heal(self) -> None:
        self.keeper.start_again(self.cluster.web(self.web))
        put_back(self.cluster, self.web)


class RolledOut(Fault):
    """A new release, with a new version of the saga, takes the place of the old one host by host."""

    name = "A new release rolls out host by host"

    def _choose(self, chance: random.Random) -> str:
        return f"workers, beat, then web hosts; the saga's version {release.VERSION} beside the one before"

    def _strike(self) -> None:
        fresh = hosts.Release(name="2", code=release.make(self.cluster.run / "release-2"))
        # As docs/upgrading.md has it: migrate while the old one runs, then the workers, then the web.
        self.cluster.manage("migrate_pre", release=fresh)
        for name in (*self.cluster.shape.workers, "clock", *self.cluster.shape.webs):
            self.cluster.release[name] = fresh
            if name in self.cluster.shape.webs:
                drain(self.cluster, name)
            self.keeper.halt(*self.cluster.names_on(name))
            match name:
                case "clock":
                    self.keeper.start_again(self.cluster.beat())
                case _ if name in self.cluster.shape.workers:
                    self.keeper.start_again(*self.cluster.workers(name))
                case _:
                    self.keeper.start_again(self.cluster.web(name))
                    put_back(self.cluster, name)
            self.keeper.say(f"{name} runs the new release")
        self.cluster.manage("migrate", "--no-input", release=fresh)

    def _heal(self) -> None:
        pass  # It stays.


FAULTS: dict[str, type[Fault]] = {
    "broker-killed": BrokerKilled,
    "broker-cut-off": BrokerCutOff,
    "primary-lost": PrimaryLost,
    "worker-vanished": WorkerVanished,
    "web-drained": WebDrained,
    "rolled-out": RolledOut,
}
"""By the names in which one asks for them, in the order in which they strike."""

DRAINED_WITHIN_S = 15
SERVES_WITHIN_S = 30
AT_WORK_WITHIN_S = 30


def kill(keeper: supervisor.Supervisor, names: list[str]) -> None:
    """End programs with all their processes at once, as when the power fails."""
    signal_all(keeper, names, signal.SIGKILL)
    keeper.halt(*names, signals=("SIGKILL",))


def signal_all(keeper: supervisor.Supervisor, names: list[str], number: signal.Signals) -> None:
    """Send a signal to all processes of these programs."""
    running = supervisor.processes(keeper.run)
    for name in names:
        if name in running:  # Else it has just ended by itself.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running[name], number)


def drain(cluster: hosts.Cluster, web: str) -> None:
    """Have the proxy send nothing more to a web host, and wait until what it has is answered."""
    cluster.proxy_command(f"set server shop/{web} state drain")
    patience = time.monotonic() + DRAINED_WITHIN_S
    while cluster.sessions_at(web) and time.monotonic() < patience:
        time.sleep(0.1)


def put_back(cluster: hosts.Cluster, web: str) -> None:
    """Have the proxy send requests to it again, and wait until it does: before that none else may be drained.

    Raises:
        Failed: it does not.
    """
    cluster.proxy_command(f"set server shop/{web} state ready")
    patience = time.monotonic() + SERVES_WITHIN_S
    while not cluster.is_served_by(web):
        if time.monotonic() > patience:
            raise supervisor.Failed(f"{web} is ready, and the proxy sends it nothing in {SERVES_WITHIN_S} s.")
        time.sleep(0.1)


def reaches(here: network.Host, there: network.Host, port: int) -> bool:
    """Whether a connection comes about from one host to the other."""
    with here.inside(), contextlib.suppress(OSError):
        socket.create_connection((there.address, port), timeout=1).close()
        return True
    return False
