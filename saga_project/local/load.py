"""Customers: they order at a steady pace, and send a request that was not answered again under its key.

They know the shop as any client does, by the address of its proxy.
"""

import asyncio
import collections.abc
import contextlib
import dataclasses
import datetime
import json
import random
import threading
import time
import urllib.parse
import uuid
from typing import IO, Any

import httpx

from saga_project.local import fates, ledger

PATIENCE = httpx.Timeout(5, connect=2)
"""What a customer's client waits for an answer before it asks again."""

PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
"""Between one try and the next: twice as long each time, half of it chance, as with the shop's own client."""

OVERLOADED = "/api/problems/overloaded"
"""The type of the problem with which the shop says that it takes no more orders just now."""
PATIENT_FOR_S = 20.0
"""A customer who would have to wait for longer than this, from the first request on, goes elsewhere."""

LOOK_EVERY_S = 1.0
LOOKERS = 8
"""So many customers at once ask after their own orders."""
LOOK_SHARE = 4
"""Looking takes at most one in so many seconds: it reads every order that is under way, and with a thousand
of them customers that looked without a pause would keep the shop from its work."""
LOOK_AT_LEAST_EVERY_S = 10.0
"""But no pause is longer, however slowly the shop answers: whoever is to pay pays."""
PROBE_EVERY_S = 0.25
"""How often the API is asked for something small, so that no gap in its answers goes unseen."""

SENT_AGAIN = 10
"""Of so many customers one sends an order again that was acknowledged, as one does whose line broke."""

UNDER_WAY = ("pending", "cancelling")
AT_REST = ("fulfilled", "cancelled", "closed", "attention")
"""Ended, or in front of a person."""
ENDED_BEFORE_S = 5.0
"""So much is read again of what ended before the look before: a transaction commits later than it says."""

Json = dict[str, Any]


class Customers:
    """Many customers in one thread, each a coroutine."""

    def __init__(
        self,
        book: ledger.Ledger,
        *,
        shop_url: str,
        sandbox_url: str,
        token: str,
        seed: int,
        per_second: float,
        people: collections.abc.Iterator[fates.Fate] | None = None,
        staff_token: str = "",
        history: IO[str] | None = None,
    ) -> None:
        """Nothing happens before `begin`.

        Args:
            book: where it is all written down.
            shop_url: where the API is.
            sandbox_url: where a PIX is paid.
            token: a customer's.
            seed: decides who orders what.
            per_second: orders.
            people: who orders, without an end; by default with the shares of the demo's crowd.
            staff_token: of who reviews the orders that ask for it.
            history: where each request about an order is written down as it is answered, and each end as it
                is seen, one JSON object a line: what an independent checker reads.
        """
        self._book = book
        self._api = f"{shop_url}/api/v1"
        self._sandbox = sandbox_url
        self._token = token
        self._people = people or crowd(seed)
        self._staff_token = staff_token
        self._history = history
        self._random = random.Random(seed)  # noqa: S311 - Chance, not secrecy.
        self._per_second = per_second
        self._thread = threading.Thread(target=self._run, name="customers")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._closing = False
        """No new orders; those that were wanted are seen to their end."""
        self._meddled: set[str] = set()
        """Keys of the orders with which their customers, or the shop, have done what they meant to do."""

    def begin(self) -> None:
        """Let them order."""
        self._thread.start()

    def enough(self) -> None:
        """Nobody orders any more; those under way go on."""
        self._closing = True

    def stop(self) -> None:
        """End all of it at once."""
        if self._loop is not None and self._main is not None:
            with contextlib.suppress(RuntimeError):  # It has ended by itself.
                self._loop.call_soon_threadsafe(self._main.cancel)
        if self._thread.ident is not None:
            self._thread.join()

    def check(self) -> None:
        """Raise what ended the customers, if something did: a drill without a load would prove nothing."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._shop())
        except asyncio.CancelledError:
            pass
        except BaseException as failure:
            self._failure = failure

    async def _shop(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        headers = {"Authorization": f"Token {self._token}"}
        async with (
            httpx.AsyncClient(timeout=PATIENCE, limits=limits, headers=headers, trust_env=False) as http,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._look(http))
            tasks.create_task(self._probe(http))
            products = await self._products(http)
            due = time.monotonic()
            number = 0
            while not self._closing:
                number += 1
                customer = self._customer(http, number, next(self._people), self._random.choice(products))
                tasks.create_task(customer)
                due += 1 / self._per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await asyncio.Event().wait()  # Until they are told to stop.

    async def _customer(self, http: httpx.AsyncClient, number: int, fate: fates.Fate, sku: str) -> None:
        """Order, until the shop has the order; and now and then once more."""
        key = f"drill-{uuid.UUID(int=self._random.getrandbits(128))}"
        wanted = ledger.Wanted(key=key, fate=fate, wanted_at=time.time(), customer=number)
        self._book.wanted.append(wanted)
        wish = fates.body(fate, sku) | {"reference": key}
        sends_again = self._random.randrange(SENT_AGAIN) == 0
        pauses = _pauses()
        while True:
            wanted.requests += 1
            answer = await self._send(
                http, "place", "POST", "/orders", of=wanted, json=wish, headers={"Idempotency-Key": key}
            )
            match answer and answer.status_code:
                case 202:
                    assert answer
                    wanted.ids.add(answer.json()["id"])
                    wanted.acknowledged_at = wanted.acknowledged_at or time.time()
                    if not sends_again:
                        return
                    sends_again = False
                case 409 | 429 | None:
                    pass  # Come back later.
                case 503:
                    assert answer
                    # A request that was not answered may come late, and place the order: it asks on.
                    wait_s = int(answer.headers["Retry-After"])
                    if not wanted.in_doubt and time.time() + wait_s - wanted.wanted_at > PATIENT_FOR_S:
                        wanted.turned_away = True
                        return
                    await asyncio.sleep(wait_s)
                    continue
                case status:
                    assert answer
                    wanted.refused = f"{status} {answer.text[:200]}"
                    return
            await asyncio.sleep(next(pauses))

    async def _look(self, http: httpx.AsyncClient) -> None:
        """Again and again: which orders are still under way? And whoever pays by PIX pays."""
        took_s, last_began_at = 0.0, time.time()
        while True:
            await asyncio.sleep(min(max(LOOK_EVERY_S, (LOOK_SHARE - 1) * took_s), LOOK_AT_LEAST_EVERY_S))
            began_at = time.time()
            under_way, all_told = await self._listed(http, UNDER_WAY)
            ended: dict[str, Json] = {}
            if self._history:
                since = datetime.datetime.fromtimestamp(last_began_at - ENDED_BEFORE_S, datetime.UTC)
                ended, all_ended = await self._listed(http, AT_REST, updated_from=since.isoformat())
                all_told &= all_ended
            took_s = time.time() - began_at
            if all_told:
                last_began_at = began_at
            at_once = asyncio.Semaphore(LOOKERS)
            told = _Told(under_way=under_way, ended=ended, all_told=all_told, began_at=began_at)
            async with asyncio.TaskGroup() as looks:
                for wanted in self._book.wanted:
                    if wanted.seen_ended_at is None and wanted.acknowledged_at is not None:
                        looks.create_task(self._look_at(http, wanted, told, at_once))

    async def _look_at(
        self,
        http: httpx.AsyncClient,
        wanted: ledger.Wanted,
        told: "_Told",
        at_once: asyncio.Semaphore,
    ) -> None:
        """One order, as it was at that look: its customer does something about it, or sees how it ended."""
        assert wanted.acknowledged_at is not None
        order_id = min(wanted.ids)
        async with at_once:
            if open_one := told.under_way.get(order_id):
                await self._meddle(http, wanted, open_one)
            elif ended := told.ended.get(order_id):
                self._note_end(wanted, ended)
            elif not told.all_told or wanted.acknowledged_at >= told.began_at:
                pass  # It may be on a page that was not told, or it was placed after the look had begun.
            elif not self._history:
                wanted.seen_ended_at = time.time()
            elif order := await self._order(http, wanted):
                self._note_end(wanted, order)

    async def _listed(
        self, http: httpx.AsyncClient, statuses: collections.abc.Iterable[str], **more: str
    ) -> tuple[dict[str, Json], bool]:
        """Their orders with one of these statuses, by id, and whether these are all.

        Where the shop does not answer for one page, those on the pages before have been told all the same: of
        a thousand customers that each look for themselves one would not keep the others from theirs.
        """
        found: dict[str, Json] = {}
        wanted = [("limit", "100"), *(("status", status) for status in statuses), *more.items()]
        page: str | None = f"/orders?{urllib.parse.urlencode(wanted)}"
        while page:
            answer = await self._send(http, "look", "GET", page)
            if answer is None or answer.status_code != 200:
                return found, False
            told = answer.json()
            found |= {order["id"]: order for order in told["results"]}
            page = told["next"]
        return found, True

    async def _meddle(self, http: httpx.AsyncClient, wanted: ledger.Wanted, order: Json) -> None:
        """What the customer does, or the shop, once the order has come to the point where it can be done."""
        if wanted.key in self._meddled:
            return
        fate, payment, shipment = wanted.fate, order["payment"], order["shipment"]
        if fate.review and (step := fates.review(order)):
            if await self._review(http, fate.review, step, order):
                self._meddled.add(wanted.key)
        elif fate.meddle == "pay" and payment["status"] == "awaiting_payment":
            if await self._pay(http, wanted, payment["key"]):
                self._meddled.add(wanted.key)
        elif fate.meddle == "cancel" and shipment and shipment["status"] == "in_transit":
            answer = await self._send(
                http, "cancel", "POST", f"/orders/{order['id']}/cancel", of=wanted,
                json={"reason": "The customer has changed their mind."},
            )  # fmt: skip
            if answer is not None and answer.status_code < 500 and answer.status_code not in (409, 429):
                self._meddled.add(wanted.key)

    async def _pay(self, http: httpx.AsyncClient, wanted: ledger.Wanted, charge: str) -> bool:
        """Pay a PIX in the bank's app; whether the bank has answered."""
        try:
            answer = await http.post(f"{self._sandbox}/pix/{charge}/pay", headers={"Authorization": ""})
        except httpx.TransportError:
            return False  # It may be away for a moment; its customer tries again.
        self._note(wanted, "pay", answer.raise_for_status(), "", None)
        return True

    async def _review(self, http: httpx.AsyncClient, said: str, step: str, order: Json) -> bool:
        """What one of the shop's people says of an order; whether the shop has taken it down."""
        what, reason = fates.REVIEWS[said]
        answer = await self._send(
            http, "review", "POST", f"/sagas/{order['saga']['id']}/{what}",
            json={"step": step, "reason": reason}, headers={"Authorization": f"Token {self._staff_token}"},
        )  # fmt: skip
        return answer is not None and answer.is_success

    async def _order(self, http: httpx.AsyncClient, wanted: ledger.Wanted) -> Json | None:
        """An order that was in neither list, if it has ended; None also where the shop did not answer."""
        answer = await self._send(http, "look", "GET", f"/orders/{min(wanted.ids)}")
        if answer is None or answer.status_code != 200:
            return None
        order: Json = answer.json()
        return order if order["status"] in AT_REST else None

    def _note_end(self, wanted: ledger.Wanted, order: Json) -> None:
        """Write down how an order has ended, as its customer was told."""
        wanted.seen_ended_at = time.time()
        wanted.ended_at = datetime.datetime.fromisoformat(order["updated_at"]).timestamp()
        self._write({"key": wanted.key, "order": order["number"], "end": order["status"]})

    def _note(
        self, wanted: ledger.Wanted, what: str, answer: httpx.Response | None, failure: str, request: Any
    ) -> None:
        self._write(
            {
                "customer": wanted.customer,
                "key": wanted.key,
                "attempt": wanted.requests,
                "what": what,
                "request": request,
                "status": answer.status_code if answer is not None else None,
                "error": failure or None,
                "answer": _body(answer),
            }
        )

    def _write(self, entry: Json) -> None:
        if self._history:
            at = datetime.datetime.now(datetime.UTC).isoformat()
            self._history.write(json.dumps({"at": at} | entry, ensure_ascii=False) + "\n")

    async def _probe(self, http: httpx.AsyncClient) -> None:
        """Ask for something small at a steady pace, however long the last answer takes."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._send(http, "probe", "GET", "/products?limit=1"))
                await asyncio.sleep(PROBE_EVERY_S)

    async def _products(self, http: httpx.AsyncClient) -> list[str]:
        """What the shop has most of, so that the customers do not buy it up; and it goes in a parcel."""
        answer = await http.get(f"{self._api}/products?limit=100")
        shipped = [product for product in answer.raise_for_status().json()["results"] if product["ships"]]
        plenty = sorted(shipped, key=lambda product: -product["available"])
        return [product["sku"] for product in plenty[:8]]

    async def _send(
        self,
        http: httpx.AsyncClient,
        what: str,
        method: str,
        path: str,
        *,
        of: ledger.Wanted | None = None,
        **more: Any,
    ) -> httpx.Response | None:
        """One request, written down; None where the shop did not answer, or is at fault by its own word."""
        url = path if path.startswith("http") else f"{self._api}{path.removeprefix('/api/v1')}"
        sent_at = time.time()
        answer, failure, in_doubt = None, "", False
        try:
            answer = await http.request(method, url, **more)
            if answer.status_code >= 500 and not _is_overloaded(answer):
                failure = str(answer.status_code)
            in_doubt = bool(failure) or answer.status_code == 409
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = type(error).__name__  # Nothing was sent.
        except httpx.TransportError as error:
            failure, in_doubt = type(error).__name__, True
        self._book.requests.append(
            ledger.Request(what=what, sent_at=sent_at, ended_at=time.time(), failure=failure)
        )
        if of is not None:
            of.in_doubt |= in_doubt
            self._note(of, what, answer, failure, more.get("json"))
        return None if failure else answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Told:
    """What the shop told at one look: orders by their ids."""

    under_way: dict[str, Json]
    ended: dict[str, Json]
    all_told: bool
    """No page is missing."""
    began_at: float


def _is_overloaded(answer: httpx.Response) -> bool:
    """Whether the shop says of itself that it takes no more orders just now: no fault of any part of it."""
    said = _body(answer)
    return isinstance(said, dict) and said.get("type") == OVERLOADED


def _body(answer: httpx.Response | None) -> Any:
    """What was answered, where it is JSON."""
    if answer is None or "json" not in answer.headers.get("content-type", ""):
        return None
    return answer.json()


def crowd(
    seed: int, shares: collections.abc.Sequence[tuple[int, fates.Fate]] = fates.CROWD
) -> collections.abc.Iterator[fates.Fate]:
    """Customers without an end, with these shares of a hundred."""
    while True:
        yield from fates.crowd(100, seed, shares)
        seed += 1


def _pauses() -> collections.abc.Iterator[float]:
    """Without an end. Customers that came again and again at once would keep a busy shop from its work."""
    longest_s = PAUSE_S
    while True:
        yield longest_s * random.uniform(0.5, 1)  # noqa: S311 - chance, not secrecy
        longest_s = min(2 * longest_s, LONGEST_PAUSE_S)
