"""Imports go one way, and `import penstock` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "python" / "penstock"

# A module may import from its own line and from those above it. Workers stand beside the store: they hold no
# connection. Observability is a leaf that every room may use.
LAYERS = (
    ("_core", "errors"),
    ("encoding", "clock"),
    ("scalars",),
    ("records",),
    ("outcome", "conversion"),
    ("options",),
    ("graph",),
    ("calls", "fields"),
    ("flow",),
    ("app", "binding", "host"),
    ("observability",),
    ("store", "workers"),
    ("runtime",),
    ("operations",),
    ("engine", "aio", "client"),
    ("cli", "dashboard", "testing"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# Rooms of one rank that must not know each other.
STRANGERS = {("store", "workers"), ("workers", "store")}

HEAVY = (
    "sqlalchemy",
    "alembic",
    "psycopg",
    "opentelemetry",
    "uvloop",
    "asyncio",
    "multiprocessing",
    "sqlite3",
)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports_of(node: ast.AST) -> Iterator[str]:
    """Every module that is imported below `node`, in functions too, but not for type checking only."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = child.module or ""
            for alias in child.names:
                name = f"{module}.{alias.name}"
                yield name if name in SOURCES else module
        yield from imports_of(child)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    """The first name below the package: `penstock.store.tables` stands in the room `store`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "penstock" else None


SOURCES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
IMPORTS = {
    module: sorted(set(imports_of(ast.parse(path.read_text(encoding="utf-8")))))
    for module, path in SOURCES.items()
}


def test_every_module_stands_in_a_layer() -> None:
    rooms = {room_of(module) for module in SOURCES} - {None, "__init__"}
    assert rooms <= RANK.keys(), f"give {rooms - RANK.keys()} a line in LAYERS"


@pytest.mark.parametrize("module", [module for module in SOURCES if room_of(module)])
def test_a_module_imports_nothing_from_above(module: str) -> None:
    room = room_of(module)
    assert room is not None
    wrong = []
    for imported in IMPORTS[module]:
        other = room_of(imported)
        if other in RANK and (RANK[other] > RANK[room] or (room, other) in STRANGERS):
            wrong.append(imported)
    assert not wrong, f"{module} stands below what it imports: {wrong}"


def test_no_module_imports_itself_through_others() -> None:
    edges = {
        module: {name for name in imported if name in SOURCES and name != module and "." in name}
        for module, imported in IMPORTS.items()
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a circle of imports: {' → '.join((*path, module))}"
        if module in done:
            return
        for imported in sorted(edges[module]):
            visit(imported, (*path, module))
        done.add(module)

    for module in edges:
        visit(module, ())


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `code`."""
    script = (
        f"{code}\nimport sys\nprint(' '.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import penstock",
        "from penstock import App, Flow, Graph, END, Retry, Tolerate, First, Outcome, errors, current_flow",
        "import penstock\napp = penstock.App()\n@app.task\ndef f(a: int) -> dict: return {}\napp.graph('g').chain(f)",
    ],
)
def test_task_authors_load_no_database_and_no_telemetry(code: str) -> None:
    before = loaded_after("pass")
    assert not (loaded_after(code) - before) & set(HEAVY)
