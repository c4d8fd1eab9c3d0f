"""A paper as one Sacred experiment: configuration, a `build` that makes the problem, a stored run."""

import copy
import inspect
import logging
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sacred
from sacred.dependencies import gather_sources_and_dependencies
from sacred.run import Run

from grok.claims import model as claims
from grok.claims.model import Check, Claim, Runs
from grok.engine.events import Record, Saved
from grok.engine.problem import Problem
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment import resume as checkpoints
from grok.experiment import validation as checks
from grok.experiment import warm_start as lineage
from grok.experiment.environment import environment
from grok.experiment.parts import with_engine_options
from grok.experiment.progress import RunProgress, live_option, mode, none_option, silent_option
from grok.experiment.recording import Recorder, record_run
from grok.experiment.resume import Past
from grok.experiment.show import show_result
from grok.experiment.wandb_mirror import Identity, Mirror, identity_of_environment, wandb_option
from grok.experiment.warm_start import Ancestor
from grok.interrupts import exit_code, raise_on_signals
from grok.paths import PROJECT
from grok.store import connection as stores

# Sacred warns when a key goes from None to a number; here its type is checked
logging.getLogger().addFilter(
    lambda record: not str(record.msg).startswith("Changed type of config")
)
MAIN = "main"
FREE = (  # config keys that do not make a run another one
    "seed", "device", "preset", "checkpoint_every", "measures", "snapshot_every", "reference_run",
)  # fmt: skip


def load(program: Path) -> "Paper":
    """The paper that a program file defines as `ex`; UserError if there is none."""
    if not program.exists():
        raise UserError(f"program {program}: no such file")
    if not program.is_file() or program.suffix != ".py":
        raise UserError(f"program {program}: not a Python file")
    spec = spec_from_file_location(program.stem, program)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    if not isinstance(getattr(module, "ex", None), Paper):
        raise UserError(f"program {program} defines no paper (`ex = Paper(...)`)")
    return module.ex


class Paper(sacred.Experiment):
    """One paper's experiment.

    threshold, delay: the accuracy that counts as reached, and the steps between train and test
    from which a run is grokking. choices: allowed values of this paper's own config keys.
    Decorate one function with `build`: config -> Problem, and, if wanted, one with `summarize`:
    (config, problem, recorder) -> further entries of the run's result, and one with `inherit`:
    (config, problem, ancestor) -> the problem with what it has from its initial_run, its final
    weights else.
    """

    def __init__(self, name: str, threshold: float, delay: int, choices: dict | None = None):
        super().__init__(
            name,
            interactive=True,
            base_dir=str(PROJECT),
            save_git_info=False,
            additional_cli_options=[wandb_option, live_option, silent_option, none_option],
        )
        self._adopt_file(inspect.currentframe().f_back.f_globals)
        self.threshold, self.delay, self.choices = threshold, delay, choices or {}
        self.build_function: Callable[[SimpleNamespace], Problem] | None = None
        self.summary_function = lambda config, problem, recorder: {}
        self.inherit_function = lineage.go_on
        self.claims: list[Claim] = []
        self.store: stores.Store | None = None
        self.events = train_alone
        self.problem: Problem | None = None
        self.past: Past | None = None  # of a run that goes on
        self.wandb: Identity | None = None  # given, or looked for in the environment if alone
        self.is_script = False
        self.is_alone = True  # in its process: shows its own progress
        self.capture_mode = "sys"  # Sacred's "fd" would hide the terminal from the progress bar
        self.config(engine_options)
        self._add_main()

    def _add_main(self) -> None:
        @self.main
        def main(_run):
            return self._main(_run)

    def build(self, function: Callable) -> Callable:
        """Decorator: the function that turns a configuration into a Problem."""
        self.build_function = function
        return function

    def summarize(self, function: Callable) -> Callable:
        """Decorator: the function that adds this paper's own numbers to the result."""
        self.summary_function = function
        return function

    def inherit(self, function: Callable) -> Callable:
        """Decorator: the function that gives a problem what it has from its initial_run."""
        self.inherit_function = function
        return function

    def add_named_configs(self, configs: Mapping[str, Mapping[str, Any]]) -> None:
        """Several named configs, by name."""
        for name, values in configs.items():
            self.add_named_config(name, dict(values))

    def claim(
        self, id: str, says: str, check: Check | None = None, *, sweep: str | None = None, **how
    ) -> Callable[[Check], Check]:
        """One claim of the paper; a decorator of the function that checks it, if `check` is not given.

        check: runs -> (passed, measured numbers). sweep: the sweep file whose runs it is checked on,
        PAPER_cpu if None. how: as in Claim.
        """

        def add(check: Check) -> Check:
            self.claims.append(Claim(id, says, check, sweep or f"{self.path}_cpu", **how))
            return check

        return add if check is None else add(check)

    def recipes_of(self, config: Mapping[str, Any]) -> frozenset[str]:
        """The named configs whose values a run's config has, and the defaults else; FREE may be any.
        A key that is younger than the run had its default."""
        defaults, found = self.defaults(), set()
        known = {**defaults, **config}
        for name, values in self.named_configs.items():
            wanted = {k: v for k, v in {**defaults, **values()}.items() if k not in FREE}
            if all(_plain(known[key]) == _plain(value) for key, value in wanted.items()):
                found.add(name)
        return frozenset(found)

    def evidence(self, config: Mapping, result: Mapping, series: Mapping) -> claims.Run:
        """One run, as its claims see it."""
        return claims.Run(config, result, series, self.recipes_of(config))

    def defaults(self) -> dict[str, Any]:
        """The configuration without updates or named configs (no seed)."""
        values: dict[str, Any] = {}
        for scope in self.configurations:
            values.update(scope(preset=values))
        return values

    def problem_of(self, config: dict[str, Any]) -> Problem:
        """The problem of a full configuration; ConfigError if it cannot be run."""
        checks.check_values(config, self.defaults(), self.choices)
        c = SimpleNamespace(**config)
        reference = None
        if c.reference_run is not None:
            self.store = self.store or stores.connect()
            reference = stores.final_weights(self.store, c.reference_run)
        problem = with_engine_options(self.build_function(c), c, reference)
        return problem if c.initial_run is None else self.descended(problem, c)

    def descended(self, problem: Problem, c: SimpleNamespace) -> Problem:
        """The problem with what it has from the run that `initial_run` names: an id, or a named config,
        then the latest finished run with it and this seed. UserError if there is none that fits."""
        self.store = self.store or stores.connect()
        named = c.initial_run
        if self.past is not None:  # the very run that it came from
            named = self.past.run["info"].get("initial_run", named)
        if isinstance(named, str):
            checks.check_names([named], self.named_configs, f"named config of {self.path}")
            ancestor = lineage.latest(self.store, self.path, named, c.seed, self.recipes_of)
        else:
            ancestor = Ancestor(self.store, named)
        return replace(self.inherit_function(c, problem, ancestor), parent_run=ancestor.number)

    def config_of(self, updates: dict[str, Any], named_configs: Sequence[str] = ()) -> dict:
        """The full, checked configuration, seed included; UserError if it is wrong."""
        return dict(self._create_run("print_config", updates, named_configs).config)

    def fresh(
        self,
        problem: Problem,
        events: Callable[[Problem], Iterable],
        wandb: Identity | None = None,
        past: Past | None = None,
    ) -> "Paper":
        """A copy that will run a ready problem, quietly, on events from elsewhere.

        Sacred binds an experiment to its current run, so runs side by side need one copy each.
        """
        twin = copy.copy(self)
        twin.commands, twin.captured_functions, twin.observers = OrderedDict(), [], []
        twin._add_main()
        twin.problem, twin.events, twin.wandb, twin.past = problem, events, wandb, past
        twin.is_alone, twin.capture_mode = False, "no"
        return twin

    # -- Sacred's hooks --------------------------------------------------------------------------

    def _create_run(
        self,
        command_name=None,
        config_updates=None,
        named_configs=(),
        info=None,
        meta_info=None,
        options=None,
    ) -> Run:
        """Sacred's, with the configuration checked and the store reached before anything starts."""
        options = dict(options or {})
        options["--loglevel"] = options.get("--loglevel") or "WARNING"
        updates = config_updates or {}
        if updates.get("preset"):
            named_configs = (*named_configs, updates["preset"])
        checks.check_names(named_configs, self.named_configs, f"named config of {self.path}")
        known = {*self.defaults(), "seed"}
        checks.check_names(updates, known, f"config key of {self.path}")
        checks.check_values(updates, self.defaults(), self.choices)
        mongo, options["--mongo_db"] = options.get("--mongo_db"), None  # ours below, not Sacred's
        run = super()._create_run(
            command_name, config_updates, named_configs, info, meta_info, options
        )
        if (command_name or self.default_command) == MAIN:
            if self.is_alone:
                self.problem = self.problem_of(run.config)
            run.capture_mode = options.get("--capture") or self.capture_mode
            if not options.get("--beat-interval"):
                run.beat_interval = 1.0  # a SIGKILL costs at most a second of metrics
            run.info["environment"] = environment()
            if self.problem.parent_run is not None:
                run.info["initial_run"] = self.problem.parent_run
            if not run.unobserved:
                self._observe(run, mongo)
                self._mirror(run, bool(options.get("--wandb")), named_configs)
        return run

    def _observe(self, run: Run, mongo: str | None) -> None:
        """Keep the run in the MongoDB of Sacred's `-m` flag, or in the default store."""
        if mongo:
            self.store, observer = stores.observer_of_flag(mongo)
        else:
            self.store = self.store or stores.connect()
            observer = self.store.observer()
        if self.past is not None:
            observer.resumes = self.past.run
        run.observers.append(observer)

    def _mirror(self, run: Run, asked: bool, named_configs: Sequence[str]) -> None:
        """Mirror the run to W&B, if asked for or inside a W&B agent; each then knows the other."""
        identity = identity_of_environment(asked) if self.is_alone else self.wandb
        if identity is not None:
            mirror = Mirror(identity, self.store.describe(), [self.path, *named_configs])
            run.info["wandb"] = mirror.link()
            run.observers.append(mirror)

    def _main(self, run: Run) -> dict[str, Any]:
        config, problem = SimpleNamespace(**run.config), self.problem
        past = self.past
        recorder = Recorder(
            run, problem, self.threshold, self.delay, self._keeper(run), past.seconds if past else 0
        )

        def summarize(recorder: Recorder) -> dict[str, Any]:
            return self.summary_function(config, problem, recorder)

        events = self.events(problem)
        if past is not None:
            events = past.replayed(events)
        if self.is_alone:
            with RunProgress(self.path, problem.train_steps) as progress:
                result = record_run(run, recorder, events, summarize, progress.show)
        else:
            result = record_run(run, recorder, events, summarize)
        alone = Runs([self.evidence(run.config, result, recorder.series)])
        found = [claims.evaluate(claim, alone) for claim in self.claims if not claim.pooled]
        run.info["claims"] = [asdict(finding) for finding in found]
        return result

    def _keeper(self, run: Run) -> Callable[[Saved, list[Record], float], None]:
        """What keeps the run's checkpoints, until it is complete."""
        if run._id is None:
            return lambda *_: None
        path = self.store.checkpoint_path(run._id)
        run.observers.append(checkpoints.Discarder(path))
        return lambda *state: checkpoints.keep(path, run._id, *state)

    # -- the command line ------------------------------------------------------------------------

    def run_as_script(self) -> None:
        """Run the command line; bad input is one line and exit code 2, an interrupt 130 or 143."""
        self.is_script = True
        raise_on_signals()
        run = self.run_commandline()
        shown = mode() in ("normal", "live")
        if shown and run is not None and run.meta_info["command"] == MAIN:
            show_result(run, self.store)

    def run(self, *args, **kwargs) -> Run:
        """Sacred's; as a script, expected errors end the process here, before Sacred's traceback."""
        try:
            return super().run(*args, **kwargs)
        except (UserError, KeyboardInterrupt) as error:
            if not self.is_script:
                raise
            sys.exit(_explain(error, self.current_run))

    def _adopt_file(self, script: dict[str, Any]) -> None:
        """Record the paper's own file, and what it imports, as the experiment's sources."""
        self.doc = script.get("__doc__") or ""
        self.mainfile, self.sources, self.dependencies = gather_sources_and_dependencies(
            script, save_git_info=True, base_dir=self.base_dir
        )


def engine_options():
    preset = None  # a named config, for sweeps over them
    checkpoint_every = None  # updates; a killed run goes on from there: grok resume RUN
    record_trajectory = False  # keep the weights at logged steps
    trajectory_every = 1  # logged steps from one kept state, or picture, to the next
    measures = []  # names or groups, or "full": grok measures
    snapshot_every = 10  # looks from one costly measurement to the next
    reference_run = None  # id of a run whose final weights are the way's end
    initial_run = None  # whose final weights this one starts from: an id, or a named config
    grokfast = None  # amplify slow gradients (Lee et al. 2024): "ema" or "window"
    grokfast_gain = 2.0
    grokfast_alpha = 0.98  # of ema
    grokfast_window = 100  # of window
    orthogonal_gradient = False  # no part along the weights (Prieto et al. 2025)
    stablemax = False  # in place of the softmax (likewise)
    fixed_norm = False  # scale all weights to their initial norm after each update (Omnigrok)


def _plain(value: Any) -> Any:
    """A config value as the store gives it back: a tuple is a list."""
    return list(value) if isinstance(value, tuple) else value


def train_alone(problem: Problem) -> Iterable:
    """Events of a batch of one."""
    return train([problem])


def _explain(error: BaseException, run: Run | None) -> int:
    """Print one line on stderr and return the exit code: 2 for bad input, 130 or 143 for signals."""
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
        return 2
    number = f" {run._id}" if run is not None and run._id is not None else ""
    print(f"run{number} interrupted; what it logged is kept", file=sys.stderr)
    return exit_code(error)
