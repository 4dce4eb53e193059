"""The API described to machines: OpenAPI 3.1, every response and every error with an example."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from drf_spectacular import extensions, generators, utils

from orders import webhooks
from orders.api import fields, keys, problems, samples, shapes

View = TypeVar("View", bound=Callable[..., Any])

EVERYWHERE = [
    problems.MALFORMED_REQUEST,
    problems.NOT_ACCEPTABLE,
    problems.INTERNAL_ERROR,
    problems.BUSY,
    problems.UNAVAILABLE,
]
WITH_TOKEN = [problems.NOT_AUTHENTICATED, problems.NOT_PERMITTED, problems.THROTTLED]
WITH_BODY = [
    problems.MALFORMED_BODY,
    problems.TOO_LARGE,
    problems.UNSUPPORTED_MEDIA_TYPE,
    problems.INVALID_BODY,
]
WITH_QUERY = [problems.INVALID_QUERY]


class TokenScheme(extensions.OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a token is shown."""

    target_class = "orders.api.auth.TokenAuthentication"
    name = "Token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """A header."""
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token ` and the secret of a token, such as `Token ord_...`.",
        }


class TextPattern(extensions.OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """What `fields.Text` takes, to the letter."""

    target_class = "orders.api.fields.Text"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """A string with something to see in it, if it must have something, and no control characters."""
        field: fields.Text = self.target
        any_sign = r"[^\u0000-\u001f\u007f-\u009f\u2028\u2029]"
        seen = r"[^\u0000-\u001f\u007f-\u009f\u2028\u2029\s]"
        pattern = f"^{any_sign}*$" if field.allow_blank else f"^{any_sign}*{seen}{any_sign}*$"
        least = {} if field.allow_blank else {"minLength": 1}
        return {"type": "string", **least, "maxLength": field.max_length, "pattern": pattern}


def operation(
    *,
    id: str,
    summary: str,
    description: str = "",
    tag: str,
    answers: dict[int, Any],
    problems_: Sequence[problems.Kind] = (),
    request: Any = None,
    query: Any = None,
    headers: Sequence[utils.OpenApiParameter] = (),
    public: bool = False,
) -> Callable[[View], View]:
    """Describe one operation of a view."""
    kinds = [*EVERYWHERE, *problems_]
    if not public:
        kinds += WITH_TOKEN
    if request is not None:
        kinds += WITH_BODY
    if query is not None:
        kinds += WITH_QUERY
    responses: dict[Any, Any] = {
        (status, media_of(answer)): answer_of(answer, status) for status, answer in answers.items()
    }
    for status in sorted({kind.status for kind in kinds}):
        responses[status, problems.MEDIA_TYPE] = _problem([kind for kind in kinds if kind.status == status])
    return utils.extend_schema(
        operation_id=id,
        summary=summary,
        description=description,
        tags=[tag],
        request=request,
        parameters=[*headers, *([query] if query is not None else [])],
        responses=responses,
        auth=[] if public else None,
    )


def callback(*, id: str, summary: str, sample: Any) -> Callable[[View], View]:
    """Describe a view that takes what a provider reports."""
    described = operation(
        id=id,
        tag="providers",
        summary=summary,
        description="Signed by the Standard Webhooks scheme; taken once, however often it is sent.",
        request=example(shapes.CallbackBody, sample, name=id),
        headers=SIGNATURE,
        answers={202: None},
        problems_=[problems.BAD_SIGNATURE, problems.THROTTLED],
        public=True,
    )
    return utils.extend_schema_view(post=described)


def move(*, id: str, summary: str, request: Any, sample: Any = samples.MOVE) -> Callable[[View], View]:
    """Describe a view by which an operator moves a saga."""
    described = operation(
        id=id,
        tag="sagas",
        summary=summary,
        description=(
            "Needs the permission. `seen` says what you decided on, as the saga shows it: if the saga has"
            " moved on since, nothing is done. The reason is kept with its events. Where two must agree it"
            " waits for the second, and `waits_for_approval` says so."
        ),
        request=example(request, sample),
        answers={202: shapes.MovedSaga},
        problems_=[problems.NOT_FOUND, problems.MOVE_NOT_ALLOWED, problems.MOVED_ON],
    )
    return utils.extend_schema_view(post=described)


def example(form: Any, value: Any, name: str = "") -> Any:
    """A request with an example."""
    return utils.OpenApiRequest(
        form, examples=[utils.OpenApiExample(name or form.__name__, value=value, request_only=True)]
    )


def media_of(answer: Any) -> str:
    """The media type of an answer."""
    return "text/event-stream" if answer is STREAM else "application/json"


IDEMPOTENCY_KEY = utils.OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 200, "pattern": keys.PATTERN},
    utils.OpenApiParameter.HEADER,
    required=True,
    description="New for every new order; the same when the same order is sent again. Kept for 24 hours.",
    examples=[utils.OpenApiExample("a UUID", value="3f6d1c9a-2b44-4c1e-9d1e-7a10cc398c4d")],
)
IF_NONE_MATCH = utils.OpenApiParameter(
    "If-None-Match",
    {"type": "string"},
    utils.OpenApiParameter.HEADER,
    description="An `ETag` that was received: 304 while it is still right.",
)
LAST_EVENT_ID = utils.OpenApiParameter(
    "Last-Event-ID",
    {"type": "string", "pattern": "^[0-9]{0,18}$"},
    utils.OpenApiParameter.HEADER,
    description="The `id` of the last event that was received: the stream goes on after it; empty for all.",
)
SIGNATURE = [
    utils.OpenApiParameter(
        name,
        {"type": "string", "pattern": r"^[\x21-\x7e]*$"},
        utils.OpenApiParameter.HEADER,
        required=True,
        description="As Standard Webhooks says.",
    )
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
]

STREAM = object()
"""An answer that is a stream of events."""


def answer_of(answer: Any, status: int) -> Any:
    """The answer with its example, if it has one."""
    if answer is STREAM:
        example = utils.OpenApiExample(
            "Transition", value=samples.STREAM, media_type="text/event-stream", response_only=True
        )
        return utils.OpenApiResponse(shapes.StreamMessage, "One message per transition.", [example])
    if answer is None:
        return utils.OpenApiResponse(description=NOTHING[status])
    name = answer.__name__
    value = samples.ANSWERS.get(name)
    if value is None and name.endswith("Page") and (item := samples.ANSWERS.get(name.removesuffix("Page"))):
        value = {"next": None, "previous": None, "results": [item]}
    examples = [utils.OpenApiExample(name, value=value, response_only=True)] if value is not None else []
    return utils.OpenApiResponse(answer, (answer.__doc__ or "").partition("\n")[0], examples)


NOTHING = {
    202: "It is taken.",
    204: "There is nothing to say.",
    304: "It is as the ETag says.",
}


def _problem(kinds: Sequence[problems.Kind]) -> utils.OpenApiResponse:
    return utils.OpenApiResponse(
        shapes.Problem,
        " · ".join(dict.fromkeys(kind.title for kind in kinds)),
        [
            utils.OpenApiExample(
                kind.slug, value=samples.problem(kind), response_only=True, media_type=problems.MEDIA_TYPE
            )
            for kind in dict.fromkeys(kinds)
        ],
    )


def finish(result: dict[str, Any], generator: Any, **_: Any) -> dict[str, Any]:
    """What drf-spectacular has no words for: exact objects, headers of answers, and links between them."""
    # It collects the components before it has read the webhooks, whose own would be missing.
    result["components"] = generator.registry.build({})
    schemas = result["components"]["schemas"]
    for name, schema in schemas.items():
        # A problem may say more than its common members, and so may what others send us.
        if schema.get("type") == "object" and name not in OPEN and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
    schemas["Payment"] |= PAYMENT
    result["components"] |= {"headers": HEADERS, "examples": {}}
    for path, methods in result["paths"].items():
        for method, described in methods.items():
            for status, answer in described["responses"].items():
                _headers(answer, path, method, int(status))
            for status, links in LINKS.get(described["operationId"], {}).items():
                described["responses"][status]["links"] = links
    result["paths"] = dict(sorted(result["paths"].items()))
    _tidy([result["paths"], result["webhooks"]], result["components"]["examples"])
    _tidy(schemas, {})
    return result


def _tidy(part: Any, examples: dict[str, Any]) -> None:
    """Say each example once, and leave out what is drf-spectacular's own business."""
    if isinstance(part, list):
        for item in part:
            _tidy(item, examples)
    elif isinstance(part, dict):
        part.pop("x-spec-enum-id", None)
        if isinstance(part.get("examples"), dict):
            for name, example in part["examples"].items():
                slug = name.replace(" ", "-")
                assert examples.setdefault(slug, example) == example, f"two examples are called {name}"
                part["examples"][name] = {"$ref": f"#/components/examples/{slug}"}
        for item in part.values():
            _tidy(item, examples)


PAYMENT = {
    "oneOf": [
        {
            "required": ["method", "token"],
            "properties": {"method": {"const": "card"}, "token": {"type": "string"}},
        },
        {"required": ["method"], "properties": {"method": {"const": "pix"}, "token": False}},
    ]
}
"""A card is paid with its token; a PIX has none."""

OPEN = {"Problem", "CallbackBody"}

HEADERS = {
    "RequestId": {
        "description": "Finds the request in the logs.",
        "schema": {"type": "string"},
    },
    "RetryAfter": {
        "description": "Seconds after which it is worth coming back.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Location": {
        "description": "Where what was made is found.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "ETag": {
        "description": "Send it as `If-None-Match` and get 304 while nothing has changed.",
        "schema": {"type": "string"},
    },
    "IdempotencyReplayed": {
        "description": "`true` where this is the answer to an earlier request with the same key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Authenticate": {
        "description": "What is wanted.",
        "schema": {"type": "string"},
    },
}

_MADE = {"createOrder", "createWebhookEndpoint"}
_RETRIED = {409, 429, 503}


def _headers(answer: dict[str, Any], path: str, method: str, status: int) -> None:
    names = {"X-Request-Id": "RequestId"}
    if status == 401:
        names["WWW-Authenticate"] = "Authenticate"
    if status in (429, 503):
        names["Retry-After"] = "RetryAfter"
    if method == "post" and path == "/api/v1/orders" and status in (202, 409):
        names["Retry-After"] = "RetryAfter"
    if method == "post" and path == "/api/v1/orders" and status == 202:
        names |= {"Location": "Location", "Idempotency-Replayed": "IdempotencyReplayed"}
    if method == "post" and path == "/api/v1/webhook-endpoints" and status == 201:
        names["Location"] = "Location"
    if method == "get" and path in ETAGGED and status in (200, 304):
        names["ETag"] = "ETag"
    if method == "get" and path == "/api/v1/orders/{order_id}" and status in (200, 304):
        names["Retry-After"] = "RetryAfter"
    answer["headers"] = {name: {"$ref": f"#/components/headers/{ref}"} for name, ref in names.items()}


ETAGGED = {"/api/v1/orders/{order_id}", "/api/v1/sagas/{saga_id}"}


def _link(operation: str, parameter: str, value: str) -> dict[str, Any]:
    return {operation: {"operationId": operation, "parameters": {parameter: value}}}


LINKS = {
    "createOrder": {
        "202": _link("getOrder", "order_id", "$response.body#/id")
        | _link("cancelOrder", "order_id", "$response.body#/id")
        | _link("getSaga", "saga_id", "$response.body#/saga/id")
        | _link("listSagaEvents", "saga_id", "$response.body#/saga/id")
        | _link("compensateSaga", "saga_id", "$response.body#/saga/id")
        | _link("retrySaga", "saga_id", "$response.body#/saga/id")
        | _link("resolveSaga", "saga_id", "$response.body#/saga/id")
        | _link("followOrder", "order_id", "$response.body#/id")
    },
    "createWebhookEndpoint": {
        "201": _link("getWebhookEndpoint", "endpoint_id", "$response.body#/id")
        | _link("updateWebhookEndpoint", "endpoint_id", "$response.body#/id")
        | _link("testWebhookEndpoint", "endpoint_id", "$response.body#/id")
        | _link("rotateWebhookSecret", "endpoint_id", "$response.body#/id")
        | _link("listWebhookDeliveries", "endpoint_id", "$response.body#/id")
        | _link("deleteWebhookEndpoint", "endpoint_id", "$response.body#/id")
    },
}
"""Where an answer leads: for readers, and for tests that follow them."""


@functools.cache
def document() -> dict[str, Any]:
    """The whole description; the same as docs/openapi.yaml."""
    described: dict[str, Any] = generators.SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return described


told = utils.OpenApiWebhook(
    name="message",
    decorator=utils.extend_schema(
        summary="What a merchant is told",
        description=(
            "Signed by the [Standard Webhooks](https://www.standardwebhooks.com) scheme: `webhook-id`,"
            " `webhook-timestamp`, `webhook-signature`. Sent at least once, with the same `webhook-id` each"
            " time; of one order in order. Types: "
            + ", ".join(f"`{type_}`" for type_ in webhooks.TYPES)
            + "."
        ),
        tags=["webhooks"],
        request=utils.OpenApiRequest(
            shapes.Message, examples=[utils.OpenApiExample("Message", value=samples.MESSAGE)]
        ),
        responses={
            "2XX": utils.OpenApiResponse(description="It was accepted; anything else is tried again.")
        },
    ),
)
