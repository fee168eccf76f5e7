"""The language of conditions, through the engine: what holds, what does not, what is an error, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import END, App, Engine, Graph
from penstock.errors import Invalid
from tests.support.acting import acting, failed, go

app = App("conformance conditions")

STATE: dict[str, Any] = {
    "n": 3,
    "neg": -7,
    "big": 2**53 + 1,
    "huge": 10**40,
    "half": 0.5,
    "text": "a || b && c == d",
    "quote": "it's",
    "empty": "",
    "yes": True,
    "no": False,
    "zero": 0,
    "items": [{"sku": "x-1", "qty": 2}, {"sku": "y", "tags": ["vip"]}],
    "list": [1, 2, 3],
    "none": [],
    "o": {"k": {"d": 1}, "odd key": 2, "nil": None, "": 3},
    "void": {},
    "surrogate": "\ud800",
    "nul": "a\0b",
    "pattern": "^a",
    "t": "state",
}

HOLDS = [
    # precedence: || below &&, both below comparison, comparison below + -, those below * / %
    "true || false && false",
    "!(true && false) && true",
    "1 + 2 * 3 == 7",
    "2 * 3 + 1 == 7 && 10 - 2 - 3 == 5",
    "(1 + 2) * 3 == 9",
    "-2 * 3 == -6",
    "12 / 2 / 3 == 2",
    "n > 1 + 1 || n / zero > 1",
    # quote-aware
    "text == 'a || b && c == d'",
    'text == "a || b && c == d"',
    "text == `a || b && c == d`",
    "quote == 'it\\'s' && quote == \"it's\"",
    "'(' == '(' && 'a' != ')'",
    # paths
    "items[0].sku == 'x-1'",
    "items[1].tags[0] == 'vip'",
    "items[-1].sku == 'y'",
    "o.k.d == 1",
    "o['odd key'] == 2 && o[\"\"] == 3",
    "t == 'state'",
    # what is not there is null
    "absent == null",
    "absent.deeper[3].still == null",
    "items[7] == null && items[-7] == null",
    "n.x == null && text[0] == null",
    "o.nil == null",
    "null == null",
    # truthy
    "n && text && yes && items && o && '0' && 'false' && half",
    "!absent && !no && !zero && !empty && !none && !void && !0.0 && !''",
    # types never mix
    "n != '3' && !(n == '3')",
    "!(n < '4') && !(n > '2') && !(n >= '3') && !(n <= '3')",
    "!(yes == 1) && yes != 1 && !(zero == no) && zero != no",
    "!(null < 1) && !(null >= null)",
    "none != void && empty != none && null != false",
    # numbers
    "big == 9007199254740993 && big != 9007199254740992 && big > 9007199254740992",
    "huge == 10000000000000000000000000000000000000000",
    "huge * huge > huge && huge - huge == 0 && huge + 1 - huge == 1",
    "n == 3.0 && 3 == 3.0 && 1e2 == 100",
    "7 / 2 == 3.5 && 6 / 2 == 3",
    "-7 % 3 == 2 && 7 % -3 == -2 && 7 % 3 == 1 && 7.5 % 2 == 1.5",
    "neg % 4 == 1",
    "n - 1 == 2 && n-1 == 2",
    "half + half == 1",
    # strings
    "'a' < 'b' && 'Z' < 'a' && 'a' < 'aa' && 'é' > 'z'",
    "nul == 'a\\u0000b'",
    # lists and objects, by value
    "list == list && o.k == o.k && items != list",
    # regexes
    "text =~ 'b' && text =~ '^a' && !(text =~ '^b')",
    "text !~ '^b' && n !~ '3' && absent !~ 'x'",
    "!(n =~ '3') && !(absent =~ 'x')",
    "items[0].sku =~ '^[a-z]-\\d+$'",
    "text =~ pattern",
    # in
    "2 in list && 2.0 in list && !('2' in list) && !(4 in list)",
    "'k' in o && !('d' in o) && 'b &&' in text && !('z' in text)",
    "items[0] in items && !(1 in absent)",
    # functions
    "len(list) == 3 && len(text) == 16 && len(o) == 4 && len(absent) == 0 && len(none) == 0",
    "len('é') == 1 && len(surrogate) == 1 && len(nul) == 3",
    "has(o.k.d) && has(no) && has(empty) && !has(o.nil) && !has(absent) && !has(items[9])",
    # nothing is evaluated beyond what decides
    "yes || n / zero > 1",
    "!(no && n / zero > 1)",
]

ERRORS = [
    "n / zero == 1",
    "n % zero == 1",
    "1 / 0.0 == 1",
    "text + 1 == 2",
    "yes + 1 == 2",
    "absent * 2 == 0",
    "-text == 1",
    "len(n) == 1",
    "text =~ '(' + 1",
    "1e308 * 10 > 0",
    "no || n / zero == 1",
]

REFUSED = [
    ("", "blank"),
    ("n ==", "a value was expected"),
    ("n = 3", "compare with `==`"),
    ("n == 3 4", "an operator or the end"),
    ("(n", "`)` was expected"),
    ("n == 'x", "not closed"),
    ("n & 1", "write `&&`"),
    ("n and yes", "not `and`"),
    ("1 < n < 3", "do not chain"),
    ("!n == 1", "ambiguous"),
    ("n == True", "write true"),
    ("size(n) > 1", "no function `size`"),
    ("has(1)", "has() takes the path"),
    ("text =~ '('", "does not compile"),
    ("yes || text =~ '['", "does not compile"),
    ("text =~ 1", "written as a string"),
    ("items[n]", "an integer or a string"),
    ("o..k", "a name was expected"),
    ("n @ 1", "unexpected"),
]

for at, text in enumerate(HOLDS + ERRORS):
    acting(app, f"condition {at}", "a b").edge("a", "b", when=text)
acting(app, "once", "a b c").switch("a", {"n > 1": "b"}, default="c")


@pytest.mark.parametrize("at", range(len(HOLDS)), ids=HOLDS)
def test_this_holds(engine: Engine, at: int) -> None:
    outcome = go(engine, f"condition {at}", **STATE)
    assert (outcome.status, outcome.error) == ("completed", None)
    assert [step.node for step in engine.history(outcome.key)] == ["a", "b"], HOLDS[at]


@pytest.mark.parametrize("at", range(len(HOLDS), len(HOLDS) + len(ERRORS)), ids=ERRORS)
def test_this_is_an_error_of_its_step(engine: Engine, at: int) -> None:
    assert failed(engine, f"condition {at}", **STATE) == ("condition", "a")


def build_when(text: str) -> Graph:
    return Graph("g").edge("a", "b", when=text)


def build_switch(text: str) -> Graph:
    return Graph("g").switch("a", {text: "b"}, default=END)


@pytest.mark.parametrize("build", [build_when, build_switch])
@pytest.mark.parametrize(("text", "words"), REFUSED, ids=[text or "empty" for text, _ in REFUSED])
def test_this_is_refused_at_validation_with_its_reason(build: Any, text: str, words: str) -> None:
    with pytest.raises(Invalid) as refusal:
        build(text).validate()
    assert words in str(refusal.value)


def test_what_a_condition_chose_stays_chosen(engine: Engine) -> None:
    """It is evaluated when the step finishes: what the next step changes does not matter any more."""
    outcome = go(engine, "once", {"b": [["set", "n", 0]]}, n=2)
    assert [step.node for step in engine.history(outcome.key)] == ["a", "b"]
    assert engine.snapshot(outcome.key).state["n"] == 0
