"""The generated parts of papers' pages: the scorecard, claims and configuration keys."""

import ast
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from grok.experiment.config_types import description
from grok.experiment.experiment import Experiment
from grok.experiment.show import format_value
from grok.paths import PROJECT, experiment_file
from tools.docs.markdown import cell, code, table

PAPERS = PROJECT / "docs" / "papers"
VERDICTS = PROJECT / "docs" / "verdicts.json"


def verdicts() -> dict[str, dict[str, Any]]:
    """The content of docs/verdicts.json: what the last replication of each paper gave."""
    return json.loads(VERDICTS.read_text())["papers"]


# -- the scorecard -------------------------------------------------------------------------------


def scorecard(experiments: Iterable[Experiment], page: Path) -> str:
    """A table with a row for each paper, and in which state of the code it was replicated.

    Arguments:
        experiments: all of them.
        page: where the table stands; links are relative to it.
    """
    by_name = {experiment.path: experiment for experiment in experiments}
    rows = []
    passed_of_all = counted_of_all = runs_of_all = 0
    for name, paper in verdicts().items():
        passed, counted = _passed(by_name[name], paper)
        passed_of_all, counted_of_all = passed_of_all + passed, counted_of_all + counted
        runs_of_all += paper["runs"] or 0
        link = os.path.relpath(PAPERS / f"{name}.md", page.parent)
        rows.append(
            [
                f"[{name}]({link})",
                _sources(paper["sources"]),
                cell(paper["reproduced"]),
                f"{passed} of {counted}" if counted else "",
                "" if paper["runs"] is None else str(paper["runs"]),
                "" if paper["seconds"] is None else _minutes(paper["seconds"]),
            ]
        )
    header = ["paper", "source", "what is reproduced", "claims passed", "runs", "minutes"]
    total = f"In total {passed_of_all} of {counted_of_all} claims passed, in {runs_of_all} runs."
    return "\n\n".join([table(header, rows), f"{total} {_state(verdicts().values())}"])


def _passed(experiment: Experiment, paper: Mapping[str, Any]) -> tuple[int, int]:
    """How many of the claims that count passed, and how many there are."""
    counted = [claim.id for claim in experiment.claims if not claim.report_only]
    verdict = [paper["claims"].get(id, {}).get("verdict") for id in counted]
    return verdict.count("passed"), len(counted)


def _sources(sources: Mapping[str, str | None]) -> str:
    return "; ".join(
        f"[{cell(title)}](https://arxiv.org/abs/{arxiv})" if arxiv else cell(title)
        for title, arxiv in sources.items()
    )


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.1f}" if minutes < 10 else f"{minutes:.0f}"


def _state(papers: Iterable[Mapping[str, Any]]) -> str:
    """The commits and dates of replications, in a sentence."""
    commits: dict[str, set[str]] = {}
    for paper in papers:
        if paper["commit"]:
            commits.setdefault(paper["date"], set()).add(f"`{paper['commit']}`")
    listed = [f"{date}, commit {' and '.join(sorted(commits[date]))}" for date in sorted(commits)]
    return f"Replicated: {'; '.join(listed)}." if listed else ""


# -- claims --------------------------------------------------------------------------------------


def claims(experiment: Experiment) -> str:
    """A table with a row for each claim, and in which state of the code they were checked."""
    if not experiment.claims:
        return "No claims are made."
    paper = verdicts().get(experiment.path, {"claims": {}, "date": None, "commit": None})
    notes = claim_notes(experiment_file(experiment.path).read_text())
    rows = []
    for claim in experiment.claims:
        finding = paper["claims"].get(claim.id, {})
        verdict = finding.get("verdict", "not evaluated")
        sentence, source = _statement_and_source(claim.statement)
        rows.append(
            [
                code(claim.id),
                cell(sentence),
                cell(source),
                notes.get(claim.id, ""),
                cell(_measured(finding.get("measured"))),
                "all together" if claim.pooled else _seeds(finding),
                verdict + (" (report only)" if claim.report_only else ""),
            ]
        )
    header = ["claim", "statement", "source", "the paper's number and our bound"]
    return "\n\n".join(
        [table([*header, "measured", "seeds passed", "verdict"], rows), _state([paper])]
    ).strip()


def claim_notes(source: str) -> dict[str, str]:
    """The comment and the bounds that stand before each claim in an experiment's file, by claim id.

    A comment `# 06g. ...` is that of 06g-shallow and 06g-narrow too. The bounds are the constants
    between the comment and the claim.
    """
    lines = source.splitlines()
    notes: dict[str, str] = {}
    heading, comment, bounds = "", "", list[str]()
    for node in ast.parse(source).body:
        decorator = _claim_decorator(node)
        block = _comment_above(lines, decorator.lineno if decorator else node.lineno)
        match = re.match(r"(\w+(?:-\w+)*)\. +(.*)", block)
        if match and any(char.isdigit() for char in match[1]):
            heading, comment, bounds = match[1], match[2], []
        if isinstance(node, ast.Assign) and lines[node.lineno - 1][:1].isupper():
            bounds.append(code(ast.unparse(node)))
        if decorator is not None:
            id = ast.literal_eval(decorator.args[0])
            is_own = id == heading or id.startswith(f"{heading}-")
            notes[id] = _note(cell(comment) if heading and is_own else "", bounds)
            bounds = []
    return notes


def _note(comment: str, bounds: list[str]) -> str:
    """A claim's comment followed by its bounds."""
    if not bounds:
        return comment
    start = comment if comment.endswith(":") else f"{comment} Bounds:"
    return f"{start} {', '.join(bounds)}".strip()


def _claim_decorator(node: ast.stmt) -> ast.Call | None:
    """The decorator `@claim(...)` of a claim's function; None for anything else."""
    if isinstance(node, ast.FunctionDef):
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "claim":
                return decorator
    return None


def _comment_above(lines: list[str], number: int) -> str:
    """The comment on the lines directly above line `number` (from 1), as one line."""
    first = number - 1
    while first > 0 and lines[first - 1].startswith("# "):
        first -= 1
    return " ".join(line[2:].strip() for line in lines[first : number - 1])


def _statement_and_source(statement: str) -> tuple[str, str]:
    """A claim's sentence, and the source that stands in brackets at its end."""
    sentence, _, source = statement.removesuffix(")").rpartition(" (")
    return sentence + ".", source


def _measured(measured: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {format_value(value)}" for name, value in (measured or {}).items())


def _seeds(finding: Mapping[str, Any]) -> str:
    return f"{finding['seeds_passed']} of {finding['seeds']}" if finding.get("seeds") else ""


# -- configuration keys --------------------------------------------------------------------------


def keys(experiment: Experiment) -> str:
    """Tables of the keys of a paper, one for each group of its config function."""
    parts = []
    defaults = experiment.defaults()
    comments = key_comments(experiment)
    for group, names in _groups(experiment_file(experiment.path).read_text()).items():
        if group:
            parts.append(f"**{group}**")
        parts.append(keys_table(names, experiment.types, defaults, comments))
    return "\n\n".join(parts)


def keys_table(
    names: Iterable[str],
    types: Mapping[str, Any],
    defaults: Mapping[str, Any],
    comments: Mapping[str, str],
) -> str:
    """A table of configuration keys."""
    rows = [
        [
            code(name),
            cell(description(types[name])),
            code(repr(defaults[name])) if name in defaults else "drawn at random",
            cell(comments.get(name, "")),
        ]
        for name in names
    ]
    return table(["key", "value", "default", "meaning"], rows)


def key_comments(experiment: Experiment) -> dict[str, str]:
    """The comment beside each configuration key."""
    comments: dict[str, str] = {}
    for scope in experiment.configurations:
        comments |= scope._var_docs
    return comments


def _groups(source: str) -> dict[str, list[str]]:
    """The keys of the config function in an experiment's file, by the comment above each group."""
    lines = source.splitlines()
    groups: dict[str, list[str]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and "ex.config" in map(
            ast.unparse, node.decorator_list
        ):
            group = ""
            for statement in node.body:
                above = lines[statement.lineno - 2].strip()
                if above.startswith("# "):
                    group = above[2:].split(":")[0]
                if isinstance(statement, ast.AnnAssign):
                    groups.setdefault(group, []).append(ast.unparse(statement.target))
    return groups
