"""Types of configuration values: what a key may be, checked by pydantic.

A paper annotates each key of its configuration with one of these types, or with `bool`, `str`, a
`Literal` or a union of them:

    @ex.config
    def config():
        p: Modulus = 113  # the modulus
        optimizer: Literal["adamw", "adam", "sgd"] = "adamw"  # kind of optimizer

The description of a type completes the sentence "expected ...".
"""

from collections.abc import Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

LARGEST_SEED = 2**32 - 1  # numpy's


def _whole(description: str, **bounds: int) -> FieldInfo:
    return Field(strict=True, description=description, **bounds)  # type: ignore[call-overload]  # bounds are Field's own


def _number(description: str, **bounds: float) -> FieldInfo:
    return Field(strict=True, allow_inf_nan=False, description=description, **bounds)  # type: ignore[call-overload]  # likewise


Whole = Annotated[int, _whole("a whole number")]
Count = Annotated[int, _whole("a whole number of at least 1", ge=1)]
CountFromZero = Annotated[int, _whole("a whole number of at least 0", ge=0)]
CountFromTwo = Annotated[int, _whole("a whole number of at least 2", ge=2)]
Modulus = CountFromTwo
Seed = Annotated[int, _whole(f"a whole number from 0 to {LARGEST_SEED}", ge=0, le=LARGEST_SEED)]
NonNegative = Annotated[float, _number("a number of at least 0", ge=0)]
Positive = Annotated[float, _number("a number above 0", gt=0)]
BelowOne = Annotated[float, _number("a number of at least 0 and below 1", ge=0, lt=1)]
OpenFraction = Annotated[float, _number("a number between 0 and 1, exclusive", gt=0, lt=1)]
KeptFraction = Annotated[float, _number("a fraction above 0, up to 1", gt=0, le=1)]
Fraction = Annotated[float, _number("a fraction from 0 to 1", ge=0, le=1)]
Betas = Annotated[
    Sequence[BelowOne], Field(min_length=2, max_length=2, description="two numbers below 1")
]
Counts = Annotated[Sequence[Count], Field(description="a list of whole numbers of at least 1")]
Texts = Annotated[Sequence[str], Field(description="a list of names")]
MeasureOptions = Annotated[
    Mapping[str, Mapping[str, Any]],
    Field(description="options by instrument, such as measure_options.hessian.every=100"),
]
Interventions = Annotated[
    Sequence[Mapping[str, Any]],
    Field(
        description='a list of entries such as {"when": "memorized", "set": {"weight_decay": 0}}'
    ),
]
FixedNorm = bool | Positive
RunId = Count

OptimizerKind = Literal["adamw", "adam", "sgd", "lion", "muon"]
Dtype = Literal["float32", "float64"]
Device = Literal["auto", "cpu", "cuda"]
Activation = Literal["tanh", "relu", "gelu"]
Norm = Literal["pre", "post", "none"]
Positions = Literal["learned", "sinusoidal"]
Loss = Literal["cross_entropy", "squared_error"]

_DESCRIPTIONS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "None",
}


def is_valid(value: Any, declared: Any) -> bool:
    """Whether a configuration value is of its declared type. Nothing is converted."""
    if get_origin(declared) in (Union, UnionType):
        return any(is_valid(value, member) for member in get_args(declared))
    if declared in (bool, str):  # pydantic would take "yes" for True
        return isinstance(value, declared)
    try:
        _adapter(declared).validate_python(value)
    except ValidationError:
        return False
    return True


def choices(declared: Any) -> list[Any]:
    """The values that the Literals within a type allow; empty if there is no Literal."""
    if get_origin(declared) is Literal:
        return list(get_args(declared))
    if get_origin(declared) in (Union, UnionType):
        members = [choices(member) for member in get_args(declared)]
        return [value for member in members for value in member]
    return []


def description(declared: Any) -> str:
    """What a value of a type has to be, in words that follow "expected"."""
    if get_origin(declared) is Annotated:
        fields = [one for one in get_args(declared)[1:] if isinstance(one, FieldInfo)]
        return next((field.description for field in fields if field.description), "another value")
    if get_origin(declared) is Literal:
        return "one of " + ", ".join(map(str, get_args(declared)))
    if get_origin(declared) in (Union, UnionType):
        return " or ".join(description(member) for member in get_args(declared))
    return _DESCRIPTIONS.get(declared, f"a {getattr(declared, '__name__', declared)}")


@cache
def _adapter(declared: Any) -> TypeAdapter[Any]:
    return TypeAdapter(declared)
