"""A run mirrored to Weights & Biases beside the store: config, metrics, summary, pictures.

W&B is talked to from a thread of the run's own. Slow, absent or failing, it never holds up the
training or changes it; the user is told once, and the store has everything.
"""

import atexit
import contextlib
import os
import queue
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from sacred import cli_option
from sacred.observers.base import RunObserver
from sacred.run import Run

from grok.paths import home
from grok.wandb_servers import CLOUD, ENDPOINT_NAME, HEALTH_PATH

GREETING_TIMEOUT = 2.0
JOIN_TIMEOUT = 15.0  # seconds that a run's end waits for W&B; an agent kills after 30
PICTURES = (".png", ".jpg", ".jpeg", ".gif")
STEP = "step"  # at W&B the x axis of metrics that are known only at the end of a run


@dataclass(frozen=True)
class Identity:
    """Who a run is at W&B. sweep is None outside of sweeps."""

    run: str
    project: str
    sweep: str | None


def identity_of_environment(asked: bool) -> Identity | None:
    """What a W&B agent has set (WANDB_RUN_ID, WANDB_SWEEP_ID), or a fresh one if `asked` for."""
    run, sweep = os.environ.get("WANDB_RUN_ID"), os.environ.get("WANDB_SWEEP_ID")
    if not (run or sweep or asked):
        return None
    project = os.environ.get("WANDB_PROJECT") or "grok"
    return Identity(run or uuid.uuid4().hex[:8], project, sweep)


@cli_option("-W", "--wandb", is_flag=True)
def wandb_option(args: object, run: Run) -> None:
    """Mirror the run to Weights & Biases."""  # Experiment does, and also where an agent asks for it


class Mirror(RunObserver):
    """The Sacred observer that mirrors a run to W&B.

    Arguments:
        identity: id, project and sweep of the run at W&B.
        store: where the run is recorded, in words.
        tags: of the run at W&B.
    """

    def __init__(self, identity: Identity, store: str, tags: list[str]):
        self.identity, self.store, self.tags = identity, store, tags
        self.tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name="wandb", daemon=True)
        self.run: Any = None  # W&B's, made in the thread
        self.step = 0  # that W&B has reached, used in the thread
        self.label = ""
        self.result: dict[str, Any] = {}
        self.has_warned = False
        self.has_failed = False

    def link(self) -> dict[str, str]:
        """What the store keeps of the run's identity at W&B."""
        return {key: value for key, value in asdict(self.identity).items() if value}

    def started_event(
        self,
        ex_info: dict[str, Any],
        command: str,
        host_info: dict[str, Any],
        start_time: Any,
        config: dict[str, Any],
        meta_info: dict[str, Any],
        _id: Any,
    ) -> Any:
        sacred = {"run": _id, "store": self.store, "experiment": ex_info["name"]}
        self.label = f"run {_id}"
        name, notes = f"{ex_info['name']}-{_id}", meta_info.get("comment")
        self.tasks.put(lambda: self._begin(name, notes, {**config, "sacred": sacred}))
        self.thread.start()
        return _id

    def heartbeat_event(
        self, info: dict[str, Any], captured_out: str, beat_time: Any, result: Any
    ) -> None:
        self.result = result or self.result

    def log_metrics(self, metrics_by_name: dict[str, Any], info: dict[str, Any]) -> None:
        self._put(lambda: self._log(metrics_by_name))

    def artifact_event(
        self, name: str, filename: str, metadata: Any = None, content_type: str | None = None
    ) -> None:
        if Path(name).suffix in PICTURES:
            picture = Path(filename).read_bytes()
            self._put(lambda: self._show(name, picture))

    def completed_event(self, stop_time: Any, result: Any) -> None:
        self._end("COMPLETED", 0)

    def interrupted_event(self, interrupt_time: Any, status: str) -> None:
        self._end(status, 143)

    def failed_event(self, fail_time: Any, fail_trace: Any) -> None:
        self._end("FAILED", 1)

    def join(self) -> None:
        """Wait a little for W&B; what is not there by then stays in the store alone."""
        if not self.thread.is_alive():
            return
        self.thread.join(JOIN_TIMEOUT)
        if self.thread.is_alive():
            atexit.register(_abandon_service)
            self._warn("is slow; it may lack the last of this run, the store has all of it")

    def _put(self, task: Callable[[], object]) -> None:
        """Have the thread do something, unless it has ended: nobody would read the queue."""
        if not self.has_failed:
            self.tasks.put(task)

    # -- in the thread ---------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while (task := self.tasks.get()) is not None:
                task()
        except Exception as error:
            self.has_failed = True
            self.tasks = queue.SimpleQueue()  # what waits there may be large
            first = str(error).strip().splitlines()
            self._warn(f"fails ({first[0] if first else type(error).__name__}); the run goes on")

    def _begin(self, name: str, notes: str | None, config: dict) -> None:
        import wandb  # a third of a second, for those who asked for it

        settings = wandb.Settings(
            silent=True, console="off", save_code=False, disable_git=True, x_disable_stats=True
        )
        self.run = wandb.init(
            id=self.identity.run,
            project=self.identity.project,
            group=self.identity.sweep,
            name=name,
            notes=notes,
            tags=self.tags,
            config=config,
            mode=mode(),
            dir=os.environ.get("WANDB_DIR") or home(),
            reinit="create_new",  # several runs of one process, side by side
            settings=settings,
        )
        atexit.unregister(_end_service)
        atexit.register(_end_service)

    def _log(self, metrics_by_name: dict[str, Any]) -> None:
        """Log metrics by step.

        W&B ignores values of earlier steps than its last one. Metrics that have such values, as those
        that are known only at the end of a run, are logged in further rows, with STEP beside them.
        """
        in_order: dict[int, dict[str, float]] = {}
        late: dict[int, dict[str, float]] = {}
        for name, new in metrics_by_name.items():
            is_late = min(new["steps"], default=self.step) < self.step
            if is_late:
                self.run.define_metric(STEP, hidden=True, summary="none")
                self.run.define_metric(name, step_metric=STEP)
            rows = late if is_late else in_order
            for step, value in zip(new["steps"], new["values"], strict=True):
                rows.setdefault(step, {})[name] = float(value)
        for step in sorted(in_order):
            self.step = step
            self.run.log(in_order[step], step=step)
        for step in sorted(late):
            self.step += 1
            self.run.log({**late[step], STEP: step}, step=self.step)

    def _show(self, name: str, picture: bytes) -> None:
        import io

        import PIL.Image
        import wandb

        image = wandb.Image(PIL.Image.open(io.BytesIO(picture)))
        self.run.log({Path(name).stem: image}, step=self.step)  # without it W&B begins another step

    def _end(self, status: str, exit_code: int) -> None:
        summary = {"status": status, **{k: v for k, v in self.result.items() if v is not None}}
        self.tasks.put(lambda: self.run.summary.update(summary))
        self.tasks.put(lambda: self.run.finish(exit_code=exit_code))
        self.tasks.put(None)

    def _warn(self, what: str) -> None:
        if not self.has_warned:
            print(f"{self.label}: W&B {what}", file=sys.stderr)
        self.has_warned = True


Mode = Literal["online", "offline", "disabled", "shared"]


def mode() -> Mode:
    """W&B's mode: WANDB_MODE, else offline without an account or at our own endpoint, else online."""
    if os.environ.get("WANDB_MODE"):
        return cast(Mode, os.environ["WANDB_MODE"])
    import requests

    url = os.environ.get("WANDB_BASE_URL") or CLOUD
    has_account = bool(os.environ.get("WANDB_API_KEY") or requests.utils.get_netrc_auth(url))
    return "online" if has_account and not is_our_endpoint(url) else "offline"


def is_our_endpoint(url: str) -> bool:
    """Whether `grok sweep serve` answers at the URL; it drives sweeps but keeps no W&B runs."""
    if url == CLOUD:
        return False
    import requests

    key = os.environ.get("WANDB_API_KEY")
    try:
        reply = requests.get(
            url.rstrip("/") + HEALTH_PATH,
            auth=("api", key) if key else None,  # None: that of ~/.netrc
            timeout=GREETING_TIMEOUT,
        )
        return reply.text.startswith(ENDPOINT_NAME)
    except requests.RequestException:
        return False


def _end_service() -> None:
    """End W&B's own process, as W&B does at exit, but without a traceback if it was killed before.

    Slurm kills it together with the agent. Runs that were not finished are marked as failed.
    """
    import wandb

    with contextlib.suppress(ConnectionError, EOFError, KeyboardInterrupt):
        wandb.teardown(exit_code=1)


def _abandon_service() -> None:
    """End W&B's own process, which would hold up the exit of ours while it tries again."""
    import psutil  # takes a fifth of a second

    for child in psutil.Process().children():
        if child.name().startswith("wandb-core"):
            child.kill()
