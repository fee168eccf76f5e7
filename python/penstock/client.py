"""The client: the operations without an engine.

It reaches flows through their database, from any process: what it writes there some engine reads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Self, Unpack

from penstock.app import App
from penstock.errors import EngineUnavailable
from penstock.operations.configure import Changes, check_client_changes
from penstock.operations.context import Context
from penstock.operations.facade import Operations
from penstock.operations.start_client import ClientSettings, connect, disconnect
from penstock.operations.wait import seconds
from penstock.workers.main_import import stop_if_importing

if TYPE_CHECKING:
    from penstock.host import GraphLoader
    from penstock.options import Duration
    from penstock.outcome import ProcessInfo
    from penstock.runtime.watcher import Watcher


class Client(Operations):
    """Creates, directs, awaits and reads flows through the database. Blocking, and safe to use from any thread.

    It runs no step, owns no flow and takes no lock, so there may be any number beside the engines. Use it as a context
    manager, or call `start` and `shutdown`.

    Args:
        app: An `App` or its address as `"module:attribute"`, whose graphs the client publishes; None creates from the
            definitions that engines have published.
        url: The SQLAlchemy URL that the engines have.
        default_priority: Of flows that name none; lower runs first.
        loader: Finds graphs that the app does not hold.
        clock: The time in milliseconds since 1970, for tests; default is the database's.

    Raises:
        Invalid: An argument is out of range, or the app cannot be imported.
    """

    def __init__(
        self,
        app: App | str | None,
        url: str,
        *,
        default_priority: int = 100,
        loader: GraphLoader | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        stop_if_importing(app)
        self._settings = ClientSettings.check(
            app=app, url=url, default_priority=default_priority, loader=loader, clock=clock
        )
        self._lifecycle = threading.Lock()
        # Guarded by _lifecycle for writing; operations read the context once.
        self._watcher: Watcher | None = None
        self._context: Context | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        state = "open" if self._context is not None else "closed"
        return f"<Client of {self._settings.shown_url}: {state}>"

    def start(self) -> None:
        """Open the database and publish the app's graphs. Nothing to do when it is open.

        Raises:
            EngineUnavailable: The database cannot be reached, no engine has ever used it, or its schema is of another
                version.
            Invalid: A graph of the app does not compile.
        """
        stop_if_importing(self._settings.app, starting=True)
        with self._lifecycle:
            if self._context is None:
                self._watcher, self._context = connect(self._settings)

    def shutdown(self, timeout: Duration | None = None) -> None:
        """Close the database; whoever waits is told so. The flows do not notice.

        Args:
            timeout: Taken for the likeness to an engine; a client has nothing that could take long.
        """
        seconds(timeout)
        with self._lifecycle:
            watcher, context = self._watcher, self._context
            self._watcher = self._context = None
            if watcher is not None and context is not None:
                disconnect(watcher, context)

    def configure(self, **changes: Unpack[Changes]) -> None:
        """Change `default_priority`; everything else is the engines'.

        Raises:
            Invalid: Something else was given, or a bad value; nothing was changed.
        """
        check_client_changes(changes)
        with self._lifecycle:
            priority = changes.get("default_priority", self._settings.default_priority)
            self._settings = replace(self._settings, default_priority=priority)
            if self._context is not None:
                self._context.default_priority = priority

    @property
    def _ready(self) -> Context:
        context = self._context
        if context is None:
            raise EngineUnavailable("the client is closed; call start(), or use it as a context manager")
        return context

    def processes(self) -> tuple[ProcessInfo, ...]:
        """None: a client has no processes but the caller's."""
        return ()
