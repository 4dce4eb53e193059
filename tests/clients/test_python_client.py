"""The Python client against a server that goes wrong in every way: what is tried again, and what it says."""

import datetime
import json
import socket
import uuid
from typing import Any

import pytest

import saga_orders
from orders.api import samples
from saga_orders import Address, Card, Customer, Line, Money, OrderEvent, Pix, StepEvent
from tests.clients.answering import DROP, HALF, Answer, Server, events, problem, says
from webhooks.api import samples as webhook_samples

pytestmark = pytest.mark.integration  # It opens sockets.

ORDER: dict[str, Any] = samples.ORDER
FULFILLED = ORDER | {"status": "fulfilled"}
ID = samples.ID
WISH: dict[str, Any] = {
    "customer": Customer(name="Ana Souza", email="ana@example.com", tax_id="529.982.247-25"),
    "lines": [Line(sku="MUG-BLUE", quantity=2)],
    "payment": Card(token="tok_ok"),
    "shipping_address": Address(
        recipient="Ana Souza", street="Rua das Flores", number="12-A", city="São Paulo", state="SP",
        postal_code="01310-100",
    ),
}  # fmt: skip


# --- Placing -------------------------------------------------------------------------------------


def test_an_order_is_sent_as_the_api_takes_it_and_read_as_values(client: Any, server: Server) -> None:
    server.will(says(ORDER, 202))

    order = client.place(**WISH, reference="cart-7")

    (request,) = server.asked
    sent = json.loads(request.body)
    assert (request.method, request.path) == ("POST", "/api/v1/orders")
    assert request.headers["authorization"] == "Bearer ord_1"
    assert uuid.UUID(request.headers["idempotency-key"])
    assert sent["payment"] == {"method": "card", "token": "tok_ok"}
    assert sent["reference"] == "cart-7"
    assert sent["shipping_address"]["city"] == "São Paulo"
    assert order.id == uuid.UUID(ID)
    assert order.total == Money(**samples.MONEY)
    assert order.created_at == datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)
    assert order.saga.steps[1].status == "waiting"
    assert order.payment.pix.copy_paste.startswith("000201")
    assert not order.ended


def test_what_is_not_given_is_not_sent(client: Any, server: Server) -> None:
    server.will(says(ORDER, 202), says(ORDER, 202))

    client.place(**WISH)
    client.place(**WISH | {"shipping_address": None}, total=Money(amount=7580, currency="BRL"))

    plain, digital = (json.loads(request.body) for request in server.asked)
    assert "total" not in plain
    assert "shipping_address" not in digital
    assert digital["total"] == {"amount": 7580, "currency": "BRL"}


def test_another_total_is_an_error_that_says_both(client: Any, server: Server) -> None:
    server.will(
        problem(
            "total-differs", 422, detail="It comes to 7580 BRL.",
            expected={"amount": 6900, "currency": "BRL"}, total=samples.MONEY,
        )
    )  # fmt: skip

    with pytest.raises(saga_orders.TotalDiffers, match="7580 BRL") as refused:
        client.place(**WISH, total=Money(amount=6900, currency="BRL"))

    assert refused.value.expected == Money(amount=6900, currency="BRL")
    assert refused.value.total == Money(**samples.MONEY)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "failure",
    [
        DROP,
        HALF,
        problem("throttled", 429, retry_after="0"),
        problem("idempotency-key-in-progress", 409, retry_after="0"),
        problem("internal-error", 500),
        problem("busy", 503, retry_after="0"),
        Answer(status=502, body=b"<html>Bad Gateway</html>"),
        Answer(status=504),
        Answer(status=408),
    ],
    ids=lambda failure: failure if isinstance(failure, str) else str(failure.status),
)
def test_what_may_pass_is_tried_again_with_the_same_key_and_the_same_bytes(
    client: Any, server: Server, failure: Answer | str
) -> None:
    server.will(failure, failure, says(ORDER, 202))

    order = client.place(**WISH)

    assert order.number == ORDER["number"]
    assert len(server.asked) == 3
    assert len(set(server.keys)) == 1
    assert len({request.body for request in server.asked}) == 1


def test_it_is_not_tried_for_ever_and_the_error_says_with_which_key_to_ask_later(
    connect: Any, server: Server
) -> None:
    client = connect(server.url, retries=2)
    server.will(DROP, DROP, DROP, says(ORDER, 202))

    with pytest.raises(saga_orders.ConnectionFailed) as failed:
        client.place(**WISH)

    assert len(server.asked) == 3
    assert {failed.value.idempotency_key} == set(server.keys)
    assert failed.value.passing
    assert failed.value.idempotency_key in failed.value.__notes__[0]
    assert client.place(**WISH, idempotency_key=failed.value.idempotency_key).number == ORDER["number"]
    assert len(set(server.keys)) == 1


def test_a_server_that_is_not_there_is_a_connection_that_failed(connect: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]

    with pytest.raises(saga_orders.ConnectionFailed, match="ConnectError"):
        connect(f"http://127.0.0.1:{port}", retries=1).place(**WISH)


def test_an_answer_that_does_not_come_in_time_is_asked_for_again(connect: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(f"http://127.0.0.1:{silent.getsockname()[1]}", retries=1, timeout=0.5)

        with pytest.raises(saga_orders.ConnectionFailed, match="Timeout"):
            client.place(**WISH)


def test_a_key_of_ones_own_is_used(client: Any, server: Server) -> None:
    server.will(says(ORDER, 202))

    client.place(**WISH, idempotency_key="cart-7")

    assert server.keys == ["cart-7"]


def test_two_orders_have_two_keys(client: Any, server: Server) -> None:
    server.will(says(ORDER, 202), says(ORDER, 202))

    client.place(**WISH)
    client.place(**WISH)

    assert len(set(server.keys)) == 2


def test_what_is_refused_is_not_tried_again_and_says_what_is_wrong_and_where(
    client: Any, server: Server
) -> None:
    fault = {"pointer": "/lines/0/quantity", "detail": "This must be a whole number.", "code": "max_value"}
    server.will(problem("invalid-body", 422, errors=[fault], detail="The body has faults."))

    with pytest.raises(saga_orders.InvalidRequest) as refused:
        client.place(**WISH)

    assert len(server.asked) == 1
    assert refused.value.kind == "invalid-body"
    assert refused.value.status == 422
    assert refused.value.request_id == "r-12345678"
    assert refused.value.faults == (saga_orders.Fault(**fault),)
    assert "/lines/0/quantity: This must be a whole number." in str(refused.value)
    assert not refused.value.passing


def test_a_server_that_asks_for_an_hour_is_not_waited_for(client: Any, server: Server) -> None:
    server.will(problem("throttled", 429, retry_after="3600"))

    with pytest.raises(saga_orders.Throttled) as refused:
        client.place(**WISH)

    assert refused.value.retry_after == 3600


def test_what_is_no_answer_of_the_api_is_told_as_that(client: Any, server: Server) -> None:
    server.will(
        Answer(body=b"<html>Welcome</html>"), says({"id": ID}), says(ORDER | {"created_at": "yesterday"})
    )

    with pytest.raises(saga_orders.UnexpectedAnswer, match="no JSON"):
        client.get(ID)
    with pytest.raises(saga_orders.UnexpectedAnswer, match="/number is missing"):
        client.get(ID)
    with pytest.raises(saga_orders.UnexpectedAnswer, match="/created_at is 'yesterday'"):
        client.get(ID)


def test_what_a_newer_server_tells_besides_breaks_nothing(client: Any, server: Server) -> None:
    server.will(says(ORDER | {"gift": True, "status": "wrapped", "total": {**samples.MONEY, "tax": 1}}))

    order = client.get(ID)

    assert order.status == "wrapped"
    assert not order.ended


# --- Reading, waiting, cancelling ------------------------------------------------------------------


def test_it_waits_until_the_order_has_ended(client: Any, server: Server) -> None:
    server.will(says(ORDER), says(ORDER, Retry_After="0"), problem("busy", 503), says(FULFILLED))

    order = client.wait(ID)

    assert order.status == "fulfilled"
    assert order.ended
    assert {request.path for request in server.asked} == {f"/api/v1/orders/{ID}?wait=30"}


def test_who_waits_no_longer_is_told_how_it_stands(client: Any, server: Server) -> None:
    server.will(says(ORDER))

    with pytest.raises(saga_orders.StillPending, match="ORD-7K3QX9ZD is pending: You pay the PIX") as over:
        client.wait(ID, timeout=0)

    assert over.value.order.status == "pending"
    assert isinstance(over.value, TimeoutError)
    assert server.asked[0].path.endswith("?wait=0")


def test_a_cancellation_says_what_is_undone_and_is_sent_again_if_its_answer_is_lost(
    client: Any, server: Server
) -> None:
    server.will(DROP, says(samples.CANCELLED_ORDER, 202))

    order = client.cancel(ID, reason="Changed my mind")

    assert order.undoing == ("take-payment",)
    assert order.failure.kind == "cancelled"
    assert [json.loads(request.body) for request in server.asked] == [{"reason": "Changed my mind"}] * 2


def test_one_that_comes_too_late_says_how_the_order_ended(client: Any, server: Server) -> None:
    server.will(problem("too-late", 409, order={"id": ID, "status": "fulfilled"}))

    with pytest.raises(saga_orders.TooLate) as late:
        client.cancel(ID, reason="so")

    assert late.value.order_status == "fulfilled"


def test_pages_are_walked_to_the_last_by_their_cursors_and_only_on_our_server(
    client: Any, server: Server
) -> None:
    def page(next_: str | None) -> Answer:
        return says({"results": [ORDER], "next": next_, "previous": None})

    since = datetime.datetime(2026, 11, 23, 9, tzinfo=datetime.timezone(datetime.timedelta(hours=-3)))
    server.will(page("https://elsewhere.example/api/v1/orders?cursor=a%2Bb&limit=100"), page(None))

    numbers = [order.number for order in client.orders(status="pending", created_from=since)]

    assert numbers == [ORDER["number"]] * 2
    first, second = (request.path for request in server.asked)
    assert first == "/api/v1/orders?status=pending&created_from=2026-11-23T12%3A00%3A00Z&limit=100"
    assert second == f"{first}&cursor=a%2Bb"


def test_statuses_that_are_chosen_are_chosen_on_every_page(client: Any, server: Server) -> None:
    page = {"results": [ORDER], "previous": None}
    server.will(says(page | {"next": "/?cursor=a"}), says(page | {"next": None}))

    assert len(list(client.orders(status=iter(["pending", "attention"])))) == 2

    asked = [request.path.partition("?")[2] for request in server.asked]
    assert asked == [f"status=pending&status=attention&limit=100{more}" for more in ("", "&cursor=a")]


@pytest.mark.parametrize("number", ["ORD-7K3QX9ZD", "ord-7k3qx9zd"])
def test_an_order_is_found_by_its_number(client: Any, server: Server, number: str) -> None:
    server.will(says(FULFILLED), says(FULFILLED))

    assert client.get(number).number == "ORD-7K3QX9ZD"
    assert client.wait(number).ended
    assert [request.path.partition("?")[0] for request in server.asked] == ["/api/v1/orders/ORD-7K3QX9ZD"] * 2


def test_one_page_has_its_cursors(client: Any, server: Server) -> None:
    server.will(
        says({"results": [ORDER], "next": "http://shop/?cursor=n", "previous": "http://shop/?cursor=p"})
    )

    page = client.orders_page(limit=1)

    assert (page.next_cursor, page.previous_cursor) == ("n", "p")
    assert page.results[0].id == uuid.UUID(ID)


def test_products_are_listed(client: Any, server: Server) -> None:
    server.will(says({"results": [samples.PRODUCT], "next": None, "previous": None}))

    (product,) = client.products()

    told = samples.PRODUCT
    assert product == saga_orders.Product(**told | {"price": Money(**told["price"])})


# --- The event log -------------------------------------------------------------------------------


def logged(*ids: str, more: bool = False) -> Answer:
    next_ = "https://elsewhere.example/api/v1/events?after=x" if more else None
    return says({"next": next_, "results": [{"id": id_, **webhook_samples.MESSAGE} for id_ in ids]})


def test_the_event_log_is_read_to_its_newest_message_and_only_on_our_server(
    client: Any, server: Server
) -> None:
    first, second, third = (str(uuid.UUID(int=n)) for n in (1, 2, 3))
    server.will(logged(first, second, more=True), DROP, logged(third))

    messages = list(client.events(types=["order.*", "saga.step.failed"]))

    assert [message.id for message in messages] == [first, second, third]
    assert messages[0].type == "order.cancelled"
    assert messages[0].order.failure.kind == "refused"
    chosen = "type=order.%2A&type=saga.step.failed&limit=100"
    asked = [request.path for request in server.asked]
    assert asked == [f"/api/v1/events?{after}{chosen}" for after in ("", *[f"after={second}&"] * 2)]


def test_it_goes_on_after_a_message_and_asks_again_when_there_are_no_more(
    client: Any, server: Server
) -> None:
    old, new = (str(uuid.UUID(int=n)) for n in (1, 2))
    server.will(logged(), logged(new), logged())

    messages = client.events(after=old, every=0.001)
    found = next(messages)
    messages.close()

    assert found.id == new
    assert [request.path for request in server.asked] == [f"/api/v1/events?after={old}&limit=100"] * 2
    assert next(client.events(after=found), None) is None
    assert server.asked[-1].path == f"/api/v1/events?after={new}&limit=100"


def test_the_event_log_may_begin_at_a_time(client: Any, server: Server) -> None:
    first, second = (str(uuid.UUID(int=n)) for n in (1, 2))
    server.will(logged(first, more=True), logged(second))
    noon = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)

    messages = list(client.events(since=noon))

    assert [message.id for message in messages] == [first, second]
    asked = "since=2026-11-23T12%3A00%3A00Z&limit=100"
    assert [request.path for request in server.asked] == [
        f"/api/v1/events?{asked}",
        f"/api/v1/events?after={first}&{asked}",
    ]
    with pytest.raises(ValueError, match="since must be an aware datetime"):
        next(client.events(since=datetime.datetime(2026, 11, 23)))


def test_a_message_that_the_log_has_no_more_is_said_to_be_gone(client: Any, server: Server) -> None:
    server.will(problem("events-gone", 410))

    with pytest.raises(saga_orders.EventsGone):
        list(client.events(after=ID))
    assert len(server.asked) == 1


# --- Following -----------------------------------------------------------------------------------


def told(number: int, **data: Any) -> str:
    kind = "step" if "step" in data else "order"
    data = {"at": samples.AT, **data}
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


RUNS = told(811, step="take-payment", **{"from": None}, to="running", attempt=1)
DONE = told(812, step="take-payment", **{"from": "running"}, to="done", attempt=1)
END = told(830, status="fulfilled")
BRISK = "retry: 1\n\n"


def test_a_stream_is_followed_to_the_order_s_end(client: Any, server: Server) -> None:
    server.will(events(f"{BRISK}{RUNS}: still here\n\n{DONE}{END}"))

    seen = list(client.follow(ID))

    at = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)
    assert seen == [
        StepEvent(id="811", at=at, step="take-payment", from_=None, to="running", attempt=1),
        StepEvent(id="812", at=at, step="take-payment", from_="running", to="done", attempt=1),
        OrderEvent(id="830", at=at, status="fulfilled"),
    ]
    assert seen[-1].ended
    assert server.asked[0].path == f"/api/v1/orders/{ID}/events"
    assert server.asked[0].headers["accept"] == "text/event-stream"


def test_it_comes_back_after_the_last_event_that_was_whole_and_tells_none_twice(
    client: Any, server: Server
) -> None:
    server.will(
        events(BRISK + RUNS),  # Ended by the server, as it does after some minutes.
        events(DONE[:-20], breaks_off=True),
        DROP,
        problem("unavailable", 503, retry_after="0"),
        events(DONE, breaks_off=True),
        events(END),
    )

    seen = [event.id for event in client.follow(ID)]

    assert seen == ["811", "812", "830"]
    came_back = [request.headers.get("last-event-id") for request in server.asked]
    assert came_back == [None, "811", "811", "811", "811", "812"]


def test_204_says_that_all_was_told(client: Any, server: Server) -> None:
    server.will(Answer(status=204))

    assert list(client.follow(ID, after="830")) == []
    assert server.asked[0].headers["last-event-id"] == "830"


def test_a_stream_that_breaks_at_once_every_time_is_not_followed_for_ever(
    connect: Any, server: Server
) -> None:
    server.will(*[DROP] * 9)

    with pytest.raises(saga_orders.ConnectionFailed):
        list(connect(server.url, retries=2).follow(ID))

    assert len(server.asked) == 3


def test_one_that_breaks_again_and_again_but_goes_on_between_is_followed(
    connect: Any, server: Server
) -> None:
    server.will(events(BRISK + RUNS, breaks_off=True), events(DONE, breaks_off=True), events(END))

    assert [event.id for event in connect(server.url, retries=1).follow(ID)] == ["811", "812", "830"]


def test_an_order_that_is_not_there_cannot_be_followed(client: Any, server: Server) -> None:
    server.will(problem("not-found", 404))

    with pytest.raises(saga_orders.NotFound):
        list(client.follow(ID))


def test_who_leaves_the_loop_leaves_the_connection(client: Any, server: Server) -> None:
    server.will(events(RUNS + DONE + END), says(ORDER))
    follow = client.follow(ID)

    assert next(follow).id == "811"
    follow.close()

    assert client.get(ID).number == ORDER["number"]


# --- What cannot be meant ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://shop.example", "https://shop.example/api/v1"),
        ("https://shop.example/", "https://shop.example/api/v1"),
        ("https://shop.example/api/v1", "https://shop.example/api/v1"),
        ("https://shop.example/api/v1/", "https://shop.example/api/v1"),
        ("http://127.0.0.1:8000/shop", "http://127.0.0.1:8000/shop/api/v1"),
    ],
)
def test_the_address_is_the_shop_s_or_the_api_s(connect: Any, url: str, base: str) -> None:
    client = connect(url)

    assert getattr(client, "_client", client)._base == base


@pytest.mark.parametrize(
    "url", ["shop.example", "ftp://shop.example", "https://", "https://shop.example/?a=1"]
)
def test_an_address_that_is_none_is_refused(connect: Any, url: str) -> None:
    with pytest.raises(ValueError, match="base_url must be"):
        connect(url)


@pytest.mark.parametrize("token", ["", "Token ord_1", "ord_1\n", "ord_é"])
def test_a_token_that_is_none_is_refused_before_it_is_sent(connect: Any, token: str) -> None:
    with pytest.raises(ValueError, match="the API token alone"):
        connect("https://shop.example", token)


def test_arguments_that_make_no_sense_are_refused_before_anything_is_sent(
    client: Any, server: Server
) -> None:
    with pytest.raises(ValueError, match="not an order: give an Order, its `id`, or its `number`"):
        client.get("../products")
    with pytest.raises(ValueError, match="not the id of a message"):
        next(client.events(after="7"))
    with pytest.raises(ValueError, match="visible ASCII"):
        client.place(**WISH, idempotency_key="two words")
    with pytest.raises(ValueError, match="created_from must be an aware datetime"):
        client.orders_page(created_from=datetime.datetime(2026, 11, 23))

    assert server.asked == []


def test_a_pix_has_no_token(client: Any, server: Server) -> None:
    server.will(says(ORDER, 202))

    client.place(**WISH | {"payment": Pix()})

    assert json.loads(server.asked[0].body)["payment"] == {"method": "pix"}


def test_sentences_come_in_the_language_that_was_asked_for(connect: Any, server: Server) -> None:
    server.will(says(ORDER))

    connect(server.url, language="pt-BR").get(ID)

    assert server.asked[0].headers["accept-language"] == "pt-BR"
