"""A study: the trials of one model on one data set, in one process, within a number of steps.

Optuna chooses what to try (TPE; Bergstra et al., NeurIPS 2011) and which trial to end early
(asynchronous successive halving; Li et al., arXiv 1810.05934), both by validation alone. The first
trial is of the untuned settings. Nothing depends on time or on what else runs: a study that was
killed takes up its finished trials from its journal and ends as it would have.
"""

import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from recloss import seeds
from recloss.checkpoint import Stopped
from recloss.data.interactions import Split
from recloss.engine.ranking import means, on_validation
from recloss.experiment.schema import LINEAR, backbone_of, model_schema
from recloss.files import ReclossError, atomic
from recloss.models import linear
from recloss.train import Trainer

LINEAR_METRIC = "recall@20"  # by which the settings of a linear model are picked
STARTUP = 3  # trials before TPE has enough to go by, of few
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Budget:
    """How much a study may do: trials, None for no limit, and training steps.

    No trial begins when so many steps are done; the last goes on to its end, or else the best one
    might be cut off. min_epochs, reduction_factor: of the successive halving.
    """

    trials: int | None
    steps: int
    min_epochs: int = 1
    reduction_factor: int = 3


@dataclass
class Trial:
    """One trial, numbered from 1: its settings that were to be chosen, and what came of it.

    outcome: `completed`, `stopped` early, or `diverged`; curve: a row of history an evaluation.
    """

    number: int
    chosen: dict[str, Any]
    outcome: str
    steps: int
    seconds: float
    curve: list[dict[str, Any]] = field(default_factory=list)

    def best(self, metric: str) -> float:
        """Return the best value of a metric on its curve; -inf of a trial without one."""
        return max((row[metric] for row in self.curve), default=-math.inf)


def space(
    model: str, backbone: str, settings: dict[str, Any], over: dict[str, Any]
) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of each setting in `over`, the value in `settings` included.

    Values of a list are choices by their JSON text, since Optuna knows no dicts.
    """
    nodes, found = model_schema(model, backbone), {}
    for key, values in over.items():
        own = settings[key]
        if isinstance(values, list):
            values = values if own in values else [own, *values]
            found[key] = CategoricalDistribution([json.dumps(value) for value in values])
        else:
            kind = IntDistribution if nodes[key]["type"] == "integer" else FloatDistribution
            low, high = min(own, values["low"]), max(own, values["high"])
            # A logarithmic scale has no 0, where the untuned value may lie.
            found[key] = kind(low, high, log=values.get("log", False) and low > 0)
    return found


def chosen(params: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return settings from Optuna's parameters, numbers of ranges with three digits."""
    found = {}
    for key, value in params.items():
        if isinstance(over[key], list):
            found[key] = json.loads(value)
        else:
            found[key] = value if isinstance(value, int) else float(f"{value:.3g}")
    return found


def points(settings: dict[str, Any], over: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Return Optuna's parameters to try first: untuned; then, of lists alone, all, shuffled."""
    first = {key: settings[key] for key in over}
    if not all(isinstance(values, list) for values in over.values()):
        tried = [first]
    else:
        grid = [dict(zip(over, point, strict=True)) for point in itertools.product(*over.values())]
        others = [point for point in grid if point != first]
        order = seeds.generator(seed, "tune").permutation(len(others))
        tried = [first, *(others[index] for index in order)]
    return [
        {key: json.dumps(v) if isinstance(over[key], list) else v for key, v in point.items()}
        for point in tried
    ]


class Study:
    """The trials of a loss or linear model; `run` adds to them until the budget is used up.

    split: with a validation set; settings: untuned; name: of all that the result depends on;
    train: what a trial's training needs besides (device, truth, backbone of `Trainer`).
    """

    def __init__(
        self,
        split: Split,
        model: str,
        settings: dict[str, Any],
        over: dict[str, Any],
        budget: Budget,
        seed: int,
        say: Callable[[str], None] = lambda line: None,
        **train: Any,
    ) -> None:
        self.split, self.model, self.settings, self.over = split, model, settings, over
        self.budget, self.seed, self.say, self.train = budget, seed, say, train
        self.linear = backbone_of(model) == LINEAR
        self.metric = LINEAR_METRIC if self.linear else settings["monitor"]
        backbone = LINEAR if self.linear else train.get("backbone", "mf")
        self.space = space(model, backbone, settings, over)
        self.points = points(settings, over, seed)
        ranged = any(isinstance(values, dict) for values in over.values())
        self.most = math.inf if ranged else len(self.points)
        if budget.trials is not None:
            self.most = min(self.most, budget.trials)
        self.trainer: Trainer | None = None  # of the trial at work
        self.told_to_stop = False

    def stop(self) -> None:
        """Have `run` end by `Stopped`, soon; the trial at work, if it has long to go, is lost."""
        self.told_to_stop = True
        if self.trainer is not None:
            self.trainer.stop()

    def run(self, journal: Path, name: str) -> list[Trial]:
        """Return all trials; those that a journal of the same `name` has are not trained again."""
        study = self._opened(journal, name)
        done = [_read(trial) for trial in study.trials]
        while len(done) < self.most and sum(t.steps for t in done) < self.budget.steps:
            done.append(self._next(study, done))
            if self.told_to_stop:
                raise Stopped(len(done), "trial")
        return done

    def _opened(self, journal: Path, name: str) -> optuna.Study:
        """Return the study of a journal, with its finished trials if it is of this name."""
        kept = []
        if journal.exists():
            try:
                found = optuna.load_study(study_name=name, storage=_storage(journal))
                kept = found.get_trials(states=FINISHED)
                self.say(f"resumed after {len(kept)} trials")
            except Exception as error:  # cut short, of other settings, data or code
                self.say(f"{journal} is of another study ({type(error).__name__}); starting anew")
        with atomic(journal) as temporary:
            new = optuna.create_study(
                study_name=name, storage=_storage(temporary), direction="maximize"
            )
            new.add_trials(kept)
        halving = optuna.pruners.SuccessiveHalvingPruner(
            self.budget.min_epochs, self.budget.reduction_factor
        )
        return optuna.load_study(study_name=name, storage=_storage(journal), pruner=halving)

    def _next(self, study: optuna.Study, done: list[Trial]) -> Trial:
        """Do the next trial and note it in the study."""
        number = len(done) + 1
        # A sampler of its own for each trial: what it draws depends on the finished ones alone.
        study.sampler = optuna.samplers.TPESampler(
            seed=seeds.derive(self.seed, "tune", number) % 2**32, n_startup_trials=STARTUP
        )
        if number <= len(self.points):
            study.enqueue_trial(self.points[number - 1])
        asked = study.ask(self.space)
        started = time.monotonic()
        what = chosen(asked.params, self.over)
        trial = Trial(number, what, "completed", 0, 0.0)
        shown = ", ".join(f"{key} {value}" for key, value in what.items())
        self.say(f"trial {number}: {shown}")
        fit = self._fit if self.linear else self._train
        fit(trial, asked)
        trial.seconds = round(time.monotonic() - started, 3)
        asked.set_user_attr("trial", vars(trial))
        best = trial.best(self.metric)
        if trial.outcome == "completed":
            study.tell(asked, best)
        else:
            study.tell(asked, state=TrialState.PRUNED)
        self.say(f"trial {number}: {trial.outcome}, {self.metric} {best:.4f}")
        return trial

    def _train(self, trial: Trial, asked: optuna.Trial) -> None:
        """Train a loss to its end, or until it is among the worse."""
        self.trainer = None  # and its tables, before there are others
        settings = self.settings | trial.chosen
        trainer = Trainer(self.split, self.model, settings, self.seed, say=self.say, **self.train)
        self.trainer = trainer
        if self.told_to_stop:  # meanwhile
            trainer.stop()

        def enough(row: dict[str, Any]) -> bool:
            asked.report(row[self.metric], row["epoch"])
            worse = row["epoch"] < settings["max_epochs"] and asked.should_prune()
            if worse:
                trial.outcome = "stopped"
            return worse

        try:
            trainer.run(enough=enough)
        except Stopped:
            raise Stopped(trial.number - 1, "trial") from None
        except ReclossError as error:
            trial.outcome = "diverged"
            self.say(f"trial {trial.number}: {error}")
        trial.curve = trainer.progress.history
        trial.steps = trainer.progress.epoch * trainer.steps

    def _fit(self, trial: Trial, asked: optuna.Trial) -> None:
        """Fit a linear model."""
        settings, device = self.settings | trial.chosen, self.train["device"]
        fitted = linear.fit(self.model, self.split, settings, self.seed, device, self.say)
        values = means(on_validation(self.split, device).per_user(fitted.scores)[1])
        trial.curve = [fitted.history[-1] | values]


def _storage(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))


def _read(trial: optuna.trial.FrozenTrial) -> Trial:
    return Trial(**trial.user_attrs["trial"])
