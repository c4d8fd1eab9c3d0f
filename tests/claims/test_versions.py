"""A claim's version changes with what it says and checks, and with nothing else."""

import sys
import textwrap

import pytest

from grok.claims.versions import check_of, is_of_file, version_of
from grok.experiment.experiment import load_module
from grok.paths import PROJECT
from grok.sweep import file as files

PAPER = '''
"""A paper."""
from grok.claims.checks import each
from grok.claims.model import Claims, Outcome, Runs
from grok.experiment.experiment import Experiment

ex = Experiment("nanda", threshold=0.9, delay=10)
claim = Claims(ex)
LEAST = 5  # a bound


def largest(runs: Runs) -> float:
    """The largest loss."""
    return max(run.final("loss") for run in runs)


@claim("03-X", source="figure 2")
def grows(runs: Runs) -> Outcome:
    """The loss grows."""
    return largest(runs) > LEAST, {}
'''


@pytest.fixture
def version(tmp_path, monkeypatch):
    """The version of the claim of a paper with this text."""
    monkeypatch.setattr("grok.claims.versions.OUR_FOLDERS", (tmp_path,))
    numbers = iter(range(100))

    def version(old: str = "", new: str = "") -> str:
        assert old in PAPER
        path = tmp_path / str(next(numbers)) / "paper.py"
        path.parent.mkdir()
        path.write_text(PAPER.replace(old, new, 1))
        ex = load_module(path).ex
        return version_of(ex, ex.claims[0])

    return version


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LEAST = 5", "LEAST = 4"),
        ("LEAST = 5", "LEAST = range(3, 9)"),
        ("threshold=0.9", "threshold=0.8"),
        ("delay=10", "delay=11"),
        ("The loss grows", "The loss shrinks"),
        ("figure 2", "figure 3"),
        ("largest(runs) > LEAST", "largest(runs) >= LEAST"),
        ("return max(", "return min("),
        ('run.final("loss")', 'run.final("test_loss")'),
        ('source="figure 2"', 'source="figure 2", pooled=True'),
        ('source="figure 2"', 'source="figure 2", control=True'),
        ('source="figure 2"', 'source="figure 2", sweep="nanda_phases"'),
    ],
)
def test_a_change_of_what_is_claimed_changes_the_version(version, old, new):
    """A threshold, the sentence, its source, the check or a function that it calls, the sweep."""
    assert version() != version(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a bound", "# another comment"),
        ('"""The largest loss."""', '"""The largest final loss."""'),
        (
            "return largest(runs) > LEAST, {}",
            "return (\n        largest(runs) > LEAST,\n        {},\n    )",
        ),
        ("LEAST = 5", "OTHER = 1\nLEAST = 5"),
        ("(runs: Runs) -> float", "(runs)"),
    ],
)
def test_comments_layout_and_other_constants_do_not(version, old, new):
    assert version() == version(old, new)


def test_a_local_variable_is_not_the_constant_of_its_name(version):
    """A loop at the top of a file leaves its variable to the module. A claim whose check has a local
    variable of that name does not depend on it, and one that reads it does, also as a default value."""
    loop = "for run in (1, {}):\n    pass\n"  # `largest` has a variable `run`
    assert version("LEAST = 5", loop.format(2) + "LEAST = 5") == version(
        "LEAST = 5", loop.format(3) + "LEAST = 5"
    )
    for used in ("[run for run in runs] and run, {{}}", "(lambda at=run: True)(), {{}}"):
        check = "largest(runs) > LEAST, {}\n"
        changed = [version(check, f"{used.format()}\nrun = {number}\n") for number in (2, 3)]
        assert changed[0] != changed[1]


def test_a_method_of_runs_that_a_check_uses_is_part_of_it():
    """A changed definition of "reached" changes every claim that is stated with it."""
    ex = load_module(PROJECT / "experiments" / "nanda.py").ex
    first = next(claim for claim in ex.claims if claim.id == "03-C1")
    parts = check_of(first)
    assert "grok.phases.first_step_held" in parts and "grok.claims.model.Run.logged" in parts
    assert parts["nanda.LEAST_DELAY_RATIO"] == "8"
    assert not any("Runs.mean" in name for name in parts)


def test_the_recipe_is_part_of_a_version(tmp_path, monkeypatch):
    """Seeds and values of the sweep, and the values of its named configs, but not how it is started."""
    (tmp_path / "sweeps").mkdir()
    path = tmp_path / "sweeps" / "nanda_cpu.yaml"
    monkeypatch.setattr("grok.claims.versions.PROJECT", tmp_path)
    text = textwrap.dedent("""
        program: experiments/nanda.py
        method: grid
        command: ["${interpreter}", "${program}", with, cpu]
        parameters: {seed: {values: [0, 1, 2]}}
    """)

    def version(text: str, **changes) -> str:
        path.write_text(text)
        ex = load_module(PROJECT / "experiments" / "nanda.py").ex
        if changes:
            values = {**ex.named_configs["cpu"](), **changes}
            ex.named_configs["cpu"] = lambda: values
        return version_of(ex, next(claim for claim in ex.claims if claim.id == "03-C1"))

    assert version(text) != version(text.replace("[0, 1, 2]", "[0, 1]"))
    assert version(text) != version(text, lr=0.5)
    assert version(text) == version(text.replace("${interpreter}", "${env}"))
    assert version(text) == version(text, measures=["norms"])


def test_a_range_is_a_threshold(version):
    """03-C2 counts frequencies in a range: another range is another claim."""
    ranges = [f"LEAST = range(3, {end})" for end in (9, 10)]
    assert version("LEAST = 5", ranges[0]) != version("LEAST = 5", ranges[1])


def recipe_of(tmp_path, monkeypatch, paper: str, claim: str, sweep: str, change: str | None = None):
    """The version of a claim of this project on a sweep file with this text, after the learning rate
    of a named config, or of the defaults (""), has changed."""
    path = tmp_path / "sweeps" / f"{paper}_cpu.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(sweep)
    monkeypatch.setattr("grok.claims.versions.PROJECT", tmp_path)
    ex = load_module(PROJECT / "experiments" / f"{paper}.py").ex
    if change == "":
        defaults = {**ex.defaults(), "lr": 0.5}
        monkeypatch.setattr(ex, "defaults", lambda: defaults)
    elif change is not None:
        values = {**ex.named_configs[change](), "lr": 0.5}
        ex.named_configs[change] = lambda: values
    return version_of(ex, next(one for one in ex.claims if one.id == claim))


def test_the_recipe_of_the_runs_that_are_continued_is_part_of_a_version(tmp_path, monkeypatch):
    """Tickets are cut from runs of `cpu`, whose sweep file names `ticket` alone."""
    sweep = "parameters: {preset: {values: [ticket]}, seed: {values: [0]}}"
    versions = {
        change: recipe_of(tmp_path, monkeypatch, "minegishi", "10a", sweep, change)
        for change in (None, "ticket", "cpu", "paper")
    }
    assert versions["cpu"] != versions[None] != versions["ticket"]
    assert versions["paper"] == versions[None]


def test_the_defaults_are_the_recipe_of_a_sweep_without_a_named_config(tmp_path, monkeypatch):
    """Whoever changes a default trains other runs."""
    sweep = "parameters: {weight_decay: {values: [0, 1]}, seed: {values: [0]}}"
    recipe = [recipe_of(tmp_path, monkeypatch, "nanda", "03-C1", sweep, on) for on in (None, "")]
    assert recipe[0] != recipe[1]


def test_the_module_of_a_check_need_not_be_imported_by_name():
    """Papers are loaded by path, and are not in sys.modules."""
    assert "power" not in sys.modules
    ex = load_module(PROJECT / "experiments" / "power.py").ex
    sharper = next(claim for claim in ex.claims if claim.id == "01-C6")
    functions = {
        "grok.claims.checks.rank_correlation",
        "grok.claims.statistics.rank_correlation",  # named as an attribute of its module
    }
    assert functions <= check_of(sharper).keys()


def test_a_sweep_is_of_its_file_if_it_asks_for_the_same_runs():
    """Checked and stored, the config has another form than the YAML file, and means the same."""
    for path in sorted((PROJECT / "sweeps").glob("*_cpu.yaml")):
        sweep = {"name": path.stem, "config": files.read(path).config}
        assert is_of_file(sweep)
        words = [*sweep["config"]["command"], "lr=0.5"]
        parameters = {**sweep["config"]["parameters"], "seed": {"values": [77]}}
        for change in ({"command": words}, {"parameters": parameters}, {"run_cap": 1}):
            assert not is_of_file({**sweep, "config": {**sweep["config"], **change}})
    assert not is_of_file({**sweep, "name": "nowhere"})
