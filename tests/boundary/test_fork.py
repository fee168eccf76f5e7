"""What was made before a fork refuses to work after it."""

from __future__ import annotations

import json
import subprocess
import sys

# In an interpreter of its own, because pytest's has threads.
FORKED = """
import json, os
from penstock import Graph
from penstock._core import Core, WorkerCodec
from penstock.errors import Invalid
from tests.boundary.driver import NOW, CoreDriver

driver = CoreDriver(Graph("g").chain("a"))
driver.create("g")
batch = driver.take()
codec = WorkerCodec()
uses = {
    "has_batch": driver.core.has_batch,
    "room": driver.core.room,
    "load": lambda: driver.core.load([], NOW),
    "committed": lambda: driver.core.committed(batch, [], NOW),
    "feed": lambda: codec.feed(b""),
}
read, write = os.pipe()
child = os.fork()
if child == 0:
    found = {}
    for name, use in uses.items():
        try:
            use()
        except Invalid as error:
            found[name] = error.message
    found["new"] = CoreDriver(Graph("g").chain("a")).create("g").hex()
    os.write(write, json.dumps(found).encode())
    os._exit(0)
os.close(write)
with open(read) as pipe:
    found = json.load(pipe)
assert os.waitpid(child, 0)[1] == 0
report = driver.core.committed(batch, [], NOW)
print(json.dumps({"parent": os.getpid(), "child": child, "found": found, "created": len(report.created)}))
"""

# A lock that another thread holds at the fork is held for ever in the child.
BUSY = """
import os, sys, threading
from penstock import Graph
from penstock.errors import Invalid
from tests.boundary.driver import NOW, CoreDriver

driver = CoreDriver(Graph("g").chain("a"))
is_over = threading.Event()
rows = [driver.new_row("g") for _ in range(200)]

def work():
    while not is_over.is_set():
        driver.core.check_input(rows[0][2], rows[0][3])

threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        try:
            driver.core.room()
        except Invalid:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
is_over.set()
print("refused")
"""


def run(script: str) -> str:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def test_an_object_made_before_a_fork_refuses_after_it_and_names_both_processes() -> None:
    told = json.loads(run(FORKED))
    found, parent, child = told["found"], told["parent"], told["child"]
    assert found.pop("new"), "an object made after the fork works"
    assert found.keys() == {"has_batch", "room", "load", "committed", "feed"}
    for use, message in found.items():
        assert f"was made in process {parent} and is used in process {child}" in message, use
    assert told["created"] == 1, "the parent's own goes on"


def test_a_child_is_refused_at_once_when_a_thread_was_inside_at_the_fork() -> None:
    assert run(BUSY) == "refused\n"
