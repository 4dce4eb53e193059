"""Every interleaving of a small saga, on the engine's own decisions and without a database.

The decisions are the engine's: `admit`, `claim`, `record`, the sweep's, the inbox's, the operators', and what
a parent makes of its children. Each decides into a `UnitOfWork`; here its rows are in memory (`memory`), and
an interleaving is a path through a graph (`search`) whose nodes are what the rows, the workers, the callbacks
and the provider's books say. Time is an adversary: what has a timer may run out at any moment, in any order.
So no more of a moment counts than whether it has come.

`shapes` are the sagas that are gone through, `moves` is what may happen, and `rules` is what must hold.

    make explore ARGS="--help"

What cannot be seen here is PostgreSQL: locks, and transactions that are rolled back. Those are for the
simulator and the races.
"""
