"""A network of hosts on one machine: each is a network namespace on one bridge, with an address and a name.

All of it lies in a network namespace and a mount namespace of the drill's own (`enter`), so that nothing of
the machine is touched, two drills do not see each other, and the last process takes everything with it.
A partition is made where a real one is: frames between two hosts go to a hardware address that nobody has,
or a host's cable is pulled. Nobody is told, so no connection is closed; only silence tells.
"""

import collections.abc
import contextlib
import ctypes
import dataclasses
import itertools
import os
import pathlib
import shutil
import subprocess
import sys

INSIDE = "SAGA_CLUSTER_INSIDE"
"""Set where the process is in namespaces of its own already."""

TOOLS = ("ip", "unshare", "mount")
"""Of iproute2 and util-linux, which every Linux has but the smallest images."""

SUBNET = "10.77.0"
NOBODY = "02:00:00:00:00:01"
"""A hardware address that no interface has."""

_NAMESPACES = pathlib.Path("/run/netns")
_CLONE_NEWNET = 0x40000000


class NotPossible(Exception):
    """Network namespaces cannot be had here. The message says why, and what would help."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Host:
    """A host: a name that every other host knows, and an address."""

    name: str
    number: int

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return f"{SUBNET}.{self.number}"

    @contextlib.contextmanager
    def inside(self) -> collections.abc.Iterator[None]:
        """This thread is on the host meanwhile, and so is for its life what it starts."""
        with open("/proc/thread-self/ns/net") as home, open(_NAMESPACES / self.name) as away:
            _set_namespace(away.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())


class Network:
    """The hosts that there are, and what is broken between them."""

    def __init__(self, place: pathlib.Path) -> None:
        """An empty network: the caller must be in namespaces of its own.

        Args:
            place: a directory for the file of the hosts' names.
        """
        assert INSIDE in os.environ, "enter() comes first: this changes the network of whoever calls it"
        self._hosts: dict[str, Host] = {}
        self._names = place / "hosts"
        _NAMESPACES.mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "none", str(_NAMESPACES))
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "cluster", "type", "bridge")
        _ip("addr", "add", f"{SUBNET}.1/24", "dev", "cluster")
        _ip("link", "set", "cluster", "up")
        place.mkdir(parents=True, exist_ok=True)
        self._write_names()
        _run("mount", "--bind", str(self._names), "/etc/hosts")

    def add(self, *names: str) -> list[Host]:
        """New hosts, which reach each other and are reached from here."""
        numbers = itertools.count(11 + len(self._hosts))
        hosts = [Host(name=name, number=number) for name, number in zip(names, numbers, strict=False)]
        self._hosts |= {host.name: host for host in hosts}
        self._write_names()
        for host in hosts:
            self._wire(host)
        return hosts

    def cut(self, one: Host, other: Host) -> None:
        """Between these two nothing arrives any more."""
        for here, there in ((one, other), (other, one)):
            _ip(
                "-n", here.name, "neigh", "replace", there.address,
                "lladdr", NOBODY, "nud", "permanent", "dev", "eth0",
            )  # fmt: skip

    def mend(self, one: Host, other: Host) -> None:
        """What was cut is whole again."""
        for here, there in ((one, other), (other, one)):
            _ip("-n", here.name, "neigh", "del", there.address, "dev", "eth0")

    def unplug(self, host: Host) -> None:
        """The host's cable is pulled: nothing that it sends arrives, and nothing reaches it."""
        _ip("link", "set", _cable(host), "down")

    def replace(self, host: Host) -> None:
        """A new machine in a host's place: of its name and address, with no connection of the old one."""
        _ip("link", "del", _cable(host))
        _ip("netns", "del", host.name)
        self._wire(host)

    def _wire(self, host: Host) -> None:
        _ip("netns", "add", host.name)
        # With a hardware address that stays: others remember it for a while, and a new machine does not tell.
        _ip(
            "link", "add", _cable(host), "type", "veth",
            "peer", "name", "eth0", "address", f"02:00:00:00:01:{host.number:02x}", "netns", host.name,
        )  # fmt: skip
        _ip("link", "set", _cable(host), "master", "cluster", "up")
        _ip("-n", host.name, "link", "set", "lo", "up")
        _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _ip("-n", host.name, "link", "set", "eth0", "up")

    def _write_names(self) -> None:
        # In place: what is mounted over /etc/hosts is this very file.
        lines = ["127.0.0.1 localhost", *(f"{host.address} {host.name}" for host in self._hosts.values())]
        self._names.write_text("\n".join(lines) + "\n")


def check() -> None:
    """Whether there can be namespaces.

    Raises:
        NotPossible: there cannot.
    """
    if not sys.platform.startswith("linux"):
        raise NotPossible("The cluster's hosts are network namespaces, which only Linux has.")
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        raise NotPossible(
            f"The cluster's network is made with {', '.join(missing)}, not to be found here:"
            " install iproute2 and util-linux."
        )
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "ip", "link", "add", "cluster", "type", "bridge"],  # noqa: S607
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        raise NotPossible(
            "The cluster's hosts are network namespaces, which may not be made here"
            f" ({tried.stderr.strip()}). Run it as root, in a container with the capabilities NET_ADMIN and"
            " SYS_ADMIN."
        )


def enter(arguments: list[str]) -> None:
    """Begin this Python process anew, with these arguments, in namespaces of its own.

    It keeps its process id. Returns where it is there already.

    Raises:
        NotPossible: there cannot be namespaces.
    """
    if INSIDE in os.environ:
        return
    check()
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, *arguments])  # noqa: S606, S607 - no shell is wanted, and PATH is the caller's


def _cable(host: Host) -> str:
    # Not its name: an interface's may have 15 letters, and has a meaning of its own.
    return f"cable{host.number}"


def _set_namespace(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
