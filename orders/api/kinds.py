"""The kinds of problems that are the orders' own, and what the errors of their services come to."""

from api import problems
from orders import errors
from orders.api import samples

# As the table in api.problems.
# fmt: off
BAD_SIGNATURE = problems.kind(
    "bad-signature", 400, "The callback is not acceptable",
    "`detail` says what is wrong. Sign it as Standard Webhooks says, with the shared secret and a timestamp"
    " that is not older than five minutes, and send the members that the description names.",
)
OPERATORS_MOVE = problems.kind(
    "operators-move", 403, "The order belongs to somebody else",
    "Only who ordered may ask for this; for the staff it is a decision about another."
    " `POST /sagas/{id}/compensate` undoes it: with the permission, with what you saw of the saga, and with a"
    " second person where the shop asks for one. `saga.id` says which saga.",
    detail="The order belongs to somebody else: have it undone with"
    f" POST /api/v1/sagas/{samples.SAGA}/compensate.",
    saga={"id": samples.SAGA},
)
TOO_LATE = problems.kind(
    "too-late", 409, "It is too late for that",
    "The order has ended or can no longer be turned round; `order.status` says where it stands.",
    detail="The order is fulfilled; it cannot be cancelled any more.",
    order={"id": samples.ID, "status": "fulfilled"},
)
TOTAL_DIFFERS = problems.kind(
    "total-differs", 422, "The order comes to another total",
    "Nothing was placed. `total` is what the order comes to now, and `expected` what you sent: show your"
    " customer the new one, and send the order with it. The `Idempotency-Key` is not used up.",
    detail="The order comes to 7580 BRL, and not to 6900 BRL, in minor units. Nothing was placed.",
    expected={"amount": 6900, "currency": "BRL"}, total=samples.MONEY,
)
# fmt: on


@problems.translate
def of(error: Exception) -> problems.Problem | None:
    """What the body has against it, where only a look at the catalogue could tell."""
    match error:
        case errors.UnknownProduct():
            code = "unknown_product"
            faults = dict.fromkeys(
                error.positions, "There is no such product; GET /api/v1/products lists them."
            )
        case errors.MixedCurrencies():
            code = "currency"
            faults = {
                position: f"This is priced in {currency}, the first line in {error.currency}; an order"
                " is paid in one currency."
                for position, currency in error.positions.items()
            }
        case errors.NoAddress():
            first = error.ships[0]
            return problems.faulty(
                problems.INVALID_BODY,
                [
                    {
                        "pointer": "/shipping_address",
                        "detail": f"This is required: an object. Line {first} of the order ships; only an"
                        " order of which nothing does has no address.",
                        "code": "required",
                    }
                ],
            )
        case errors.TotalDiffers():
            return problems.Problem(
                TOTAL_DIFFERS, str(error), expected=dict(error.expected), total=dict(error.total)
            )
        case _:
            return None
    return problems.faulty(
        problems.INVALID_BODY,
        [
            {"pointer": f"/lines/{position}/sku", "detail": detail, "code": code}
            for position, detail in faults.items()
        ],
    )
