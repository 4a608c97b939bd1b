"""Durable steps per second of a bare loop, one JSON object on stdout.

No engine: the smallest program in the language of most peers that has each step on the disk before
the next begins. On SQLite the agents share one writer that commits whatever waits, up to 64 rows,
with WAL and synchronous=FULL. On PostgreSQL each agent has a connection, 64 at most, and commits
one row a step by a prepared INSERT.
"""

import argparse
import json
import pathlib
import queue
import secrets
import sqlite3
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

GROUP = 64
CONNECTIONS = 64


def work(agent, given, commit):
    """Commits the steps of one agent; the seconds that each took."""
    waits = []
    for seq in range(given.steps):
        began = time.perf_counter()
        commit(agent, seq, secrets.token_urlsafe(given.payload * 3 // 4)[: given.payload])
        waits.append(time.perf_counter() - began)
    return waits


def together(given, commit_of):
    """Runs all agents; the seconds of all and the sorted waits."""
    began = time.perf_counter()
    with ThreadPoolExecutor(given.agents) as pool:
        jobs = [pool.submit(work, agent, given, commit_of(agent)) for agent in range(given.agents)]
        waits = sorted(wait for job in jobs for wait in job.result())
    return time.perf_counter() - began, waits


def write(path, rows):
    """The one writer: commits what waits as one transaction, until it is told to end."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    while (first := rows.get()) is not None:
        group = [first]
        while len(group) < GROUP and not rows.empty():
            if (more := rows.get()) is None:
                rows.put(None)
                break
            group.append(more)
        connection.execute("BEGIN IMMEDIATE")
        insert = "INSERT INTO journal (agent, seq, body) VALUES (?, ?, ?)"
        connection.executemany(insert, [row for row, _ in group])
        connection.execute("COMMIT")
        for _, done in group:
            done.set_result(None)
    connection.close()


def on_sqlite(folder, given):
    """Runs in a file; seconds, waits, bytes on the disk, the library's version."""
    path = folder / "bare.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(
        "CREATE TABLE journal (agent INTEGER, seq INTEGER, body TEXT, UNIQUE (agent, seq))"
    )
    rows = queue.SimpleQueue()
    writer = threading.Thread(target=write, args=(path, rows))
    writer.start()

    def commit(agent, seq, body):
        done = Future()
        rows.put(((agent, seq, body), done))
        done.result()

    seconds, waits = together(given, lambda agent: commit)
    rows.put(None)
    writer.join()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (kept,) = connection.execute("SELECT count(*) FROM journal").fetchone()
    connection.close()
    return seconds, waits, kept, path.stat().st_size, sqlite3.sqlite_version


def on_postgres(given):
    """Runs in a schema of its own; seconds, waits, bytes of the table, the library's version."""
    import psycopg

    schema = f"bare_{secrets.token_hex(4)}"
    with psycopg.connect(given.postgres, autocommit=True) as admin:
        if (fsync := admin.execute("SHOW fsync").fetchone()[0]) != "on":
            sys.exit(f"the server runs with fsync={fsync}: this compares durable steps")
        admin.execute(f"CREATE SCHEMA {schema}")
        admin.execute(
            f"CREATE TABLE {schema}.journal "
            "(agent integer, seq bigint, body text, PRIMARY KEY (agent, seq))"
        )
        own = [
            psycopg.connect(given.postgres, autocommit=True, prepare_threshold=0)
            for _ in range(min(given.agents, CONNECTIONS))
        ]
        insert = f"INSERT INTO {schema}.journal VALUES (%s, %s, %s)"

        def commit_of(agent):
            connection = own[agent % len(own)]
            return lambda *row: connection.execute(insert, row)

        try:
            seconds, waits = together(given, commit_of)
            (kept,) = admin.execute(f"SELECT count(*) FROM {schema}.journal").fetchone()
            size = f"SELECT pg_total_relation_size('{schema}.journal')"
            return seconds, waits, kept, admin.execute(size).fetchone()[0], psycopg.__version__
        finally:
            for connection in own:
                connection.close()
            admin.execute(f"DROP SCHEMA {schema} CASCADE")


def main():
    """Reads the arguments, runs, prints."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    arguments.add_argument("--postgres", metavar="URL", help="the server, for --store postgres")
    arguments.add_argument("--agents", type=int, default=64)
    arguments.add_argument("--steps", type=int, default=200)
    arguments.add_argument("--payload", type=int, default=2048, help="bytes a step")
    given = arguments.parse_args()
    if given.store == "postgres" and not given.postgres:
        arguments.error("--store postgres needs --postgres URL")
    if given.store == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            seconds, waits, kept, size, version = on_sqlite(pathlib.Path(folder), given)
    else:
        seconds, waits, kept, size, version = on_postgres(given)
    total = given.agents * given.steps
    if kept != total:
        sys.exit(f"{kept} of {total} steps were kept")
    report = {
        "peer": "bare",
        "version": version,
        "store": given.store,
        "agents": given.agents,
        "steps": given.steps,
        "payload": given.payload,
        "steps_per_s": round(total / seconds, 1),
        "p50_ms": round(waits[len(waits) // 2] * 1000, 2),
        "p99_ms": round(waits[len(waits) * 99 // 100] * 1000, 2),
        "bytes_per_step": round(size / total),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
