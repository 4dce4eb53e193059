"""The files in `deploy/`: as the declarations say, and good in the eyes of the tools that read them."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tomllib

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SCHEMAS = pathlib.Path(__file__).parent / "schemas"
KUBERNETES = ("1.31", "1.37")
"""The oldest and the newest release that the manifests are held against."""

pytestmark = pytest.mark.integration  # Each starts a tool.


def run(*command, code=0, **options):
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def tool(name):
    """A tool that came as a Python package."""
    return pathlib.Path(sysconfig.get_path("scripts")) / name


def system_tool(name):
    """A tool of the system's, which `make services` installs."""
    if found := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
        return found
    sentence = f"{name} is not here: `make services` installs what this test runs on."
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="module")
def rendered():
    return run(tool("kubectl"), "kustomize", DEPLOY / "kubernetes" / "overlays" / "example")


def test_the_files_that_list_queues_are_those_of_the_declarations():
    run(sys.executable, "-m", "saga_project.deployment", "compare", cwd=ROOT)


def test_nothing_is_senseless_in_the_example_of_a_cluster(rendered):
    told = run(
        sys.executable,
        "-m",
        "saga_project.deployment",
        "check",
        "--connections=600",
        cwd=ROOT,
        input=rendered,
    )

    assert told.endswith("0 senseless\n")


def test_a_value_that_every_process_would_refuse_is_found_before_it_is_applied():
    wrong = {"kind": "ConfigMap", "metadata": {"name": "saga-config"}, "data": {"API_RATE": "fast"}}
    told = run(
        sys.executable,
        "-m",
        "saga_project.deployment",
        "check",
        cwd=ROOT,
        code=1,
        input=yaml.safe_dump(wrong),
    )

    assert "API_RATE is 'fast'; it must be a whole number" in told


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_manifests_are_what_kubernetes_takes(rendered, version):
    kinds = set()
    for manifest in yaml.safe_load_all(rendered):
        name = manifest["metadata"]["name"]
        # All workers have the same text: one of them says it for all, in a ninth of the time.
        if "keda.sh" not in manifest["apiVersion"] and name.removeprefix("saga-worker-") in (
            name,
            "payments",
        ):
            kubernetes_validate.validate(manifest, version, strict=True)
            kinds.add(manifest["kind"])

    assert {"Deployment", "Job", "PodDisruptionBudget", "NetworkPolicy", "HorizontalPodAutoscaler"} < kinds


def test_what_is_migrated_before_a_rollout_and_after_it_and_whom_it_keeps_waiting(rendered):
    """Nothing but the half that old code does not notice may run by itself: it still does, then."""
    manifests = [*yaml.safe_load_all(rendered)]
    jobs = {one["metadata"]["name"]: one["spec"] for one in manifests if one["kind"] == "Job"}
    commands = {
        name: (command_of(spec["template"]["spec"]["containers"]), spec.get("suspend", False))
        for name, spec in jobs.items()
    }
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    units = {path.stem: path.read_text() for path in (DEPLOY / "systemd").glob("saga-migrate*.service")}
    waiting = {
        one["metadata"]["name"]: command_of(one["spec"]["template"]["spec"]["initContainers"])
        for one in manifests
        if one["kind"] == "Deployment" and "flower" not in one["metadata"]["name"]
    }

    pre, post = ["migrate_pre"], ["migrate", "--no-input"]
    assert commands == {"saga-migrate-pre": (pre, False), "saga-migrate": (post, True)}
    assert {"saga-web", "saga-beat", "saga-worker-payments"} <= waiting.keys()
    assert {tuple(command) for command in waiting.values()} == {("migrate_pre", "--check")}
    assert composed["migrate-pre"]["command"][2:] == pre
    assert "profiles" not in composed["migrate-pre"]
    assert (composed["migrate"]["command"][2:], composed["migrate"]["profiles"]) == (post, ["afterwards"])
    assert units["saga-migrate-pre"].splitlines().count(f"{PYTHON} manage.py migrate_pre") == 1
    assert units["saga-migrate"].splitlines().count(f"{PYTHON} manage.py migrate --no-input") == 1
    assert len(units) == 2


PYTHON = "ExecStart=/opt/saga/current/venv/bin/python"


def command_of(containers):
    """What the only one of these containers has `manage.py` do."""
    ((python, manage, *command),) = (one["command"] for one in containers)
    assert (python, manage) == ("python", "manage.py")
    return command


def test_the_scaled_objects_are_what_keda_takes(rendered):
    """By the definitions that KEDA itself installs in a cluster, made to refuse what they do not name."""
    schemas = {}
    for path in SCHEMAS.glob("*.yaml"):
        definition = yaml.safe_load(path.read_text())["spec"]
        schema = definition["versions"][0]["schema"]["openAPIV3Schema"]
        schemas[definition["names"]["kind"]] = closed(schema)
    found = [one for one in yaml.safe_load_all(rendered) if "keda.sh" in one["apiVersion"]]

    assert {one["kind"] for one in found} == {"ScaledObject", "TriggerAuthentication"}
    for manifest in found:
        jsonschema.validate(manifest, schemas[manifest["kind"]])


def closed(schema):
    """The same, refusing fields that it does not name: the server would drop them without a word."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: closed(part) for name, part in schema.items()}
    if isinstance(parts.get("properties"), dict) and "metadata" not in parts["properties"]:
        parts.setdefault("additionalProperties", False)
    return parts


def test_a_field_that_keda_does_not_know_would_be_found():
    schema = closed(
        yaml.safe_load((SCHEMAS / "scaledobjects.yaml").read_text())["spec"]["versions"][0]["schema"]
    )
    wrong = {"spec": {"scaleTargetRef": {"name": "a"}, "triggers": [], "minReplicas": 1}}

    with pytest.raises(jsonschema.ValidationError, match="minReplicas"):
        jsonschema.validate(wrong, schema["openAPIV3Schema"])


def test_what_is_scaled_counts_with_columns_that_its_role_may_read():
    queries = (DEPLOY / "kubernetes" / "scaling" / "workers.yaml").read_text()
    role = (DEPLOY / "kubernetes" / "scaling" / "role.sql").read_text()

    for table, alias in (("sagas_saga", "saga"), ("sagas_step", "step")):
        granted = (
            role.partition("GRANT SELECT (")[2]
            if table == "sagas_saga"
            else role.rpartition("GRANT SELECT (")[2]
        )
        granted = {name.strip() for name in granted.partition(")")[0].split(",")}
        used = {
            word.split(".")[1].strip("(),")
            for word in queries.replace("(", " ").split()
            if word.startswith(f"{alias}.")
        }
        assert used, table
        assert used <= granted, table


def test_compose_is_what_its_specification_says():
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_compose_starts_nothing_before_what_it_needs_and_stops_nothing_too_soon():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    files = [line.partition("=")[2] for line in (DEPLOY / "compose.env.example").read_text().splitlines()]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}

    assert {"rabbitmq", "valkey", "observability", "afterwards"} == profiles
    assert "rabbitmq,observability" in files
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= services.keys(), name
        if "SAGA_IMAGE" in service["image"] and name != "migrate-pre":
            # Not for the other half: that comes when all of these run.
            assert service["depends_on"]["migrate-pre"] == {"condition": "service_completed_successfully"}, (
                name
            )
            assert "migrate" not in service["depends_on"], name
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
        if name.startswith("worker-"):
            # Read from the text that was written with it, which a test holds equal to the declarations.
            assert int(service["stop_grace_period"].removesuffix("s")) > 65, name


def test_what_compose_mounts_is_there():
    for service in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            made = {"./tls", "./metrics-token"}  # By who installs it; docs/deployment.md says how.
            if source.startswith("./observability"):
                continue  # Its own tests look after it.
            assert not source.startswith("./") or source in made or (DEPLOY / source).exists(), source


def test_the_dockerfile_has_nothing_to_complain_about():
    run(tool("hadolint"), "--failure-threshold", "style", DEPLOY / "Dockerfile")


def test_the_image_has_every_package_of_the_product_and_no_other():
    packages = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    )
    script = (DEPLOY / "build.sh").read_text().replace("\\\n", "")
    built = set(script.partition('product="')[2].partition('"')[0].split())
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    # The sandbox is the outside world, the examples are to be read, and releases are made elsewhere.
    assert built == packages - {"sandbox", "examples", "distribution"}
    others = {
        "manage.py",
        "requirements.txt",
        "requirements-traces.txt",
        "deploy/build.sh",
        "deploy/alive.sh",
    }
    assert sent == built | others


def test_the_units_are_what_systemd_takes_and_hardened(tmp_path):
    units = tmp_path / "units"
    shutil.copytree(DEPLOY / "systemd", units)
    analyze = system_tool("systemd-analyze")
    for unit in units.glob("*.service"):
        # It looks whether the programs are there.
        unit.write_text(unit.read_text().replace("/opt/saga/current/venv/bin/python", sys.executable))
    queues = [path.name.partition(".d")[0] for path in units.glob("*.service.d")]
    assert "saga-worker@payments.service" in queues

    told = run(
        analyze, "verify", "--man=no", *(unit for unit in (
            "saga.target", "saga-workers.target", "saga-web.service", "saga-beat.service",
            "saga-flower.service", "saga-migrate-pre.service", "saga-migrate.service", *queues,
        )), env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"}, cwd=units,
    )  # fmt: skip
    # What other units of this machine are complained about is none of ours.
    assert [line for line in told.splitlines() if "saga" in line] == []
    # From 0, as tight as can be, to 100.
    run(
        analyze,
        "security",
        "--offline=true",
        "--threshold=20",
        "--no-pager",
        *sorted(units.glob("saga-*.service")),
    )


def test_a_unit_with_a_slip_would_be_found(tmp_path):
    unit = tmp_path / "saga-slip.service"
    unit.write_text("[Service]\nExecStart=/bin/true\nProtectSystm=strict\n")

    told = run(system_tool("systemd-analyze"), "verify", "--man=no", unit)

    assert "ProtectSystm" in told, "a warning: the unit would start, and not be protected"


def test_haproxy_takes_its_file(tmp_path):
    haproxy = system_tool("haproxy")
    pem = tmp_path / "site.pem"
    run(
        system_tool("openssl"), "req", "-x509", "-nodes", "-newkey", "ec",
        "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost",
        "-keyout", tmp_path / "key", "-out", tmp_path / "cert",
    )  # fmt: skip
    pem.write_text((tmp_path / "cert").read_text() + (tmp_path / "key").read_text())
    text = (DEPLOY / "haproxy.cfg").read_text().replace("/usr/local/etc/haproxy/tls/site.pem", str(pem))
    (tmp_path / "haproxy.cfg").write_text(text)

    run(haproxy, "-c", "-f", tmp_path / "haproxy.cfg")


def test_prometheus_takes_its_file():
    run(system_tool("promtool"), "check", "config", "--syntax-only", DEPLOY / "prometheus.yml")


def test_scripts_are_shell():
    for path in DEPLOY.glob("*.sh"):
        run("sh", "-n", path)


def test_a_process_that_does_not_go_round_is_found(tmp_path):
    alive = tmp_path / "alive"
    ask = ["sh", DEPLOY / "alive.sh", "60"]

    run(*ask, env={**os.environ, "ALIVE_FILE": str(alive)}, code=1)
    alive.touch()
    run(*ask, env={**os.environ, "ALIVE_FILE": str(alive)})
    os.utime(alive, (1_000_000_000, 1_000_000_000))
    assert "seconds ago" in run(*ask, env={**os.environ, "ALIVE_FILE": str(alive)}, code=1)
