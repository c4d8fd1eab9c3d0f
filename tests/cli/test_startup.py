"""What a command imports before it knows that what it was given is right.

Times differ from machine to machine; torch, Sacred and W&B's search package are what takes them.
"""

import json
import os
import subprocess
import sys

import pytest

from grok.cli.report import measure_names
from grok.engine.instruments import BY_NAME
from tests.conftest import PROJECT

SLOW = ["torch", "sacred", "pandas", "sweeps", "wandb", "plotly"]
NEEDED_LATER = ["torch._inductor", "torch._dynamo", "sympy", "sweeps", "wandb", "plotly"]
NEEDED_LATER += ["git", "pandas", "psutil", "requests"]
CODE = """
import json, runpy, sys
sys.argv = json.loads(sys.argv[1])
names = json.loads(sys.argv.pop())
try:
    if sys.argv[0] == "grok":
        from grok.cli import main
        main()
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    print(json.dumps([end.code or 0, sorted(set(names) & set(sys.modules))]))
else:
    print(json.dumps([0, sorted(set(names) & set(sys.modules))]))
"""


def imported(names: list[str], *command: str, **environment: str) -> tuple[int, list[str], str]:
    """A command's exit code, those of the named modules that it has imported, and its stderr."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps([*command, json.dumps(names)])],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    code, found = json.loads(done.stdout.splitlines()[-1])
    return code, found, done.stderr


WITHOUT_A_STORE = [
    (("papers", "nanada"), "did you mean nanda?"),
    (("replicate", "nanada"), "did you mean nanda?"),
    (("sweep", "run", "nothing.yaml"), "No such file"),
    (("sweep", "submit", "nothing.yaml"), "No such file"),
    (("measures", "--profile", "nanada"), "did you mean nanda?"),
    (("measures", "hesian"), "did you mean hessian?"),
    # the two options were accepted and ignored
    (("measures", "hessian", "--profile", "nanda"), "hessian with --profile: expected one of them"),
    (("measures", "--config", "cpu"), "--config cpu: expected --profile EXPERIMENT"),
]


@pytest.mark.parametrize(("words", "message"), WITHOUT_A_STORE, ids=lambda value: str(value)[:30])
def test_a_wrong_name_needs_neither_torch_nor_a_store(words, message, home):
    code, found, stderr = imported([*SLOW, "pymongo"], "grok", *words)
    assert (code, found) == (2, [])
    assert message in stderr and stderr.count("\n") == 1
    assert not list(home.iterdir())  # no database was started


def test_the_names_of_measures_that_are_read_without_torch_are_those_of_the_catalogue():
    """A measure whose name is missing there could not be shown by `grok measures`."""
    assert measure_names() == list(BY_NAME)


WITH_A_STORE = [
    (("repeat", "987654"), "no run 987654"),
    (("resume", "987654"), "no run 987654"),
    (("report", "run=987654"), "no run"),
    (("sweep", "status", "nothing"), "no sweep nothing"),
]


@pytest.mark.parametrize(("words", "message"), WITH_A_STORE, ids=lambda value: str(value)[:30])
def test_a_wrong_id_needs_no_torch(words, message, store):
    code, found, stderr = imported(SLOW, "grok", *words)
    assert (code, found) == (2, [])
    assert message in stderr and stderr.count("\n") == 1


def test_a_configuration_is_printed_without_what_only_some_runs_need(store):
    """The compiler alone costs two CPU seconds, pandas almost one."""
    code, found, _ = imported(NEEDED_LATER, "experiments/liu_toy.py", "print_config")
    assert (code, found) == (0, [])


def test_sacred_is_imported_without_losing_pandas(home):
    """A script may need pandas after it has imported an experiment, and before."""
    code = """import sys
import grok.experiment
assert "pandas" not in sys.modules
import pandas
"""
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_the_endpoint_is_ready_before_torch_is_there():
    code = "import grok.sweep.serving, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert not {*SLOW, "scipy"} & {*done.stdout.split()}, done.stderr


def test_completion_needs_click_alone():
    """bash asks for the completions of `grok sw`."""
    asked = {"_GROK_COMPLETE": "bash_complete", "COMP_WORDS": "grok sw", "COMP_CWORD": "1"}
    code = "from grok.cli import main; main(prog_name='grok')"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        cwd=PROJECT,
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "plain,sweep\n"
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in modules and not modules & {*SLOW, "pymongo", "numpy", "rich"}
