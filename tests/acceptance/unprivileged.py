"""Starts an engine as a user who may do nothing, and prints how it is refused."""

from __future__ import annotations

import os
import sys

from penstock import App, Engine
from penstock.errors import PenstockError

NOBODY = 65_534

if __name__ == "__main__":
    # Everything is imported while it may be read.
    with Engine(App(), "sqlite://"):
        pass
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        Engine(App(), sys.argv[1]).start()
    except PenstockError as error:
        print(f"{error.code}: {error}")
    else:
        sys.exit("it started")
