"""The image's build steps, run in an empty directory, and what they built, run as an image would be.

`python -m tests.deployment.trial [--built DIRECTORY]` (as root; `make image-trial`; PYTHON names an
interpreter that everybody may run):

1. `deploy/build.sh` builds into an empty directory, as the Dockerfile has it do.
2. The whole file system is made read-only for the processes, but for a small /tmp of their own; they run as
   an ordinary account, with no capability and no way to gain one.
3. Migrate, `check --deploy`, web, a worker for each queue, beat, on a PostgreSQL and a Valkey of their own;
   and HAProxy with `deploy/haproxy.cfg` in front of the web, with a certificate made for the occasion.
4. Each is asked how it is, as its probe would ask. An order is placed over HTTPS, and must be fulfilled.
5. SIGTERM: each must end by itself, in the time that it is given.

It prints what it saw, and how much memory each process had.
"""

import argparse
import base64
import contextlib
import json
import os
import pathlib
import pwd
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from saga_project.local import servers, throwaway
from tests.support import waiting

ROOT = pathlib.Path(__file__).resolve().parents[2]
ACCOUNT = pwd.getpwnam("nobody")  # Whom the throw-away PostgreSQL lets in.

ORDER = {
    "customer": {"name": "Alice", "email": "alice@example.com", "tax_id": "52998224725"},
    "lines": [{"sku": "MUG-STONEWARE", "quantity": 2}],
    "payment": {"method": "card", "token": "tok_ok"},
    "shipping_address": {
        "recipient": "Alice", "street": "Rua das Flores", "number": "12",
        "city": "São Paulo", "state": "SP", "postal_code": "01310-100", "country": "BR",
    },
}  # fmt: skip

# A mount namespace of its own: everything that is one mount with / is read-only, and so is what was built.
INSIDE = """\
set -eu
mount --make-rprivate /
mount -o remount,bind,ro /
mount --bind "$BUILT" "$BUILT"
mount -o remount,bind,ro "$BUILT"
mount -t tmpfs -o size=64m,mode=1777 tmpfs /tmp
cd "$BUILT/app"
exec setpriv --reuid="$AS" --regid="$AS" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
    -- "$@"
"""


class Inside:
    """Starts processes of what was built, as an image would run them."""

    def __init__(self, built: pathlib.Path, place: pathlib.Path, env: dict[str, str]) -> None:
        self.built, self.place, self.env = built, place, env
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def command(self, *words: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", INSIDE, "inside", *words]

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.built}/venv/bin:/usr/local/bin:/usr/bin:/bin",
            "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "ALIVE_FILE": "/tmp/alive",
            "BUILT": str(self.built), "AS": str(ACCOUNT.pw_uid), **self.env,
        }  # fmt: skip

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            self.command(*words),
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == code, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout.strip()

    def start(self, name: str, *words: str) -> None:
        with (self.place / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                self.command(*words), env=self.environment(), stdout=log, stderr=log, start_new_session=True
            )

    def probe(self, name: str, *words: str) -> bool:
        """Whether a probe in the container of that process succeeds: in its namespace and as its account."""
        pid = self.running[name].pid
        done = subprocess.run(
            ["nsenter", f"--target={pid}", "--mount", "--wdns=" + str(self.built / "app"), "setpriv",
             f"--reuid={ACCOUNT.pw_uid}", f"--regid={ACCOUNT.pw_gid}", "--clear-groups", "--", *words],
            env=self.environment(), capture_output=True,
        )  # fmt: skip
        return done.returncode == 0

    def stop(self) -> dict[str, float]:
        """SIGTERM to all; how long each took, in seconds."""
        began = time.monotonic()
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        took = {}
        for name, process in self.running.items():
            code = process.wait(120)
            # A web server of one process ends its work, and then itself by the same signal.
            assert code in (0, -signal.SIGTERM), f"{name} ended with {code}"
            took[name] = time.monotonic() - began
        self.running = {}
        return took

    def end(self) -> None:
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def signing_secret() -> str:
    """One of Standard Webhooks, for this run alone."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def ask(url: str, **options: object) -> tuple[int, dict[str, object]]:
    """The status and the document of an answer; 0 where there is none."""
    headers = {"Content-Type": "application/json", "Host": "localhost", **options.pop("headers", {})}  # type: ignore[dict-item]
    request = urllib.request.Request(url, headers=headers, **options)  # type: ignore[arg-type]
    try:
        with OPENER.open(request, timeout=10) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text[:1] == b"{" else {"text": text.decode()}
    except urllib.error.HTTPError as error:
        return error.code, {"text": error.read().decode(), "location": error.headers.get("Location")}
    except OSError:
        return 0, {}


class Told(urllib.request.HTTPRedirectHandler):
    """A redirection is an answer here."""

    def redirect_request(self, *_: object) -> None:
        return None


OPENER = urllib.request.build_opener(
    # The certificate was made a moment ago; who speaks TLS here is looked at by nobody.
    urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),
    Told(),
)


def memory_mb(group: int) -> int:
    """What the processes of a session have in memory, in megabytes; shared pages by their share."""
    total = 0
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(path.name)) == group:
                text = (path / "smaps_rollup").read_text()
                total += int(text.split("Pss:")[1].split()[0])
    return total // 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.deployment.trial", description=__doc__)
    parser.add_argument("--built", type=pathlib.Path, help="what deploy/build.sh has built already")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit(
            "Only root can make the file system read-only for others: run it as root, in a container perhaps."
        )
    place = pathlib.Path(tempfile.mkdtemp(prefix="saga-image-", dir="/var/tmp"))
    place.chmod(0o711)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, place, ignore_errors=True)
        built = options.built.resolve() if options.built else place / "built"
        if not options.built:
            began = time.monotonic()
            subprocess.run(["sh", ROOT / "deploy" / "build.sh", built], check=True)
            print(f"built in {time.monotonic() - began:.0f} s")
        size = subprocess.run(
            ["du", "-sm", built / "venv", built / "app"], capture_output=True, text=True, check=True
        )
        print("megabytes:", " ".join(size.stdout.split()))
        try_it(built, place, undo)


def try_it(built: pathlib.Path, place: pathlib.Path, undo: contextlib.ExitStack) -> None:
    postgres = servers.Postgres(place / "postgres", durable=False)
    valkey = servers.Valkey(place / "valkey", durable=False)
    for server in (postgres, valkey):
        undo.callback(server.discard)
        undo.callback(server.stop)
        server.start((place / "server.log").open("wb"))
    port, callbacks, sandbox_port = (servers.free_port() for _ in range(3))
    front = {name: servers.free_port() for name in ("http", "https", "metrics")}
    site = f"https://127.0.0.1:{front['https']}"
    url, sandbox = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{sandbox_port}"
    env = throwaway.environment(place="", database_url=postgres.url, broker_url=valkey.url)
    env |= {
        "PAYMENTS_URL": f"{sandbox}/bank",
        "INVOICING_URL": f"{sandbox}/fiscal",
        "SHIPPING_URL": f"{sandbox}/carrier",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "PAYMENTS_WEBHOOK_SECRETS": signing_secret(),
        "SHIPPING_WEBHOOK_SECRETS": signing_secret(),
        "PLAIN_HTTP": "0", "ALLOWED_HOSTS": "shop.example.com,localhost,127.0.0.1", "LANG": "C.UTF-8",
    }  # fmt: skip
    inside = Inside(built, place, env)
    undo.callback(inside.end)
    print(
        "account:",
        inside.run("id", "-u"),
        "· capabilities:",
        inside.run("grep", "CapEff", "/proc/self/status"),
    )
    for where in (built / "app", built / "venv", pathlib.Path("/var/tmp"), pathlib.Path("/")):
        inside.run("sh", "-c", f"! touch {where}/written 2>/dev/null")
    print("read-only:", built / "app", built / "venv", "/var/tmp", "/")

    assert not inside.run("python", "manage.py", "migrate_pre", "--check", code=1), (
        "it is silent, or it broke"
    )
    inside.run("python", "manage.py", "migrate_pre", "--verbosity", "0")
    inside.run("python", "manage.py", "migrate_pre", "--check")
    inside.run("python", "manage.py", "migrate", "--check")
    inside.run("python", "manage.py", "check", "--fail-level", "WARNING")
    inside.run("python", "manage.py", "check", "--deploy", "--fail-level", "WARNING")
    inside.run("python", "manage.py", "seed_catalogue")
    token = inside.run("python", "manage.py", "token", "create", "alice", "--create-user").splitlines()[-1]
    queues = _queues(inside)

    books = place / "books"
    books.mkdir()
    outside = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--port", str(sandbox_port), "--data", books],
        cwd=ROOT, env=os.environ | env | {"WEBHOOK_TARGET": f"http://127.0.0.1:{callbacks}"},
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    undo.callback(outside.wait)
    undo.callback(outside.terminate)

    began = time.monotonic()
    inside.start(
        "web", "python", "-m", "saga_project.web", "--host=127.0.0.1", f"--port={port}", "--workers=2"
    )
    # The sandbox reports by plain http, which the site does not take.
    inside.start(
        "callbacks", "env", "PLAIN_HTTP=1",
        "python", "-m", "saga_project.web", "--host=127.0.0.1", f"--port={callbacks}", "--workers=1",
    )  # fmt: skip
    proxy = haproxy(place, web=port, **front)
    undo.callback(proxy.wait)
    undo.callback(proxy.terminate)
    for queue in queues:
        inside.start(f"worker-{queue}", "celery", "--app=saga_project", "--no-color", "--quiet", "worker",
                     f"--queues={queue}", "--concurrency=2", f"--hostname={queue}@%h", "--loglevel=INFO",
                     "--without-gossip", "--without-mingle")  # fmt: skip
    inside.start("beat", "celery", "--app=saga_project", "--no-color", "--quiet", "beat",
                 "--schedule=/tmp/beat-schedule", "--pidfile=", "--loglevel=INFO")  # fmt: skip
    waiting.until(lambda: ask(f"{url}/livez")[0] == 200, "/livez", seconds=180)
    waiting.until(lambda: ask(f"{url}/readyz")[1].get("status") == "ok", "/readyz", seconds=180)
    waiting.until(lambda: ask(f"http://127.0.0.1:{callbacks}/livez")[0] == 200, "callbacks", seconds=180)
    others = [name for name in inside.running if name not in ("web", "callbacks")]
    for name in others:
        waiting.until(lambda name=name: inside.probe(name, "sh", "alive.sh", "600"), name, seconds=180)
    print(f"all well after {time.monotonic() - began:.0f} s: /livez, /readyz, alive.sh of {len(others)}")

    staff = inside.run(
        "python", "manage.py", "token", "create", "prometheus", "--create-user", "--scope", "staff"
    )
    bearer = {"Authorization": f"Token {staff.splitlines()[-1]}"}
    waiting.until(lambda: ask(f"{site}/livez")[0] == 200, "the proxy finds the web ready", seconds=60)
    status, told = ask(f"http://127.0.0.1:{front['http']}/api/v1/orders")
    assert (status, str(told["location"])[:8]) == (308, "https://"), told
    assert ask(f"{site}/metrics", headers=bearer)[0] == 404, "not for the outside"
    status, told = ask(f"http://127.0.0.1:{front['metrics']}/metrics", headers=bearer)
    assert (status, "sagas_live" in str(told["text"])) == (200, True), (status, told)
    assert ask(f"http://127.0.0.1:{front['metrics']}/admin/")[0] == 404, "for metrics alone"
    print("haproxy: https, http redirected with 308, /metrics on the inside alone")

    status, order = ask(
        f"{site}/api/v1/orders", data=json.dumps(ORDER).encode(), method="POST",
        headers={"Authorization": f"Token {token}", "Idempotency-Key": "the-first"},
    )  # fmt: skip
    assert status == 202 or status == 201, (status, order)

    def now() -> object:
        return ask(f"{site}/api/v1/orders/{order['id']}", headers={"Authorization": f"Token {token}"})[1].get(
            "status"
        )

    waiting.until(lambda: now() == "fulfilled", "the order is fulfilled", seconds=180)
    print(f"order {order.get('number', order['id'])}: {now()}")
    print("megabytes of each:", {name: memory_mb(process.pid) for name, process in inside.running.items()})
    took = inside.stop()
    print(f"SIGTERM: {len(took)} ended by themselves, the last after {max(took.values()):.1f} s")


def haproxy(place: pathlib.Path, *, web: int, http: int, https: int, metrics: int) -> subprocess.Popen[bytes]:
    """HAProxy with the committed file, on other ports and before one web process."""
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-subj", "/CN=localhost", "-keyout", place / "key", "-out", place / "cert"],
        check=True, capture_output=True,
    )  # fmt: skip
    (place / "site.pem").write_text((place / "cert").read_text() + (place / "key").read_text())
    text = (ROOT / "deploy" / "haproxy.cfg").read_text()
    for old, new in {
        "bind :80\n": f"bind 127.0.0.1:{http}\n",
        "bind :443": f"bind 127.0.0.1:{https}",
        "bind :8081": f"bind 127.0.0.1:{metrics}",
        "/usr/local/etc/haproxy/tls/site.pem": str(place / "site.pem"),
        "server-template web 8 web:8000": f"server web1 127.0.0.1:{web}",
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (place / "haproxy.cfg").write_text(text)
    with (place / "haproxy.log").open("wb") as log:
        return subprocess.Popen(
            ["/usr/sbin/haproxy", "-db", "-f", place / "haproxy.cfg"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _queues(inside: Inside) -> list[str]:
    script = (
        "import django, json; django.setup();"
        "from saga_project import queues; print(json.dumps(queues.everything()))"
    )
    told = inside.run("env", "DJANGO_SETTINGS_MODULE=saga_project.settings", "python", "-c", script)
    queues: list[str] = json.loads(told.splitlines()[-1])
    return queues


if __name__ == "__main__":
    main()
