"""The clock: what happens by itself, when its time has come."""

import threading
import time

from sandbox import bank, carrier, core

EVENTS = {
    "pix.pay": bank.pay_by_itself,
    "pix.expire": bank.expire,
    "shipment.move": carrier.move,
}
IDLE_S = 1.0


class Clock(threading.Thread):
    """Works off the agenda, one entry in one transaction.

    The agenda is in the books, so it goes on where a killed process left it.
    """

    def __init__(self, sandbox: core.Sandbox) -> None:
        super().__init__(name="clock", daemon=True)
        self._sandbox = sandbox
        self._stirred = threading.Event()
        sandbox.books.listeners.append(self._stirred)

    def run(self) -> None:
        """Do what is due; sleep until something changes or falls due."""
        while True:
            self._stirred.clear()
            while (pause := self._tick()) == 0:
                pass
            self._stirred.wait(pause)

    def _tick(self) -> float:
        """Do the next thing if it is due; else how long it may take until something is."""
        with self._sandbox.books.transaction() as page:
            entry = page.execute("SELECT * FROM agenda ORDER BY at LIMIT 1").fetchone()
            if entry is None:
                return IDLE_S
            early_s = float(entry["at"]) - time.time()
            if early_s > 0:
                return min(IDLE_S, early_s)
            page.execute("DELETE FROM agenda WHERE entry = ?", (entry["entry"],))
            EVENTS[entry["what"]](page, self._sandbox, entry["key"])
            return 0
