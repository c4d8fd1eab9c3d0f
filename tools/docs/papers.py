"""The generated parts of papers' pages: the scorecard, claims and configuration keys."""

import ast
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from grok.claims import registry
from grok.claims.model import Claim, Verdict
from grok.claims.past import VERDICTS, measured_of, verdict_of
from grok.claims.scorecard import counted, format_numbers
from grok.claims.versions import version_of
from grok.experiment.config_types import description
from grok.experiment.experiment import Experiment
from grok.paths import PROJECT, experiment_file
from tools.controls import evaluated, word
from tools.docs.markdown import cell, code, table

PAPERS = PROJECT / "docs" / "papers"
# `ID. Text` or `ID and ID. Text`; an id has a digit
CLAIM_COMMENT = re.compile(r"((?=\S*\d)\w+(?:-\w+)*(?: and \w+(?:-\w+)*)*)\. +(.*)")

PHRASES = {  # of one claim, and of several
    "mostly": ("passed on most of their seeds",) * 2,
    "failed": ("failed",) * 2,
    "not decided": ("is not decided", "are not decided"),
    "not run": ("is not run", "are not run"),
    "not tried": ("is not tried", "are not tried"),
}
SEVERAL = "on each of several seeds"
TOGETHER = "in one check on the runs of all seeds together"
ONE = "on the only seed there is"


def verdicts() -> dict[str, dict[str, Any]]:
    """The content of docs/verdicts.json: what the last replication of each paper gave."""
    return json.loads(VERDICTS.read_text())["papers"]


# -- the scorecard -------------------------------------------------------------------------------


def scorecard(experiments: Iterable[Experiment], page: Path) -> str:
    """A table with a row for each paper, and how many claims have each verdict.

    Arguments:
        experiments: all of them.
        page: where the table stands; links are relative to it.
    """
    by_name = {experiment.path: experiment for experiment in experiments}
    rows = []
    words_of_all = list[str]()
    passed: Counter[str] = Counter()
    runs_of_all = seconds_of_all = restated = 0
    for name, paper in verdicts().items():
        words = words_of(by_name[name], paper, control=False)
        words_of_all += words
        controls = words_of(by_name[name], paper, control=True)
        findings = findings_of(by_name[name], paper)
        passed.update(
            _basis(claim, findings[claim.id])
            for claim in by_name[name].claims
            if not claim.control and findings[claim.id].get("verdict") == "passed"
        )
        restated += sum(
            bool(findings[claim.id].get("restated")) and not claim.control
            for claim in by_name[name].claims
        )
        # claims that were changed after their runs are not run; what these took says nothing of them
        all_words = {*words, *controls}
        is_outdated = bool(all_words) and all_words <= {"not run", "not tried"}
        if not is_outdated:
            runs_of_all += paper["runs"] or 0
            seconds_of_all += paper["seconds"] or 0
        link = os.path.relpath(PAPERS / f"{name}.md", page.parent)
        rows.append(
            [
                f"[{name}]({link})",
                _sources(paper["sources"]),
                cell(paper["subject"]),
                counted(words),
                counted(controls),
                "" if is_outdated or not paper["seconds"] else _minutes(paper["seconds"]),
            ]
        )
    header = ["paper", "source", "what is checked", "its claims", "our own claims", "minutes"]
    counts = {word: words_of_all.count(word) for word in PHRASES}
    parts = [
        f"{counts[word]} {one if counts[word] == 1 else many}"
        for word, (one, many) in PHRASES.items()
    ]
    kinds = [f"{passed[kind]} {kind}" for kind in (SEVERAL, TOGETHER, ONE)]
    dates = sorted(paper["date"] for paper in verdicts().values() if paper["date"])
    first, last = dates[0], dates[-1]
    made = f"all are of {last}" if first == last else f"they were made from {first} to {last}"
    hours = f"{seconds_of_all / 3600:.1f} hours"
    total = (
        f"Of the {len(words_of_all)} claims of the papers, {passed.total()} passed: "
        f"{', '.join(kinds[:-1])} and {kinds[-1]}. {', '.join(parts[:-1])} and {parts[-1]}. The "
        f"{runs_of_all} runs of their sweeps took {hours} together. {restated} claims were changed after "
        "an earlier form had been checked on the same seeds of the same sweep; most of the others were "
        "judged in an earlier form on other seeds, which `grok papers --history CLAIM` shows. The page "
        "of each paper names the commits and the date of its last replication, and the machine if it "
        f"was recorded; {made}."
    )
    return "\n\n".join([table(header, rows), total])


def words_of(experiment: Experiment, paper: Mapping[str, Any], control: bool) -> list[str]:
    """The verdicts on a paper's claims, or on our own claims of it."""
    findings = findings_of(experiment, paper)
    return [
        _word(claim, findings[claim.id]) for claim in experiment.claims if claim.control == control
    ]


def findings_of(experiment: Experiment, paper: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What a replication found, by claim id: empty where the claim was changed after it, or not run."""
    found, registered = {}, registry.read()
    for claim in experiment.claims:
        finding, present = paper["claims"].get(claim.id, {}), version_of(experiment, claim)
        is_current = registry.is_same(registered, claim.id, finding.get("version"), present)
        found[claim.id] = finding if is_current else {}
    return found


def _basis(claim: Claim, finding: Mapping[str, Any]) -> str:
    """On what a claim has passed, in words."""
    if claim.pooled:
        return TOGETHER
    return SEVERAL if finding["seeds"] > 1 else ONE


def _word(claim: Claim, finding: Mapping[str, Any]) -> str:
    """The verdict on a claim."""
    return "not tried" if claim.not_tried else finding.get("verdict", "not run")


def _sources(sources: Mapping[str, str | None]) -> str:
    return "; ".join(
        f"[{cell(title)}](https://arxiv.org/abs/{arxiv})" if arxiv else cell(title)
        for title, arxiv in sources.items()
    )


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.1f}" if minutes < 10 else f"{minutes:.0f}"


def _state(paper: Mapping[str, Any], is_current: bool) -> str:
    """The commits, the date and the machines of a paper's last replication, in a sentence.

    Arguments:
        paper: its entry of docs/verdicts.json.
        is_current: whether any claim has been checked in its present form.
    """
    if not paper["commit"]:
        return ""
    commits = [f"`{one}`" for one in paper["commit"].split(", ")]
    made = f"{paper['date']}, commit{'s' * (len(commits) > 1)} {' and '.join(commits)}"
    if not is_current:
        return (
            f"The claims were changed after the last replication ({made}) and have not been checked in "
            "their present form."
        )
    machines = "; ".join(paper.get("machines", ()))
    return f"Replicated: {made}{f', {machines}' if machines else ''}."


# -- claims --------------------------------------------------------------------------------------


def claims(experiment: Experiment) -> str:
    """A table with a row for each claim, and in which state of the code they were checked."""
    if not experiment.claims:
        return "No claims are made."
    paper = verdicts().get(experiment.path, {"claims": {}, "date": None, "commit": None})
    notes = claim_notes(experiment_file(experiment.path).read_text())
    findings = findings_of(experiment, paper)
    is_measured = any(finding.get("measured") for finding in findings.values())
    rows = []
    for claim in sorted(experiment.claims, key=lambda claim: claim.control):
        finding = findings[claim.id]
        note = cell(claim.not_tried) or notes.get(claim.id, "")
        row = [code(claim.id), cell(claim.statement), note]
        if is_measured:
            row.append(cell(format_numbers(measured_of(finding))))
        rows.append([*row, _verdict(claim, finding)])
    header = ["claim", "statement (source)", "the paper's number and our bounds"]
    header += ["measured", "verdict"] if is_measured else ["verdict"]
    return "\n\n".join([table(header, rows), _state(paper, any(findings.values()))]).strip()


def claim_notes(source: str) -> dict[str, str]:
    """The comment and the bounds of each claim in an experiment's file, by claim id.

    A comment `# 06g. ...` is that of the claim 06g or, if there is none, of 06g-shallow and
    06g-narrow. A comment `# 01-C6 and 01-C6-published. ...` is that of both. The bounds are the
    constants that the claim's function uses, by itself or in a function that it calls.
    """
    body = ast.parse(source).body
    comments = _claim_comments(source)
    bounds = {
        name.id: code(ast.unparse(node))
        for node in body
        if isinstance(node, ast.Assign) and _is_bound(node.value)
        for name in ast.walk(node.targets[0])
        if isinstance(name, ast.Name)
    }
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    claims = {id: node for node in functions.values() if (id := _claim_id(node))}
    notes = {}
    for id, function in claims.items():
        group = id.rpartition("-")[0]
        comment = comments.get(id if id in comments or group in claims else group, "")
        used = _names_used(function, functions)
        used_bounds = [text for name, text in bounds.items() if name in used]
        notes[id] = _note(cell(comment), list(dict.fromkeys(used_bounds)))
    return notes


def _claim_comments(source: str) -> dict[str, str]:
    """The comments that start with the ids of claims, by id."""
    comments = {}
    for block in re.findall(r"^# (.*(?:\n# .*)*)", source, re.MULTILINE):
        text = " ".join(line.removeprefix("# ").strip() for line in block.split("\n"))
        match = CLAIM_COMMENT.match(text)
        if match:
            comments.update(dict.fromkeys(match[1].split(" and "), match[2]))
    return comments


def _is_bound(value: ast.expr) -> bool:
    """Whether a value is a number, a pair of numbers or a range."""
    if isinstance(value, ast.Call):
        return ast.unparse(value.func) == "range"
    try:
        constant = ast.literal_eval(value)
    except ValueError:
        return False
    numbers = constant if isinstance(constant, tuple) and len(constant) == 2 else (constant,)
    return all(isinstance(number, int | float) for number in numbers)


def _names_used(function: ast.FunctionDef, functions: Mapping[str, ast.FunctionDef]) -> set[str]:
    """The names that occur in a function and in those of `functions` that it uses."""
    names: set[str] = set()
    left = [function]
    while left:
        found = {node.id for node in ast.walk(left.pop()) if isinstance(node, ast.Name)} - names
        names |= found
        left += [functions[name] for name in found if name in functions]
    return names


def _note(comment: str, bounds: list[str]) -> str:
    """A claim's comment followed by its bounds."""
    if not bounds:
        return comment
    start = comment if comment.endswith(":") else f"{comment} Bounds:"
    return f"{start} {', '.join(bounds)}".strip()


def _claim_id(function: ast.FunctionDef) -> str | None:
    """The id in the decorator `@claim(...)` of a claim's function; None for another function."""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "claim":
            return ast.literal_eval(decorator.args[0])
    return None


def _verdict(claim: Claim, finding: Mapping[str, Any]) -> str:
    """A claim's verdict, on how many seeds it holds, and what else is to be known of it."""
    verdict = _word(claim, finding)
    if finding.get("seeds"):
        found = verdict_of(finding)
        verdict = f"{found}, {_seeds(claim, finding, found)}"
    version = finding.get("version")
    marks = [
        f"version {code(version)}" if version else "",
        "our own claim" if claim.control else "",
        "stated after its runs" if finding.get("stated_after") else "",
        "restated after earlier runs of these seeds" if finding.get("restated") else "",
        "not part of `grok replicate`" if claim.report_only else "",
    ]
    return "; ".join(filter(None, [verdict, *marks]))


def _seeds(claim: Claim, finding: Mapping[str, Any], found: Verdict) -> str:
    """On how many seeds a claim was checked, and on how many it holds."""
    if claim.pooled:
        count = len(finding.get("seed_values", ()))
        return f"{count} seeds together" if count > 1 else "one seed"
    seeds = f"{found.passed} of {found.asked} seeds"
    if found.run < found.asked:
        seeds += f", {found.asked - found.run} of them not run"
    return seeds


def negative_controls(experiments: Iterable[Experiment]) -> str:
    """A table with a row for each claim that has a negative control, and its outcome there."""
    rows = []
    for experiment in experiments:
        for id, (finding, control) in evaluated(experiment).items():
            numbers = finding.measured if finding is not None else {}
            measured = {name: (value, value, value) for name, value in numbers.items()}
            rows.append(
                [code(id), cell(control), cell(format_numbers(measured)), cell(word(finding))]
            )
    return table(["claim", "its negative control", "measured there", "the claim"], rows)


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
    """The keys of the config function in an experiment's file, by the comment above each group.

    The name of a group is the first line of that comment, up to a colon.
    """
    lines = source.splitlines()
    groups: dict[str, list[str]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and "ex.config" in map(
            ast.unparse, node.decorator_list
        ):
            group = ""
            for statement in node.body:
                first = statement.lineno - 1
                while lines[first - 1].strip().startswith("# "):
                    first -= 1
                if first < statement.lineno - 1:
                    group = lines[first].strip()[2:].split(":")[0]
                if isinstance(statement, ast.AnnAssign):
                    groups.setdefault(group, []).append(ast.unparse(statement.target))
    return groups
