"""The examples of the pages about operations print what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.test_documented_examples import ROOT, blocks_of, run_script

PRINTED = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    *(
        f"docs/howto/{name}.md"
        for name in (
            "debug-with-breakpoints",
            "notify",
            "recover-failed-flows",
            "retention",
            "transactional-outbox",
        )
    ),
    *(
        f"docs/reference/operations/{name}.md"
        for name in (
            "break",
            "cancel",
            "continue",
            "create",
            "engine",
            "fork",
            "list",
            "pause",
            "purge",
            "restart",
            "resume",
            "run-task",
            "wait",
        )
    ),
]


@pytest.mark.parametrize("page", PAGES)
def test_the_example_prints_what_the_page_says(page: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text("\n".join(blocks_of(page)), encoding="utf-8")
    printed = "".join(PRINTED.findall((ROOT / page).read_text(encoding="utf-8")))
    assert printed
    assert run_script(script) == printed
