"""The kinds of problems that are the webhooks' own."""

from api import problems

# As the table in api.problems.
# fmt: off
ENDPOINT_DISABLED = problems.kind(
    "endpoint-disabled", 409, "The endpoint is disabled",
    'See to what was wrong with it, then enable it with `PATCH` and `{"enabled": true}`.',
)
TOO_MANY = problems.kind(
    "too-many", 409, "There are as many of these as there may be",
    "Delete one that you do not need any more.",
)
# fmt: on
