"""An app that imports in the host and nowhere else."""

import os

from penstock import App

app = App("fails_in_workers")


@app.task
def nothing() -> None: ...


app.graph("nothing").chain(nothing)

# The zygote is told the host's pid by its parent; the host that imported this first left its own here.
if os.environ.setdefault("PENSTOCK_TEST_HOST", str(os.getpid())) != str(os.getpid()):
    raise RuntimeError("this works only here")
