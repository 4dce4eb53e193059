"""Random faults on purpose, the same for the same seed."""

import collections
import dataclasses
import random
import threading

from sandbox import answers, fields

LATENCY_MAX_MS = 60_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
    """How often each thing goes wrong by chance."""

    error_rate: float = 0.0
    """503 before anything was done."""
    denied_rate: float = 0.0
    """401, as to somebody whose key has expired; before anything was done."""
    lost_reply_rate: float = 0.0
    """It is done, and the connection breaks before the answer."""
    latency_ms: tuple[float, float] = (0.0, 0.0)
    """Before anything is done."""
    duplicate_webhook_rate: float = 0.0
    """Delivered twice, under the same id."""
    drop_webhook_rate: float = 0.0
    """Never sent at all."""
    seed: int = 0

    @property
    def are_zero(self) -> bool:
        """Whether nothing goes wrong by chance."""
        return self == Rates(seed=self.seed)


class Faults:
    """The rates that hold now, and the chance that they are rolled with.

    Every chance comes from the seed, what it is for and how many times that happened before,
    never from one shared sequence: which thread is quicker changes nothing.
    """

    def __init__(self, seed: int) -> None:
        self._lock = threading.Lock()
        self._default_seed = seed
        self._counts: collections.Counter[str] = collections.Counter()
        self.rates = Rates(seed=seed)
        self.struck: collections.Counter[str] = collections.Counter()
        """How often each thing went wrong by chance since this process began, by the names of the rates."""

    def strike(self, *names: str) -> None:
        """Note that these went wrong."""
        with self._lock:
            self.struck.update(names)

    def change(self, body: answers.Json) -> Rates:
        """Set the rates anew; what is not named does not go wrong."""
        rates = read(body, self._default_seed)
        with self._lock:
            self._counts.clear()
            self.rates = rates
        return rates

    def chance(self, what: str) -> random.Random:
        """The chance of the n-th time that this happens."""
        with self._lock:
            self._counts[what] += 1
            return random.Random(f"{self.rates.seed}/{what}/{self._counts[what]}")  # noqa: S311 - no secret


def read(body: answers.Json, default_seed: int) -> Rates:
    """The rates that a request asks for."""
    fields.known(body, *(field.name for field in dataclasses.fields(Rates)))
    return Rates(
        error_rate=_rate(body, "error_rate"),
        denied_rate=_rate(body, "denied_rate"),
        lost_reply_rate=_rate(body, "lost_reply_rate"),
        latency_ms=_latency(body.get("latency_ms", [0, 0])),
        duplicate_webhook_rate=_rate(body, "duplicate_webhook_rate"),
        drop_webhook_rate=_rate(body, "drop_webhook_rate"),
        seed=fields.integer({"seed": default_seed, **body}, "seed", -(2**63), 2**63),
    )


def _rate(body: answers.Json, name: str) -> float:
    return fields.number({name: 0, **body}, name, 0, 1)


def _latency(pair: object) -> tuple[float, float]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise answers.Invalid("latency_ms must be two numbers, the least and the most.")
    low, high = (fields.number({"latency_ms": value}, "latency_ms", 0, LATENCY_MAX_MS) for value in pair)
    if low > high:
        raise answers.Invalid("latency_ms must be two numbers, the least first.")
    return low, high
