"""The examples of the pages on concepts print what stands below them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.acceptance.test_documented_examples import ROOT, blocks_of, run_script

PAGES = ["errors-and-retries", "time-budgets", "typed-state"]
PRINTED = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_example_of_a_page_prints_what_the_page_says(tmp_path: Path, page: str) -> None:
    document = f"docs/concepts/{page}.md"
    for block in blocks_of(document):
        name = block.partition("\n")[0].removeprefix("# ")
        (tmp_path / name).write_text(block, encoding="utf-8")
    (printed,) = PRINTED.findall((ROOT / document).read_text(encoding="utf-8"))
    assert run_script(tmp_path / "host.py") == printed
