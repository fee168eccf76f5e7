"""The pages on waiting, questions, signals and subgraphs: their scripts print what the pages promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.test_documented_examples import blocks_of, run_script

PRINTED = [
    ("docs/concepts/waiting.md", 0, "where to?\nHotel Rome?\nHotel Rome\n"),
    ("docs/concepts/waiting.md", 1, "['ada: ADA', 'bob: BOB']\n"),
    (
        "docs/howto/ask-a-person.md",
        0,
        "completed True\ninterrupted {'amount': 500}\nada\ntoo late\n",
    ),
    ("docs/howto/signals.md", 0, "paid 7 ['parcel 1', 'parcel 2']\n"),
    (
        "docs/howto/subgraphs.md",
        0,
        "8 [['piano', 'too_heavy', 300]]\nbegin []\nship ['completed']\nship ['failed']\nship ['completed']\nend []\n",
    ),
    ("docs/howto/subgraphs.md", 1, "8\n"),
]


@pytest.mark.parametrize(("page", "number", "printed"), PRINTED, ids=lambda value: str(value)[:30])
def test_the_examples_print_what_their_pages_say(
    tmp_path: Path, page: str, number: int, printed: str
) -> None:
    block = blocks_of(page)[number]
    script = tmp_path / block.partition("\n")[0].removeprefix("# ")
    script.write_text(block, encoding="utf-8")
    assert run_script(script) == printed
