"""One training run: a loss, a data set, a seed; from split arrays to metrics.

`python -m recloss.train --help` stands on its own: it needs no workflow.
"""

import argparse
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from recloss import config, record, sampling, seeds
from recloss.evaluate import Ranking, dot_scores, means
from recloss.files import ReclossError, atomic, run_cli
from recloss.kernels import keep_memory, use_threads
from recloss.losses import LOSSES, data_arguments, hyper_parameters
from recloss.models import MatrixFactorization
from recloss.optim import Adam
from recloss.scores import sampled_scores
from recloss.split import Split, load_split

CHECK_EVERY = 100  # steps between looks at the loss; on a GPU, which would wait, once an epoch
WARM_UP = 3  # steps before one is captured: they compile kernels and fill the allocator
SAY_EVERY = 15.0  # seconds between lines of progress within an epoch
CHECKPOINT_SHARE = 0.05  # of the running time may go into writing checkpoints


@dataclass
class Progress:
    """How far a run is: all that a resumed run needs besides tables and Adam's moments."""

    epoch: int = 0
    learning_rate: float = 0.0
    best: float = -math.inf
    best_epoch: int = 0
    stale: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def pick_device(name: str) -> torch.device:
    """Return the torch device of `auto`, `cuda`, `mps` or `cpu`."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind, there in available.items() if there), "cpu")
    if not available.get(name, True):
        raise ReclossError(f"device {name} is not available here; use device auto or cpu")
    return torch.device(name)


class Trainer:
    """The state of one run and its steps.

    `settings` are those of `config.schema.yaml` for the loss, all present. Under the protocol
    `published` (an empty validation set) the best epoch is picked on test, else on validation.
    """

    def __init__(
        self,
        split: Split,
        loss: str,
        settings: dict[str, Any],
        seed: int,
        device: torch.device,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.split, self.loss, self.settings = split, loss, settings
        self.seed, self.device, self.say = seed, device, say
        s, train = settings, split.train
        self.steps = math.ceil(len(train) / s["batch_size"])
        self.model = MatrixFactorization(
            train.n_users, train.n_items, s["dim"], s["init"], s["init_std"], seed
        ).to(device)
        self.optimiser = Adam(list(self.model.parameters()), s["learning_rate"], s["clip_norm"])
        self.sampler = sampling.Sampler(
            train,
            s["batch_size"],
            s["negatives"],
            s["negative_exponent"],
            s["exclude_positives"],
            s["extra_positives"] if "extra" in data_arguments(loss) else 0,
            seed,
            device,
        )
        # Few users are in a batch. On CUDA a sparse gradient would wait for the device.
        self.sparse = device.type == "cpu" and not (s["l2"] and s["l2_on"] == "tables")
        self.losses = torch.zeros(self.steps, device=device)  # of the epoch's steps
        self._graph: torch.cuda.CUDAGraph | None = None
        self._ranking: dict[bool, Ranking] = {}
        keyword = {"lambda": "lambda_"}
        self.parameters = {keyword.get(name, name): s[name] for name in hyper_parameters(loss)}
        self.progress = Progress(learning_rate=s["learning_rate"])
        self.best = self._copy_tables()

    def _copy_tables(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def batch_loss(self, size: int) -> Tensor:
        """Return the loss of the current step's `size` pairs with its penalty, as a scalar."""
        s = self.settings
        users, ids = self.sampler.draw(size)
        user_table, item_table = self.model()
        vectors = embedding(users, user_table, sparse=self.sparse)
        dropped, scale = self._dropout(vectors)
        scores = sampled_scores(dropped, item_table, ids, cosine=s["score"] == "cosine")
        scores = scores * (scale / s.get("temperature", 1.0))
        negatives = s["negatives"]
        pos, neg, extra = scores.split([1, negatives, scores.shape[1] - 1 - negatives], dim=1)
        data = {
            "extra": lambda: extra,
            "group": lambda: sampling.groups(users),
            "log_q": lambda: (
                self.sampler.log_q[ids[:, 1 : 1 + negatives]] if s["correct_logq"] else None
            ),
        }
        arguments = {name: data[name]() for name in data_arguments(self.loss)}
        loss = LOSSES[self.loss](pos[:, 0], neg, **arguments, **self.parameters)
        if s["l2"] and s["l2_on"] == "rows":
            looked_up = item_table.square().sum(1)[ids[:, : 1 + negatives]]
            rows = looked_up.sum() + vectors.square().sum()
            loss = loss + s["l2"] / 2 * rows / size
        return loss

    def _dropout(self, vectors: Tensor) -> tuple[Tensor, Tensor | float]:
        """Drop entries of the user vectors (B, D); also return the factor (B, 1) of the scores.

        After normalisation, the dropped vector is no longer of norm 1: cosine scores are taken of
        its direction and multiplied by its norm.
        """
        s = self.settings
        if not s["dropout"]:
            return vectors, 1.0
        key = seeds.derive(self.seed, "dropout")
        keep = sampling.uniform(key, self.sampler.clock, *vectors.shape) >= s["dropout"]
        dropped = vectors * keep / (1 - s["dropout"])
        if s["dropout_position"] == "before" or s["score"] == "dot":
            return dropped, 1.0
        return dropped, dropped.norm(dim=1, keepdim=True) / vectors.norm(dim=1, keepdim=True)

    def step(self, size: int) -> None:
        """Take one Adam step on the next `size` pairs of the epoch and note their loss."""
        s = self.settings
        self.model.zero_grad(set_to_none=True)
        loss = self.batch_loss(size)
        loss.backward()
        if s["l2"] and s["l2_on"] == "tables":
            for table in self.model.parameters():
                table.grad.add_(table.detach(), alpha=s["l2"])
        self.optimiser.step()
        self.losses.index_copy_(0, self.sampler.clock[1:], loss.detach()[None])
        self.sampler.advance()

    def full_step(self, number: int) -> None:
        """Take the step `number` of an epoch, of a whole batch; on CUDA, as a captured graph.

        All that changes from step to step lies in the device's memory, so that the host only says
        "again" and never waits within an epoch.
        """
        size = self.settings["batch_size"]
        if self.device.type != "cuda":
            self.step(size)
        elif self._graph is not None:
            self._graph.replay()
        elif number < WARM_UP:
            # Beside the default stream, as PyTorch asks of steps that prepare a capture.
            side, main = torch.cuda.Stream(), torch.cuda.current_stream()
            side.wait_stream(main)
            with torch.cuda.stream(side):
                self.step(size)
            main.wait_stream(side)
        else:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self.step(size)
            self._graph.replay()

    def epoch(self, epoch: int) -> float:
        """Train one epoch (numbered from 1) and return the mean loss of its pairs."""
        self.optimiser.rate.fill_(self.progress.learning_rate)
        self.sampler.start(epoch)
        n, size = len(self.split.train), self.settings["batch_size"]
        on_host = self.device.type == "cpu"
        said = started = time.monotonic()
        for step in range(self.steps):
            if (step + 1) * size <= n:
                self.full_step(step)
            else:
                self.step(n - step * size)
            if step == 0 and epoch == 1:
                self.say(f"first step done, {self.steps} an epoch")
            if step == self.steps - 1 or (on_host and step % CHECK_EVERY == CHECK_EVERY - 1):
                self._check_finite(self.losses[: step + 1], epoch)
            if on_host and time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                rest = (said - started) / (step + 1) * (self.steps - step - 1)
                self.say(f"epoch {epoch} step {step + 1}/{self.steps}, {duration(rest)} left of it")
        weights = torch.full_like(self.losses, size)
        weights[-1] = n - (self.steps - 1) * size
        return float((self.losses * weights).sum() / n)

    def _check_finite(self, losses: Tensor, epoch: int) -> None:
        bad = ~torch.isfinite(losses)
        if bool(bad.any()):
            step = int(bad.nonzero()[0, 0])
            fault = f"the loss is {float(losses[step])} at epoch {epoch}, step {step}"
        elif not all(bool(torch.isfinite(table).all()) for table in self.model.parameters()):
            fault = f"the vectors are not finite after epoch {epoch}, step {len(losses) - 1}"
        else:
            return
        s = self.settings
        cause = f"the learning rate ({s['learning_rate']}) is too high for this loss"
        if s["score"] == "dot":
            cause = f"inner products grow without bound: use score cosine or l2 above 0; or {cause}"
        elif s.get("temperature", 1.0) < 0.02:
            cause = f"the temperature ({s['temperature']}) is very low; or {cause}"
        raise ReclossError(f"{fault}; likely {cause}")

    def evaluate(self, on_test: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return users (n,) and their metrics on test or validation: `Ranking.per_user`."""
        split = self.split
        if on_test not in self._ranking:
            target = split.test if on_test else split.valid
            masked = [split.train, split.valid] if on_test else [split.train]
            self._ranking[on_test] = Ranking(target, masked, self.device)
        with torch.no_grad():
            users, items = self.model()
            scores = dot_scores(users, items, self.settings["score"] == "cosine")
            return self._ranking[on_test].per_user(scores)

    def run(self, checkpoint: Path | None = None, fingerprint: str = "") -> None:
        """Train to the end, from `checkpoint` if it holds this very run; leave the best tables.

        The checkpoint is written at the end of an epoch, never within one: draws depend only on
        (seed, epoch, step), so that repeating an epoch repeats its numbers.
        """
        s, p = self.settings, self.progress
        if checkpoint is not None and checkpoint.exists():
            p = self._resume(checkpoint, fingerprint)
        on_test = len(self.split.valid.users) == 0
        saved = time.monotonic()
        cost = 0.0
        while p.epoch < s["max_epochs"] and p.stale < s["patience"]:
            started = time.monotonic()
            if s["schedule"] == "cosine":  # Loshchilov & Hutter, arXiv 1608.03983, without restarts
                floor, share = s["min_learning_rate"], p.epoch / s["max_epochs"]
                fall = (1 + math.cos(math.pi * share)) / 2
                p.learning_rate = floor + (s["learning_rate"] - floor) * fall
            p.epoch += 1
            loss = self.epoch(p.epoch)
            trained = time.monotonic()
            p.train_seconds += trained - started
            if p.epoch % s["eval_every"] == 0 or p.epoch == s["max_epochs"]:
                metrics = means(self.evaluate(on_test)[1])
                watched = {}
                if s["watch_test"] and not on_test:
                    watched = {f"test {k}": v for k, v in means(self.evaluate(True)[1]).items()}
                p.eval_seconds += time.monotonic() - trained
                self._after_evaluation(loss, metrics, watched)
            now = time.monotonic()
            if checkpoint is not None and cost <= CHECKPOINT_SHARE * (now - saved):
                self._save(checkpoint, fingerprint)
                saved, cost = time.monotonic(), time.monotonic() - now
        self.model.load_state_dict(self.best)

    def _after_evaluation(
        self, loss: float, metrics: dict[str, float], watched: dict[str, float]
    ) -> None:
        """Note the evaluation, keep the best tables, and act on a plateau.

        `watched` is only noted: nothing is picked by it.
        """
        s, p = self.settings, self.progress
        improved = metrics[s["monitor"]] > p.best
        seconds = p.train_seconds + p.eval_seconds
        p.history.append(
            {"epoch": p.epoch, "train_loss": loss, "learning_rate": p.learning_rate}
            | metrics
            | watched
            | {"seconds": round(seconds, 3)}
        )
        rest = seconds / p.epoch * (s["max_epochs"] - p.epoch)
        self.say(
            f"epoch {p.epoch}/{s['max_epochs']} loss {loss:.4f} {s['monitor']} "
            f"{metrics[s['monitor']]:.4f}{' *' if improved else ''} lr {p.learning_rate:.0e}, "
            f"{duration(seconds / p.epoch)} an epoch, at most {duration(rest)} left"
        )
        if improved:
            p.best, p.best_epoch, p.stale = metrics[s["monitor"]], p.epoch, 0
            self.best = self._copy_tables()
            return
        p.stale += 1
        if s["schedule"] == "plateau":
            p.learning_rate = max(p.learning_rate * s["lr_factor"], s["min_learning_rate"])
            self.model.load_state_dict(self.best)

    def _save(self, checkpoint: Path, fingerprint: str) -> None:
        state = {
            "fingerprint": fingerprint,
            "progress": json.dumps(vars(self.progress)),
            "tables": self.model.state_dict(),
            "best": self.best,
            "optimiser": self.optimiser.state(),
        }
        with atomic(checkpoint) as temporary:
            torch.save(state, temporary)

    def _resume(self, checkpoint: Path, fingerprint: str) -> Progress:
        """Take up the state in `checkpoint`, unless it is damaged or of another run."""
        try:
            state = torch.load(checkpoint, map_location=self.device, weights_only=True)
        except Exception as error:
            self.say(f"{checkpoint} is unreadable ({type(error).__name__}); starting anew")
            return self.progress
        if state["fingerprint"] != fingerprint:
            self.say(f"{checkpoint} is of other settings, data or code; starting anew")
            return self.progress
        self.model.load_state_dict(state["tables"])
        for mine, saved in zip(self.optimiser.state(), state["optimiser"], strict=True):
            mine.copy_(saved)
        self.best = state["best"]
        self.progress = Progress(**json.loads(state["progress"]))
        self.say(f"resumed after epoch {self.progress.epoch}")
        return self.progress


def duration(seconds: float) -> str:
    """Write seconds as a reader says them: 42 s, 7 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def parser() -> argparse.ArgumentParser:
    """Return the command line; every setting is a flag, described by the schema."""
    p = argparse.ArgumentParser(
        prog="python -m recloss.train",
        description="Train one loss on one data set with one seed and write metrics.json, "
        "history.csv, per_user.npz and vectors.npz.",
    )
    p.add_argument("--data", type=Path, required=True, help="split.npz written by recloss.split")
    p.add_argument("--manifest", type=Path, required=True, help="split.json beside it")
    p.add_argument("--loss", required=True, choices=LOSSES, help="the loss")
    p.add_argument("--variant", default="base", help="name of the settings' variant, only recorded")
    p.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")
    p.add_argument("--out", type=Path, required=True, help="folder for the results")
    p.add_argument("--checkpoint", type=Path, help="file to resume from and to keep up to date")
    p.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default all)")
    config.add_setting_flags(p)
    return p


def main() -> None:
    """Train as the command line says."""
    arguments = parser().parse_args()
    settings = config.settings_from_flags(arguments, arguments.loss)
    use_threads(arguments.threads)
    keep_memory()
    device = pick_device(arguments.device)
    if settings["deterministic"]:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS refuses
        torch.use_deterministic_algorithms(True)
    manifest = json.loads(arguments.manifest.read_text())
    label = f"{manifest['dataset']} {arguments.loss} {arguments.variant} seed{arguments.seed}"
    identity = record.identity(
        manifest,
        config.BACKBONE,
        arguments.loss,
        arguments.variant,
        arguments.seed,
        settings,
        record.TRAIN_SOURCES,
    )
    trainer = Trainer(
        load_split(arguments.data),
        arguments.loss,
        settings,
        arguments.seed,
        device,
        say=lambda line: print(f"[{label}] {line}", file=sys.stderr, flush=True),
    )
    text = json.dumps([identity, device.type], sort_keys=True)
    trainer.run(arguments.checkpoint, hashlib.sha256(text.encode()).hexdigest())
    users, values = trainer.evaluate(on_test=True)
    p = trainer.progress
    metrics = record.metrics_of(
        identity,
        values,
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
    if arguments.checkpoint is not None:
        arguments.checkpoint.unlink(missing_ok=True)


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory in MB: of the GPU where one is used, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return record.peak_memory_mb()


if __name__ == "__main__":
    run_cli(main)
