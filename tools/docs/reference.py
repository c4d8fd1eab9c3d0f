"""The generated parts of the reference: commands, shared keys, operations, metrics, instruments."""

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from textwrap import dedent
from typing import Any

import click
from sacred.commandline_options import CLIOption

from grok.cli import main
from grok.engine.events import Record
from grok.engine.instruments import BY_NAME, MEASURES, NEEDS
from grok.engine.measure import BURST, Measure
from grok.engine.problem import Problem
from grok.engine.train import train
from grok.experiment.experiment import Experiment, load
from grok.paths import PROJECT, experiment_file
from grok.store.archive_schema import Part
from grok.tasks.operations import NAMED
from tools.docs.markdown import cell, code, code_spans, section_rows, table
from tools.docs.papers import PAPERS, key_comments, keys_table

# The run whose metrics are listed as those of the instruments: it can take all of them.
MEASURED = {
    "seed": 0,
    "p": 11,
    "train_count": 64,
    "test_count": 32,
    "batch_size": 4,
    "depth": 1,
    "width": 16,
    "heads": 2,
    "mlp_width": 32,
    "epochs": 4,
    "measures": "full",
    "measure_options": {"hessian": {"every": 4}, "adam_dynamics": {"every": 4}},
    "snapshot_every": 1,
}

# -- commands ------------------------------------------------------------------------------------


def commands(experiments: Iterable[Experiment]) -> str:
    """Every command of grok, the command line of experiments, and every script of analysis."""
    parts = ["## grok"]
    for path, command in grok_commands():
        parts.append(f"### {path}\n\n{_command(path, command)}")
    parts += ["## Experiments", _experiment_commands(next(iter(experiments)))]
    parts.append("## Scripts of analysis")
    for name, script in analysis_scripts():
        parts.append(f"### analysis/{name}.py\n\n{_command(f'python analysis/{name}.py', script)}")
    return "\n\n".join(parts)


def grok_commands() -> Iterator[tuple[str, click.Command]]:
    """The commands of `grok` that are not groups, by the words that call them."""

    def below(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if not isinstance(command, click.Group):
            yield path, command
            return
        for name, part in sorted(command.commands.items()):
            yield from below(f"{path} {name}", part)

    yield from below("grok", main)


def analysis_scripts() -> Iterator[tuple[str, click.Command]]:
    """The programs of `analysis`, by name."""
    for path in sorted((PROJECT / "analysis").glob("*.py")):
        if '__name__ == "__main__"' in path.read_text():
            yield path.stem, import_module(f"analysis.{path.stem}").main


def _command(path: str, command: click.Command) -> str:
    """What a command does, how it is called, and its options."""
    context = click.Context(command, info_name=path, **main.context_settings)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"```text\n{path} {usage}\n```", _prose(command.help), _prose(command.epilog)]
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    rows = []
    for option in options:
        record = option.get_help_record(context)
        if record is not None:
            rows.append([code(record[0]), cell(record[1])])
    if rows:
        parts.append(table(["option", "meaning"], rows))
    return "\n\n".join(part for part in parts if part)


def _prose(text: str | None) -> str:
    """Help text as Markdown: indented lines and the lines after \\b are kept as they are."""
    if not text:
        return ""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", dedent(inspect.cleandoc(text))):
        if paragraph.startswith("\b"):
            paragraphs.append("```text\n" + paragraph.lstrip("\b\n") + "\n```")
        elif paragraph.startswith("    "):
            paragraphs.append("```text\n" + dedent(paragraph) + "\n```")
        else:
            paragraphs.append(cell(paragraph))
    return "\n\n".join(paragraphs)


def _experiment_commands(experiment: Experiment) -> str:
    """The commands and options that every experiment has; most are Sacred's."""
    command_rows = []
    for name, function in sorted(experiment.gather_commands()):
        summary = (inspect.getdoc(function) or "").strip().split("\n\n")[0]
        if name == "main":
            summary = "Train and record the run. It is the command when none is named."
        command_rows.append([code(name), cell(summary)])
    options: list[CLIOption] = sorted(experiment.all_cli_options, key=lambda o: o.get_flags()[1])
    option_rows = []
    for option in options:
        value = f" {option.arg}" if option.arg else ""
        flags = ", ".join(f"{flag}{value}" for flag in option.get_flags())
        option_rows.append([code(flags), cell(option.get_description())])
    return "\n\n".join(
        [
            "```text\npython experiments/NAME.py [COMMAND] [OPTIONS] [with UPDATE...]\n```",
            table(["command", "meaning"], command_rows),
            table(["option", "meaning"], option_rows),
        ]
    )


# -- keys ----------------------------------------------------------------------------------------


def shared_keys(experiments: Iterable[Experiment]) -> str:
    """A table of the keys that every experiment has."""
    experiment = next(iter(experiments))
    defaults: dict[str, Any] = dict(experiment.configurations[0]())
    comments = {
        **key_comments(experiment),
        "seed": "seed of all randomness of the run",
    }
    return keys_table(["seed", *defaults], experiment.types, defaults, comments)


def operations() -> str:
    """A table of the operations modulo p that have a name."""
    return table(["name", "expression"], ([code(name), code(e)] for name, e in NAMED.items()))


# -- file formats --------------------------------------------------------------------------------


def documents(model: type[Part]) -> str:
    """A table of the fields of stored documents."""
    rows = [
        [code(field.alias or name), cell(field.description)]
        for name, field in model.model_fields.items()
    ]
    return table(["field", "content"], rows)


# -- metrics -------------------------------------------------------------------------------------


def metrics(experiments: Iterable[Experiment]) -> str:
    """A table of the metrics of all papers' pages; equal explanations are listed once."""
    return _explained(experiments, "metric", "logged by")


def result_entries(experiments: Iterable[Experiment]) -> str:
    """A table of the entries of results that all papers' pages explain, in the same way."""
    return _explained(experiments, "entry", "in the results of")


def _explained(experiments: Iterable[Experiment], column: str, papers_header: str) -> str:
    papers: dict[tuple[str, str], list[str]] = {}
    for experiment in experiments:
        page = PAPERS / f"{experiment.path}.md"
        for name, meaning in documented(page.read_text() if page.exists() else "", column):
            papers.setdefault((name, meaning), []).append(experiment.path)
    rows = [
        [code(name), meaning, ", ".join(f"[{one}](../papers/{one}.md)" for one in having)]
        for (name, meaning), having in sorted(papers.items())
    ]
    return table([column, "meaning", papers_header], rows)


def documented(page: str, column: str) -> Iterator[tuple[str, str]]:
    """Names and meanings in those tables of a page's section "Metrics" that have a column.

    Arguments:
        page: Markdown.
        column: "metric", or "entry" for the entries of a run's result.
    """
    for row in section_rows(page, "Metrics"):
        for name in code_spans(row.get(column, "")):
            yield name, row["meaning"]


# -- instruments ---------------------------------------------------------------------------------


def instruments() -> str:
    """A table of the instruments, and one of the metrics of each."""
    logged = instrument_metrics()
    rows = []
    for measure in MEASURES:
        needs = ", ".join(NEEDS[need] for need in measure.needs)
        described = [code(measure.name), code(measure.group), cell(measure.description)]
        rows.append([*described, _when(measure), cell(needs)])
    header = ["instrument", "group", "what it measures", "evaluated", "needs"]
    option_rows = [
        [code(f"{m.name}.{name}"), cell(f"{o.value}"), cell(o.expected()), cell(o.meaning)]
        for m in MEASURES
        for name, o in m.options.items()
    ]
    option_header = ["option", "default", "value", "meaning"]
    metric_rows = [
        [code(name), ", ".join(code(metric) for metric in logged[name])] for name in BY_NAME
    ]
    metric_table = table(["instrument", "its metrics"], metric_rows)
    return "\n\n".join([table(header, rows), metric_table, table(option_header, option_rows)])


def _when(measure: Measure) -> str:
    if measure.when == BURST:
        return f"{measure.options['burst'].value} steps in a row, every {measure.every} steps"
    return {
        "evaluation": "at every evaluation step",
        "snapshot": "at every `snapshot_every`-th evaluation step",
    }[measure.when]


def instrument_metrics() -> dict[str, list[str]]:
    """The metrics of each instrument in a small run that has all of them.

    In their names PARAMETER stands for the name of a parameter, and LAYER for the number of a
    layer.
    """
    paper = load(experiment_file("ordering"))
    problem = paper.problem_of(paper.full_config(MEASURED, ["cpu"]))
    parameters = dict(problem.module.named_parameters())
    reference = {name: value.detach().clone() for name, value in parameters.items()}
    measures = tuple(_with_all_metrics(measure) for measure in MEASURES)
    assert problem.measures is not None
    wanted = replace(problem.measures, measures=measures, reference=reference)
    problem = replace(problem, measures=wanted)
    names = {name.replace(".", "/") for name in parameters}
    logged: dict[str, list[str]] = {name: [] for name in BY_NAME}
    for metric in _logged(problem):
        instrument, _, rest = metric.partition("/")
        if instrument in logged:
            general = _general(rest, names)
            if general not in logged[instrument]:
                logged[instrument].append(general)
    return logged


def _with_all_metrics(measure: Measure) -> Measure:
    """The measure, often enough for a short run, and with the metrics that are off by default."""
    options: dict[str, Any] = {"every": 1, "energy_window": 2, "degree": 1.0}
    options |= {"per_parameter": True, "per_frequency": True, "significance": 0.0}
    if measure.when == BURST:
        options |= {"every": 4, "burst": 3}
    for name in options.keys() & measure.options.keys():
        measure = measure.with_option(name, options[name])
    return measure


def _general(metric: str, parameters: Iterable[str]) -> str:
    for name in parameters:
        if metric.endswith(f"/{name}"):
            return metric.removesuffix(name) + "PARAMETER"
    metric = re.sub(r"^(freq_power|acquired)/\d+", r"\1/FREQUENCY", metric)
    return re.sub(r"/\d+(?=/|$)", "/LAYER", metric)


def _logged(problem: Problem) -> Iterator[str]:
    """The names of the metrics that a run logs."""
    for event in train([problem], compiled=False):
        if isinstance(event, Record):
            for _, values in (*event.burst_metrics, (event.step, event.metrics)):
                yield from values
