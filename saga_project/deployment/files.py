"""The files in `deploy/` that list queues: their text, made from the declarations.

What lists none is written by hand. Text with places to fill in, because a reader of the file wants its
comments, which no library for YAML writes.
"""

import pathlib
import textwrap
from collections.abc import Iterator

from saga_project.deployment import layout, scaling
from saga_project.local import runfile

DEPLOY = runfile.ROOT / "deploy"

BEGIN = "# begin: written by `make deployment`"
END = "# end: written by `make deployment`"

WRITTEN = "# Written by `make deployment` from the declared sagas and tasks: change those, or {instead}."

MEBIBYTES_FOR_PROCESS = 128
"""What a worker's process is asked for; it is the same again before it is ended for it."""


class Unmarked(Exception):
    """A file has lost the marks between which it is written. Put both of them back, on lines of their own."""


def everything() -> dict[pathlib.Path, str]:
    """Each file that lists queues, and what it should say.

    Raises:
        Unmarked: compose.yaml has lost its marks.
    """
    workers = layout.workers()
    compose = DEPLOY / "compose.yaml"
    return {
        DEPLOY / "kubernetes" / "base" / "workers.yaml": _documents(_deployments(workers)),
        DEPLOY / "kubernetes" / "scaling" / "workers.yaml": _documents(_scaled_objects(workers)),
        compose: _between_marks(compose.read_text(), "\n".join(map(_service, workers))),
        DEPLOY / "systemd" / "saga-workers.target": _target(workers),
        **{
            DEPLOY / "systemd" / f"saga-worker@{worker.queue}.service.d" / "queue.conf": _drop_in(worker)
            for worker in workers
        },
    }


def _documents(documents: Iterator[str]) -> str:
    return "\n".join([WRITTEN.format(instead="patch this in an overlay"), "---\n".join(documents)])


def _between_marks(text: str, written: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Unmarked(f"compose.yaml must have the lines {BEGIN!r} and {END!r}.")
    return f"{before}{BEGIN}\n\n{textwrap.indent(written, '  ')}\n  {END}{after}"


def _arguments(worker: layout.Worker) -> list[str]:
    return [
        "celery",
        "--app=saga_project",
        "--no-color",
        "--quiet",
        "worker",
        f"--queues={worker.queue}",
        f"--concurrency={worker.processes}",
        f"--hostname={worker.queue}@%h",
        "--loglevel=INFO",
        "--without-gossip",
        "--without-mingle",
    ]


def _service(worker: layout.Worker) -> str:
    command = ", ".join(_arguments(worker))
    profile = "  profiles: [observability]\n" if worker.is_for_traces else ""
    return f"""\
worker-{worker.queue}:
  <<: *worker
{profile}\
  command: [{command}]
  # Its longest task is ended after {worker.hard_limit_s} s.
  stop_grace_period: {worker.grace_s}s
"""


def _deployments(workers: list[layout.Worker]) -> Iterator[str]:
    for worker in workers:
        name = f"worker-{worker.queue}"
        scaled = ', saga/scaled: "true"' if worker.is_scaled else ""
        command = "".join(f"            - {argument!r}\n" for argument in _arguments(worker)).replace(
            "'", '"'
        )
        memory = MEBIBYTES_FOR_PROCESS * (worker.processes + 1)
        yield f"""\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: saga-{name}
  labels: {{app.kubernetes.io/component: {name}{scaled}}}
spec:
  replicas: {worker.replicas}
  revisionHistoryLimit: 3
  selector:
    matchLabels: {{app.kubernetes.io/component: {name}}}
  strategy:
    rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata:
      labels: {{app.kubernetes.io/component: {name}}}
    spec:
      serviceAccountName: saga
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        seccompProfile: {{type: RuntimeDefault}}
      # Its longest task is ended after {worker.hard_limit_s} s.
      terminationGracePeriodSeconds: {worker.grace_s}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{app.kubernetes.io/component: {name}}}
      initContainers:
        # Waits for the Job `saga-migrate-pre`: it fails, and is tried again, until this code may run.
        - name: migrated
          image: saga
          command: [python, manage.py, migrate_pre, --check]
          resources:
            requests: {{cpu: 100m, memory: 192Mi}}
            limits: {{memory: 384Mi}}
{_CONTEXT}\
      containers:
        - name: worker
          image: saga
          command:
{command}\
{_CONTEXT}\
          # Ten minutes without a round: for so long a broker may be away, and no worker is called dead.
          livenessProbe:
            exec: {{command: [sh, alive.sh, "600"]}}
            initialDelaySeconds: 90
            periodSeconds: 30
            timeoutSeconds: 5
          resources:
            requests: {{cpu: {100 * worker.processes}m, memory: {memory}Mi}}
            limits: {{memory: {2 * memory}Mi}}
      volumes:
        - name: tmp
          emptyDir: {{medium: Memory, sizeLimit: 64Mi}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: saga-{name}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{app.kubernetes.io/component: {name}}}
"""


_CONTEXT = """\
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          envFrom:
            - configMapRef: {name: saga-config}
            - secretRef: {name: saga-secrets}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
"""


def _scaled_objects(workers: list[layout.Worker]) -> Iterator[str]:
    for worker in workers:
        if not worker.is_scaled:
            continue
        query = textwrap.indent(scaling.query(worker), " " * 10)
        yield f"""\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: saga-worker-{worker.queue}
spec:
  scaleTargetRef: {{name: saga-worker-{worker.queue}}}
  pollingInterval: 15
  minReplicaCount: {layout.LEAST}
  maxReplicaCount: {layout.MOST}
  # While the rows cannot be counted nobody is sent away.
  fallback: {{failureThreshold: 3, replicas: {layout.LEAST}, behavior: currentReplicasIfHigher}}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp:
          stabilizationWindowSeconds: 0
        # One in a minute, and not before five minutes in which fewer would have done.
        scaleDown:
          stabilizationWindowSeconds: 300
          policies: [{{type: Pods, value: 1, periodSeconds: 60}}]
  triggers:
    - type: postgresql
      authenticationRef: {{name: saga-rows}}
      metadata:
        # Steps for one replica: as many as it has processes.
        targetQueryValue: "{worker.processes}"
        query: |
{query}
"""


def _target(workers: list[layout.Worker]) -> str:
    wants = "".join(f"Wants=saga-worker@{worker.queue}.service\n" for worker in workers)
    return f"""\
{WRITTEN.format(instead="leave this as it is")}
[Unit]
Description=Order sagas: a worker for each queue
PartOf=saga.target
{wants}
[Install]
WantedBy=saga.target
"""


def _drop_in(worker: layout.Worker) -> str:
    return f"""\
{WRITTEN.format(instead=f"set PROCESSES in /etc/saga/worker-{worker.queue}.env")}
[Service]
Environment=PROCESSES={worker.processes}
# Its longest task is ended after {worker.hard_limit_s} s.
TimeoutStopSec={worker.grace_s}
"""
