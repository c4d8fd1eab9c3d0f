"""Functions of a module, called with other tensors in place of its own."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


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


def run_with(module: nn.Module, tensors: dict[str, Tensor], function: Callable, data: Any) -> Any:
    """function(module, data) with these parameters and buffers in the module."""
    substitutes = {f"module.{name}": value for name, value in tensors.items()}
    return functional_call(_Call(module), substitutes, (function, data))
