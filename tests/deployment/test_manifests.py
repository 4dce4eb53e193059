"""What is senseless in the manifests of a cluster is said in words, and what is not is let pass."""

import copy

import pytest

from saga_project import env
from saga_project.deployment import layout, manifests
from saga_project.deployment.documents import configuration

PAYMENTS = layout.Worker(
    queue="payments", processes=4, hard_limit_s=310, steps=(("order-fulfilment", 2, "take-payment"),)
)


def deployment(name, *command, component, replicas=2, grace=30, **container):
    pod = {
        "terminationGracePeriodSeconds": grace,
        "containers": [{"image": "registry.example.com/saga:2026-11-30", "command": [*command], **container}],
    }
    return {
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/component": component}},
        "spec": {"replicas": replicas, "template": {"spec": pod}},
    }


def probe(host):
    return {"httpGet": {"path": "/livez", "port": 8000, "httpHeaders": [{"name": "Host", "value": host}]}}


SOUND = {
    "config": {
        "kind": "ConfigMap",
        "metadata": {"name": "saga-config-5f2kbm7c"},
        "data": {"ALLOWED_HOSTS": "shop.example.com,localhost", "WEB_URL": "https://shop.example.com"},
    },
    "web": deployment(
        "saga-web", "python", "-m", "saga_project.web", "--workers=2",
        component="web", livenessProbe=probe("localhost"),
    ),
    "worker": deployment(
        "saga-worker-payments", "celery", "worker", "--queues=payments", "--concurrency=4",
        component="worker-payments", grace=325,
    ),
    "beat": deployment("saga-beat", "celery", "beat", component="beat", replicas=1),
    "scaled": {
        "kind": "ScaledObject",
        "metadata": {"name": "saga-worker-payments"},
        "spec": {
            "scaleTargetRef": {"name": "saga-worker-payments"},
            "minReplicaCount": 2,
            "maxReplicaCount": 10,
            "triggers": [{"type": "postgresql", "metadata": {"targetQueryValue": "4"}}],
        },
    },
    "budget": {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "saga-worker-payments"},
        "spec": {"maxUnavailable": 1},
    },
}  # fmt: skip


def pod(found):
    return found["spec"]["template"]["spec"]


def look(found, **options):
    return manifests.problems([*found.values()], workers=[PAYMENTS], **options)


def test_what_makes_sense_is_let_pass():
    assert look(SOUND, connections=400) == []


SENSELESS = {
    "a queue without a worker": (
        lambda all_: all_.pop("worker") and all_.pop("scaled"),
        "No Deployment serves the queue payments",
    ),
    "a queue that nobody declares": (
        lambda all_: pod(all_["worker"])["containers"][0].update(command=["--queues=payments,paymets"]),
        "serves the queue paymets, to which no declared saga",
    ),
    "killed in the middle of a task": (
        lambda all_: pod(all_["worker"]).update(terminationGracePeriodSeconds=300),
        "terminationGracePeriodSeconds 300, and a task there may take 310 s",
    ),
    "scaled to nothing": (
        lambda all_: all_["scaled"]["spec"].update(minReplicaCount=0),
        "saga-worker-payments may have 0 replicas",
    ),
    "scaled to nothing by leaving it out": (
        lambda all_: all_["scaled"]["spec"].pop("minReplicaCount"),
        "saga-worker-payments may have 0 replicas",
    ),
    "no web": (lambda all_: all_["web"]["spec"].update(replicas=0), "saga-web may have 0 replicas"),
    "most below least": (
        lambda all_: all_["scaled"]["spec"].update(maxReplicaCount=1),
        "at most 1 replicas and at least 2",
    ),
    "two clocks": (lambda all_: all_["beat"]["spec"].update(replicas=2), "One clock is enough"),
    "another number of steps than of processes": (
        lambda all_: all_["scaled"]["spec"]["triggers"][0]["metadata"].update(targetQueryValue="1"),
        "counts 1 steps for a replica, and one has --concurrency=4",
    ),
    "scales what is not there": (
        lambda all_: all_["scaled"]["spec"]["scaleTargetRef"].update(name="saga-worker-payment"),
        "scales saga-worker-payment, and there is no such Deployment",
    ),
    "comes and goes": (
        lambda all_: all_["scaled"]["spec"].update(
            advanced={
                "horizontalPodAutoscalerConfig": {
                    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}
                }
            }
        ),
        "takes replicas away after 0 s",
    ),
    "no release": (
        lambda all_: pod(all_["web"])["containers"][0].update(image="registry.example.com:5000/saga"),
        "The image registry.example.com:5000/saga names no release",
    ),
    "a secret in the open": (
        lambda all_: all_["config"]["data"].update(SECRET_KEY="abc"),
        "SECRET_KEY stands in the ConfigMap",
    ),
    "a slip in a name": (
        lambda all_: all_["config"]["data"].update(API_RATES="5"),
        "API_RATES in the ConfigMap is read by nobody",
    ),
    "a developer's switch": (
        lambda all_: all_["config"]["data"].update(PLAIN_HTTP="1"),
        "PLAIN_HTTP is on in the ConfigMap",
    ),
    "a probe that is refused for ever": (
        lambda all_: all_["config"]["data"].update(ALLOWED_HOSTS="shop.example.com"),
        "asks by the name localhost, which is not in ALLOWED_HOSTS",
    ),
    "a node that is never drained": (
        lambda all_: all_["budget"].update(spec={"minAvailable": 2}),
        "never lets a pod go",
    ),
    "a secret that comes along": (
        lambda all_: all_.update(
            secret={
                "kind": "Secret",
                "metadata": {"name": "saga-secrets"},
                "stringData": {"SECRET_KEY": "abc"},
            }
        ),
        "The Secret saga-secrets comes with its values",
    ),
}


@pytest.mark.parametrize("what", SENSELESS)
def test_what_makes_no_sense_is_said_in_words(what):
    spoil, sentence = SENSELESS[what]
    found = copy.deepcopy(SOUND)
    spoil(found)

    told = look(found)

    assert any(sentence in problem for problem in told), told
    assert len(told) == 1


def test_a_worker_for_traces_is_missed_where_they_are_wanted():
    traces = layout.Worker(queue="sagas-traces", processes=1, hard_limit_s=60, steps=())
    wanted = copy.deepcopy(SOUND)
    wanted["config"]["data"]["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://collector:4318"

    assert manifests.problems([*SOUND.values()], workers=[PAYMENTS, traces]) == []
    assert "queue sagas-traces" in manifests.problems([*wanted.values()], workers=[PAYMENTS, traces])[0]


def test_what_says_a_password_is_a_variable_of_ours():
    assert env.VARIABLES.keys() > manifests.SECRETS


def test_more_connections_than_the_database_allows():
    # Ten workers of four and one, two web pods of two processes with 16 threads and three more.
    assert look(SOUND, connections=10 * 5 + 2 * 2 * 19) == []
    assert "126 connections to the database are wanted, and it allows 125" in look(SOUND, connections=125)[0]


def test_the_configuration_is_that_of_the_project_alone():
    other = {"kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "abc"}}

    assert configuration([other, SOUND["config"]]) == SOUND["config"]["data"]


def test_every_worker_has_longer_than_its_longest_task():
    workers = {worker.queue: worker for worker in layout.workers()}

    # orders.look-back goes there, and may take 310 s.
    assert workers["payments"].hard_limit_s == 310
    assert workers["shipping"].hard_limit_s == 65
    assert all(worker.grace_s > worker.hard_limit_s > 0 for worker in workers.values())
