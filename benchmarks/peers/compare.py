"""What do others cost on the same work, and what do they promise for it?

The four local steps of `guarantees`, one statement each, on the same PostgreSQL and Valkey: once as our saga,
once with each peer, as its documentation has it. Every peer is installed, in a version that is pinned, into a
virtual environment of its own below `.run/peers`. What each promises is in docs/comparison.md.
"""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
from typing import Any

from benchmarks import documents, guarantees, measuring, systems, teams

HERE = pathlib.Path(__file__).resolve().parent
PLACE = teams.ROOT / ".run" / "peers"
SETTINGS = {"DJANGO_SETTINGS_MODULE": "benchmarks.peers.django_settings"}
NAMES = ("dbos", "procrastinate", "celery-saga")


class Peer:
    """One of them: where it is installed, and how it is given orders."""

    steps = systems.STEPS

    def __init__(self, name: str) -> None:
        self.name = name
        self.module = f"benchmarks.peers.{name.replace('-', '_')}_peer"
        self.python = PLACE / name / "bin" / "python"

    def install(self) -> str:
        """Install it, unless it is; which version it is.

        Raises:
            CalledProcessError: pip could not; it has said why.
        """
        wanted = (HERE / f"{self.name}.txt").read_text()
        mark = PLACE / self.name / "installed"
        if not mark.exists() or mark.read_text() != wanted:
            print(f"Installing {self.name} into {PLACE / self.name} ...", flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", PLACE / self.name], check=True)
            pip = [self.python, "-m", "pip", "install", "-qq", "--no-input", "--disable-pip-version-check"]
            subprocess.run([*pip, "-r", HERE / f"{self.name}.txt"], check=True)
            mark.write_text(wanted)
        return next(line for line in wanted.splitlines() if line.startswith(f"{self.name}=="))

    def start(self, field: teams.Field) -> None:
        """Prepare its tables; start its workers, and the process that submits."""
        environment = os.environ | SETTINGS | {"PYTHONPATH": str(teams.ROOT)}
        if self.name != "celery-saga":
            subprocess.run(
                [self.python, "-m", self.module, "prepare"],
                cwd=teams.ROOT,
                env=environment,
                check=True,
                stderr=field.log,
            )
        field.enlist(
            self.name, self._commands(), **SETTINGS, PYTHONPATH=str(teams.ROOT), BROKER_URL=self._broker()
        )
        self._submitter = subprocess.Popen(
            [self.python, "-m", self.module, "submit"],
            cwd=teams.ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=field.log,
            text=True,
            start_new_session=True,
        )
        field.at_end(self._stop)
        self._hear("ready")

    def submit(self, order: str) -> None:
        """Through the pipe, and wait for the answer; that costs a tenth of a millisecond."""
        assert self._submitter.stdin
        self._submitter.stdin.write(f"{order}\n")
        self._submitter.stdin.flush()
        self._hear("ok")

    def left(self, looker: measuring.Looker, prefix: str, orders: int) -> int:
        """By its own records, where they are in PostgreSQL; celery-saga's are not, so by the shop's."""
        if self.name == "dbos":
            done = looker.one(
                "SELECT count(*) FROM dbos.workflow_status"
                " WHERE workflow_uuid LIKE %s AND status IN ('SUCCESS', 'ERROR')",
                [f"{prefix}%"],
            )
            return orders - int(done)
        if self.name == "procrastinate":
            return int(
                looker.one(
                    "SELECT count(*) FROM procrastinate_jobs"
                    " WHERE status IN ('todo', 'doing') AND args->>'order' LIKE %s",
                    [f"{prefix}%"],
                )
            )
        return systems.Plain().left(looker, prefix, orders)

    def _commands(self) -> list[list[str]]:
        """Two workers with two processes, or threads, each; DBOS has threads of its own, so two of it."""
        python = str(self.python)
        numbers = range(teams.WORKERS)
        match self.name:
            case "dbos":
                return [[python, "-m", self.module, "work"] for _ in numbers]
            case "procrastinate":
                worker = [
                    "procrastinate",
                    "worker",
                    "--concurrency",
                    str(teams.CHILDREN),
                    "--queues",
                    "orders",
                ]
                return [[python, "-m", "django", *worker] for _ in numbers]
        commands = [teams.worker(self.module, f"{self.name}-{one}") for one in numbers]
        return [[python, *command[1:]] for command in commands]

    def _broker(self) -> str:
        if self.name != "celery-saga":
            return os.environ["BROKER_URL"]
        # In the environment, too, where `celery` itself looks first.
        return os.environ["BROKER_URL"].rpartition("/")[0] + "/3"

    def _hear(self, word: str) -> None:
        assert self._submitter.stdout
        heard = self._submitter.stdout.readline().strip()
        if heard != word:
            raise SystemExit(f"{self.name} cannot be given orders: {heard or 'its submitter has ended'}.")

    def _stop(self) -> None:
        if self._submitter.poll() is None:
            os.killpg(self._submitter.pid, signal.SIGKILL)
        self._submitter.wait()


def run(*, rounds: int, orders: int, only: list[str] | None, write: bool) -> None:
    """Install, measure, print, and write if asked."""
    peers = [Peer(name) for name in only or NAMES]
    versions = {}
    for peer in list(peers):
        try:
            versions[peer.name] = peer.install()
        except subprocess.CalledProcessError as error:
            print(f"{peer.name} cannot be installed, so it is left out: {error}", file=sys.stderr)
            peers.remove(peer)
    with teams.field("benchmarks.settings") as field:
        systems.open_shop()
        compared = [*peers, systems.Ours()]
        systems.start(field, compared)
        for peer in peers:
            # Its workers listen once an order has come through.
            with field.turn(peer.name):
                peer.submit(f"{peer.name}-first")
                measuring.wait(
                    lambda peer=peer: not peer.left(field.looker, f"{peer.name}-first", 1),
                    f"{peer.name} does not work; see {field.log.name}",
                )
        measured = guarantees.backlogs(field, compared, rounds=rounds, orders=orders)
        idle, _ = guarantees.one_at_a_time(field, compared, orders=max(orders // 5, 20))
        answer = guarantees.compare(measured, compared, rounds, orders) | {
            "versions": versions,
            "idle_ms": {name: measuring.quantiles(values) for name, values in idle.items()},
            "memory_mb": {
                name: sum(measuring.memory_mb(measuring.family(team.mains())))
                for name, team in field.teams.items()
            },
        }
    print(table(answer))
    if write:
        (teams.ROOT / "docs" / "benchmarks-peers.json").write_text(json.dumps(answer, indent=2) + "\n")
        documents.write(teams.ROOT / "docs" / "comparison.md", "peers", table(answer))


FIGURES = (
    ("orders_per_s", "sagas per second", 0),
    ("cpu_ms", "CPU per saga, ms", 1),
    ("statements", "SQL statements", 1),
    ("writes", "transactions that wrote", 1),
    ("broker_commands", "broker commands", 1),
    ("wal_kb", "write-ahead log, KB", 1),
)


def table(answer: dict[str, Any]) -> str:
    """The answer for people."""
    names = [*answer["versions"], "ours"]
    heads = [answer["versions"].get(name, name).replace("==", " ") for name in names]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for workload, half in answer["workloads"].items():
        for figure, title, digits in FIGURES:
            cells = [f"{half['systems'][name][figure]:.{digits}f}" for name in names]
            lines.append(f"| {workload}: {title} | {' | '.join(cells)} |")
        for key, title in (
            ("throughput_ratios", "ours to it, throughput"),
            ("cpu_ratios", "ours to it, CPU"),
        ):
            cells = [_ratio(half[key][name]) for name in names[:-1]]
            lines.append(f"| {workload}: {title} | {' | '.join(cells)} | |")
    idle = answer["idle_ms"]
    cells = [f"{idle[name]['p50']:.0f} / {idle[name]['p95']:.0f}" for name in names]
    lines.append(f"| one at a time, p50 / p95 ms | {' | '.join(cells)} |")
    cells = [f"{answer['memory_mb'][name]:.0f}" for name in names]
    lines += [
        f"| memory of all its processes, MB (PSS) | {' | '.join(cells)} |",
        "",
        f"Medians of {answer['rounds']} interleaved rounds of {answer['orders']} orders; two workers with two"
        f" processes each, of procrastinate with two threads, of DBOS with eight; {answer['machine']}.",
    ]
    return "\n".join(lines)


def _ratio(ratios: list[float]) -> str:
    return f"**{statistics.median(ratios):.2f}** ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
