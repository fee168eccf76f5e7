"""How a client begins: its settings checked, the database looked at, its graphs published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.app import App
from penstock.errors import Invalid
from penstock.operations.client_port import ClientPort
from penstock.operations.context import Context
from penstock.operations.start import (
    SHARD,
    check_priority,
    check_url,
    definitions_of,
    load_app,
    without_password,
)
from penstock.runtime.waiters import Waiters
from penstock.runtime.watcher import Watcher
from penstock.store import open_store
from penstock.workers.spec import AppSpec

if TYPE_CHECKING:
    from penstock.host import GraphLoader


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """The arguments of a client, checked."""

    app: App | None
    url: str
    default_priority: int
    loader: GraphLoader | None
    clock: Callable[[], int] | None

    @classmethod
    def check(
        cls,
        *,
        app: App | str | None,
        url: str,
        default_priority: int,
        loader: GraphLoader | None,
        clock: Callable[[], int] | None,
    ) -> ClientSettings:
        """Refuse what cannot work, before anything is opened.

        Raises:
            Invalid: The message names the argument, the value and the way out.
        """
        check_url(url)
        check_priority(default_priority)
        if isinstance(app, str):
            app = load_app(AppSpec.of(app))
        if app is not None and not isinstance(app, App):
            raise Invalid(f"app is {app!r}: pass an App, its address as 'module:attribute', or None")
        return cls(app=app, url=url, default_priority=default_priority, loader=loader, clock=clock)

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return without_password(self.url)


def connect(settings: ClientSettings) -> tuple[Watcher, Context]:
    """Open the database and publish the app's graphs; on failure nothing is left open.

    Raises:
        EngineUnavailable: The database cannot be reached, or no engine has ever used it.
        Invalid: A graph does not compile.
    """
    definitions = definitions_of(settings.app)
    store = open_store(settings.url, settings.clock)
    waiters = Waiters(store, lambda _: ())
    watcher = Watcher(waiters)
    port = ClientPort(store, waiters, watcher, settings.loader)
    try:
        store.attach()
        for workflow, definition in definitions.items():
            port.publish(workflow, definition)
        watcher.start()
    except BaseException:
        store.close()
        raise
    context = Context(
        shard=SHARD,
        store=store,
        waiters=waiters,
        port=port,
        default_priority=settings.default_priority,
        time_budget_ms=None,
        url=settings.shown_url,
    )
    return watcher, context


def disconnect(watcher: Watcher, context: Context) -> None:
    """Tell everybody who waits, and close the database. Idempotent."""
    watcher.stop()
    try:
        context.store.close()
    finally:
        context.waiters.close()
