"""Tasks and graphs by name."""

from __future__ import annotations

import pytest

from penstock import App
from penstock.errors import Invalid, NotFound


def first() -> None: ...
def second() -> None: ...


def test_a_decorated_function_stays_itself_and_knows_its_task() -> None:
    app = App()

    @app.task
    def plain() -> str:
        return "called"

    @app.task(name="other")
    def named() -> None: ...

    assert plain() == "called"
    assert app.tasks() == ["other", "plain"]
    assert named.__penstock_task__ == "other"  # type: ignore[attr-defined]
    assert app.get_task("plain") is plain


def test_a_name_used_twice_is_refused() -> None:
    app = App()
    app.task(first)
    with pytest.raises(Invalid, match="'first'"):
        app.task(second, name="first")
    app.graph("g").chain(second)
    with pytest.raises(Invalid, match="'g'"):
        app.graph("g")


def test_a_function_without_a_name_needs_one() -> None:
    app = App()
    with pytest.raises(Invalid, match="name="):
        app.task(lambda: None)
    app.task(lambda: None, name="fine")
    assert app.tasks() == ["fine"]


def test_functions_that_stand_for_nodes_are_tasks() -> None:
    app = App()
    app.graph("g").chain(first, second)
    assert app.tasks() == ["first", "second"]
    assert app.get_task("second") is second
    assert app.graphs() == ["g"]


def test_a_function_and_a_task_of_one_name_are_told_apart() -> None:
    app = App()
    app.task(second, name="third")
    app.graph("g").chain(first)
    app.task(lambda: None, name="first")
    with pytest.raises(Invalid, match="'first'"):
        app.tasks()


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(NotFound, match="'nothing'"):
        App().get_task("nothing")
    with pytest.raises(NotFound, match="'nothing'"):
        App().get_graph("nothing")


def test_an_app_knows_the_module_it_was_made_in() -> None:
    assert App().module == __name__
    assert App("shop").name == "shop"
