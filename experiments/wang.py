"""Wang, Yue, Su, Sun 2024, arXiv:2405.15071.

"Grokked Transformers are Implicit Reasoners". A GPT-2-like transformer is trained on a made-up
knowledge graph, on mini-batches of all facts and of a fraction of the facts that can be inferred
from them, with the cross-entropy of the answer token. A composition h r1 r2 -> t follows from the
facts h r1 -> b and b r2 -> t. A comparison, of attribute a of entities e1 and e2, follows from the
two values; its row is `a q e1 m e2`, with two marker tokens q and m, and its answer is one of three
tokens of the attribute: less, equal or greater. Test inferences combine facts that also occur in
train inferences (in-distribution); OOD (out-of-distribution) inferences combine facts that are
trained on as facts but occur in no train inference. The paper finds that test inferences are
learned long after the train inferences are memorized, the sooner, the higher the ratio phi of
inferred to atomic facts; OOD inferences are learned in comparisons, but never in compositions,
because (as the paper explains it) facts for the second hop would have to be stored again in the
later layers.

    python experiments/wang.py with cpu seed=0    # composition, about 3 minutes
    grok replicate wang                           # all claims, three seeds: 21 runs, over an hour
    python analysis/wang_figures.py               # figures 1 and 4
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor, nn

from grok.claims.checks import each, steps_to_test
from grok.claims.model import Claims, Outcome, Run, Runs
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment import parts
from grok.experiment.config_types import (
    BelowOne,
    Betas,
    Count,
    CountFromTwo,
    CountFromZero,
    Device,
    Dtype,
    NonNegative,
    OptimizerKind,
    Positive,
    Seed,
)
from grok.experiment.experiment import Config, Experiment
from grok.experiment.recording import Recorder
from grok.experiment.validation import ConfigError
from grok.measures import tracing
from grok.models.transformer import Transformer, TransformerConfig
from grok.objectives.classification import ClassificationLoss
from grok.objectives.losses import accuracy
from grok.tasks import knowledge
from grok.tensors import Tensors

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("wang", threshold=0.9, delay=1000)
claim = Claims(ex)


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task
    task: Literal["composition", "comparison"] = "composition"  # kind of inference
    entities: CountFromTwo = 2000  # number of entities
    relations: Count = 200  # number of relations, or of attributes that are compared
    out_degree: Count = 20  # composition: facts per entity, each with a different relation
    values: Count = 20  # comparison: number of values of an attribute
    phi: Positive = 9.0  # train inferences per fact that is not OOD
    ood_share: BelowOne = 0.05  # fraction of the facts that are in no train or test inference
    test_share: BelowOne = 0.005  # fraction of the other facts' inferences that are for test
    data_seed: Seed | None = None  # seed of graph and split; None for the run's seed

    # Model: GPT-2 (LayerNorm before each sublayer, learned positions, W_E and W_U tied)
    width: Count = 768  # dimension of the residual stream
    depth: Count = 8  # layers
    repeats: Count = 1  # passes through the layers, with shared weights
    heads: Count = 12  # attention heads
    dropout: BelowOne = 0.1  # fraction of an MLP's outputs that are dropped in training

    # Optimization
    optimizer: OptimizerKind = "adamw"  # adamw: decoupled weight decay
    lr: NonNegative = 1e-4  # learning rate after warmup
    betas: Betas = (0.9, 0.999)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 0.1  # of weight matrices and embeddings
    decay_vectors: bool = False  # whether biases and LayerNorm decay too
    clip_norm: NonNegative = 1.0  # gradient norm is clipped to this; 0: no clipping
    warmup_steps: CountFromZero = 2000  # steps over which lr rises from zero, linearly

    # Training
    batch_size: Count = 512  # rows per step, drawn with replacement
    train_steps: Count = 1_500_000  # steps of the optimizer
    stop_when_grokked: bool = False  # stop when test accuracy is 95 % at two evaluations in a row

    # Evaluation
    log_points: Count = 100  # evaluation steps, logarithmically spaced

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    loss_dtype: Dtype | None = None  # of the log-softmax; None for dtype
    device: Device = "auto"  # auto: CUDA where there is one


ex.read_if("out_degree", task="composition")
ex.read_if("values", task="comparison")

SMALL = {
    "width": 64,
    "depth": 2,
    "heads": 4,
    "dropout": 0.0,
    "lr": 1e-3,
    "weight_decay": 0.5,
    "warmup_steps": 200,
    "test_share": 0.05,
    "ood_share": 0.1,
    "stop_when_grokked": True,
}
CPU = {
    **SMALL,
    "entities": 60,
    "relations": 20,
    "out_degree": 10,
    "phi": 8.5,
    "train_steps": 8000,
}
COMPARISON = {"task": "comparison", "relations": 20, "test_share": 0.1, "ood_share": 0.1}

ex.preset("paper", "Composition as in the paper: 8 layers, 1.5 million steps (no claim).")
ex.preset(
    "paper_shared",
    "Composition in two passes through 4 layers, 12.6 train inferences per fact (no claim).",
    {"depth": 4, "repeats": 2, "phi": 12.6},
)
ex.preset(
    "paper_comparison",
    "Comparison as in the paper: 1000 entities with 20 attributes (no claim).",
    {**COMPARISON, "entities": 1000, "phi": 7.2},
)
ex.preset(
    "laptop",
    "Composition over 400 entities, 4 layers of width 256, 100,000 steps (no claim).",
    {
        **SMALL,
        "entities": 400,
        "relations": 40,
        "depth": 4,
        "width": 256,
        "weight_decay": 0.3,
        "ood_share": 0.05,
        "train_steps": 100_000,
    },
)
ex.preset(
    "cpu",
    "Composition over 60 entities: test long after train, OOD never; about 3 minutes.",
    {**CPU, "record_trajectory": True, "trajectory_every": 4},
)
ex.preset(
    "cpu_shared",
    "As cpu, in two passes through the two layers, 10,000 steps; about 6 minutes.",
    {**CPU, "repeats": 2, "train_steps": 10_000, "stop_when_grokked": False},
)
ex.preset(
    "cpu_comparison",
    "Comparison of 100 entities by 4 attributes: OOD is learned too; about 4 minutes.",
    {
        **CPU,
        "task": "comparison",
        "entities": 100,
        "relations": 4,
        "values": 10,
        "phi": 12.6,
        "test_share": 0.1,
        "weight_decay": 1.0,
        "train_steps": 10_000,
        "stop_when_grokked": False,
    },
)
for tenths in (60, 72):
    ex.preset(
        f"phi_{tenths}",
        f"As cpu, with {tenths / 10} train inferences per fact in place of 8.5.",
        {**CPU, "phi": tenths / 10, "train_steps": 6500},
    )
for hundredths in (30, 100):
    ex.preset(
        f"decay_{hundredths}",
        f"As cpu, with a weight decay of {hundredths / 100} in place of 0.5, 3000 steps.",
        {**CPU, "weight_decay": hundredths / 100, "train_steps": 3000},
    )


# Loss and metrics. The data of a SUBSET are SUBSET_tokens (N, S), SUBSET_places (N,), the position
# at which a row's label is predicted, and SUBSET_labels (N, 1): N rows, S positions, and below C
# tokens of the vocabulary.

EVALUATED_SUBSETS = ("atomic", "train", "test", "ood")  # atomic: all facts
TRAINED_SUBSET = "rows"  # all facts and the train inferences
# As published, metrics are computed on the first 3000 rows of each subset. Inferences are shuffled,
# so these are a random sample; facts are in the order of their entities.
MOST_EVALUATED = 3000
MOST_TRACED = 300  # train inferences whose computation is traced, as published


@dataclass(frozen=True)
class FactLogits:
    """Logits (N, 1, C) at the position of each row's label.

    Arguments:
        dropout: whether the model uses dropout.
    """

    dropout: bool = False
    batched = tuple(f"{TRAINED_SUBSET}_{kind}" for kind in ("tokens", "places", "labels"))

    @property
    def draws(self) -> bool:
        return self.dropout

    def __call__(self, model: Transformer, data: Tensors, part: str, training: bool) -> Tensor:
        tokens_NS = data[f"{part}_tokens"]
        length = tokens_NS.shape[1]
        key = data["key"] if training and self.dropout else None
        # last_logits can share prefixes between sequences; here each has the same, of no tokens
        no_prefixes, no_index = tokens_NS[:1, :0], torch.zeros_like(tokens_NS[:, 0])
        logits_NSC = model.last_logits(no_prefixes, no_index, tokens_NS, length, key)
        places_N1C = data[f"{part}_places"].view(-1, 1, 1).expand(-1, 1, logits_NSC.shape[-1])
        return logits_NSC.gather(1, places_N1C)


@dataclass(frozen=True)
class FactMetrics:
    """What is logged at every evaluation step.

    train_loss, test_loss; train_accuracy, test_accuracy and ood_accuracy of inferences;
    atomic_accuracy of facts.
    """

    loss: ClassificationLoss

    def __call__(self, model: Transformer, data: Tensors) -> Tensors:
        result = {}
        for subset in EVALUATED_SUBSETS:
            logits, labels = self.loss.logits(model, data, subset, False), data[f"{subset}_labels"]
            if subset in ("train", "test"):
                result[f"{subset}_loss"] = self.loss.from_logits(logits, labels)
            result[f"{subset}_accuracy"] = accuracy(logits.argmax(-1), labels)
        return result


def with_trained_subset(graph: Tensors) -> Tensors:
    """The graph's data with labels (N, 1), at most 3000 rows of each subset, and all trained rows.

    Arguments:
        graph: as `grok.tasks.knowledge` makes it.
    """
    data = {k: v.view(-1, 1) if k.endswith("labels") else v for k, v in graph.items()}
    trained = {
        f"{TRAINED_SUBSET}_{kind}": torch.cat([data[f"atomic_{kind}"], data[f"train_{kind}"]])
        for kind in ("tokens", "places", "labels")
    }
    return {**{name: values[:MOST_EVALUATED] for name, values in data.items()}, **trained}


def trace_composition(
    model: nn.Module, weights_by_step: Iterable[Mapping[str, Any]], data: Tensors, seed: int
) -> dict[str, list[float]]:
    """How the two hops of h r1 r2 -> t, with bridge b, are computed at each of several steps.

    Arguments:
        model: the Transformer.
        weights_by_step: its weights at these steps.
        data: of `with_trained_subset`; up to 300 of the train inferences are traced.
        seed: seed for choosing the rows whose states are patched in.

    Returns:
        One value for each step. After layer l, by the logit lens: lens_bridge_l, the mean
        reciprocal rank of b at the position of r1; lens_relation_l, the mean reciprocal rank of r2
        at the position of r2. After each layer but the last: causal_l, the fraction of predictions
        that change if the residual stream at the position of r1 is replaced by that of a row with
        another h and another answer.
    """
    tokens, labels, bridges = (
        data[f"train_{kind}"][:MOST_TRACED].cpu() for kind in ("tokens", "labels", "bridges")
    )
    # rows to patch in are chosen from the evaluated train rows, at most 3000
    train_rows = data["train_tokens"].cpu(), data["train_labels"].cpu().flatten()
    corrupted, has_other = tracing.other_heads(tokens, labels.flatten(), *train_rows, seed)
    assert isinstance(model, Transformer)
    model = copy.deepcopy(model).cpu().requires_grad_(False)
    first_relation, second_relation = 1, 2  # positions
    series: dict[str, list[float]] = {}
    for weights in weights_by_step:
        tensors = {name: torch.as_tensor(value) for name, value in weights.items()}
        model.load_state_dict(tensors)
        stream = model.residual_stream(tokens)
        last_layer = len(stream) - 1
        for layer in range(1, last_layer + 1):
            at_first, at_second = (stream[layer][:, i] for i in (first_relation, second_relation))
            values = {
                "lens_bridge": tracing.reciprocal_rank(model, at_first, bridges),
                "lens_relation": tracing.reciprocal_rank(
                    model, at_second, tokens[:, second_relation]
                ),
            }
            # after the last layer nothing moves between positions
            if layer < last_layer and len(has_other):
                values["causal"] = tracing.causal_strength(
                    model, tokens[has_other], corrupted, layer, [first_relation], second_relation
                )
            for name, value in values.items():
                series.setdefault(f"{name}_{layer}", []).append(value)
    return series


@ex.build
def build(c: Config) -> Problem:
    """A random graph, its rows as token sequences, and a transformer of its vocabulary."""
    is_composition = c.task == "composition"
    make = knowledge.composition if is_composition else knowledge.comparison
    degree_or_values = c.out_degree if is_composition else c.values
    seed = parts.data_seed(c)
    try:
        graph = make(
            c.entities, c.relations, degree_or_values, c.ood_share, c.test_share, c.phi, seed
        )
    except knowledge.GraphError as error:
        raise ConfigError(error.key, vars(c)[error.key], str(error)) from None
    vocabulary, length = knowledge.vocabulary(graph), graph["train_tokens"].shape[1]
    shape = TransformerConfig(
        vocabulary,
        vocabulary,
        length,
        width=c.width,
        depth=c.depth,
        heads=c.heads,
        mlp_width=4 * c.width,
        norm="pre",
        final_norm=True,
        biases=("attention", "mlp"),
        activation="gelu",
        positions="learned",
        tied=True,
        init="gpt2",
        dropout=c.dropout,
        repeats=c.repeats,
    )
    model = parts.make_transformer(c, shape)
    logits = FactLogits(dropout=c.dropout > 0)
    loss = ClassificationLoss(logits, loss_dtype=c.loss_dtype, part=TRAINED_SUBSET)
    grokked = Stop((("test_accuracy", 0.95),))
    return parts.make_problem(
        c,
        model,
        with_trained_subset(graph),
        loss,
        FactMetrics(loss),
        parts.make_optimizer(c),
        batch_size=c.batch_size,
        minibatch_keys=logits.batched,
        sampling="replacement",
        needs_rng=logits.draws,
        stop=grokked if c.stop_when_grokked else None,
    )


@ex.summarize
def summarize(c: Config, problem: Problem, recorder: Recorder) -> dict[str, Any]:
    """Logs `trace_composition` at the steps whose weights were kept.

    Returns:
        SUBSET_count, the number of rows of each subset: of "rows" all that are trained on, of the
        others those that are evaluated.
    """
    weights_by_step = recorder.kept_weights()
    if c.task == "composition" and weights_by_step:
        traced = trace_composition(problem.module, weights_by_step, problem.data, c.seed)
        for name, values in traced.items():
            recorder.add(name, recorder.kept_steps(), values)
    counted = (TRAINED_SUBSET, *EVALUATED_SUBSETS)
    return {f"{subset}_count": len(problem.data[f"{subset}_labels"]) for subset in counted}


# Claims. Each is checked on the runs of one seed of sweeps/wang_cpu.yaml, or of the sweep that it
# names. A step "at" which an accuracy is reached is the first evaluation step that reaches it and
# holds it at the next one. `run.at(metric, step)` is the value at the last evaluation up to that
# step. The ids begin with 04 for this paper. A claim that is checked seed by seed passes if it
# holds on all of them; every claim must fail on runs changed as `fails_on` says, and
# `control=True` marks a statement of ours, not of the paper (docs/concepts/claims.md).

# Negative controls.
UNTRAINED = {"train_steps": 20}
EQUAL_DECAY = {"weight_decay": 0.3, "train_steps": 20}


def memorized_and_inferred(run: Run) -> tuple[float, float]:
    """Steps to 99 % of the train inferences, and to 90 % of the test inferences."""
    memorized = run.first_step_held("train_accuracy", 0.99)
    return memorized, run.first_step_held("test_accuracy", 0.9)


# 04-C1. The paper: train inferences at 99 % after 14,000 steps; test inferences at 9 % then, and
# near 100 % only after 50 times as many steps.
MOST_TEST_ACCURACY_WHEN_MEMORIZED = 0.3
LEAST_DELAY_RATIO = 3
INFERRED_BY = 8000


@claim("04-C1", source="figure 1", fails_on=UNTRAINED)
def composition_is_learned_long_after_memorizing(runs: Runs) -> Outcome:
    """Composition is learned long after the train inferences are memorized."""
    run = runs.one("cpu")
    memorized, inferred = memorized_and_inferred(run)
    accuracy_then = run.at("test_accuracy", memorized)
    is_late = LEAST_DELAY_RATIO * memorized <= inferred <= INFERRED_BY
    numbers = {"train 99 %": memorized, "test, then": accuracy_then, "test 90 %": inferred}
    return accuracy_then <= MOST_TEST_ACCURACY_WHEN_MEMORIZED and is_late, numbers


# 04-C2. The paper: at most a few percent in 2 million steps. The network must have learned the test
# inferences that are not OOD, to 90 %: one that has learned nothing composes no OOD facts either.
MOST_OOD_ACCURACY = 0.1  # at any evaluation step until the run stops, at 95 % test accuracy
LEAST_OOD_ROWS = 50  # with fewer, the accuracy is too noisy


@claim("04-C2", source="figure 1", fails_on=UNTRAINED)
def composition_never_generalizes_ood(runs: Runs) -> Outcome:
    """Composition is never learned for OOD facts."""
    run = runs.one("cpu")
    most, rows = max(run.logged("ood_accuracy")[1]), run["ood_count"]
    _, inferred = memorized_and_inferred(run)
    numbers = {"ood, most": most, "of": rows, "test 90 %": inferred}
    return most <= MOST_OOD_ACCURACY and rows >= LEAST_OOD_ROWS and inferred < inf, numbers


# 04-C3. The paper: comparison reaches 100 % of the OOD inferences, by step 400,000.
LEAST_OOD_COMPARED = 0.95


@claim("04-C3", source="figure 1", fails_on=UNTRAINED)
def comparison_generalizes_ood(runs: Runs) -> Outcome:
    """Comparison is learned for OOD facts, as for the others."""
    run = runs.one("cpu_comparison")
    numbers = {name: run.final(f"{name}_accuracy") for name in ("test", "ood")}
    return min(numbers.values()) >= LEAST_OOD_COMPARED, numbers


# 04-C3-above. The paper has 100 % and none.
LEAST_OOD_ADVANTAGE = 0.5


@claim("04-C3-above", source="figure 1", control=True, fails_on=UNTRAINED)
def comparison_is_above_composition(runs: Runs) -> Outcome:
    """On OOD facts comparison is more accurate than composition, by 50 percentage points."""
    final = each(runs, lambda run: run.final("ood_accuracy"), "cpu_comparison", "cpu")
    return final["cpu_comparison"] >= final["cpu"] + LEAST_OOD_ADVANTAGE, final


# 04-C4. The paper: phi from 3.6 to 18, test accuracy after 100,000 steps from 8 % to 100 %. Ours:
# steps to 50 % test accuracy, phi = 6, 7.2 and 8.5.
@claim("04-C4", source="figure 2", fails_on=UNTRAINED)
def more_inferences_per_fact_are_faster(runs: Runs) -> Outcome:
    """The more train inferences there are per fact, the sooner composition is learned."""
    steps = steps_to_test(runs, "phi_60", "phi_72", "cpu", test=0.5)
    return steps["phi_60"] > steps["phi_72"] > steps["cpu"], steps


# 04-C5. The paper, after 100,000 steps: 53 %, 73 % and 93 % with weight decay 0.03, 0.1 and 0.3.
# Ours: after 3000 steps, decay 0.3 against 1.0. Of a run that stopped earlier, it is the accuracy
# at its last evaluation.
COMPARED_AT = 3000  # step
LEAST_ADVANTAGE = 0.1  # the specification measured 22 % and 52 %


@claim("04-C5", source="figure 13", fails_on=EQUAL_DECAY)
def more_weight_decay_is_faster(runs: Runs) -> Outcome:
    """The more weight decay, the sooner composition is learned."""
    accuracies = each(
        runs, lambda run: run.at("test_accuracy", COMPARED_AT), "decay_30", "decay_100"
    )
    advantage = accuracies["decay_100"] - accuracies["decay_30"]
    return advantage >= LEAST_ADVANTAGE, accuracies


# 04-C6. The paper, 4 layers that are passed twice: OOD accuracy is 52 % after 500,000 steps and 73 %
# after 1.5 million.
LEAST_OOD_SHARED = 0.5  # at the end


@claim("04-C6", source="figure 14", sweep="wang_shared", fails_on=UNTRAINED)
def shared_layers_generalize_ood(runs: Runs) -> Outcome:
    """With layers that are passed twice, composition is learned for OOD facts."""
    run = runs.one("cpu_shared")
    numbers = {name: run.final(f"{name}_accuracy") for name in ("test", "ood")}
    return numbers["ood"] >= LEAST_OOD_SHARED, numbers


# 04-C7. The paper: the bridge b can be read at r1 throughout training; what grows is r2 at r2, and
# the effect of the state at r1 on the prediction. Ours: after the first of two layers, from 99 %
# train accuracy ("then") to 90 % test accuracy ("last"), which must be reached.
@claim("04-C7", source="figure 4", fails_on=UNTRAINED)
def second_hop_forms_at_second_relation(runs: Runs) -> Outcome:
    """While the network groks, r2 becomes readable at its own position, and the prediction comes
    to depend on the state at r1."""
    run = runs.one("cpu")
    memorized, inferred = memorized_and_inferred(run)
    steps = {"then": memorized, "last": inferred}
    numbers = {
        f"{metric}, {when}": run.at(metric, step)
        for metric in ("lens_bridge_1", "lens_relation_1", "causal_1")
        for when, step in steps.items()
    }
    grows = all(
        numbers[f"{metric}, last"] > numbers[f"{metric}, then"]
        for metric in ("lens_relation_1", "causal_1")
    )
    return grows and inferred < inf, numbers


# Claims of the paper that are not checked here.
claim.not_tried(
    "04-C8",
    "On complex reasoning a grokked transformer surpasses large language models",
    "text",
    reason="Language models cannot be queried offline.",
)


if __name__ == "__main__":
    ex.run_as_script()
