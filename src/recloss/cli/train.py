"""Train one loss on one data set with one seed.

Writes metrics.json, history.csv, per_user.npz and vectors.npz. Every setting is a flag.
"""

import argparse
import hashlib
import json
from pathlib import Path

from recloss.cli import options, training
from recloss.experiment import flags, shortage
from recloss.experiment.schema import BACKBONE, backbone_names, loss_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss train`."""
    options.add_split(parser)
    parser.add_argument("--loss", required=True, choices=loss_names(), help="the loss")
    parser.add_argument(
        "--backbone", choices=backbone_names(), default=BACKBONE, help="what the loss trains"
    )
    options.add_run(parser)
    parser.add_argument(
        "--truth", type=Path, help="truth.npz of `recloss simulate`, for the prior's rule truth"
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="file to resume from and to keep up to date"
    )
    parser.add_argument(
        "--at-end",
        choices=["removed", "kept"],
        default="removed",
        help="what becomes of the checkpoint; kept, the same run ends at once when called again",
    )
    flags.add_setting_flags(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train, evaluate, record."""
    settings = flags.settings_from_flags(arguments, arguments.loss, arguments.backbone)

    # More than a second, which help and faults of the flags need not wait for.
    from recloss.data.arrays import load_split, read_truth
    from recloss.engine.device import peak_memory_mb
    from recloss.experiment import record
    from recloss.experiment.code import code_hash
    from recloss.train import Trainer

    device = training.device_for(arguments, settings["deterministic"])
    manifest = json.loads(arguments.manifest.read_text("utf-8"))
    label = f"{manifest['dataset']} {arguments.backbone} {arguments.loss} {arguments.variant} "
    label += f"seed{arguments.seed}"
    say = training.speaker(label)
    identity = record.identity(
        manifest,
        arguments.backbone,
        arguments.loss,
        arguments.variant,
        arguments.seed,
        settings,
        code_hash(__name__, (arguments.backbone, arguments.loss)),
    )
    with shortage.said(manifest, arguments.loss, settings, device.type, arguments.backbone):
        trainer = Trainer(
            load_split(arguments.data),
            arguments.loss,
            settings,
            arguments.seed,
            device,
            say=say,
            truth=arguments.truth and read_truth(arguments.truth, manifest["n_items"]).mean(1),
            backbone=arguments.backbone,
        )
        text = json.dumps([identity, device.type], sort_keys=True)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        with training.stopping(trainer.stop, say):
            trainer.run(arguments.checkpoint, fingerprint)
        users, values = trainer.evaluate(on_test=True)
        recommended = trainer.ranking(on_test=True).recommended(trainer.split.train.item_counts())
    p = trainer.progress
    metrics = record.metrics_of(
        identity,
        values,
        recommended,
        device.type,
        best_epoch=p.best_epoch,
        epochs=p.epoch,
        train_seconds=p.train_seconds,
        eval_seconds=p.eval_seconds,
        peak_memory_mb=peak_memory_mb(device),
        threads=arguments.threads,
    )
    vectors = [table.detach().cpu().numpy() for table in trainer.model()]
    record.write_run(arguments.out, metrics, p.history, users, values, vectors)
    if arguments.checkpoint is not None and arguments.at_end == "removed":
        arguments.checkpoint.unlink(missing_ok=True)
