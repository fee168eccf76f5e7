"""How another process finds the app again: an address, never a pickle."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from penstock.app import App
from penstock.errors import Invalid
from penstock.workers.main_import import import_main

_WAY_OUT = "move the app and its tasks to the top level of a module that can be imported, or use workers=0"


@dataclass(frozen=True, slots=True)
class AppSpec:
    """The address of an app.

    Attributes:
        kind: `module`: imported by name; `script`: the file that runs as `__main__`; `main`: a module that
            runs as `__main__` by `python -m`.
        target: The module's name or the script's path.
        attribute: The app's variable there; may be dotted.
    """

    kind: Literal["module", "script", "main"]
    target: str
    attribute: str

    @classmethod
    def of(cls, app: App | str) -> AppSpec:
        """Find the address of an app, or read one written `module:attribute`.

        Raises:
            Invalid: The app was made in a function, a REPL or a notebook, so no other process can find it.
        """
        if isinstance(app, str):
            return cls._parse(app)
        for module in _candidates(app.module):
            attribute = _variable_of(app, module)
            if attribute is not None:
                return cls._in_module(module, attribute)
        raise Invalid(
            f"worker processes cannot find the app {app.name!r}: no module has a variable that holds it, as when "
            f"it is made in a function; {_WAY_OUT}"
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AppSpec:
        """Read what `as_dict` gave."""
        return cls(values["kind"], values["target"], values["attribute"])

    def as_dict(self) -> dict[str, str]:
        """Give the address as JSON."""
        return {"kind": self.kind, "target": self.target, "attribute": self.attribute}

    def load(self) -> App:
        """Import the app; in a zygote, an exec'ed worker, or the engine of an app given by name.

        Raises:
            Invalid: There is no app at the address.
            Exception: Whatever the import raises.
        """
        module = import_main(self)
        try:
            app = functools.reduce(getattr, self.attribute.split("."), module)
        except AttributeError as error:
            raise Invalid(
                f"{self.target} has no {self.attribute!r} once it is imported ({error}); the app must stand at the "
                "top level, above the first Engine and outside of `if __name__ == '__main__'`"
            ) from None
        if not isinstance(app, App):
            raise Invalid(f"{self.target}:{self.attribute} is {type(app).__name__}, not an App")
        return app

    @classmethod
    def _parse(cls, text: str) -> AppSpec:
        target, _, attribute = text.partition(":")
        names = [*target.split("."), *attribute.split(".")]
        if not all(name.isidentifier() for name in names):
            raise Invalid(f"{text!r} is no address of an app; write 'package.module:attribute'")
        return cls("module", target, attribute)

    @classmethod
    def _in_module(cls, module: types.ModuleType, attribute: str) -> AppSpec:
        if module.__name__ != "__main__":
            return cls("module", module.__name__, attribute)
        if module.__spec__ is not None:
            return cls("main", module.__spec__.name, attribute)
        path = getattr(module, "__file__", None)
        if path is None or not Path(path).is_file():
            raise Invalid(
                "the app lives in a REPL, a notebook or a command line, which worker processes cannot import; "
                + _WAY_OUT
            )
        return cls("script", str(Path(path).resolve()), attribute)


def _candidates(name: str) -> list[types.ModuleType]:
    """The module that made the app first, then the main one, then all others: a factory may have made it."""
    named = [sys.modules.get(name), sys.modules.get("__main__")]
    modules = [module for module in [*named, *sys.modules.values()] if isinstance(module, types.ModuleType)]
    return list(dict.fromkeys(modules))


def _variable_of(app: App, module: types.ModuleType) -> str | None:
    # `list` first: another thread may import meanwhile and change the dict.
    for name, value in list(vars(module).items()):
        if value is app and name.isidentifier():
            return name
    return None
