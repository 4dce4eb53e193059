"""An independent checker of a campaign: is any order lost, doubled or out of balance?

It reads three things that nobody could have made agree by mistake:

1. **What the clients were told**: `HISTORY`, a file of JSON lines, written by the clients while it happened.
2. **The database's rows at the end**, by its own SQL over psycopg, in one snapshot. No Django, no model.
3. **The providers' books**: `PROVIDERS`, a directory of JSON files.

It shares no code with the engine, the services, the sandbox or the local stack (an import-linter contract
sees to it): what an order must come to, which moves a saga may make and how the books are kept is said here
once more, from the documentation. So a mistake in one of them is not made a second time in its judge.

**The history.** One line for each request that a client sent, whatever came of it::

    {"at": "2026-11-29T21:49:04.123456+00:00", "customer": 17, "key": "...", "attempt": 1,
     "what": "place", "request": {...}, "status": 202, "error": null, "answer": {...}}

`at` is when it was sent. `key` is the Idempotency-Key of the order, also in lines about something else.
`what` is `place` (the default: `request` is the body that was sent), `cancel` (the customer asked for the
order's end, answered or not) or `pay` (the customer paid its PIX). `status` is null where no answer came, and
`error` says what did instead; `answer` is the body of the answer. Other names in a line are passed over. And
lines of how the clients saw an order end, as often as they looked::

    {"at": "...", "key": "...", "order": "ORD-7K3QX9ZD", "end": "fulfilled"}

`end` is what the API calls it: `fulfilled`, `cancelled`, `closed`, or `attention` where the
client left it so.
A last line that was cut off in its middle is left out: the process that wrote it was killed.

**The books.** `books.json` is the sandbox's answer to `GET /books`. Other files are passed over.

**The database** is a connection string. It should be quiet: what is under way counts as not ended.

Rules are functions of a `world.World` that yield what breaks them; `rules.RULES` is all of them. The idea of
judging a run by what its clients saw, and apart from the system, is Jepsen's (https://jepsen.io); that of
testing the judge with planted faults is mutation testing.
"""

from saga_project.local.checker.report import Report, Result, check

__all__ = ["Report", "Result", "check"]
