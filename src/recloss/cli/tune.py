"""Try settings of one loss or linear model on one data set, judged on validation alone.

Writes trials.csv, a row an evaluation of every trial, and study.json, the best settings and what
they were picked from. A call that was killed goes on after its last finished trial.
"""

import argparse
import hashlib
import json
import math
from pathlib import Path

from recloss.cli import options, training
from recloss.experiment import shortage
from recloss.experiment.schema import BACKBONE, LINEAR, backbone_names, linear_schema, loss_names
from recloss.files import ReclossError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss tune`."""
    options.add_split(parser)
    parser.add_argument("--model", required=True, choices=[*loss_names(), *linear_schema()])
    parser.add_argument("--backbone", choices=[*backbone_names(), LINEAR], default=BACKBONE)
    options.add_run(parser)
    parser.add_argument("--settings", required=True, help="all settings, untuned, as JSON")
    parser.add_argument("--over", required=True, help="settings to try, as tune.over, as JSON")
    parser.add_argument("--trials", type=int, help="trials at most (default as the budget allows)")
    parser.add_argument("--epochs", type=int, help="the budget: epochs of all trials of a loss")
    parser.add_argument("--batch-size", type=int, default=1, help="pairs of a step of the budget")
    parser.add_argument("--min-epochs", type=int, default=1, help="first epoch of the halving")
    parser.add_argument("--reduction-factor", type=int, default=3, help="one in so many goes on")
    parser.add_argument("--truth", type=Path, help="truth.npz, for the prior's rule truth")


def run(arguments: argparse.Namespace) -> None:
    """Try, record."""
    a = arguments
    settings, over = json.loads(a.settings), json.loads(a.over)

    from recloss import study
    from recloss.data.arrays import load_split, read_truth
    from recloss.experiment import record, tuning
    from recloss.experiment.code import code_hash
    from recloss.experiment.runs import ASKED
    from recloss.models import linear

    manifest = json.loads(a.manifest.read_text("utf-8"))
    if manifest["protocol"] != "heldout":
        raise ReclossError(f"{a.manifest}: of protocol {manifest['protocol']}; tune on heldout")
    say = training.speaker(f"{manifest['dataset']} {a.backbone} {a.model} tune")
    device = training.device_for(a, settings.get("deterministic", False))
    train = {"device": device}
    if a.backbone == LINEAR:
        train["device"] = linear.device_for(a.model, a.device, manifest["n_items"])
    else:
        train["backbone"] = a.backbone
        train["truth"] = a.truth and read_truth(a.truth, manifest["n_items"]).mean(1)
    steps = math.ceil(manifest["n_train"] / a.batch_size) * a.epochs if a.epochs else math.inf
    budget = study.Budget(a.trials, steps, a.min_epochs, a.reduction_factor)
    code = code_hash(__name__, (a.backbone, a.model))
    identity = record.identity(manifest, a.backbone, a.model, "tune", a.seed, settings, code)
    # The budget is not in it: a larger one goes on with the trials of a smaller.
    halving = [a.min_epochs, a.reduction_factor]
    text = json.dumps([identity, over, halving, train["device"].type], sort_keys=True)
    journal = a.out / "journal.log"
    a.out.mkdir(parents=True, exist_ok=True)
    with shortage.said(manifest, a.model, settings, train["device"].type, a.backbone):
        tried = study.Study(
            load_split(a.data), a.model, settings, over, budget, a.seed, say, **train
        )
        with training.stopping(tried.stop, say):
            trials = tried.run(journal, hashlib.sha256(text.encode()).hexdigest())
    identity |= {"over": over, "asked": {name: getattr(a, name) for name in ASKED}}
    found = tuning.summary(identity, trials, tried.metric, steps)
    tuning.write(a.out, found | record.environment(train["device"].type), trials)
    journal.unlink(missing_ok=True)
