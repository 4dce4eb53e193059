"""The APIs described to machines: OpenAPI 3.1, every response and every error with an example."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from drf_spectacular import extensions, generators, utils
from rest_framework import serializers

from api import fields, idempotency, problems
from api.serializers import Object, Shape

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
WITH_KEY = [problems.KEY_MISSING, problems.KEY_INVALID, problems.KEY_REUSED, problems.IN_PROGRESS]


class Fault(Shape):
    """One thing that is wrong with a request."""

    pointer = serializers.CharField(
        required=False, allow_blank=True, help_text="Where in the body: a JSON pointer (RFC 6901)."
    )
    parameter = serializers.CharField(required=False, help_text="Which query parameter.")
    detail = serializers.CharField(help_text="What is allowed.")
    code = serializers.CharField()


class Problem(Shape):
    """An error (RFC 9457)."""

    type = serializers.CharField(help_text="Names the kind of problem, and leads to its page.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance_ = serializers.CharField(help_text="What was asked for.")
    request_id = serializers.CharField(allow_null=True, help_text="Also in the logs, and in X-Request-Id.")
    errors_ = Fault(many=True, required=False)

    exact = False


HEADERS = {
    "X-Request-Id": {"description": "Finds the request in the logs.", "schema": {"type": "string"}},
    "Retry-After": {
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
    "Idempotency-Replayed": {
        "description": "`true` where this is the answer to an earlier request with the same key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "RateLimit-Policy": {
        "description": "How many requests of this token may come at once (`q`), and within how many seconds"
        " as many come back (`w`), evenly.",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "How many more may come now (`r`), and after how many seconds without any all have"
        " come back (`t`).",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {"description": "What is wanted.", "schema": {"type": "string"}},
}
"""What answers may carry; the description says each once."""

ALWAYS = {"WWW-Authenticate": {401}, "Retry-After": {429, 503}}
"""The statuses with which every operation sends it."""

NOTHING = {
    202: "It is taken.",
    204: "There is nothing to say.",
    304: "It is as the ETag says.",
}
"""What an answer without a body says, by its status."""


def header(name: str, schema: Mapping[str, Any], description: str, **more: Any) -> utils.OpenApiParameter:
    """A header of a request."""
    return utils.OpenApiParameter(
        name, dict(schema), utils.OpenApiParameter.HEADER, description=description, **more
    )


IDEMPOTENCY_KEY = header(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": idempotency.LONGEST, "pattern": idempotency.PATTERN},
    "New for every new order; the same when the same order is sent again. Kept for 24 hours.",
    required=True,
    examples=[utils.OpenApiExample("a UUID", value=idempotency.SAMPLE)],
)
IF_NONE_MATCH = header(
    "If-None-Match", {"type": "string"}, "An `ETag` that was received: 304 while it is still right."
)


@dataclasses.dataclass(frozen=True)
class Stream:
    """An answer that is a stream of such events."""

    of: type[Shape]


def operation(
    *,
    id: str,
    tag: str,
    summary: str = "",
    description: str = "",
    answers: Mapping[int, type[Shape] | Stream | None],
    problems_: Sequence[problems.Kind] = (),
    request: Any = None,
    query: Any = None,
    headers: Sequence[utils.OpenApiParameter] = (),
    sends: Mapping[str, Collection[int]] | None = None,
    leads: Mapping[str, tuple[str, str]] | None = None,
    public: bool = False,
) -> Callable[[View], View]:
    """Describe one operation of a view, which does what its docstring says.

    Arguments:
        summary: what it does, if the docstring is for other readers.
        description: more about it; the same.
        answers: what is answered, by status, where all is well.
        problems_: what may be wrong, beside what may be wrong with every operation like it.
        request: the form of the body.
        query: the form of the query.
        headers: what the request may carry.
        sends: headers of `HEADERS` that answers carry, each with the statuses of these answers.
        leads: where the first answer leads: by the parameter of other operations, where in the answer it
            stands (a JSON pointer), and the operations that take it.
        public: whether it is for callers without a token.
    """
    kinds = [*EVERYWHERE, *problems_]
    if not public:
        kinds += WITH_TOKEN
    if request is not None:
        kinds += WITH_BODY
    if query is not None:
        kinds += WITH_QUERY
    responses: dict[Any, Any] = {
        (status, _media_of(answer)): _answer(answer, status) for status, answer in answers.items()
    }
    for status in sorted({kind.status for kind in kinds}):
        responses[status, problems.MEDIA_TYPE] = _problem([kind for kind in kinds if kind.status == status])
    limited = {*answers, 429}
    allowance = {} if public else {"RateLimit-Policy": limited, "RateLimit": limited}
    sent = {
        name: {*ALWAYS.get(name, ()), *(sends or {}).get(name, ())} for name in {**ALWAYS, **(sends or {})}
    } | allowance
    links = {
        name: {"operationId": name, "parameters": {parameter: f"$response.body#{place}"}}
        for parameter, (place, names) in (leads or {}).items()
        for name in names.split()
    }
    if getattr(request, "sample", None) is not None:
        request = example(request, request.sample)

    def describe(view: View) -> View:
        said, _, more = (inspect.getdoc(view) or "").partition("\n\n")
        described = utils.extend_schema(
            operation_id=id,
            summary=summary or said.rstrip("."),
            description=description if summary else " ".join(more.split()),
            tags=[tag],
            request=request,
            parameters=[*headers, *([query] if query is not None else [])],
            responses=responses,
            auth=[] if public else None,
            extensions={"x-sent": sent, "x-links": {str(min(answers)): links}},
        )
        return described(view)

    return describe


view = utils.extend_schema_view


def example(form: type[Object], value: Any, name: str = "") -> Any:
    """A request with an example."""
    return utils.OpenApiRequest(
        form, examples=[utils.OpenApiExample(name or form.__name__, value=value, request_only=True)]
    )


def finish(result: dict[str, Any], generator: Any, **_: Any) -> dict[str, Any]:
    """What drf-spectacular has no words for: headers of answers, and links between operations."""
    # It collects the components before it has read the webhooks, whose own would be missing.
    result["components"] = generator.registry.build({})
    result["components"] |= {
        "headers": {_slug(name): described for name, described in HEADERS.items()},
        "examples": {},
    }
    for methods in result["paths"].values():
        for described in methods.values():
            sent, links = described.pop("x-sent"), described.pop("x-links")
            for status, answer in described["responses"].items():
                names = ["X-Request-Id", *(name for name in sent if int(status) in sent[name])]
                answer["headers"] = {name: {"$ref": f"#/components/headers/{_slug(name)}"} for name in names}
                if links.get(status):
                    answer["links"] = links[status]
    result["paths"] = dict(sorted(result["paths"].items()))
    _tidy([result["paths"], result["webhooks"]], result["components"]["examples"])
    _tidy(result["components"]["schemas"], {})
    return result


@functools.cache
def document() -> dict[str, Any]:
    """The whole description; the same as docs/openapi.yaml."""
    described: dict[str, Any] = generators.SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return described


class TokenScheme(extensions.OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a token is shown."""

    target_class = "api.auth.TokenAuthentication"
    name = "Token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """A header."""
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "ord_...",
            "description": "The secret of a token, such as `ord_...`, by itself; `Bearer` comes before it.",
        }


class TextPattern(extensions.OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """What `fields.Text` takes, to the letter."""

    target_class = "api.fields.Text"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """A string with something to see in it, if it must have something; nothing for machines only."""
        field: fields.Text = self.target
        if field.schema is not None:
            return dict(field.schema)
        refused = rf"\u0000-\u001f\u007f-\u009f\u2028\u2029{fields.DIRECTIONS}"
        any_sign, seen = f"[^{refused}]", rf"[^{refused}{fields.INVISIBLE}\s]"
        pattern = f"^{any_sign}*$" if field.allow_blank else f"^{any_sign}*{seen}{any_sign}*$"
        least = {} if field.allow_blank else {"minLength": 1}
        return {"type": "string", **least, "maxLength": field.max_length, "pattern": pattern}


class Exactly(extensions.OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """What is said of objects beside their members: whether there are others."""

    target_class = "api.serializers.Object"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        """As drf-spectacular has it, and more."""
        schema: dict[str, Any] = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        exact = {"additionalProperties": False} if self.target.exact else {}
        return {**exact, **schema, **self.target.more}


def _media_of(answer: type[Shape] | Stream | None) -> str:
    return "text/event-stream" if isinstance(answer, Stream) else "application/json"


def _answer(answer: type[Shape] | Stream | None, status: int) -> Any:
    """The answer with its example, if it has one."""
    if answer is None:
        return utils.OpenApiResponse(description=NOTHING[status])
    is_stream = isinstance(answer, Stream)
    shape = answer.of if isinstance(answer, Stream) else answer
    said = "One message per transition." if is_stream else (shape.__doc__ or "").partition("\n")[0]
    sample = utils.OpenApiExample(
        shape.__name__, value=shape.sample, media_type=_media_of(answer), response_only=True
    )
    return utils.OpenApiResponse(shape, said, [sample])


def _problem(kinds: Sequence[problems.Kind]) -> utils.OpenApiResponse:
    return utils.OpenApiResponse(
        Problem,
        " · ".join(dict.fromkeys(kind.title for kind in kinds)),
        [
            utils.OpenApiExample(
                kind.slug, value=kind.example, response_only=True, media_type=problems.MEDIA_TYPE
            )
            for kind in dict.fromkeys(kinds)
        ],
    )


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


def _slug(header: str) -> str:
    return header.removeprefix("X-").replace("-", "")
