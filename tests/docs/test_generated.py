"""The generator of the documentation: blocks, tables, and whether pages are current."""

import re
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from grok.claims import registry
from grok.claims.scorecard import experiments
from grok.claims.versions import version_of
from grok.paths import PROJECT
from tools.docs import __main__ as generator
from tools.docs import hooks, markdown, papers, reference
from tools.docs.__main__ import filled, main

CLAIMS = """
# Claims. Everything is measured in steps.

# X-1. The paper: 100 steps. Ours:
MOST = 200
LEAST = 2  # a comment


@claim("X-1", source="figure 1")
def first(runs):
    return LEAST < runs < MOST


# X-2. The paper gives
# no number.
@claim("X-2-large", source="figure 2")
def second(runs):
    return late(runs)


@claim("X-2-small", source="figure 2")
def third(runs):
    return not late(runs)


FEW, MANY = 1, 9
SIZES = (1, 2, 3)


@claim("X-1-more", source="figure 3")
def fourth(runs):
    return FEW < runs in SIZES


# X-3 and X-3-more. Both.
@claim("X-3", source="figure 3")
def fifth(runs):
    pass


@claim("X-3-more", source="figure 3")
def sixth(runs):
    pass


def late(runs):
    return runs > BOUND


BOUND = 0.5
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page with one block, in a project of its own; `content` of a block is its name."""
    monkeypatch.setattr(generator, "PROJECT", tmp_path)
    monkeypatch.setattr(generator, "content", lambda name, page: f"content of {name}")
    (tmp_path / "README.md").write_text("nothing generated\n")
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- generated: x -->\nold\n<!-- end -->\nafter\n")
    return page


def test_a_block_is_filled_and_the_rest_stays(page):
    assert CliRunner().invoke(main).exit_code == 0
    block = "<!-- generated: x -->\n\ncontent of x\n\n<!-- end -->"
    assert page.read_text() == f"before\n{block}\nafter\n"
    assert filled(page, page.read_text()) == page.read_text()


def test_the_check_names_the_pages_that_are_not_current(page):
    before = page.read_text()
    result = CliRunner().invoke(main, ["--check"])
    assert result.exit_code == 1 and "not current: docs/page.md" in result.output
    assert page.read_text() == before
    CliRunner().invoke(main)
    assert CliRunner().invoke(main, ["--check"]).exit_code == 0


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page.stem == "instruments" else ())
        for page in generator.pages()
        if "<!-- generated:" in page.read_text()
    ],
    ids=lambda page: str(page.relative_to(PROJECT)),
)
def test_generated_blocks_are_current(page):
    """As `make docs` checks; the block of instruments trains a network, which takes long."""
    assert filled(page, page.read_text()) == page.read_text(), "run: python -m tools.docs"


def test_an_unknown_block_is_an_error():
    with pytest.raises(generator.click.ClickException, match="nothing"):
        generator.content("nothing", Path("page.md"))


def test_the_note_of_a_claim_is_its_comment_and_the_bounds_that_it_uses():
    """X-1-more has no comment: that of X-1 is of another claim."""
    assert papers.claim_notes(CLAIMS) == {
        "X-1": "The paper: 100 steps. Ours: `MOST = 200`, `LEAST = 2`",
        "X-1-more": "Bounds: `FEW, MANY = (1, 9)`",
        "X-2-large": "The paper gives no number. Bounds: `BOUND = 0.5`",
        "X-2-small": "The paper gives no number. Bounds: `BOUND = 0.5`",
        "X-3": "Both.",
        "X-3-more": "Both.",
    }


def test_a_cell_keeps_code_and_escapes_the_rest():
    assert markdown.cell("a|b *c* `d|e_f` g_h _i") == r"a\|b \*c\* `d\|e_f` g_h \_i"


PAGE = """
# A

## Metrics

| metric | meaning |
| --- | --- |
| `a`, `b` | a \\| b |

| entry | unit | meaning |
|---|---|---|
| `c` | steps | text |

## B

| metric | meaning |
| --- | --- |
| `d` | text |
"""


def test_rows_of_a_section_end_with_it():
    assert markdown.section_rows(PAGE, "Metrics") == [
        {"metric": "`a`, `b`", "meaning": r"a \| b"},
        {"entry": "`c`", "unit": "steps", "meaning": "text"},
    ]
    assert markdown.section_rows(PAGE, "Other") == []


def test_metrics_and_the_entries_of_a_result_are_told_apart():
    """The reference of metrics once listed both, with the entries' units as explanations."""
    assert [*reference.documented(PAGE, "metric")] == [("a", r"a \| b"), ("b", r"a \| b")]
    assert [*reference.documented(PAGE, "entry")] == [("c", "text")]


def test_the_scorecard_counts_every_claim_of_the_papers():
    """The numbers of the table agree with the file of verdicts; our own claims are not among them."""
    table = generator.content("scorecard", PROJECT / "README.md")
    total = re.search(
        r"Of the (\d+) claims of the papers, (\d+) passed: (\d+) on each of several seeds, (\d+) in one check on "
        r"the runs of all seeds together and (\d+) on the only seed there is. (\d+) passed on most of their seeds, "
        r"(\d+) failed, (\d+) (?:is|are) not decided, (\d+) (?:is|are) not run and (\d+) (?:is|are) not tried. "
        r"The \d+ runs of their sweeps took",
        table,
    )
    assert total
    counted, passed, *of_passed = map(int, total.groups()[:5])
    counts = [passed, *map(int, total.groups()[5:])]
    claims = [(one, claim) for one in experiments() for claim in one.claims if not claim.control]
    found, registered = papers.verdicts(), registry.read()
    findings = [(found[one.path]["claims"][claim.id], one, claim) for one, claim in claims]
    words = [
        finding["verdict"]
        if registry.is_same(registered, claim.id, finding.get("version"), version_of(one, claim))
        else "not run"
        for finding, one, claim in findings
    ]
    kinds = ("passed", "mostly", "failed", "not decided")
    assert counts[:4] == [words.count(kind) for kind in kinds]
    assert counted == len(claims) == sum(counts)
    of_seeds = Counter(
        "pooled" if claim.pooled else "several" if finding["seeds"] > 1 else "one"
        for (finding, _, claim), word in zip(findings, words, strict=True)
        if word == "passed"
    )
    assert of_passed == [of_seeds["several"], of_seeds["pooled"], of_seeds["one"]]
    assert "(docs/papers/nanda.md)" in table


def test_runs_of_claims_that_were_changed_are_not_counted(monkeypatch):
    """If all claims of a paper were changed after its runs, these are no evidence for any verdict."""

    def runs_and_minutes() -> tuple[int, str]:
        table = papers.scorecard(experiments(), PROJECT / "README.md")
        (row,) = (line for line in table.splitlines() if line.startswith("| [nanda]"))
        return int(re.search(r"The (\d+) runs of", table)[1]), row.split("|")[-2].strip()

    found = papers.verdicts()
    runs, minutes = runs_and_minutes()
    for finding in found["nanda"]["claims"].values():
        finding["version"] = "another"
    monkeypatch.setattr(papers, "verdicts", lambda: found)
    assert runs_and_minutes() == (runs - found["nanda"]["runs"], "")
    assert minutes


def test_a_verdict_counts_for_the_version_of_the_claim_that_was_judged():
    """A claim that was changed after its replication has not passed: it is "not run" on all pages."""
    paper = papers.verdicts()["doshi"]
    doshi = next(one for one in experiments() if one.path == "doshi")
    assert "passed" in papers.words_of(doshi, paper, control=False)
    claims = {id: finding | {"version": "0" * 12} for id, finding in paper["claims"].items()}
    changed = paper | {"claims": claims}
    assert {*papers.words_of(doshi, changed, control=False)} <= {"not run", "not tried"}


def test_pictures_of_the_site_are_links_to_themselves():
    """Wide figures cannot be read at the width of a page, still less of a phone."""
    page = '<p><img alt="a > b" src="images/x.png" /></p>'
    assert (
        hooks.on_page_content(page)
        == '<p><a href="images/x.png"><img alt="a > b" src="images/x.png" /></a></p>'
    )
