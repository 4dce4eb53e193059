"""Settings of the whole project: one file, every variable read strictly, a reason beside each number.

Nothing secret has a default: outside the local stack, which makes its own secrets, the process
refuses to start without them. docs/configuration.md lists every variable.
"""

import pathlib

from saga_project import broker, env, postgres

BASE_DIR = pathlib.Path(__file__).resolve().parent.parent

# --- Django -----------------------------------------------------------------------------------

DEBUG = env.boolean("DEBUG", False)
SECRET_KEY = env.text("SECRET_KEY")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS", "")

PLAIN_HTTP = env.boolean("PLAIN_HTTP", False)
"""Whether this site is spoken to without TLS: on a developer's machine only."""

HSTS = env.duration("HSTS", "1h")
"""How long a browser that was here once insists on https. Short, because it cannot be taken back."""

SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not PLAIN_HTTP
# A probe of whether a process lives asks the process itself, not the proxy in front of it.
SECURE_REDIRECT_EXEMPT = [r"^(livez|readyz)$"]
SECURE_HSTS_SECONDS = 0 if PLAIN_HTTP else int(HSTS.total_seconds())
# HSTS for other names of the domain, and for good: that is for the domain's owner to say, not for one site.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

INSTALLED_APPS = [
    "saga_project.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "corsheaders",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "api",
    "sagas",
    "sagas.console",
    "payments",
    "inventory",
    "invoicing",
    "shipping",
    "orders",
    "sagas.console.api",
    "webhooks",
]
MIDDLEWARE = [
    "saga_project.middleware.RequestId",
    "saga_project.middleware.AccessLog",
    "saga_project.tracecontext.TraceContext",
    # Above all that may answer by itself: a page of another origin is to read problems, too.
    "corsheaders.middleware.CorsMiddleware",
    "saga_project.middleware.ContentSecurityPolicy",
    "saga_project.middleware.PrivateApi",
    "saga_project.middleware.DatabaseTrouble",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "saga_project.zones.ViewerZone",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "saga_project.urls"
ASGI_APPLICATION = "saga_project.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "saga_project" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- PostgreSQL ---------------------------------------------------------------------------------

DATABASE_URL = env.text("DATABASE_URL")

DATABASE_TRANSACTION_POOLING = env.boolean("DATABASE_TRANSACTION_POOLING", False)
"""Whether DATABASE_URL leads to a pooler that shares connections between transactions, such as pgbouncer with
`pool_mode = transaction`: then nothing is prepared, and the role's own settings must say what is below."""

DATABASE_DIRECT_URL = env.text("DATABASE_DIRECT_URL", "")
"""The same database without that pooler: for the one connection per process that listens for notifications,
and for `manage.py`, migrations among it; empty where DATABASE_URL is direct already."""

DATABASE_REPLICA_URL = env.text("DATABASE_REPLICA_URL", "")
"""A standby, from which the console's overview, its lists and the metrics are read; empty for none. Nothing
is decided by what is read there; see saga_project/replica.py."""

DATABASE_REPLICA_MAX_LAG = env.duration("DATABASE_REPLICA_MAX_LAG", "10s")
"""What is further behind is not shown: then these pages read from the primary."""

DATABASE_PEER_TIMEOUT = env.duration("DATABASE_PEER_TIMEOUT", "40s")
"""A host that vanished says no goodbye: after this much silence each side takes the other for dead. By the
kernel's own clock that takes two hours, and its locks stay meanwhile."""

DATABASE_LIMITS: dict[postgres.Role, postgres.Limits] = {
    # A person waits for the answer. A step that waits for a lock gives up before a request that waits for
    # the step does.
    "web": postgres.Limits(
        lock=env.duration("WEB_LOCK_TIMEOUT", "3s"),
        statement=env.duration("WEB_STATEMENT_TIMEOUT", "20s"),
        idle_in_transaction=env.duration("WEB_IDLE_IN_TRANSACTION_TIMEOUT", "15s"),
    ),
    # A step has ten seconds, and may compute in its transaction for as long; `manage.py check` compares.
    "worker": postgres.Limits(
        lock=env.duration("WORKER_LOCK_TIMEOUT", "2s"),
        statement=env.duration("WORKER_STATEMENT_TIMEOUT", "60s"),
        idle_in_transaction=env.duration("WORKER_IDLE_IN_TRANSACTION_TIMEOUT", "30s"),
    ),
    # A migration or a report takes the time it takes; but it does not wait for a lock with everybody
    # behind it.
    "command": postgres.Limits(
        lock=env.duration("COMMAND_LOCK_TIMEOUT", "10s"),
        statement=env.duration("COMMAND_STATEMENT_TIMEOUT", "0s"),
        idle_in_transaction=env.duration("COMMAND_IDLE_IN_TRANSACTION_TIMEOUT", "10m"),
    ),
}
"""By what a process is; see saga_project/postgres.py."""

DATABASES = {
    # A command's. What says that it is a web process or a worker goes by DATABASE_URL; see `postgres.assume`.
    "default": postgres.django_settings(
        DATABASE_DIRECT_URL or DATABASE_URL,
        limits=DATABASE_LIMITS["command"],
        peer=DATABASE_PEER_TIMEOUT,
        pooled=DATABASE_TRANSACTION_POOLING and not DATABASE_DIRECT_URL,
    )
}
if DATABASE_REPLICA_URL:
    DATABASES["replica"] = postgres.replica_settings(
        DATABASE_REPLICA_URL,
        limits=DATABASE_LIMITS["web"],
        peer=DATABASE_PEER_TIMEOUT,
        pooled=DATABASE_TRANSACTION_POOLING,
    )
    DATABASE_ROUTERS = ["saga_project.replica.Router"]
DATABASE_DIRECT = (
    postgres.connection_options(DATABASE_PEER_TIMEOUT) | postgres.parse(DATABASE_DIRECT_URL)
    if DATABASE_DIRECT_URL
    else None
)
"""Parameters for psycopg of a connection that is no pooler's; None for those of DATABASES."""

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("pt-br", "Português (Brasil)")]
FORMAT_MODULE_PATH = ["saga_project.formats"]
LOCALE_PATHS = [BASE_DIR / "saga_project" / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
APPEND_SLASH = False
"""Paths of the API have no trailing slash, and a wrong one should say so instead of redirecting."""

# A body larger than this is refused before it is read; an order of 100 lines is about 8 KB.
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

SECURE_CSP = {
    "default-src": ["'self'"],
    "img-src": ["'self'", "data:"],
    "object-src": ["'none'"],
    "base-uri": ["'self'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
}
"""Nothing inline, and nobody else's server. Named as in Django 6, which brings the middleware."""

LOG_FORMAT = env.choice("LOG_FORMAT", "line", among=("line", "json"))
"""How records look: a line for people, or an object on a line for machines (saga_project/logs.py)."""

ACCESS_LOG = env.boolean("ACCESS_LOG", False)
"""Whether each request is a line, too. What became of it the rows tell, and why one failed Django does."""

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "request_id": {"()": "saga_project.middleware.RequestIdFilter"},
        "ticks": {"()": "saga_project.logs.TicksAreDetails"},
    },
    "formatters": {
        "line": {"format": "{asctime} {levelname} {name} [{request_id}] {message}", "style": "{"},
        "json": {"()": "saga_project.logs.Json"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "filters": ["request_id"], "formatter": LOG_FORMAT},
    },
    "root": {"handlers": ["console"], "level": "INFO"},
    # Django's own handlers would say it twice, and without the request's id.
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        # It writes a line for each request. What became of a call is told once, by the saga's events.
        "httpx": {"level": "WARNING"},
        **{
            name: {"filters": ["ticks"]}
            for name in ("celery.beat", "celery.worker.strategy", "celery.app.trace")
        },
    },
}
"""To standard error, where the supervisor of the process collects it; a problem document has the same id."""

# --- The API --------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["api.auth.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["api.auth.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["api.throttling.PerToken"],
    "DEFAULT_PARSER_CLASSES": ["api.parsing.JSON"],
    "DEFAULT_RENDERER_CLASSES": ["api.rendering.JSON"],
    "EXCEPTION_HANDLER": "api.problems.handle",
    "UNAUTHENTICATED_USER": None,
    # The form of an answer is asked for by Accept; an unknown parameter is a slip, this one too.
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Orders",
    "VERSION": "1.0.0",
    "DESCRIPTION": (
        "Place an order, follow it, cancel it; and never pay twice.\n\n"
        "Begin with **Authorize** and a token. [What each problem means](/api/problems) · [this"
        " description](/api/schema), also [as YAML](/api/schema?format=yaml), for generators of clients."
    ),
    "SERVERS": [
        {"url": "/", "description": "The server that this description comes from."},
        {"url": "http://127.0.0.1:8000", "description": "The local stack."},
    ],
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    # The documentation page is served by ourselves, scripts, styles and all.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "/static/api/icon.svg",
    "PATH_CONVERTER_OVERRIDES": {"id": {"type": "string", "format": "uuid"}},
    "COMPONENT_SPLIT_PATCH": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": ["api.schema.finish"],
    "WEBHOOKS": ["webhooks.api.shapes.message"],
    "TAGS": [
        {"name": "orders", "description": "What customers and merchants do."},
        {"name": "products", "description": "What may be ordered."},
        {"name": "webhooks", "description": "How merchants are told."},
        {"name": "messages", "description": "What merchants are told."},
        {"name": "sagas", "description": "What the staff sees and does."},
        {"name": "providers", "description": "What the bank and the carrier report."},
    ],
}

STAFF_TOKENS_SHOW = ["orders.view_order", "sagas.view_sagainstance"]
"""The console's permissions whose holder sees as much as a token of the scope `staff` shows."""

IDEMPOTENCY_KEYS_LIVE = env.duration("IDEMPOTENCY_KEYS_LIVE", "24h")
"""How long a repeated request gets the first answer; clients give up long before."""

WEB_REQUEST_TIMEOUT = env.duration("WEB_REQUEST_TIMEOUT", "30s")
"""How long a client may take to send a request line and headers, and then again for the body. Without it
a client that sends a half, or vanishes from the network, would keep a socket for ever."""

WEB_THREADS = env.integer("WEB_THREADS", 16)
"""Requests that one web process works on at once; each thread keeps a connection to the database."""

FOLLOWERS_PER_PROCESS = env.integer("FOLLOWERS_PER_PROCESS", 1000, least=0)
"""Streams and long polls that one web process serves at once. They take sockets and memory, no threads."""

FOLLOWERS_PER_CALLER = env.integer("FOLLOWERS_PER_CALLER", 250, least=0)
"""How many of them may be one user's: a quarter, so that a user who follows everything leaves room."""

FOLLOWERS_HEARTBEAT = env.duration("FOLLOWERS_HEARTBEAT", "15s")
"""How often a stream on which nothing happens says so, and looks whether it missed something."""

FOLLOWERS_STAY = env.duration("FOLLOWERS_STAY", "10m")
"""A stream ends after this; its client comes back with `Last-Event-ID` and misses nothing. So a process
that is to be replaced is not kept for ever, and a client that is long gone is noticed."""

API_RATE = env.integer("API_RATE", 50)
API_BURST = env.integer("API_BURST", 1000)
"""Requests per second that a token may send all the time, and at once after a rest."""

STRANGERS_RATE = env.integer("STRANGERS_RATE", 5)
STRANGERS_BURST = env.integer("STRANGERS_BURST", 100)
"""The same for wrong tokens and wrong signatures, by address."""

LOGINS_EVERY = env.duration("LOGINS_EVERY", "1m")
LOGINS_BURST = env.integer("LOGINS_BURST", 10)
"""Passwords that may be tried at the admin's door: at once after a rest, and one more after each such time.
By address; by account four times as often; a browser that the account has used has its own allowance."""

CORS_ALLOWED_ORIGINS = env.words("CORS_ALLOWED_ORIGINS", "")
"""Pages of these origins may ask the API from a browser, each with a token of its reader. No cookie of ours
goes with that, so the admin is not to be reached so."""

CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_METHODS = ["GET", "HEAD", "POST", "PATCH", "DELETE"]
CORS_ALLOW_HEADERS = [
    "accept", "accept-language", "authorization", "content-type", "idempotency-key", "if-none-match",
    "last-event-id", "x-request-id",
]  # fmt: skip
CORS_EXPOSE_HEADERS = [
    "ETag", "Idempotency-Replayed", "Location", "RateLimit", "RateLimit-Policy", "Retry-After",
    "X-Request-Id",
]  # fmt: skip
"""What such a page may send and read beside what any may."""

WEBHOOKS_TO_PRIVATE_ADDRESSES = env.boolean("WEBHOOKS_TO_PRIVATE_ADDRESSES", False)
"""Whether merchants may be told by http and at private addresses: on a developer's machine only."""

WEBHOOKS_DISABLE_AFTER = env.duration("WEBHOOKS_DISABLE_AFTER", "3d")
"""An endpoint that answered nothing but errors for so long is disabled, and its owner told."""

WEBHOOKS_LOG_LIVES = env.duration("WEBHOOKS_LOG_LIVES", "30d")
"""How long one can read the event log, look up what was sent, and send it again."""

ADMIN_LOG_LIVES = env.duration("ADMIN_LOG_LIVES", "730d")
"""How long the admin remembers who did what; what was done to a saga is among its events for longer."""

EMAIL_HOST = env.text("EMAIL_HOST", "")
EMAIL_PORT = env.integer("EMAIL_PORT", 587)
EMAIL_USE_TLS = env.boolean("EMAIL_USE_TLS", True)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD", "")
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "orders@localhost")
EMAIL_TIMEOUT = 10
# Without a server, letters are written to the log of the process that sends them.
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'console'}.EmailBackend"

# --- The order's saga -----------------------------------------------------------------------------

ORDER_DEADLINE = env.duration("ORDER_DEADLINE", "18d")
"""For an order's whole way forward; longer than its longest waits, which have limits of their own."""

ORDER_REVIEW_ABOVE = env.amounts("ORDER_REVIEW_ABOVE", "BRL:1000000")
"""The total, in minor units of its currency, above which a person looks at an order before it is paid: ten
thousand reais, of which there are few. In a currency that is not named no total is too high."""

REVIEW_LIMIT = env.duration("REVIEW_LIMIT", "2d")
"""How long an order waits for that; then it is refused. A weekend, for nothing is reserved meanwhile."""

REVIEW_REMIND = env.duration("REVIEW_REMIND", "4h")
"""When people are reminded of it, once: on the day on which it was placed."""

PIX_LIMIT = env.duration("PIX_LIMIT", "30m")
"""How long a customer may take to pay by PIX."""

PIX_POLL = env.duration("PIX_POLL", "1m")
"""How often the bank is asked about a PIX meanwhile, in case its callback was lost."""

PIX_LOOK_BACK = env.duration("PIX_LOOK_BACK", "3d")
"""How long after it was given up the bank is asked about a PIX, ever more seldom: money that lands then
goes back even if its callback was lost. In three days that is a dozen questions."""

DELIVERY_LIMIT = env.duration("DELIVERY_LIMIT", "14d")
"""How long the carrier may take; then the order is turned back."""

DELIVERY_POLL = env.duration("DELIVERY_POLL", "30m")
"""How often the carrier is asked meanwhile, in case its callback was lost."""

# --- Celery: the fast path. The rows decide; see docs/architecture.md --------------------------

CELERY_BROKER_URL = env.text("BROKER_URL")

BROKER = broker.parse(
    CELERY_BROKER_URL,
    master=env.text("BROKER_SENTINEL_MASTER", ""),
    sentinel_password=env.text("BROKER_SENTINEL_PASSWORD", ""),
    ca_file=env.text("BROKER_CA_FILE", ""),
)
"""What answers there."""

ALIVE_FILE = env.text("ALIVE_FILE", "")
"""What a worker and beat touch while they go round; empty for nothing. A container's probe is its age."""

# --- The engine ---------------------------------------------------------------------------------

SAGAS_SWEEP_EVERY = env.duration("SAGAS_SWEEP_EVERY", "1s")
"""How often sagas whose time has come are looked for."""

SAGAS_CIRCUIT_THRESHOLD = env.integer("SAGAS_CIRCUIT_THRESHOLD", 5, least=1)
"""How many different orders in a row must find a provider out before all others wait for it."""

SAGAS_GRACE = env.duration("SAGAS_GRACE", "5s")
"""How long a saga's message may be under way before the sweep asks whether it was lost."""

SAGAS_INLINE = env.boolean("SAGAS_INLINE", True)
"""Whether a worker that has recorded a step goes on with the next one at once, in the same task."""

SAGAS_INLINE_TIME = env.duration("SAGAS_INLINE_TIME", "1s")
SAGAS_INLINE_STEPS = env.integer("SAGAS_INLINE_STEPS", 20, least=1)
"""How long, and for how many steps, one task does so: then others that wait in the queue have their turn."""

SAGAS_PINNED_QUEUES = env.words("SAGAS_PINNED_QUEUES", "")
"""Services whose local steps, too, only run on workers that serve their queue."""

SAGAS_LINE_DELAY = env.duration("SAGAS_LINE_DELAY", "20ms")
"""How long what stands in a queue's line may hold up new orders."""

SAGAS_LONGEST_LINE = env.integer("SAGAS_LONGEST_LINE", 0, least=0) or None
"""With so many orders in the line of their first step's queue no more are taken. Zero: all are."""

SAGAS_ARCHIVE_AFTER = env.duration("SAGAS_ARCHIVE_AFTER", "30d") or None
"""How long a saga stays in the live tables after its end, before it goes to the archive. Zero for ever."""

SAGAS_ARCHIVE_KEEP = env.duration("SAGAS_ARCHIVE_KEEP", "0s") or None
"""How long after its end an archived saga is kept; whole months are forgotten then. Zero for ever."""

SAGAS_CELERY_APP = "saga_project.celery.app"
"""The Celery application whose workers carry the engine's messages."""

SAGAS_ROLES_SEE = [
    "orders.order", "orders.orderline",
    "payments.payment", "payments.operation",
    "inventory.product", "inventory.reservation", "inventory.movement",
    "invoicing.invoice", "invoicing.series", "invoicing.cancellationwindow",
    "shipping.shipment", "shipping.trackingevent",
]  # fmt: skip
"""What operators' roles may look at beside the sagas, when they are first made. No keys, no tokens."""

SAGAS_FOUR_EYES = env.boolean("SAGAS_FOUR_EYES", False)
"""Whether interventions that move money wait until a second person agrees."""

SAGAS_OTLP_ENDPOINT = env.text("OTEL_EXPORTER_OTLP_ENDPOINT", "")
"""Where the sagas' traces are sent; empty for nowhere, and then nothing of it is imported."""

SAGAS_LOG_EVENTS = env.boolean("SAGAS_LOG_EVENTS", False)
"""Whether each event of a saga is a line of the log, too: of the process that sweeps."""

FLOWER_URL = env.text("FLOWER_URL", "")
"""Where operators reach Flower, for the links from a saga's attempts to their tasks; empty for none."""

# --- Providers ----------------------------------------------------------------------------------

PAYMENTS_URL = env.text("PAYMENTS_URL")
INVOICING_URL = env.text("INVOICING_URL")
SHIPPING_URL = env.text("SHIPPING_URL")

PAYMENTS_GATEWAY = env.text("PAYMENTS_GATEWAY", "payments.gateway.HttpGateway")
INVOICING_GATEWAY = env.text("INVOICING_GATEWAY", "invoicing.gateway.HttpGateway")
SHIPPING_GATEWAY = env.text("SHIPPING_GATEWAY", "shipping.gateway.HttpGateway")
"""Who speaks to each provider: the dotted path of a class with the methods of that module's `Gateway`."""

PROVIDER_TIMEOUT = env.duration("PROVIDER_TIMEOUT", "5s")
"""How long a provider may think before we count its answer as lost. Slow ones take 2 s; a step has 10."""

INVOICING_CNPJ = env.text("INVOICING_CNPJ", "11222333000181")
INVOICING_STATE = env.text("INVOICING_STATE", "SP")
"""Who issues the invoices, and from which state, whose law says how long they may be cancelled."""

SANDBOX_URL = env.text("SANDBOX_URL", "")
"""Where the providers' books can be read, if the providers are the sandbox; `manage.py audit` does."""

PAYMENTS_WEBHOOK_SECRETS = env.signing_secrets("PAYMENTS_WEBHOOK_SECRETS")
SHIPPING_WEBHOOK_SECRETS = env.signing_secrets("SHIPPING_WEBHOOK_SECRETS")
"""Each shared with one provider, which signs its callbacks with it (Standard Webhooks). The newest first;
a callback signed with any of them is taken, so that a secret is changed without losing one."""

# Who delivers parcels must not be able to say that an order is paid.
env.apart(
    PAYMENTS_WEBHOOK_SECRETS=PAYMENTS_WEBHOOK_SECRETS, SHIPPING_WEBHOOK_SECRETS=SHIPPING_WEBHOOK_SECRETS
)
