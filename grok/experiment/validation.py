"""Checks of a run's configuration: one clear line for the first thing that is wrong."""

import ast
import contextlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any

import torch
from sacred.config.config_scope import (
    ConfigScope,
    add_doc,
    dedent_function_body,
    get_function_body,
)

from grok.errors import UserError, check_names, near_match
from grok.experiment.config_types import (
    Fraction,
    KeptFraction,
    OpenFraction,
    Positive,
    choices,
    description,
    is_valid,
)

# Names that mean the same as a configuration key and are read in its place.
SYNONYMS = {
    "ood_fraction": "ood_share",
    "test_fraction": "test_share",
    "keep_fraction": "keep",
    "overlap_fraction": "overlap_frac",
    "tolerance": "near",
    "noisy_labels": "noisy_answers",
}

NAMED_VALUES = {"none": None, "null": None, "true": True, "false": False}
NEAR_NAME = 0.8  # similarity from which an unknown name counts as misspelled
FRACTIONS = (OpenFraction, KeptFraction, Fraction)
# What other programs and papers call a key, and the keys that may be meant, with a note where the
# unit differs. They are suggested, never taken in silence.
RELATED_KEYS: tuple[tuple[str, dict[str, str]], ...] = (
    ("learning_rate learningrate eta step_size", {"lr": "", "decoder_lr": "", "encoder_lr": ""}),
    ("lr", {"decoder_lr": "", "encoder_lr": ""}),
    (
        "wd weight_decay weightdecay decay l2 lambda reg",
        {"weight_decay": "", "decoder_weight_decay": "", "encoder_weight_decay": ""},
    ),
    (
        "train_size n_train num_train train_samples num_train_samples train_points train_rows",
        {"train_count": " (a number of rows)", "train_fraction": " (a fraction of the rows)"},
    ),
    (
        "split train_split frac_train train_frac train_ratio train_pct train_percent fraction frac "
        "train_percentage training_fraction data_fraction train_test_split split_ratio",
        {"train_fraction": "", "train_count": " (a number of rows)"},
    ),
    (
        "steps n_steps num_steps max_steps total_steps training_steps num_train_steps iters "
        "n_iters num_iters max_iters iterations n_iterations num_iterations updates train_steps "
        "optimization_steps num_updates",
        {"train_steps": "", "epochs": " (an epoch is one pass through the train set, not a step)"},
    ),
    (
        "epochs n_epochs num_epochs max_epochs num_train_epochs total_epochs nb_epochs",
        {
            "epochs": "",
            "train_steps": " (in steps of the optimizer; an epoch is a pass through the train set)",
        },
    ),
    (
        "log_freq log_every log_interval log_steps logging_steps eval_every eval_freq eval_interval "
        "eval_steps test_every print_every stats_freq val_every save_every",
        {
            "eval_steps": " (steps between evaluations)",
            "log_points": " (the number of evaluations)",
        },
    ),
    ("n_evals num_evals eval_count n_points", {"log_points": "", "eval_steps": ""}),
    ("bs batch batchsize minibatch minibatch_size mini_batch_size", {"batch_size": ""}),
    (
        "hidden hidden_size hidden_dim hidden_width n_hidden num_hidden hidden_units d_hidden "
        "n_units width",
        {
            "width": "",
            "units": "",
            "hidden_dim": "",
            "encoder_width": "",
            "decoder_width": "",
        },
    ),
    (
        "d_model dmodel dim dim_model model_dim embed_dim embedding_dim emb_dim n_embd d_embed",
        {"width": "", "embedding_width": "", "hidden_rep_dim": ""},
    ),
    ("d_mlp mlp_dim d_ff dim_feedforward ffn_dim mlp_hidden", {"mlp_width": ""}),
    (
        "n_layers num_layers layers n_layer nlayers num_hidden_layers",
        {"depth": "", "encoder_depth": "", "decoder_depth": ""},
    ),
    ("n_heads num_heads n_head nheads num_attention_heads attention_heads", {"heads": ""}),
    ("strategy order data_order curriculum", {"ordering": ""}),
    (
        "math_operator operator op fn fn_name function binary_operation math_operation dataset "
        "task task_name",
        {"operation": "", "variant": ""},
    ),
    ("prime modulus mod modulo n_numbers vocab_size", {"p": ""}),
    ("random_seed rng_seed manual_seed random_state", {"seed": ""}),
    ("split_seed seed_data dataset_seed", {"data_seed": ""}),
    ("opt optim optimiser optimizer_name optimizer_type", {"optimizer": ""}),
    ("warmup n_warmup lr_warmup warmup_iters num_warmup_steps", {"warmup_steps": ""}),
    ("act act_fn act_type activation_fn nonlinearity", {"activation": ""}),
    ("loss_fn loss_function criterion objective", {"loss": ""}),
    ("beta beta1 beta2 adam_betas", {"betas": " (a list of two numbers)"}),
    ("epsilon adam_eps adam_epsilon", {"eps": ""}),
    (
        "label_noise noise corrupted_labels random_labels",
        {"noisy_answers": "", "random_labels": ""},
    ),
    ("grad_clip clip clip_grad clip_grad_norm max_grad_norm", {"clip_norm": ""}),
    ("init_std initialization_scale weight_scale alpha_init", {"init_scale": ""}),
    ("lamb filter_gain", {"grokfast_gain": ""}),
    ("filter grok_filter grokfast_type", {"grokfast": ""}),
    ("window window_size", {"grokfast_window": ""}),
    ("gpu cuda use_cuda use_gpu", {"device": ""}),
    ("precision float_precision", {"dtype": ""}),
)
VALUE_SYNONYMS = {
    **dict.fromkeys(("mse", "l2", "quadratic", "mean_squared_error"), "squared_error"),
    **dict.fromkeys(("ce", "xent", "nll", "crossentropy"), "cross_entropy"),
    **dict.fromkeys(("gpu", "cuda:0"), "cuda"),
    **dict.fromkeys(("fp32", "float", "single"), "float32"),
    **dict.fromkeys(("fp64", "double"), "float64"),
}
# Terms of the field that are no misspelling of another: nothing is suggested in their place.
OTHER_TERMS = (
    "adam adamw adamax nadam radam adagrad adadelta rmsprop lion muon lbfgs sgd momentum nesterov "
    "elu selu celu silu swish mish sigmoid leaky_relu relu6 softplus relu gelu tanh linear "
    "float16 bfloat16 fp16 bf16 half mae l1 hinge focal mps tpu xla batchnorm rmsnorm"
)


class ConfigError(UserError):
    """A configuration value that the experiment cannot run with."""

    def __init__(self, key: str, value: Any, expected: str):
        super().__init__(f"{key}={value!r}: expected {expected}")


class TypedConfigScope(ConfigScope):
    """A Sacred config scope whose keys are annotated with their types.

    types: the declared type of each annotated key.
    """

    def __init__(self, function: Callable[[], None]):
        super().__init__(function)
        self.types: dict[str, Any] = _annotations(self._body_code, function)
        self._var_docs.update(_annotated_comments(function))

    def __call__(self, fixed: Any = None, preset: Any = None, fallback: Any = None) -> Any:
        """Sacred's; without the annotations, which Python keeps among the variables."""
        values = super().__call__(fixed, preset, fallback)
        values.pop("__annotations__", None)
        return values


def canonical_names(updates: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The updates with each synonym replaced by the key that it stands for."""
    known = set(known)
    return {
        key if key in known else SYNONYMS.get(key, key): value for key, value in updates.items()
    }


def canonical_values(updates: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """The updates with texts replaced by the allowed values that they name.

    Choices are understood in upper and lower case; so are None, True and False where they are
    allowed, and lists and dictionaries in JSON. A text that is itself allowed stays, and a wrong one
    too.
    """
    return {
        key: _canonical_value(value, types[key])
        if key in types and isinstance(value, str)
        else value
        for key, value in updates.items()
    }


def _canonical_value(text: str, declared: Any) -> Any:
    options = {str(choice).lower(): choice for choice in choices(declared)}
    word = text.lower()
    if word in options:
        return text if text in options.values() else options[word]
    if word in NAMED_VALUES:
        value = NAMED_VALUES[word]
        if is_valid(value, declared) and (value is None or not is_valid(text, declared)):
            return value
    if text.lstrip()[:1] in ("[", "{") and not is_valid(text, declared):
        with contextlib.suppress(ValueError, RecursionError):  # Sacred reads those of Python
            value = json.loads(text)
            return value if is_valid(value, declared) else text
    return text


def check_keys(names: Iterable[str], known: Iterable[str], kind: str) -> None:
    """UserError that names the first unknown key and the known keys that may be meant."""
    check_names(names, known, kind, meant_keys)


def meant_keys(name: str, known: Iterable[str]) -> str:
    """The known keys that a name may mean, here or in other programs, in words; empty if none."""
    word = name.lower().replace("-", "_")
    for words, keys in RELATED_KEYS:
        if word in words.split():
            present = [f"{key}{note}" for key, note in keys.items() if key in known]
            if present:
                return " or ".join(present)
    return near_match(name, known, NEAR_NAME) or ""


def check_values(values: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """ConfigError for the first value that is not of the type declared for its key."""
    for key, value in values.items():
        if key in types and not is_valid(value, types[key]):
            hint = _hint(value, choices(types[key])) or _percentage_hint(value, types[key])
            raise ConfigError(key, value, description(types[key]) + hint)


def check_choice(key: str, value: Any, allowed: Iterable[Any]) -> None:
    """ConfigError unless the value is one of those allowed."""
    allowed = list(allowed)
    if value not in allowed:
        listed = ", ".join(map(str, allowed))
        raise ConfigError(key, value, f"one of {listed}" + _hint(value, allowed))


def device_of(name: str) -> torch.device:
    """The device that a configuration names; "auto" is CUDA where there is a CUDA device.

    Raises:
        ConfigError: "cuda" is asked for on a machine without a CUDA device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device", name, "a CUDA device, and this machine has none")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _hint(value: Any, allowed: list[Any]) -> str:
    """` (did you mean X?)` for the allowed value that may be meant; empty for another known term."""
    word = str(value).lower()
    if not allowed or word in OTHER_TERMS.split():
        return ""
    near = VALUE_SYNONYMS.get(word)
    if near not in allowed:
        near = near_match(word, map(str, allowed), cutoff=0.6)
    return f" (did you mean {near}?)" if near else ""


def _percentage_hint(value: Any, declared: Any) -> str:
    if declared not in FRACTIONS or not is_valid(value, Positive) or not 1 < value <= 100:
        return ""
    return f" ({value:g} percent is {value / 100:g})"


def _annotations(body_code: Any, function: Callable[[], None]) -> dict[str, Any]:
    """The annotations of a config function's local variables, which Python does not keep."""
    local_variables: dict[str, Any] = {}
    exec(body_code, copy(function.__globals__), local_variables)
    return local_variables.get("__annotations__", {})


def _annotated_comments(function: Callable[[], None]) -> dict[str, str]:
    """The comments beside annotated keys; Sacred finds those of plain assignments only."""
    source = dedent_function_body(get_function_body(function)[0])
    comments: dict[str, str] = {}
    for statement in ast.parse(source, inspect.getfile(function)).body:
        if isinstance(statement, ast.AnnAssign):
            add_doc(statement.target, comments, source.split("\n"))
    return comments
