"""What a run of Thilak et al. 2022 looks at, beside loss and accuracy."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import grad

from grok.engine.functional import run_with
from grok.engine.problem import Problem
from grok.measures import slingshots
from grok.measures.vectors import flat
from grok.objectives.classification import ClassificationMetrics
from grok.tensors import Tensors


@dataclass(frozen=True)
class SlingshotMetrics:
    """Loss, accuracies, and of the last update: how features moved, the curvature along it.

    classifier: name of the last layer; the rest is the representation. Reads data["previous"], the
    weights before the last update, and the initial ones as data["initial/NAME"].
    """

    classification: ClassificationMetrics
    classifier: str

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        now = dict(model.named_parameters())
        before = data["previous"]
        initial = {name: data[f"initial/{name}"] for name in now}
        features, logits = self.seen(model, data)
        old_features, old_logits = run_with(model, before, self.seen, data)
        labels = data["train_labels"]
        slope = grad(lambda z: self.classification.loss.from_logits(z, labels))(logits)
        result = {
            **self.classification(model, data),
            "classifier_norm": now[f"{self.classifier}.weight"].norm(),
            "representation_change": slingshots.relative_change(features, old_features),
            "logit_change": slingshots.relative_change(logits, old_logits),
            "update_sharpness": self.sharpness(model, data, before, now),
            "absorbed": slingshots.absorbed(logits, labels),
            "zero_sum_defect": slingshots.zero_sum_defect(slope),
        }
        last = [name for name in now if name.startswith(self.classifier)]
        rest = [name for name in now if name not in last]
        for part, names in (("classifier", last), ("representation", rest)):
            ends = ({name: tensors[name] for name in names} for tensors in (now, initial))
            result[f"{part}_distance"] = slingshots.distance(*ends)
        return result

    def seen(self, model: nn.Module, data: Tensors) -> tuple[Tensor, Tensor]:
        """What goes into the classifier (N, D), and the logits (N, 1, C), on the train rows."""
        inputs: list[Tensor] = []
        hook = model.get_submodule(self.classifier).register_forward_pre_hook(
            lambda module, given: inputs.append(given[0])
        )
        try:
            logits = self.classification.loss.logits(model, data, "train", False)
        finally:
            hook.remove()
        return inputs[0], logits

    def sharpness(self, model: nn.Module, data: Tensors, before: Tensors, now: Tensors) -> Tensor:
        """u^T H u / |u|^2 of the last update u, H the loss's Hessian before it; 0 at the start."""

        def objective(params: Tensors) -> Tensor:
            return run_with(model, params, self.classification.loss, data)

        u = flat(now) - flat(before)
        # twice in reverse: the forward derivative of a gathered table writes into expanded tensors
        curved = grad(lambda params: flat(grad(objective)(params)) @ u)(before)
        return u @ flat(curved) / (u @ u).clamp(min=torch.finfo(u.dtype).tiny)


def with_slingshots(problem: Problem) -> Problem:
    """The problem, looked at for slingshots; its last linear layer is the classifier."""
    module = problem.module
    layers = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    initial = {f"initial/{name}": p.detach().clone() for name, p in module.named_parameters()}
    metrics = SlingshotMetrics(problem.metrics, layers[-1])
    return replace(
        problem, metrics=metrics, needs_previous_params=True, data={**problem.data, **initial}
    )
