"""Minegishi, Iwasawa, Matsuo 2023, arXiv:2310.19470.

"Grokking Tickets": the subnetwork that a network has when it has generalized, trained from the same
initial weights, generalizes at once. Neither its norm nor its sparsity explains that.
"""

from functools import partial
from math import inf

from grok.claims.legacy import Paper
from grok.claims.legacy_checks import steps, within
from grok.engine.checkpoint import below
from grok.engine.events import WEIGHTS
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment import parts as recipes
from grok.experiment.validation import ConfigError
from grok.experiment.warm_start import check_fit
from grok.models.sum_mlp import MaskedSumMLP, SearchedSumMLP
from grok.objectives import tickets
from grok.objectives.classification import ClassificationLoss, InputLogits

ex = Paper("minegishi", threshold=0.95, delay=1000, choices={"mask": tickets.KINDS})


@ex.config
def config():
    operation = "x_plus_y"
    p = 67
    symmetric = True  # of a + b and b + a only one is in the table
    train_fraction = 0.4
    train_count = None
    data_seed = None  # of the split; None: the run's seed
    embedding_width = 500
    width = 48
    mask = "none"  # of tickets.KINDS
    keep = 0.4  # share of the weights that a mask keeps
    mask_step = None  # of initial_run; None: mask_delay after it generalized
    mask_delay = 4000
    optimizer = "adamw"
    lr = 1e-3
    betas = (0.9, 0.98)
    eps = 1e-8
    weight_decay = 1.0
    warmup_steps = 0
    batch_size = None
    train_steps = 45_000
    eval_steps = 20
    stop_when_grokked = False
    dtype = "float32"
    loss_dtype = "float64"
    device = "auto"


KEPT = {"record_trajectory": True, "trajectory_every": 25}  # weights at every 500th update
HALF = {"train_fraction": 0.5, "train_steps": 8000, "stop_when_grokked": True}
TICKET = {**HALF, "mask": "ticket", "initial_run": "cpu"}
SEARCH = {**TICKET, "mask": "search", "mask_delay": -1000, "train_steps": 2000}
NO_DECAY, KEEPS = {"weight_decay": 0.0}, {f"keep_{k}": k / 100 for k in (5, 10, 20, 30, 50, 60)}
ex.add_named_configs({
    "paper": KEPT, "paper_ticket": {"mask": "ticket", "initial_run": "paper"},
    "cpu": {**KEPT, "train_fraction": 0.5, "train_steps": 12_000},
    "ticket": TICKET, "ticket_no_decay": {**TICKET, **NO_DECAY},
    "ticket_at_once": {**TICKET, "mask_delay": 0}, "ticket_memorized": {**TICKET, "mask_step": 500},
    "l1_norm": {**TICKET, "mask": "l1_norm"}, "l2_norm": {**TICKET, "mask": "l2_norm"},
    **{kind: {**HALF, "mask": kind} for kind in tickets.AT_START},
    **{name: {**TICKET, "keep": keep} for name, keep in KEEPS.items()},
    **{f"{name}_no_decay": {**TICKET, **NO_DECAY, "keep": keep} for name, keep in KEEPS.items()},
    "search": SEARCH, "search_memorized": {**SEARCH, "mask_step": 500},
    "search_no_decay": {**SEARCH, **NO_DECAY},
})  # fmt: skip


@ex.build
def build(c) -> Problem:
    if (c.mask in tickets.FROM_A_RUN) != (c.initial_run is not None):
        raise ConfigError("initial_run", c.initial_run, tickets.WANTED)
    split = recipes.split_of(c, recipes.table_of(c))
    kind = partial(SearchedSumMLP, keep=c.keep) if c.mask == "search" else MaskedSumMLP
    model = recipes.drawn(c, lambda: kind(c.p, c.embedding_width, c.width))
    if c.mask in tickets.AT_START:
        model.keep(tickets.mask_at_start(c.mask, model, split, c.keep, c.seed))
    loss = ClassificationLoss(InputLogits(), loss_dtype=c.loss_dtype)
    stop = Stop((("test_accuracy", ex.threshold),)) if c.stop_when_grokked else None
    return recipes.classification_problem(c, model, recipes.in_columns(split), loss, stop=stop)


@ex.inherit
def inherit(c, problem, ancestor) -> Problem:
    """What the ancestor's weights give at mask_step, or mask_delay after it generalized."""
    if c.seed != ancestor.seed:  # a ticket is trained from the ancestor's own initial weights
        raise ConfigError("seed", c.seed, f"{ancestor.seed}, as of run {ancestor.number}")
    step = (
        ancestor.step_after("steps_to_test", c.mask_delay) if c.mask_step is None else c.mask_step
    )
    weights = ancestor.weights_at(step)[1]
    check_fit(c, problem, weights)
    tickets.inherit(c.mask, problem.module, weights, c.keep)
    return problem


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """Of a run that keeps its weights, how its tickets change, and how much as it generalizes."""
    if not c.record_trajectory or c.mask != "none":
        return {}
    kept = {r.step: below(r.arrays, WEIGHTS) for r in recorder.records if r.arrays}
    series = tickets.history(kept, c.keep)
    for name, points in series.items():
        recorder.add(name, *points)
    return tickets.turning(series, recorder.first_step_held("test_accuracy", ex.threshold))


DENSE, SWEEP = {"sweep": "minegishi_dense"}, {"sweep": "minegishi_cpu"}
for id, says, check, sweep in (
    ("10-dense", "The whole network groks late (figure 1)",
     within(("cpu", "delay_ratio", 20, inf)), DENSE),
    ("10e", "The ticket changes once more as it generalizes (figure 6)",
     within(("cpu", "ticket_change_rise", 0.08, 1)), DENSE),
    ("10g", "The whole network turns periodic (figure 7)",
     within(("cpu", "entropy_ratio", 0, 0.5)), DENSE),
    ("10a", "Its ticket, from the same initial weights, hardly delays (figure 1)",
     within(("ticket", "delay_ratio", 1, 5)), SWEEP),
    ("10b", "Not for its norm: whole networks of that norm delay (figure 3)",
     steps(lambda ticket, *whole: ticket < inf and 5 * ticket <= min(whole),
          "ticket", "l1_norm", "l2_norm"), SWEEP),
    ("10c", "Not for its sparsity: networks under other masks delay (figure 4)",
     steps(lambda ticket, *others: ticket < inf and 20 * ticket <= min(others),
          "ticket", *tickets.AT_START), SWEEP),
    ("10d", "A mask from when it had only memorized does not help (figure 2)",
     steps(lambda ticket, at_once, memorized: ticket < inf == memorized, "ticket", "ticket_at_once", "ticket_memorized"),
     SWEEP),
    ("10f", "Its ticket needs no weight decay (figure 5)",
     within(("ticket_no_decay", "steps_to_test", 1, 1000)), SWEEP),
    ("10h", "Weights 1000 before it generalized hold a subnetwork that does (table 1)",
     within(("search", "test_accuracy", 0.9, 1), ("search_no_decay", "test_accuracy", 0, 1),
            ("search_memorized", "test_accuracy", 0, 1)), SWEEP),
    ("10i", "A third of the weights does better than a tenth or 60 %, a twentieth fails (figure 8)",
     steps(lambda k5, k10, k20, k30, k50, k60: k30 < min(k10, k60) and k5 == inf, *KEEPS), SWEEP),
):  # fmt: skip
    ex.claim(id, says, check, **sweep)


if __name__ == "__main__":
    ex.run_as_script()
