"""Wang, Yue, Su, Sun 2024, arXiv:2405.15071.

"Grokked Transformers are Implicit Reasoners": trained long past memorizing, a transformer infers from facts
that it was told; by comparison also from facts that it never inferred from, by composition not.
"""

from grok.claims.legacy import Paper
from grok.claims.legacy_checks import compared
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment import parts as recipes
from grok.experiment.validation import ConfigError
from grok.models.transformer import TransformerConfig
from grok.objectives import reasoning
from grok.objectives.classification import ClassificationLoss
from grok.tasks import knowledge

ex = Paper("wang", threshold=0.9, delay=1000, choices={"task": ("composition", "comparison")})


@ex.config
def config():
    task = "composition"
    entities = 2000
    relations = 200  # attributes, to compare by
    out_degree = 20  # facts that an entity heads, of composition
    values = 20  # of an attribute
    phi = 9.0  # inferences of each fact in training
    ood_share = 0.05  # of facts that no inference in training is from
    test_share = 0.005  # of the other inferences
    data_seed = None  # of the graph; None: the run's seed
    width = 768
    depth = 8
    repeats = 1  # times that the layers are gone through
    heads = 12
    dropout = 0.1  # after the MLP
    optimizer = "adamw"
    lr = 1e-4
    betas = (0.9, 0.999)
    eps = 1e-8
    weight_decay = 0.1
    decay_vectors = False  # biases and LayerNorm
    clip_norm = 1.0
    warmup_steps = 2000
    batch_size = 512  # drawn with replacement
    train_steps = 1_500_000
    log_points = 100
    stop_when_grokked = False
    dtype = "float32"
    loss_dtype = None
    device = "auto"


COMPARED = {"task": "comparison", "relations": 20, "test_share": 0.1, "ood_share": 0.1}
SMALL = {"dropout": 0.0, "warmup_steps": 200, "lr": 1e-3, "weight_decay": 0.5, "width": 64, "depth": 2,
         "heads": 4, "test_share": 0.05, "ood_share": 0.1, "stop_when_grokked": True}  # fmt: skip
CPU = {**SMALL, "entities": 60, "relations": 20, "out_degree": 10, "phi": 8.5, "train_steps": 8000}
COMPARISON = {**COMPARED, "entities": 100, "relations": 4, "values": 10, "phi": 12.6}
ex.add_named_configs({
    "paper": {}, "paper_shared": {"depth": 4, "repeats": 2, "phi": 12.6},
    "paper_comparison": {**COMPARED, "entities": 1000, "phi": 7.2}, "cpu_shared": {**CPU, "repeats": 2},
    "laptop": {**SMALL, "entities": 400, "relations": 40, "depth": 4, "width": 256,
               "weight_decay": 0.3, "ood_share": 0.05, "train_steps": 100_000},
    "cpu": {**CPU, "record_trajectory": True, "trajectory_every": 4},  # for the circuit
    "cpu_comparison": {**CPU, **COMPARISON, "weight_decay": 1.0, "train_steps": 2500},
    **{f"phi_{share}": {**CPU, "phi": share / 10, "train_steps": 6500} for share in (60, 72)},
    **{f"decay_{share}": {**CPU, "weight_decay": share / 100, "train_steps": 3000} for share in (30, 100)},
})  # fmt: skip


@ex.build
def build(c) -> Problem:
    graph = knowledge.composition if c.task == "composition" else knowledge.comparison
    each = c.out_degree if c.task == "composition" else c.values
    sizes = c.entities, c.relations, each, c.ood_share, c.test_share, c.phi
    try:
        parts = graph(*sizes, recipes.data_seed_of(c))
    except knowledge.GraphError as error:
        raise ConfigError(error.key, vars(c)[error.key], str(error)) from None
    tokens, length = knowledge.vocabulary(parts), parts["train_tokens"].shape[1]
    shape = TransformerConfig(
        tokens, tokens, length, c.width, c.depth, c.heads, 4 * c.width,
        norm="pre", final_norm=True, biases=("attention", "mlp"), activation="gelu",
        positions="learned", tied=True, init="gpt2", dropout=c.dropout, repeats=c.repeats,
    )  # fmt: skip
    loss = ClassificationLoss(
        reasoning.FactLogits(c.dropout > 0), loss_dtype=c.loss_dtype, part="rows"
    )
    stop = Stop((("test_accuracy", 0.95),)) if c.stop_when_grokked else None
    return recipes.problem_of(
        c, recipes.transformer_of(c, shape), reasoning.with_rows(parts), loss,
        reasoning.FactMetrics(loss), recipes.optimizer_of(c), batch_size=c.batch_size,
        minibatch_keys=reasoning.BATCHED, sampling="replacement", needs_rng=c.dropout > 0, stop=stop,
    )  # fmt: skip


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """How many rows are trained on, and of each part looked at; logs how a composition comes about."""
    kept = recorder.kept_weights()
    if c.task == "composition" and kept:
        steps = [record.step for record in recorder.records if record.arrays]
        for name, values in reasoning.circuit(problem.module, kept, problem.data, c.seed).items():
            recorder.add(name, steps, values)
    return {f"{p}_count": len(problem.data[f"{p}_labels"]) for p in ("rows", *reasoning.PARTS)}


def phases(run) -> tuple[float, float]:
    """Steps to 99 % of the train inferences and to 90 % of the test ones."""
    return run.first_crossing("train_accuracy", 0.99), run.first_crossing("test_accuracy", 0.9)


@ex.claim("04-C1", "Composition: inferred long after it was memorized (figure 1)")
def late(runs):
    memorized, inferred = phases(runs.one("cpu"))
    then = runs.one("cpu").at("test_accuracy", memorized)
    passed = then <= 0.3 and 3 * memorized <= inferred <= 8000
    return passed, {"train 99 %": memorized, "test, then": then, "test 90 %": inferred}


@ex.claim("04-C2", "Composition: never from facts that no inference was from (figure 1)")
def never(runs):
    most, count = max(runs.one("cpu").logged("ood_accuracy")[1]), runs.one("cpu")["ood_count"]
    return most <= 0.1 and count >= 50, {"ood, most": most, "of": count}


for id, says, check in (
    ("04-C3", "Comparison: from those too (figure 1)",
     compared(lambda compare, compose: compare >= compose + 0.5, "cpu_comparison", "cpu",
              of=lambda run: run.final("ood_accuracy"))),
    ("04-C4", "The more inferences of a fact, the sooner (figure 2)",
     compared(lambda few, more, most: few > more > most, "phi_60", "phi_72", "cpu",
              of=lambda run: run.first_crossing("test_accuracy", 0.5))),
    ("04-C5", "The more weight decay, the sooner (figure 13)",
     compared(lambda a, b: a < b, "decay_30", "decay_100", of=lambda run: run.at("test_accuracy", 3000))),
):  # fmt: skip
    ex.claim(id, says, check)


@ex.claim(
    "04-C7", "While it groks, the second hop comes to be made where it is asked for (figure 4)"
)
def circuit(runs):
    run, gains = runs.one("cpu"), {}
    for name in ("lens_bridge_1", "lens_relation_1", "causal_1"):
        for time, step in zip(("then", "last"), phases(run), strict=True):
            gains[f"{name}, {time}"] = run.at(name, step)
    grows = all(gains[f"{n}, last"] > gains[f"{n}, then"] for n in ("lens_relation_1", "causal_1"))
    return grows, gains


if __name__ == "__main__":
    ex.run_as_script()
