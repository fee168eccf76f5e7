"""The stub says what the module has. That the types fit is stubtest's to say, in `make check`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from penstock import _core
from penstock.store import batch

STUB = Path(__file__).resolve().parents[2] / "python" / "penstock" / "_core.pyi"
SOURCE = STUB.read_text(encoding="utf-8")
TREE = ast.parse(SOURCE)
CLASSES = [node for node in TREE.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def names(body: list[ast.stmt]) -> set[str]:
    """What a module or class defines under a public name."""
    found = set()
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}


def public(value: object) -> set[str]:
    return {name for name in dir(value) if not name.startswith("_")}


def undocumented(body: list[ast.stmt]) -> list[str]:
    """Public names of a body without a docstring, or a text below a constant."""
    bare = []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            bare += [node.name] if ast.get_docstring(node) is None else []
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            has_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            bare += [node.target.id] if not (has_text or node.target.id.startswith("_")) else []
    return bare


def row_columns(alias: str) -> list[str]:
    """The names that the comments of a row's alias give."""
    found = re.search(rf"^{alias}: TypeAlias = tuple\[\n(.*?)^\]", SOURCE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return re.findall(r"# (\w+)", found[1])


def test_the_module_has_the_names_of_the_stub() -> None:
    assert names(TREE.body) == public(_core) == set(_core.__all__)


@pytest.mark.parametrize("node", CLASSES, ids=lambda node: node.name)
def test_a_class_has_the_members_of_the_stub(node: ast.ClassDef) -> None:
    assert names(node.body) == public(getattr(_core, node.name))


def test_every_name_is_documented() -> None:
    assert undocumented(TREE.body) == []
    assert {node.name: undocumented(node.body) for node in CLASSES} == {node.name: [] for node in CLASSES}


@pytest.mark.parametrize(
    ("alias", "columns"),
    [
        ("_FlowRow", batch.FLOW_COLUMNS),
        ("_LiveRow", batch.LIVE_COLUMNS),
        ("_JournalRow", batch.JOURNAL_COLUMNS),
        ("_InterruptRow", batch.INTERRUPT_COLUMNS),
        ("_OutboxRow", batch.OUTBOX_COLUMNS),
    ],
)
def test_the_rows_of_the_stub_are_the_columns_of_the_store(alias: str, columns: str) -> None:
    assert row_columns(alias) == columns.split(", ")
