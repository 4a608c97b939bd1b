"""Durable steps per second of LangGraph, one JSON object on stdout.

A step is a super-step of a graph with one node, which adds one message of incompressible text to
its thread, under durability="sync": what the node did is in the database before the next step
begins. The SQLite saver is opened with WAL and synchronous=FULL, the PostgreSQL saver has a pool of
20 connections. `classic` keeps messages as agents do today; `delta` is the beta channel that does
not write the whole history again each step.
"""

import argparse
import importlib.metadata
import json
import operator
import pathlib
import secrets
import sqlite3
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypedDict

from langchain_core.messages import AIMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import _messages_delta_reducer, add_messages


class Classic(TypedDict):
    """A thread whose messages are one value."""

    messages: Annotated[list, add_messages]
    left: int


class Delta(TypedDict):
    """A thread whose messages are what was added."""

    messages: Annotated[list, DeltaChannel(_messages_delta_reducer)]
    left: int


def graph_of(channel, payload, times, saver):
    """A graph that takes steps until none are left, and notes how long each took."""

    def step(state):
        now = time.perf_counter()
        times.append(now)
        text = secrets.token_urlsafe(payload * 3 // 4)[:payload]
        return {"messages": [AIMessage(content=text)], "left": state["left"] - 1}

    graph = StateGraph(Delta if channel == "delta" else Classic)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["left"] > 0 else END)
    return graph.compile(checkpointer=saver)


def work(channel, payload, steps, agent, saver):
    """Runs one agent to its end; the seconds between the beginnings of its steps."""
    times = []
    config = {"configurable": {"thread_id": f"agent-{agent}"}, "recursion_limit": steps + 10}
    graph = graph_of(channel, payload, times, saver)
    graph.invoke({"messages": [], "left": steps}, config, durability="sync")
    kept = len(graph.get_state(config).values["messages"])
    if kept != steps:
        sys.exit(f"agent {agent} kept {kept} of {steps} messages")
    return list(map(operator.sub, times[1:], times))


def on_sqlite(folder, run):
    """Runs with a database of its own; what that returned, and the bytes on the disk."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    connection = sqlite3.connect(folder / "langgraph.db", check_same_thread=False)
    saver = SqliteSaver(connection)
    saver.setup()
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    done = run(saver)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return done, sum(file.stat().st_size for file in folder.iterdir())


def on_postgres(url, run):
    """Runs with a database of its own on that server; what that returned, and the bytes of it."""
    import psycopg
    from langgraph.checkpoint.postgres import PostgresSaver
    from psycopg.rows import dict_row
    from psycopg_pool import ConnectionPool

    name = f"langgraph_{secrets.token_hex(4)}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            own = psycopg.conninfo.make_conninfo(url, dbname=name)
            options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
            with ConnectionPool(own, min_size=20, max_size=20, kwargs=options) as pool:
                saver = PostgresSaver(pool)
                saver.setup()
                done = run(saver)
            size = admin.execute("SELECT pg_database_size(%s)", [name]).fetchone()[0]
            empty = admin.execute("SELECT pg_database_size('template1')").fetchone()[0]
            return done, size - empty
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def main():
    """Reads the arguments, runs, prints."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    arguments.add_argument("--postgres", metavar="URL", help="the server, for --store postgres")
    arguments.add_argument("--agents", type=int, default=64)
    arguments.add_argument("--steps", type=int, default=200)
    arguments.add_argument("--payload", type=int, default=2048, help="bytes a step")
    arguments.add_argument("--channel", choices=["classic", "delta"], default="delta")
    given = arguments.parse_args()
    if given.store == "postgres" and not given.postgres:
        arguments.error("--store postgres needs --postgres URL")

    def run(saver):
        began = time.perf_counter()
        with ThreadPoolExecutor(given.agents) as pool:
            jobs = [
                pool.submit(work, given.channel, given.payload, given.steps, agent, saver)
                for agent in range(given.agents)
            ]
            gaps = sorted(gap for job in jobs for gap in job.result())
        return time.perf_counter() - began, gaps

    with tempfile.TemporaryDirectory() as folder:
        if given.store == "sqlite":
            (seconds, gaps), size = on_sqlite(pathlib.Path(folder), run)
        else:
            (seconds, gaps), size = on_postgres(given.postgres, run)
    total = given.agents * given.steps
    report = {
        "peer": "langgraph",
        "version": importlib.metadata.version("langgraph"),
        "channel": given.channel,
        "store": given.store,
        "agents": given.agents,
        "steps": given.steps,
        "payload": given.payload,
        "steps_per_s": round(total / seconds, 1),
        "p50_ms": round(gaps[len(gaps) // 2] * 1000, 2),
        "p99_ms": round(gaps[len(gaps) * 99 // 100] * 1000, 2),
        "bytes_per_step": round(size / total),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
