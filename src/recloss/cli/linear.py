"""Train iALS or EASE on one data set; write metrics.json, history.csv, per_user.npz."""

import argparse
import json
import sys
import time

from recloss.cli import gpus, options
from recloss.experiment import flags, shortage
from recloss.experiment.schema import LINEAR, linear_schema


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `recloss linear`."""
    parser.add_argument("model", choices=list(linear_schema()))
    options.add_split(parser)
    options.add_run(parser)
    flags.add_setting_flags(parser, LINEAR)


def run(arguments: argparse.Namespace) -> None:
    """Fit, evaluate, record."""
    a = arguments
    settings = flags.settings_from_flags(a, a.model)

    from recloss.data.arrays import load_split
    from recloss.engine.device import peak_memory_mb, use_threads
    from recloss.experiment import record
    from recloss.experiment.code import code_hash
    from recloss.files import atomic
    from recloss.models import linear

    use_threads(a.threads)
    split, manifest = load_split(a.data), json.loads(a.manifest.read_text("utf-8"))
    gpus.take(a.device)
    device = linear.device_for(a.model, a.device, split.train.n_items)
    started = time.monotonic()
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    with shortage.said(manifest, a.model, settings, device.type):
        fitted = linear.fit(a.model, split, settings, a.seed, device, say)
        trained = time.monotonic()
        users, values, recommended, history = linear.evaluate(fitted, split, device)
    code = code_hash(__name__, (LINEAR, a.model))
    identity = record.identity(manifest, LINEAR, a.model, a.variant, a.seed, settings, code)
    metrics = record.metrics_of(
        identity,
        values,
        recommended,
        device.type,
        best_epoch=len(history),
        epochs=len(history),
        train_seconds=trained - started,
        eval_seconds=time.monotonic() - trained,
        peak_memory_mb=peak_memory_mb(device),
        threads=a.threads,
    )
    vectors = [table.cpu().numpy() for table in fitted.factors or ()]
    if not vectors:  # the workflow's rule has the same files for whatever model
        with atomic(a.out / "vectors.npz") as temporary:
            temporary.touch()
    record.write_run(a.out, metrics, history, users, values, vectors)
