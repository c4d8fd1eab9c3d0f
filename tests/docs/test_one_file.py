"""The three worked examples of docs/guides/one-file.md run, in a batch where that is possible."""

import pytest

from grok.engine.events import Start
from grok.engine.train import train
from grok.experiment.experiment import load
from grok.experiment.repeat import repeat
from tests.conftest import PROJECT
from tests.docs.blocks import python_blocks
from tests.engine.toy import losses

PAGE = PROJECT / "docs" / "guides" / "one-file.md"
# Each with a small configuration, and how many of three runs train at once.
EXAMPLES = {
    "parity": ({"bits": 6, "train_count": 20, "test_count": 9, "width": 8, "batch_size": 4}, 3),
    "squared_relu": ({"corners": 3, "width": 8, "heads": 2, "mlp_width": 16}, 3),
    "from_script": ({"train_count": 20, "hidden": 4, "size": 3}, 1),
}
STEPS = {"train_steps": 6, "log_points": 6}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The examples as files, by the names of their experiments."""
    folder = tmp_path_factory.mktemp("examples")
    codes = dict(zip(EXAMPLES, python_blocks(PAGE), strict=True))
    for name, code in codes.items():
        assert f'Experiment("{name}"' in code
        (folder / f"{name}.py").write_text(code)
    return folder


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_trains_in_a_batch_as_alone(name, files, capsys):
    updates, at_once = EXAMPLES[name]
    ex = load(files / f"{name}.py")
    configs = [ex.full_config({**updates, **STEPS, "seed": seed}) for seed in range(3)]
    problems = [ex.problem_of(config) for config in configs]
    events = list(train(problems, 3))
    assert {event.slots for event in events if isinstance(event, Start)} == {at_once}
    assert ("trains one run after the other" in capsys.readouterr().err) == (at_once == 1)
    alone = losses([*train(problems[2:])])
    assert losses(events, 2) == pytest.approx(alone, rel=1e-4)
    assert {0, 6} <= alone.keys()


@pytest.mark.parametrize("name", ["squared_relu", "from_script"])
def test_a_run_of_an_example_is_repeated_bit_for_bit(name, files, store):
    updates, _ = EXAMPLES[name]
    run = load(files / f"{name}.py").run(config_updates={**updates, **STEPS, "seed": 1})
    verdict = repeat(store, run._id, files / f"{name}.py")
    assert verdict.first is None and verdict.values > 10
