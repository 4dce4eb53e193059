"""What is senseless in the manifests of a cluster, in words: its API takes it, and orders would suffer.

Temporal's chart refuses such values while it is rendered (`validations`). Here they are looked at as they
come out of `kubectl kustomize`, so whatever an overlay has changed counts.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from saga_project import env
from saga_project.deployment import layout
from saga_project.deployment.documents import Document, configuration

SECRETS = frozenset({
    "SECRET_KEY", "DATABASE_URL", "DATABASE_DIRECT_URL", "DATABASE_REPLICA_URL", "BROKER_URL",
    "PAYMENTS_WEBHOOK_SECRETS", "SHIPPING_WEBHOOK_SECRETS", "EMAIL_HOST_PASSWORD", "BROKER_SENTINEL_PASSWORD",
})  # fmt: skip
"""Variables that say a password: they belong in the Secret."""

FOR_DEVELOPERS = ("DEBUG", "PLAIN_HTTP", "WEBHOOKS_TO_PRIVATE_ADDRESSES")

READ_ELSEWHERE = frozenset({"WEB_URL", "FORWARDED_ALLOW_IPS", "ALIVE_FILE"})
"""What is read by Flower and by the web server itself, and not by the settings."""

OPTION = re.compile(r"--(\w+)=(.+)")

SHORTEST_WINDOW_S = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """How many replicas of a Deployment there may be."""

    least: int
    most: int


def problems(
    documents: Sequence[Document], *, workers: Sequence[layout.Worker], connections: int | None = None
) -> list[str]:
    """What makes no sense, a sentence each; empty where everything does.

    Args:
        documents: what would be applied.
        workers: those that the declarations ask for.
        connections: how many PostgreSQL, or its pooler, allows; None where that is not to be looked at.
    """
    deployments = {
        document["metadata"]["name"]: document
        for document in documents
        if document.get("kind") == "Deployment"
    }
    replicas = _replicas(deployments, documents)
    found = [
        *_configuration(configuration(documents)),
        *_secrets(documents),
        *_images(documents),
        *_workers(deployments, workers, configuration(documents)),
        *_replica_numbers(deployments, replicas),
        *_scaling(deployments, documents),
        *_budgets(documents, replicas),
        *_probes(deployments, configuration(documents)),
    ]
    if connections is not None:
        found += _connections(deployments, replicas, connections)
    return found


def _configuration(told: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(told):
        if name in SECRETS:
            yield f"{name} stands in the ConfigMap, where anybody may read it. Put it into the Secret."
        elif name not in env.VARIABLES and name not in READ_ELSEWHERE and not name.startswith("OTEL_"):
            yield f"{name} in the ConfigMap is read by nobody. docs/configuration.md has the names."
    for name in FOR_DEVELOPERS:
        if told.get(name, "0").lower() in ("1", "true"):
            yield f"{name} is on in the ConfigMap. That is for a developer's machine only: leave it out."


def _secrets(documents: Sequence[Document]) -> Iterator[str]:
    for document in documents:
        if document.get("kind") == "Secret" and (document.get("data") or document.get("stringData")):
            yield (
                f"The Secret {document['metadata']['name']} comes with its values, which then lie in the"
                " repository. Make it in the cluster, and name it only."
            )


def _images(documents: Sequence[Document]) -> Iterator[str]:
    images = {container["image"] for document in documents for container in _containers(document)}
    for image in sorted(images):
        _, _, tag = image.rpartition("/")[2].partition(":")
        if "@sha256:" not in image and tag in ("", "latest"):
            yield (
                f"The image {image} names no release: pods of one Deployment could run different code."
                " Set newTag, or digest, under `images` of the overlay."
            )


def _workers(
    deployments: Mapping[str, Document], workers: Sequence[layout.Worker], told: Mapping[str, str]
) -> Iterator[str]:
    wanted = {worker.queue: worker for worker in workers}
    served: set[str] = set()
    for name, deployment in deployments.items():
        options = _options(deployment)
        queues = options["queues"].split(",") if "queues" in options else []
        served.update(queues)
        for queue in queues:
            if queue not in wanted:
                yield f"{name} serves the queue {queue}, to which no declared saga and no task sends."
        grace = _pod(deployment).get("terminationGracePeriodSeconds", 30)
        hard = max((wanted[queue].hard_limit_s for queue in queues if queue in wanted), default=0)
        if grace <= hard:
            yield (
                f"{name} has terminationGracePeriodSeconds {grace}, and a task there may take {hard} s: it"
                " would be killed in the middle. Make it longer."
            )
    for queue in sorted(wanted.keys() - served):
        if wanted[queue].is_for_traces and not told.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            continue
        yield f"No Deployment serves the queue {queue}: its steps would stand still. Run `make deployment`."


def _replica_numbers(deployments: Mapping[str, Document], replicas: Mapping[str, Range]) -> Iterator[str]:
    for name, numbers in replicas.items():
        if numbers.least < 1:
            yield f"{name} may have {numbers.least} replicas. With none its part of every order stands still."
        if numbers.most < numbers.least:
            yield f"{name} has at most {numbers.most} replicas and at least {numbers.least}."
        if _component(deployments[name]) == "beat" and numbers.most > 1:
            yield f"{name} has {numbers.most} replicas. One clock is enough."


def _scaling(deployments: Mapping[str, Document], documents: Sequence[Document]) -> Iterator[str]:
    for document in documents:
        if document.get("kind") not in ("ScaledObject", "HorizontalPodAutoscaler"):
            continue
        name = document["metadata"]["name"]
        target = document["spec"]["scaleTargetRef"]["name"]
        if target not in deployments:
            yield f"{document['kind']} {name} scales {target}, and there is no such Deployment."
            continue
        behaviour = document["spec"].get("behavior") or (
            document["spec"].get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
        )
        window = behaviour.get("scaleDown", {}).get("stabilizationWindowSeconds", 300)
        if window < SHORTEST_WINDOW_S:
            yield (
                f"{document['kind']} {name} takes replicas away after {window} s. Give it"
                f" {SHORTEST_WINDOW_S} s at least: else they come and go with every gust."
            )
        processes = _options(deployments[target]).get("concurrency")
        for trigger in document["spec"].get("triggers", ()):
            told = trigger["metadata"].get("targetQueryValue")
            if trigger["type"] == "postgresql" and processes and told != processes:
                yield (
                    f"ScaledObject {name} counts {told} steps for a replica, and one has"
                    f" --concurrency={processes}. Make them equal: else one of them waits for the other."
                )


def _budgets(documents: Sequence[Document], replicas: Mapping[str, Range]) -> Iterator[str]:
    for document in documents:
        if document.get("kind") != "PodDisruptionBudget":
            continue
        name, spec = document["metadata"]["name"], document["spec"]
        least = replicas[name].least if name in replicas else None
        keeps_all = (
            least is not None and isinstance(spec.get("minAvailable"), int) and spec["minAvailable"] >= least
        )
        if keeps_all or spec.get("maxUnavailable") in (0, "0%") or spec.get("minAvailable") == "100%":
            yield (
                f"PodDisruptionBudget {name} never lets a pod go: no node could be drained. Say"
                " maxUnavailable: 1."
            )


def _probes(deployments: Mapping[str, Document], told: Mapping[str, str]) -> Iterator[str]:
    allowed = told.get("ALLOWED_HOSTS", "localhost").split(",")
    for name, deployment in deployments.items():
        if _component(deployment) != "web" or "*" in allowed:
            continue
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            asks = _pod(deployment)["containers"][0].get(kind, {}).get("httpGet")
            if asks is None:
                continue
            headers = {header["name"]: header["value"] for header in asks.get("httpHeaders", ())}
            host = headers.get("Host", "of its own address")
            if host not in allowed:
                yield (
                    f"The {kind} of {name} asks by the name {host}, which is not in ALLOWED_HOSTS: it would"
                    " be answered 400 for ever. Add it there, or name another with httpHeaders."
                )


def _connections(
    deployments: Mapping[str, Document], replicas: Mapping[str, Range], allowed: int
) -> Iterator[str]:
    from django.conf import settings

    needed = 0
    for name, deployment in deployments.items():
        options, most = _options(deployment), replicas[name].most
        if "queues" in options:
            needed += most * (int(options.get("concurrency", "1")) + 1)
        elif "workers" in options:
            needed += most * int(options["workers"]) * (settings.WEB_THREADS + 3)
    if needed > allowed:
        yield (
            f"With all replicas up {needed} connections to the database are wanted, and it allows {allowed}."
            " Raise max_connections, lower maxReplicaCount, or put a pooler between (docs/configuration.md)."
        )


def _replicas(deployments: Mapping[str, Document], documents: Sequence[Document]) -> dict[str, Range]:
    numbers = {}
    for name, deployment in deployments.items():
        fixed = deployment["spec"].get("replicas", 1)
        numbers[name] = Range(least=fixed, most=fixed)
    for document in documents:
        spec = document.get("spec") or {}
        match document.get("kind"):
            case "ScaledObject":
                found = Range(least=spec.get("minReplicaCount", 0), most=spec.get("maxReplicaCount", 100))
            case "HorizontalPodAutoscaler":
                found = Range(least=spec.get("minReplicas", 1), most=spec["maxReplicas"])
            case _:
                continue
        if spec["scaleTargetRef"]["name"] in numbers:
            numbers[spec["scaleTargetRef"]["name"]] = found
    return numbers


def _containers(document: Document) -> list[Document]:
    pod = _pod(document)
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]


def _pod(document: Document) -> dict[str, Any]:
    pod: dict[str, Any] = ((document.get("spec") or {}).get("template") or {}).get("spec") or {}
    return pod


def _options(deployment: Document) -> dict[str, str]:
    """The options of its first container's command that have a value."""
    container = _pod(deployment)["containers"][0]
    words = [*container.get("command", ()), *container.get("args", ())]
    return {match[1]: match[2] for word in words if (match := OPTION.fullmatch(word))}


def _component(deployment: Document) -> str:
    return str(deployment["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))
