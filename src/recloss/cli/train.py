"""Train one loss on one data set with one seed.

Writes metrics.json, history.csv, per_user.npz and vectors.npz. Every setting is a flag.
"""

import argparse
import contextlib
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

from recloss.cli import gpus, options
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

    import torch  # more than a second, which help and faults of the flags need not wait for

    from recloss.checkpoint import Stopped
    from recloss.data.arrays import load_split, read_truth
    from recloss.engine.device import keep_memory, peak_memory_mb, pick_device, use_threads
    from recloss.experiment import record
    from recloss.experiment.code import code_hash
    from recloss.train import Trainer

    use_threads(arguments.threads)
    keep_memory()
    gpus.take(arguments.device)
    device = pick_device(arguments.device)
    if settings["deterministic"]:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS refuses
        torch.use_deterministic_algorithms(True)
    manifest = json.loads(arguments.manifest.read_text("utf-8"))
    label = f"{manifest['dataset']} {arguments.backbone} {arguments.loss} {arguments.variant} "
    label += f"seed{arguments.seed}"

    def say(line: str) -> None:
        with contextlib.suppress(OSError):  # who reads it may be gone, by the signal that ends this
            print(f"[{label}] {line}", file=sys.stderr, flush=True)

    identity = record.identity(
        manifest,
        arguments.backbone,
        arguments.loss,
        arguments.variant,
        arguments.seed,
        settings,
        code_hash(__name__),
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
        before = signal.signal(signal.SIGTERM, lambda *_: trainer.stop())
        try:
            trainer.run(arguments.checkpoint, fingerprint)
        except Stopped as end:
            say(str(end))
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)  # to end by it, as whoever sent it expects
        signal.signal(signal.SIGTERM, before)
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
