"""The client. Made of `async_client.py` by `make client`: edit that one."""

import datetime
import math
import time
import types
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

import httpx

from saga_orders import errors, models, requests, retrying, streaming, webhooks
from saga_orders.version import __version__


class Client:
    """The shop's API.

    What fails and may pass (no connection, an answer that was lost, 429, 5xx) is tried again by itself, with
    pauses that grow and are no shorter than the server asks for. No order is placed twice by it. Keep one
    client for as long as your program runs: it keeps its connections, and all that runs at once may share it.

    Arguments:
        base_url: the shop's address, such as `https://shop.example`.
        token: an API token, `ord_...`.
        timeout: how many seconds an answer may take.
        retries: how often a call is tried again at most; 0 is never.
        first_pause: seconds before it is tried again the first time. Then twice as long, up to 8 seconds,
            each of which half is chance. Where the server asks for more than a minute the error is raised at
            once.
        language: of the sentences for people: `"pt-BR"` or `"en"`.
        http: an httpx client of yours, for a proxy or certificates; closing it is left to you.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        timeout: float = 10.0,
        retries: int = 5,
        first_pause: float = 0.5,
        language: str | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._base = requests.base(base_url)
        self._headers = requests.headers(token, language, f"saga-orders-python/{__version__}")
        self._timeout = timeout
        self._retries = retries
        self._first_pause = first_pause
        self._http = http or httpx.Client()
        self._owns_http = http is None

    def place(
        self,
        *,
        customer: models.Customer,
        lines: Iterable[models.Line],
        payment: models.Card | models.Pix,
        shipping_address: models.Address | None = None,
        total: models.Money | None = None,
        reference: str = "",
        idempotency_key: str | None = None,
    ) -> models.Order:
        """Place an order.

        Answered as soon as the shop has written it down, `pending`; `wait()` and `follow()` tell what becomes
        of it.

        Arguments:
            customer: who pays, and to whom the invoice is made out.
            lines: what is ordered, each product on one line.
            payment: `Card(token=...)` or `Pix()`.
            shipping_address: where it goes; may be left out if no product of it `ships`.
            total: what you expect it to cost: if it comes to anything else, nothing is placed.
            reference: your own word for it, such as a cart's id.
            idempotency_key: with one key there is one order, however often this is called within a day. A new
                one unless you give it; give your own, such as the cart's id, if your program may be killed
                meanwhile.

        Raises:
            InvalidRequest: something is wrong with it; `faults` says what and where.
            TotalDiffers: it comes to another `total` than you expect.
            IdempotencyKeyReused: another order was placed with this key.
            Error: of one that is `passing`, `idempotency_key` tells with which key to place it again.
        """
        key = requests.key(idempotency_key)
        body = requests.new_order(
            customer=customer,
            lines=lines,
            payment=payment,
            shipping_address=shipping_address,
            total=total,
            reference=reference,
        )
        try:
            answer = self._send("POST", "/orders", body=body, headers={"Idempotency-Key": key})
            return requests.order(answer)
        except errors.Error as error:
            error.idempotency_key = key
            if error.passing:
                error.add_note(f"It may have been placed: try again with idempotency_key={key!r}.")
            raise

    def get(self, order: models.Order | uuid.UUID | str) -> models.Order:
        """The order as it is now.

        Arguments:
            order: one that was read before, its id, or its number.

        Raises:
            NotFound: you have no such order.
        """
        return requests.order(self._send("GET", requests.path(order)))

    def wait(self, order: models.Order | uuid.UUID | str, *, timeout: float | None = None) -> models.Order:
        """The order, once it has ended: fulfilled, cancelled, or closed by the shop's staff.

        Arguments:
            order: one that was read before, its id, or its number.
            timeout: for how many seconds to wait; as long as it takes, unless given.

        Raises:
            StillPending: it has not ended in this time; the error's `order` says how it stands.
        """
        path, until = requests.path(order), None if timeout is None else time.monotonic() + timeout
        while True:
            left = math.inf if until is None else max(0.0, until - time.monotonic())
            seconds = min(requests.LONGEST_WAIT_S, math.ceil(left) if left < math.inf else math.inf)
            answer = self._send("GET", path, parameters={"wait": str(seconds)}, patience=seconds)
            found = requests.order(answer)
            if found.ended:
                return found
            if until is not None and time.monotonic() >= until:
                raise errors.StillPending(found)
            # Too many wait there already: then the server answers at once, and says when to ask again.
            time.sleep(min(errors.retry_after(answer.headers) or 0.0, left))

    def follow(self, order: models.Order | uuid.UUID | str, *, after: str = "") -> Iterator[models.Event]:
        """Each step of the order as it happens, and each change of its status, to its end.

        Comes back by itself where the connection breaks or the server ends the stream: no event is missed,
        and none comes twice. Leave the loop when you have seen enough.

        Arguments:
            order: one that was read before, its id, or its number.
            after: the `id` of an event: only what came after it.

        Raises:
            NotFound: you have no such order.
            Error: the connection could not be had again.
        """
        path, stream, retries = requests.path(order), streaming.Stream(after), self._tries()
        while not stream.ended:
            try:
                with self._http.stream(
                    "GET",
                    self._base + path + "/events",
                    headers=self._headers
                    | {"Accept": "text/event-stream"}
                    | ({"Last-Event-ID": stream.last_id} if stream.last_id else {}),
                    timeout=httpx.Timeout(self._timeout, read=requests.SILENCE_S),
                ) as answer:
                    if answer.status_code == 204:
                        return  # The order has ended, and all of it was told.
                    if not answer.is_success:
                        answer.read()
                        raise errors.of(answer)
                    stream.connected()
                    for piece in answer.iter_bytes():
                        for event in stream.feed(piece):
                            retries.begin_anew()
                            yield event
                        if stream.ended:
                            return
                pause = stream.retry_s
            except httpx.RequestError as error:
                failure = requests.lost(error, method="GET", url=f"{self._base}{path}/events")
                failure.__cause__ = error
                pause = retries.pause(failure)
            except errors.Problem as problem:
                pause = retries.pause(problem)
            time.sleep(pause)

    def cancel(self, order: models.Order | uuid.UUID | str, *, reason: str) -> models.Order:
        """Have what was done undone, last step first; the order's `undoing` lists these steps.

        To cancel twice is to cancel once.

        Arguments:
            order: one that was read before, its id, or its number.
            reason: why, for the shop to read.

        Raises:
            TooLate: it has ended, as `order_status` says, or can no longer be turned round.
            NotFound: you have no such order.
        """
        answer = self._send("POST", requests.path(order) + "/cancel", body=requests.cancellation(reason))
        return requests.order(answer)

    def orders(
        self,
        *,
        status: models.OrderStatus | Iterable[models.OrderStatus] | None = None,
        reference: str | None = None,
        number: str | None = None,
        created_from: datetime.datetime | None = None,
        created_to: datetime.datetime | None = None,
        updated_from: datetime.datetime | None = None,
    ) -> Iterator[models.Order]:
        """Your orders, newest first, page after page as you come to them.

        Arguments:
            status: only those that have it, or one of these.
            reference: only those that you called so.
            number: only the one with this number.
            created_from: placed then or later: an aware time.
            created_to: placed before then: an aware time.
            updated_from: changed then or later: an aware time.
        """
        cursor, wanted = None, requests.several(status)
        while True:
            page = self.orders_page(
                status=wanted,
                reference=reference,
                number=number,
                created_from=created_from,
                created_to=created_to,
                updated_from=updated_from,
                limit=100,
                cursor=cursor,
            )
            yield from page.results
            cursor = page.next_cursor
            if cursor is None:
                return

    def orders_page(
        self,
        *,
        status: models.OrderStatus | Iterable[models.OrderStatus] | None = None,
        reference: str | None = None,
        number: str | None = None,
        created_from: datetime.datetime | None = None,
        created_to: datetime.datetime | None = None,
        updated_from: datetime.datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> models.Page[models.Order]:
        """One page of your orders, newest first, for a program that shows pages itself.

        Arguments:
            status, reference, number, created_from, created_to, updated_from: as for `orders()`.
            limit: how many to a page, up to 100; 20 unless given.
            cursor: a page's `next_cursor` or `previous_cursor`; the first page unless given.
        """
        parameters = requests.query(
            status=requests.several(status),
            reference=reference,
            number=number,
            created_from=created_from,
            created_to=created_to,
            updated_from=updated_from,
            limit=limit,
            cursor=cursor,
        )
        return requests.page(self._send("GET", "/orders", parameters=parameters), models.Order)

    def events(
        self,
        *,
        after: webhooks.Message | uuid.UUID | str | None = None,
        since: datetime.datetime | None = None,
        types: str | Iterable[str] | None = None,
        every: float | None = None,
    ) -> Iterator[webhooks.Message]:
        """What happened to all of your orders, oldest first: the messages that webhooks tell, with their ids.

        Whether or not you have an endpoint, and whatever it answered. Keep the `id` of the last message that
        you have dealt with, and begin after it next time: nothing is missed. The token needs the scope
        `merchant`.

        Arguments:
            after: a message, or its `id`: only what came after it; the whole log, which goes back 30 days,
                unless given.
            since: only what was written down then or later, to begin without what was long ago: an aware
                time.
            types: only these, such as `"order.*"` or `["order.fulfilled", "order.cancelled"]`.
            every: ask again so many seconds after the newest was told, and never end; unless given, it ends
                with the newest.

        Raises:
            EventsGone: the log has no such message, or has it no more: something may have been missed.
            NotPermitted: the token has another scope.
        """
        wanted = requests.several(types)
        while True:
            parameters = requests.query(after=requests.message_id(after), since=since, type=wanted, limit=100)
            messages, more = requests.log(self._send("GET", "/events", parameters=parameters))
            for message in messages:
                yield message
                after = message
            if more:
                continue
            if every is None:
                return
            time.sleep(every)

    def products(self) -> Iterator[models.Product]:
        """What may be ordered, by SKU, page after page as you come to it."""
        cursor = None
        while True:
            parameters = requests.query(limit=100, cursor=cursor)
            answer = self._send("GET", "/products", parameters=parameters)
            page = requests.page(answer, models.Product)
            yield from page.results
            cursor = page.next_cursor
            if cursor is None:
                return

    def close(self) -> None:
        """Let go of the connections. `with Client(...) as client` does so at its end."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.close()

    def _send(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, str | list[str]] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float = 0.0,
    ) -> httpx.Response:
        """The answer to a request, which is the same whenever it is made again.

        Every request of this client may be: to read changes nothing, to place has a key, to cancel twice is
        to cancel once.
        """
        retries = self._tries()
        told = self._headers | {"Content-Type": "application/json"} if body is not None else self._headers
        while True:
            failure: errors.Error
            try:
                answer = self._http.request(
                    method,
                    self._base + path,
                    params=parameters,
                    content=body,
                    headers=told | dict(headers or {}),
                    timeout=httpx.Timeout(self._timeout, read=self._timeout + patience),
                )
            except httpx.RequestError as error:
                failure = requests.lost(error, method=method, url=self._base + path)
                failure.__cause__ = error
            else:
                if answer.is_success:
                    return answer
                failure = errors.of(answer)
            time.sleep(retries.pause(failure))

    def _tries(self) -> retrying.Retries:
        return retrying.Retries(most=self._retries, first_pause_s=self._first_pause)
