"""A module that starts an engine while it is imported; a second app of the module stands below it."""

from penstock import App
from penstock.workers.main_import import stop_if_importing

app = App()


@app.task
def above() -> None:
    """A task above the engine."""


stop_if_importing(app)


@app.task
def between() -> None:
    """A task below a constructor, which a module may have."""


stop_if_importing(app, starting=True)
raise AssertionError("an engine was started in the zygote")
