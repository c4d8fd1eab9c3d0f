"""What a run keeps when the paper's own summary of it cannot be computed."""

import pytest

from grok.experiment.recording import Recorder


def updates(seed):
    return {"train_steps": 5, "seed": seed}


def run_with(store, seed):
    """The stored run with a seed, which no other test has."""
    (run,) = store.database.runs.find({"config.seed": seed})
    return run


def test_a_summary_that_fails_does_not_lose_the_weights_and_the_result(liu_toy, store, monkeypatch):
    """A mistake in a paper's function would else cost all that a run of hours has trained."""
    monkeypatch.setattr(liu_toy, "summarize_function", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        liu_toy.run(config_updates=updates(470_001))
    run = run_with(store, 470_001)
    assert run["status"] == "FAILED"
    assert "weights.safetensors" in [artifact["name"] for artifact in run["artifacts"]]
    assert (run["result"]["steps"], run["result"]["ended"]) == (5, "budget")
    assert run["result"]["train_loss"] > 0


def test_a_summary_that_fails_does_not_hide_that_a_run_was_interrupted(
    liu_toy, store, monkeypatch, capsys
):
    """Its status says what ended the run, and the summary's error is printed."""
    monkeypatch.setattr(liu_toy, "summarize_function", lambda *_: 1 / 0)
    record = Recorder.record

    def interrupted(recorder, event):
        record(recorder, event)
        if recorder.series and recorder.series["train_loss"][0][-1] > 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Recorder, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        liu_toy.run(config_updates=updates(470_002))
    run = run_with(store, 470_002)
    assert (run["status"], run["result"]["ended"]) == ("INTERRUPTED", "interrupted")
    assert "ZeroDivisionError" in capsys.readouterr().err
