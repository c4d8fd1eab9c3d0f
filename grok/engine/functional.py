"""Functions of a module, called with other tensors in place of its own, and for all replicas."""

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call, vmap

from grok.tensors import Tensors

# torch warns, in several lines, of operators that it calls for one replica after the other.
CALLED_ONE_BY_ONE = "There is a performance drop because we have not yet implemented the batching"


class _Call(nn.Module):
    """A module whose forward is any function of the given module: what functional_call takes."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, function: Callable, data: Any) -> Any:
        return function(self.module, data)


def running_statistics(module: nn.Module) -> list[str]:
    """The names of the buffers that training changes: the statistics of batch normalization."""
    return [
        f"{path}.{name}".lstrip(".")
        for path, part in module.named_modules()
        if isinstance(part, nn.modules.batchnorm._NormBase)
        for name, _ in part.named_buffers(recurse=False)
    ]


def learned(module: nn.Module) -> Tensors:
    """What a run learns of a module, by name: parameters, and the statistics of batch normalization."""
    state = module.state_dict()
    names = [*(name for name, _ in module.named_parameters()), *running_statistics(module)]
    return {name: state[name] for name in names}


def run_with(module: nn.Module, tensors: dict[str, Tensor], function: Callable, data: Any) -> Any:
    """function(module, data) with these parameters and buffers in the module."""
    substitutes = {f"module.{name}": value for name, value in tensors.items()}
    return functional_call(_Call(module), substitutes, (function, data))


def for_all(function: Callable[[dict, dict], dict]) -> Callable[[dict, dict], dict]:
    """`function` of a replica's state and shared data, for all replicas at once."""
    mapped = vmap(function, in_dims=(0, None))

    def quiet(state: dict, shared: dict) -> dict:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", CALLED_ONE_BY_ONE, UserWarning)
            return mapped(state, shared)

    return quiet
