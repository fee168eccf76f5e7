"""Imports the host's app in a zygote or an exec'ed worker, where a script must not run as a whole.

A script runs under the name `__penstock_main__`, so what its `if __name__ == "__main__"` guards stays out;
the first engine or client made at its top level ends the import: what stands above it is the app.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import Invalid

if TYPE_CHECKING:
    from penstock.workers.spec import AppSpec

MAIN_NAME = "__penstock_main__"

_importing: AppSpec | None = None
_cut_short: types.ModuleType | None = None


class ImportEnds(BaseException):
    """Unwinds the import of a script at the first engine or client in it."""


def stop_if_importing(app: object = None, *, starting: bool = False) -> None:
    """End the import of the app, if that is what runs here; elsewhere do nothing.

    Engines and clients call this first in their constructors, and with `starting` before they start. A
    module may go on past a constructor, since the tasks may stand below it; nothing may start an engine in
    a zygote.

    Args:
        app: What the engine was given; not looked at, the app is found by its name.
        starting: Whether an engine is about to start.
    """
    global _cut_short
    if _importing is None or (_importing.kind == "module" and not starting):
        return
    _cut_short = sys.modules.get(_importing.target) if _importing.kind == "module" else None
    raise ImportEnds


def import_main(spec: AppSpec) -> types.ModuleType:
    """Import the module, script or package that holds the app, up to its first engine.

    Raises:
        Exception: Whatever the import raises.
    """
    global _importing
    _importing = spec
    try:
        if spec.kind == "module":
            return _import_module(spec.target)
        return _run_as_main(spec)
    finally:
        _importing = None


def _import_module(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ImportEnds:
        if _cut_short is None:
            raise Invalid(f"the module {name!r} starts an engine while it is imported") from None
        sys.modules[name] = _cut_short  # the import system drops a module whose import raised
        return _cut_short


def _run_as_main(spec: AppSpec) -> types.ModuleType:
    module = types.ModuleType(MAIN_NAME)
    code = (
        _code_of_package(spec.target, module) if spec.kind == "main" else _code_of_file(spec.target, module)
    )
    # Both names: classes pickled by either, and `import __main__` in a task, find this module.
    sys.modules[MAIN_NAME] = sys.modules["__main__"] = module
    try:
        exec(code, vars(module))
    except (ImportEnds, SystemExit):
        pass
    return module


def _code_of_file(path: str, module: types.ModuleType) -> types.CodeType:
    module.__file__ = path
    with io.open_code(str(Path(path).resolve())) as file:
        return compile(file.read(), path, "exec", dont_inherit=True)


def _code_of_package(name: str, module: types.ModuleType) -> types.CodeType:
    spec = importlib.util.find_spec(name)
    code = getattr(spec.loader, "get_code", lambda _: None)(name) if spec is not None else None
    if spec is None or not isinstance(code, types.CodeType):
        raise Invalid(f"the main module {name!r} cannot be found again; move the tasks to a module")
    module.__file__, module.__spec__, module.__package__ = spec.origin, spec, spec.parent
    return code
