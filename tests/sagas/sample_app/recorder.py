"""A connection beside Django's: what it writes stays, whatever becomes of the engine's transaction."""

import functools
import json
import os

import psycopg
from django.db import connection

_connections = {}


def execute(sql, parameters=()):
    """Execute a statement and commit it; one connection for each process, as forks must not share one."""
    known = _connections.get(os.getpid())
    if known is None or known.closed or known.info.dbname != connection.settings_dict["NAME"]:
        settings = connection.settings_dict
        names = {"dbname": "NAME", "host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
        arguments = {name: settings[key] for name, key in names.items() if settings[key]}
        known = _connections[os.getpid()] = psycopg.connect(**arguments, autocommit=True)
    return known.execute(sql, parameters)


def close():
    """Let go of this process's connection, so that the database can be dropped."""
    if known := _connections.pop(os.getpid(), None):
        known.close()


def answer(saga_id, function, step):
    """The script's answer to this call, which is the n-th of its kind."""
    call = f"{function} {step}"
    row = execute(
        "SELECT answers -> %s -> ("
        " SELECT count(*) FROM sample_app_line WHERE saga_id = s.saga_id AND call = %s)::int"
        " FROM sample_app_script s WHERE saga_id = %s",
        [call, call, saga_id],
    ).fetchone()
    return tuple(row[0]) if row and row[0] else ("well", "")


def note(saga_id, text, call=""):
    """Write a line."""
    execute("INSERT INTO sample_app_line (saga_id, text, call) VALUES (%s, %s, %s)", [saga_id, text, call])


def direct(saga_id, answers):
    """Say what the functions of this saga are to answer."""
    told = {f"{function} {step}": given for (function, step), given in answers.items()}
    execute("INSERT INTO sample_app_script (saga_id, answers) VALUES (%s, %s)", [saga_id, json.dumps(told)])


def lines(saga_id):
    """What happened."""
    rows = execute("SELECT text FROM sample_app_line WHERE saga_id = %s ORDER BY id", [saga_id])
    return [text for (text,) in rows.fetchall()]


@functools.lru_cache(maxsize=10_000)
def place_of(saga_id):
    """The saga that has no parent, and by which name its script calls this one: `deliver.0`, or nothing."""
    row = execute(
        "SELECT parent_id, parent_step, parent_item FROM sagas_saga WHERE id = %s AND parent_id IS NOT NULL",
        [saga_id],
    ).fetchone()
    if row is None:
        return saga_id, ""
    parent_id, step, item = row
    root, above = place_of(str(parent_id))
    return root, f"{above}.{step}.{item}".lstrip(".")
