"""The kinds of problems that are the webhooks' own."""

from api import problems

# As the table in api.problems.
# fmt: off
EVENTS_GONE = problems.kind(
    "events-gone", 410, "The event log does not reach back that far",
    "What came after that event may be gone too. Ask without `after`, which begins with the oldest that is"
    " kept, and read the orders that changed before with `GET /orders?updated_from=`.",
)
ENDPOINT_DISABLED = problems.kind(
    "endpoint-disabled", 409, "The endpoint is disabled",
    'See to what was wrong with it, then enable it with `PATCH` and `{"enabled": true}`.',
)
TOO_MANY = problems.kind(
    "too-many", 409, "There are as many of these as there may be",
    "Delete one that you do not need any more.",
)
# fmt: on
