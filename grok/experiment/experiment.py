"""A paper as one Sacred experiment: its configuration, and a `build` that makes the problem."""

import functools
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path, PurePath
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import sacred
from docopt import DocoptExit
from sacred.config.config_scope import ConfigScope
from sacred.dependencies import gather_sources_and_dependencies
from sacred.observers.base import RunObserver
from sacred.run import Run
from sacred.utils import ensure_wellformed_argv

from grok.engine.events import Event
from grok.engine.instruments import BY_NAME, GROUPS
from grok.engine.measure import EVALUATION, Measure, Option
from grok.engine.observation import OwnInstrument, own_measure
from grok.engine.problem import Problem
from grok.engine.train import train
from grok.errors import UserError, check_names, did_you_mean, writing
from grok.experiment import (
    advice,
    command_line,
    config_files,
    metrics_file,
    reads,
    validation,
    warm_start,
)
from grok.experiment.config_types import (
    BelowOne,
    Count,
    FixedNorm,
    Interventions,
    MeasureOptions,
    NonNegative,
    Positive,
    RunId,
    Seed,
    Texts,
)
from grok.experiment.environment import state_of
from grok.experiment.execution import Execution, Finish, Summarize
from grok.experiment.initial_weights import with_weights_of
from grok.experiment.metrics_file import metrics_file_option
from grok.experiment.parts import with_engine_options
from grok.experiment.progress import live_option, mode, none_option, silent_option
from grok.experiment.resume import ResumePoint
from grok.experiment.sacred_setup import stack_of_sacred
from grok.experiment.show import show_result
from grok.experiment.validation import ConfigError, TypedConfigScope
from grok.experiment.wandb_mirror import Identity, identity_of_environment, wandb_option
from grok.experiment.warm_start import ParentRun
from grok.interrupts import exit_code, raise_on_signals
from grok.paths import INSTALLED, PROJECT, experiment_names, project_of
from grok.store import connection
from grok.store.connection import Store
from grok.store.observer import check_recorded, observer_of, store_and_observer

# Sacred warns when a key goes from None to a number; here its type is checked. It also warns of the
# argument of `save_config`.
NEEDLESS_WARNINGS = ("Changed type of config", "Added new config entry")
logging.getLogger().addFilter(lambda record: not str(record.msg).startswith(NEEDLESS_WARNINGS))
MAIN = "main"
DEFAULT_CONFIG_FILE = "config.json"
COMMANDS_WITH_SOURCES = (None, MAIN, "print_dependencies")  # None: Sacred's default, main
# Configuration keys that may differ between a run and a named config that it was run with.
KEYS_OF_ANY_VALUE = (
    "seed",
    "device",
    "preset",
    "checkpoint_every",
    "measures",
    "measure_options",
    "snapshot_every",
    "fused",
    "reference_run",
)
Config = SimpleNamespace  # a run's configuration, as papers read it: c.p, c.lr
Connect = Callable[[], Store]
Draw = Callable[
    [Any], Any
]  # a function from runs, `grok.claims.model.Runs`, to a figure of matplotlib


@dataclass(frozen=True)
class OwnFigure:
    """A figure that a paper draws from the runs of a sweep file."""

    draw: Draw
    sweep: str


class Experiment(sacred.Experiment):
    """One paper's experiment. It holds no state of any run.

    Decorate with `build` the function that turns a configuration into a Problem. Optional are
    `summarize` (further entries of the result) and `warm_start` (what a problem takes from its
    `initial_run`; its final weights otherwise).

    Arguments:
        name: of the experiment, and of its file.
        threshold: the accuracy that counts as reached.
        delay: the number of steps between train and test accuracy from which a run counts as
            grokking (Liu et al. 2022, table 1).
    """

    path: str  # its name

    def __init__(self, name: str, threshold: float, delay: int):
        caller = sys._getframe(1)
        with stack_of_sacred(caller):
            super().__init__(
                name,
                interactive=True,
                base_dir=str(_folder_of(caller.f_globals)),
                save_git_info=False,
                additional_cli_options=[
                    wandb_option,
                    live_option,
                    silent_option,
                    none_option,
                    metrics_file_option,
                ],
            )
        self.script = caller.f_globals
        self.doc = self.script.get("__doc__") or ""
        self.threshold, self.delay = threshold, delay
        self.types: dict[str, Any] = {"seed": Seed}
        self.build_function: Callable[[Config], Problem] | None = None
        self.summarize_function: Summarize = lambda config, problem, recorder: {}
        self.warm_start_function = warm_start.load_parent_weights
        self.finish_functions: list[Finish] = []
        self.instruments: dict[str, Measure] = {}
        self.read_rules: list[reads.ReadRule] = []
        self.claims: Sequence[Any] = ()  # set by grok.claims.Claims
        self.figures: dict[str, OwnFigure] = {}
        self.exits_on_error = False
        self._has_sources = False
        self._experiment_info: dict[str, Any] | None = None
        self.config(engine_options)
        self.main(main)
        self.command(save_config, unobserved=True)

    # -- what a paper declares -------------------------------------------------------------------

    def config(self, function: Callable[[], None]) -> ConfigScope:
        """Decorator: the configuration, one annotated variable with a comment for each key."""
        scope = TypedConfigScope(function)
        self.types |= scope.types
        self.configurations.append(scope)
        return scope

    def preset(self, name: str, sentence: str, values: Mapping[str, Any] | None = None) -> None:
        """Declare a named config; `sentence` says what it shows (`print_named_configs`)."""
        self.add_named_config(name, dict(values or {}))
        self.named_configs[name].__doc__ = sentence

    def read_if(
        self, *keys: str, either: Sequence[Mapping[str, Any]] = (), **conditions: Any
    ) -> None:
        """Declare that keys are read only where other keys have these values (`reads.ReadRule`).

        Arguments:
            either: further conditions, of which one has to hold.
        """
        alternatives = tuple({**conditions, **one} for one in either or ({},))
        self.read_rules.append(reads.ReadRule(keys, alternatives))

    def build(self, function: Callable[[Config], Problem]) -> Callable[[Config], Problem]:
        """Decorator: the function that turns a configuration into a Problem."""
        self.build_function = function
        return function

    def summarize(self, function: Summarize) -> Summarize:
        """Decorator: the function that adds this paper's own entries to the result."""
        self.summarize_function = function
        return function

    def warm_start(self, function: Callable) -> Callable:
        """Decorator: the function (config, problem, parent run) -> problem of a run with `initial_run`."""
        self.warm_start_function = function
        return function

    def on_finish(self, function: Finish) -> Finish:
        """Add a function (config, result, series) -> further entries of a run's info at its end."""
        self.finish_functions.append(function)
        return function

    def instrument(
        self, description: str, when: str = EVALUATION, **options: Option
    ) -> Callable[[OwnInstrument], OwnInstrument]:
        """Decorator: an instrument of the paper's own, with the function's name.

        The function gets an `Observation`, whose tensors are copies, and the values of the options;
        it returns numbers by name. They are logged as INSTRUMENT/NAME.

        Arguments:
            description: what it measures, in a few words.
            when: "evaluation", "snapshot" or "burst", see `grok.engine.measure.Measure`.
            options: with their defaults; a run sets them by `measure_options`. `every`, and `burst`
                in bursts, replace the defaults of the schedule and do not reach the function.

        Raises:
            TypeError: the name is that of an instrument or a group, `when` is not one of the three, an
                option cannot be one, or the function does not take the options.
        """

        def add(function: OwnInstrument) -> OwnInstrument:
            name = function.__name__
            if name in BY_NAME or name in self.instruments:
                raise TypeError(f"there is an instrument {name} already")
            if name in GROUPS:
                raise TypeError(f"there is a group of instruments {name} already")
            self.instruments[name] = own_measure(name, description, when, function, options)
            return function

        return add

    def figure(self, sweep: str | None = None) -> Callable[[Draw], Draw]:
        """Decorator: a function from runs to a figure of matplotlib, with the function's name.

        It gets the finished runs of a sweep, the latest of its file, as claims do
        (`grok.claims.model.Runs`). `grok papers NAME --figures` and `grok report` draw it.

        Arguments:
            sweep: name of the sweep file; EXPERIMENT_cpu if None.
        """

        def add(function: Draw) -> Draw:
            name = function.__name__
            if name in self.figures:
                raise TypeError(f"there is a figure {name} already")
            self.figures[name] = OwnFigure(function, sweep or f"{self.path}_cpu")
            return function

        return add

    # -- configurations and problems -------------------------------------------------------------

    def defaults(self) -> dict[str, Any]:
        """The configuration without updates or named configs, and without a seed."""
        values: dict[str, Any] = {}
        for scope in self.configurations:
            values.update(scope(preset=values))
        return values

    def full_config(
        self, updates: Mapping[str, Any], named_configs: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The full, checked configuration, seed included; UserError if it is wrong."""
        return dict(self._configured_run("print_config", updates, named_configs).config)

    def default_seed(self, named_configs: Sequence[str]) -> int:
        """The seed that the last of these named configs with one fixes, else 0."""
        seeds = [self.named_configs[name]().get("seed") for name in named_configs]
        return next((seed for seed in reversed(seeds) if seed is not None), 0)

    def matching_named_configs(self, config: Mapping[str, Any]) -> frozenset[str]:
        """The named configs that a run's configuration agrees with in every key.

        KEYS_OF_ANY_VALUE may differ. A key that was added after the run had its default.
        """
        defaults = self.defaults()
        known = {**defaults, **config}
        matching = set()
        for name, values in self.named_configs.items():
            wanted = {**defaults, **values()}
            if all(
                _as_stored(known[key]) == _as_stored(value)
                for key, value in wanted.items()
                if key not in KEYS_OF_ANY_VALUE
            ):
                matching.add(name)
        return frozenset(matching)

    def problem_of(
        self,
        config: Mapping[str, Any],
        connect: Connect = connection.connect,
        named_runs: Mapping[str, int | str] = {},
    ) -> Problem:
        """The problem of a full configuration.

        Arguments:
            config: every key, seed included.
            connect: gives the store, if the configuration refers to another run.
            named_runs: ids of the runs that `initial_run` and `reference_run` name, where they are
                not those of the configuration.

        Raises:
            ConfigError: it cannot be run.
            UserError: a run or a file that it refers to is not there or does not fit.
        """
        validation.check_values(config, self.types)
        c = Config(**config)
        reference = None
        reference_run = named_runs.get("reference_run", c.reference_run)
        if reference_run is not None:
            reference = connection.final_weights(connect(), reference_run)
        if c.initial_weights is not None and c.initial_run is not None:
            expected = f"None with initial_run={c.initial_run}: a run starts from one of them"
            raise ConfigError("initial_weights", c.initial_weights, expected)
        if self.build_function is None:
            raise TypeError(f"the experiment {self.path} has no build function")
        own = tuple(self.instruments.values())
        built = self.build_function(c)
        if not isinstance(built, Problem):
            kind = type(built).__name__
            raise TypeError(f"{self.path}: the build function returned {kind}; expected a Problem")
        problem = with_engine_options(built, c, self.threshold, reference, own)
        problem = replace(problem, reference_run=reference_run)
        advice.warn_of_coupled_decay(problem.optimizer)
        advice.warn_of_large_batch(problem)
        advice.warn_of_late_measures(problem)
        if c.initial_weights is not None:
            return with_weights_of(problem, c.initial_weights)
        if c.initial_run is None:
            return problem
        parent = self._parent_run(c, connect(), named_runs.get("initial_run"))
        return replace(self.warm_start_function(c, problem, parent), parent_run=parent.number)

    def _parent_run(self, c: Config, store: Store, number: int | str | None) -> ParentRun:
        """The run that `initial_run` names: by id, or the latest finished run of a named config."""
        named = c.initial_run
        if number is not None or not isinstance(named, str):
            return ParentRun(store, named if number is None else number)
        check_names([named], self.named_configs, f"named config of {self.path}")
        return warm_start.latest_run(store, self.path, named, c.seed, self.matching_named_configs)

    # -- runs ------------------------------------------------------------------------------------

    def execution(
        self,
        problem: Problem,
        events: Callable[[Problem], Iterable[Event]],
        resume_point: ResumePoint | None = None,
        shows_progress: bool = False,
    ) -> Execution:
        """One run of a ready problem, on the events of its training."""
        return Execution(
            self.path,
            self.threshold,
            self.delay,
            problem,
            events,
            self.summarize_function,
            self.finish_functions,
            resume_point,
            shows_progress,
        )

    def prepare_run(
        self,
        execution: Execution,
        store: Store,
        updates: Mapping[str, Any],
        named_configs: Sequence[str] = (),
        meta: Mapping[str, Any] | None = None,
        wandb: Identity | None = None,
        capture: Literal["sys", "no"] = "no",
        admit: Callable[[], object] = lambda: None,
    ) -> Run:
        """A Sacred run that executes a ready problem when it is called.

        Arguments:
            updates: of the configuration that the problem was made from.
            named_configs: of that configuration.
            meta: further entries of the run's `meta`.
            wandb: the W&B run that mirrors it.
            capture: whether the process's output is kept with the run ("sys"), which only a run
                that is alone in its process can do.
            admit: is called before it begins; it raises LeaseLost if it must not.
        """
        run = self._configured_run(MAIN, updates, named_configs, meta)
        run.capture_mode = capture
        execution.attach(run, store, observer_of(store, admit=admit), wandb)
        return run

    def _create_run(
        self,
        command_name: str | None = None,
        config_updates: dict[str, Any] | None = None,
        named_configs: Sequence[str] = (),
        info: dict[str, Any] | None = None,
        meta_info: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> Run:
        """Sacred's hook: everything is checked, and the store reached, before anything starts."""
        options = options or {}
        command_line.check_options(options)
        run = self._configured_run(
            command_name, config_updates or {}, named_configs, meta_info, options, info
        )
        if run.meta_info["command"] == MAIN:
            # Sacred's "fd" would hide the terminal from the progress bar.
            run.capture_mode = options.get("--capture") or "sys"
            self._prepare_command_line_run(run, options, config_updates or {}, named_configs)
        return run

    def _prepare_command_line_run(
        self,
        run: Run,
        options: Mapping[str, Any],
        updates: Mapping[str, Any],
        named_configs: Sequence[str],
    ) -> None:
        @functools.cache
        def target() -> tuple[Store, RunObserver]:
            return store_and_observer(options.get("--mongo_db"))

        problem = self.problem_of(run.config, lambda: target()[0])
        self.check_read(updates, named_configs, run.config, problem)
        name = options.get("--metrics-file")
        path = Path(name) if name else None
        if path is not None:
            metrics_file.check_name(path)
        if folder := options.get("--file_storage"):  # Sacred makes it when the run has begun
            with writing(Path(folder)):
                os.makedirs(folder, exist_ok=True)
        execution = self.execution(problem, train_alone, shows_progress=True)
        execution = replace(execution, metrics_file=path)
        if run.unobserved:
            execution.attach(run)
        else:
            identity = identity_of_environment(bool(options.get("--wandb")))
            if identity is not None and identity.sweep is not None:
                advice.warn_of_crowded_cores()
            execution.attach(run, *target(), identity)

    def check_read(
        self,
        updates: Mapping[str, Any],
        named_configs: Sequence[str],
        config: Mapping[str, Any],
        problem: Problem,
    ) -> None:
        """ConfigError if an update changes a key that the run of this config does not read."""
        updates = self._checked_updates(updates)
        values, names = self._resolved({"preset": updates.get("preset")}, named_configs)
        before = self.defaults()
        for name in names:
            before |= self.named_configs[name]()
        reads.check(updates, before | values, self.read_rules, config, problem)

    def _configured_run(
        self,
        command_name: str | None,
        updates: Mapping[str, Any],
        named_configs: Sequence[str] = (),
        meta: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> Run:
        """Sacred's run with a checked configuration, which is not recorded anywhere yet."""
        updates, named_configs = self._resolved(updates, named_configs, command_name)
        if command_name in COMMANDS_WITH_SOURCES:
            self._gather_sources()
        # The run's store is ours, not Sacred's.
        options = {**(options or {}), "--mongo_db": None}
        options["--loglevel"] = options.get("--loglevel") or "WARNING"
        try:
            run = super()._create_run(command_name, updates, named_configs, info, meta, options)
        except RuntimeError as error:  # Sacred's, for --enforce_clean
            raise UserError(" ".join(str(error).split())) from error
        if not options.get("--beat-interval"):
            run.beat_interval = 1.0  # a SIGKILL costs at most one second of metrics
        return run

    def _resolved(
        self,
        updates: Mapping[str, Any],
        named_configs: Sequence[str],
        command_name: str | None = None,
    ) -> tuple[dict[str, Any], list[str]]:
        """Checked updates and named configs, where each config file has become updates.

        As in Sacred, updates take precedence, and of named configs and files the later one.
        """
        updates = self._checked_updates(updates, command_name)
        names: list[str] = []
        values: dict[str, Any] = {}
        presets = [updates["preset"]] if updates.get("preset") else []
        for name in [*named_configs, *presets]:
            content: dict[str, Any] = {}
            if name not in self.named_configs and config_files.is_file_name(name):
                content = self._checked_updates(config_files.load(name))
                name = content.get("preset")
            if name is not None:
                known = f"named config of {self.path}"
                check_names([name], self.named_configs, known)
                names.append(name)
                for key in self.named_configs[name]():
                    values.pop(key, None)
            values |= content
        return values | updates, names

    def _checked_updates(
        self, updates: Mapping[str, Any], command_name: str | None = None
    ) -> dict[str, Any]:
        """The updates under the keys and with the values that they stand for; UserError if wrong."""
        types = self.types
        if command_name == "save_config":
            types = {**types, "config_filename": str}
            config_files.check_name(str(updates.get("config_filename", DEFAULT_CONFIG_FILE)))
        known = {*self.defaults(), *types}
        updates = validation.canonical_names(updates, known)
        validation.check_keys(updates, known, f"config key of {self.path}")
        updates = validation.canonical_values(updates, types)
        validation.check_values(updates, types)
        return updates

    # -- the command line ------------------------------------------------------------------------

    def run_as_script(self) -> None:
        """Run the command line; bad input is one line and exit code 2, an interrupt 130 or 143."""
        raise_on_signals()
        run = self.run_commandline()
        is_shown = mode() in ("normal", "live")
        if is_shown and run is not None and run.meta_info["command"] == MAIN:
            show_result(run)

    def run_commandline(self, argv: str | Sequence[str] | None = None) -> Run | None:
        """Sacred's; what the user can correct is one line and exit code 2."""
        words = ensure_wellformed_argv(argv)
        commands = dict(self.gather_commands())
        self.exits_on_error = True
        try:
            command_line.check(words, commands, self.named_configs, self.all_cli_options)
            return super().run_commandline(words)
        except UserError as error:
            problem = error
        except DocoptExit as error:
            problem = command_line.explain(error, words)
        finally:
            self.exits_on_error = False
        sys.exit(_explain(problem, None))

    def run(self, *args: Any, **kwargs: Any) -> Run:
        """Sacred's; on the command line, expected errors end the process here, before Sacred's traceback."""
        try:
            run = super().run(*args, **kwargs)
            check_recorded(run)
            return run
        except (UserError, KeyboardInterrupt) as error:
            if not self.exits_on_error:
                raise
            sys.exit(_explain(error, self.current_run))

    def _gather_sources(self) -> None:
        """Set the experiment's sources: the paper's own file and what it imports, with commits.

        It is done once, and only for a command that needs it. Sacred would ask git about every file
        instead of every repository.
        """
        if self._has_sources:
            return
        self.mainfile, self.sources, self.dependencies = gather_sources_and_dependencies(
            self.script, save_git_info=False, base_dir=self.base_dir
        )
        state = functools.cache(_state_of_repository)
        for source in {*self.sources, self.mainfile} - {None}:
            if Path(source.filename).is_relative_to(INSTALLED):
                continue  # a repository around the environment is not theirs
            for folder in Path(source.filename).parents:
                if (folder / ".git").exists():
                    source.repo, source.commit, source.is_dirty = state(folder)
                    break
        self._has_sources = True

    def get_experiment_info(self) -> dict[str, Any]:
        """Sacred's description of the sources; once they are gathered it stays the same."""
        if not self._has_sources:
            return super().get_experiment_info()
        if self._experiment_info is None:
            self._experiment_info = super().get_experiment_info()
        return dict(self._experiment_info)


def engine_options() -> None:
    preset: str | None = None  # a named config; lets a sweep choose among them
    checkpoint_every: Count | None = None  # steps between checkpoints, for `grok resume RUN`
    record_trajectory: bool = False  # whether to keep the weights at logged steps
    trajectory_every: Count = 1  # logged steps between two kept states of the weights
    measures: str | Texts = []  # instruments, by name or group, or "full" for all but complexity
    measure_options: MeasureOptions | None = None  # of instruments: measure_options.hessian.every=5
    snapshot_every: Count = 10  # logged steps between two evaluations of a costly instrument
    stop_when_hopeless: bool = False  # end a run predicted not to grok, after 10 % of its steps
    fused: bool = True  # one call of compiled C++ makes many steps, where the network allows it
    reference_run: RunId | None = None  # id of a run whose final weights are the reference point
    initial_run: RunId | str | None = None  # run to start from: its id, or a named config
    initial_weights: str | None = None  # file of weights to start from, in the format safetensors
    grokfast: Literal["ema", "window"] | None = None  # amplify slow gradients (Lee et al. 2024)
    grokfast_gain: NonNegative = 2.0  # factor of the slow part of the gradient
    grokfast_alpha: BelowOne = 0.98  # decay of the moving average, for grokfast="ema"
    grokfast_window: Count = 100  # steps that are averaged, for grokfast="window"
    muon_parameters: Texts = []  # names, or their beginnings, for optimizer=muon; []: hidden matrices
    muon_lr: NonNegative | None = None  # learning rate of these; None for 0.02
    muon_momentum: BelowOne | None = None  # decay rate of their momentum; None for 0.95
    muon_weight_decay: NonNegative | None = None  # of these; None for weight_decay
    orthogonal_gradient: bool = False  # drop the part along the weights (Prieto et al. 2025)
    stablemax: bool = False  # StableMax in place of the softmax (Prieto et al. 2025)
    fixed_norm: FixedNorm = False  # norm of the weights after each step; True: the initial norm
    temperature: Positive | None = None  # divisor of the logits, in the loss and in the metrics
    interventions: Interventions = []  # changes at a step, or when a metric is at a value


def load_module(program: Path) -> ModuleType:
    """The module of an experiment's file; UserError if it cannot be one."""
    if not os.path.exists(program):
        raise UserError(f"program {program}: no such file")
    spec = spec_from_file_location(program.stem, program)
    if not program.is_file() or program.suffix != ".py" or spec is None or spec.loader is None:
        raise UserError(f"program {program}: not a Python file")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    if not isinstance(getattr(module, "ex", None), Experiment):
        raise UserError(f"program {program} defines no experiment (`ex = Experiment(...)`)")
    return module


def load(program: Path) -> Experiment:
    """The experiment that a file defines as `ex`; UserError if there is none."""
    return load_module(program).ex


def load_registered(program: object) -> Experiment:
    """The experiment of this project that data names by its file, such as "experiments/power.py".

    Sweep files, requests and stored runs name their program so, or by its absolute path, which
    agents can run from any folder. They may come from anywhere, so nothing but the files in the
    project's folder `experiments` is loaded for them.

    Raises:
        UserError: the program is not one of these files, or leads out of the folder; it is not opened.
    """
    names = experiment_names()
    if isinstance(program, str):
        program = program.removeprefix(f"{PROJECT}/")
    if not isinstance(program, str) or program not in {f"experiments/{name}.py" for name in names}:
        name = PurePath(program).stem if isinstance(program, str) else ""
        hint = did_you_mean(name, names) or "; expected experiments/NAME.py"
        raise UserError(f"program {program!s:.200}: no experiment of this project{hint}")
    path = PROJECT / program
    if path.resolve() != path.parent.resolve() / path.name:
        raise UserError(f"program {program}: a link that leads elsewhere")
    return load(path)


def train_alone(problem: Problem) -> Iterable[Event]:
    """The events of training a single problem."""
    return train([problem])


def save_config(_config: Mapping[str, Any], config_filename: str = DEFAULT_CONFIG_FILE) -> None:
    """Write the configuration to config_filename, a .json or .yaml file, for `with FILE`."""
    config = {key: value for key, value in _config.items() if key != "config_filename"}
    config_files.save(config, config_filename)
    print(config_filename)


def main(measure_options: MeasureOptions | None) -> None:
    """Sacred needs a main function; every run is given its own by `Execution.attach`.

    Of a key that is an argument of it, Sacred accepts entries that the default does not have.
    """


def _folder_of(script: Mapping[str, Any]) -> Path:
    """The project of a script, by its globals; without a file, or elsewhere, the present one."""
    file = script.get("__file__")
    return (file and project_of(Path(file).resolve().parent)) or PROJECT


def _state_of_repository(folder: Path) -> tuple[str | None, str | None, bool | None]:
    """Where a repository comes from, its commit and whether code differs; None where git fails."""
    try:
        return state_of(folder)
    except (OSError, ValueError, subprocess.CalledProcessError):
        command = shlex.join(["git", "-C", str(folder), "log", "-1"])
        print(f"warning: no commit is recorded; `{command}` says why", file=sys.stderr)
        return None, None, None


def _as_stored(value: Any) -> Any:
    """A configuration value as the store gives it back: a tuple is a list."""
    return list(value) if isinstance(value, tuple) else value


def _explain(error: BaseException, run: Run | None) -> int:
    """Print one line on stderr and return the exit code: 2 for bad input, 130 or 143 for signals."""
    if isinstance(error, UserError):
        error.show()
        return error.exit_code
    assert isinstance(error, KeyboardInterrupt)
    number = f" {run._id}" if run is not None and run._id is not None else ""
    print(f"run{number} interrupted; what it logged is kept", file=sys.stderr)
    return exit_code(error)
