"""One training run: a loss, a data set, a seed; from split arrays to the best tables."""

import functools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from recloss import checkpoint, seeds
from recloss.checkpoint import Stopped
from recloss.data.interactions import Split
from recloss.data.prior import class_prior, row_weights
from recloss.engine import ranking, sampling
from recloss.engine.optim import Adam
from recloss.engine.ranking import Ranking, dot_scores, means, ranks_by_cosine
from recloss.engine.scores import batch_scores, others, same, sampled_scores
from recloss.files import ReclossError
from recloss.losses import FREE, LOSSES, data_arguments, hyper_parameters
from recloss.models.backbones import BACKBONES
from recloss.models.factorization import Batch

CHECK_EVERY = 100  # steps between looks at the loss; on a GPU, which would wait, once an epoch
WARM_UP = 3  # steps before one is captured: they compile kernels and fill the allocator
SAY_EVERY = 15.0  # seconds between lines of progress within an epoch
CHECKPOINT_SHARE = 0.05  # of the running time may go into writing checkpoints
GRACE = 10.0  # seconds for the end of its epoch that a run takes when it is told to stop


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


class Trainer:
    """The state of one run and its steps.

    `settings` are those of experiment/schema.yaml for the loss and the `backbone`, a name in
    models/backbones.py, all present. Under the protocol `published` (an empty validation set) the
    best epoch is picked on test, else on validation.
    """

    def __init__(
        self,
        split: Split,
        loss: str,
        settings: dict[str, Any],
        seed: int,
        device: torch.device,
        say: Callable[[str], None] = lambda line: None,
        truth: np.ndarray | None = None,
        backbone: str = "mf",
    ) -> None:
        self.split, self.loss, self.settings = split, loss, settings
        self.seed, self.device, self.say = seed, device, say
        s, train = settings, split.train
        self.in_batch = s["negatives_from"] == "batch"
        self.steps = math.ceil(len(train) / s["batch_size"])
        # A last batch of one pair has no negative and is left out.
        self.steps -= self.in_batch and len(train) % s["batch_size"] == 1
        self.model = BACKBONES[backbone](train, s, seed, device)
        self.optimiser = Adam(list(self.model.parameters()), s["learning_rate"], s["clip_norm"])
        self.sampler = sampling.Sampler(
            train,
            s["batch_size"],
            0 if self.in_batch else s["negatives"],
            s["negative_exponent"],
            s["exclude_positives"],
            s["extra_positives"] if "extra" in data_arguments(loss) else 0,
            seed,
            device,
            s["pairs"],
        )
        # Few users are in a batch. On CUDA a sparse gradient would wait for the device.
        self.sparse = device.type == "cpu" and not (s["l2"] and s["l2_on"] == "tables")
        self.losses = torch.zeros(self.steps, device=device)  # of the epoch's steps
        self._graph: torch.cuda.CUDAGraph | None = None
        self._ranking: dict[bool, Ranking] = {}
        of_user = {}  # what a row has of its user
        if "prior" in data_arguments(loss):
            of_user["prior"] = class_prior(train, s["prior"], truth)
        if "row_weight" in data_arguments(loss):
            of_user["row_weight"] = row_weights(train, s["estimator"])
        self.of_user = {name: torch.from_numpy(v).to(device) for name, v in of_user.items()}
        keyword = {"lambda": "lambda_"}
        self.parameters = {keyword.get(name, name): s[name] for name in hyper_parameters(loss)}
        self.progress = Progress(learning_rate=s["learning_rate"])
        self.best = self._copy_tables()
        self.told_to_stop = math.inf  # when
        self.kept = 0  # the epoch of the checkpoint

    def _copy_tables(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def batch_loss(self, size: int) -> Tensor:
        """Return the loss of the current step's `size` pairs with its penalty, as a scalar."""
        s = self.settings
        users, ids = self.sampler.draw(size)
        user_table, item_table = self.model(Batch(users, ids, self.sampler.clock))
        vectors = self._rows(users, user_table)
        dropped, scale = self._dropout(vectors)
        factor = scale / s.get("temperature", 1.0)
        pos, neg, extra = self._scores(dropped, item_table, users, ids, factor)
        data = {
            "extra": lambda: extra,
            "group": lambda: sampling.groups(users),
            "log_q": lambda: self._log_q(ids) if s["correct_logq"] else None,
        }
        data |= {
            name: functools.partial(table.index_select, 0, users)
            for name, table in self.of_user.items()
        }
        arguments = {name: data[name]() for name in data_arguments(self.loss)}
        loss = LOSSES[self.loss](pos[:, 0], neg, **arguments, **self.parameters)
        if s["l2"] and s["l2_on"] == "rows":
            of_users, of_items = self.model.penalised(user_table, item_table)
            if self.in_batch:
                looked_up = self._rows(ids[:, 0].long(), of_items).square()
            else:
                looked_up = of_items.square().sum(1)[ids[:, : 1 + s["negatives"]]]
            mine = vectors if of_users is user_table else self._rows(users, of_users)
            rows = looked_up.sum() + mine.square().sum()
            loss = loss + s["l2"] / 2 * rows / size
        return loss

    def _scores(
        self, vectors: Tensor, table: Tensor, users: Tensor, ids: Tensor, factor: Tensor | float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores of positives (B, 1), negatives (B, N) and extra positives (B, M).

        vectors (B, D): those of users (B,) int64; ids: `Sampler.draw`'s; factor: of the scores.
        """
        s, cosine = self.settings, self.settings["score"] == "cosine"
        if not self.in_batch:
            scores = sampled_scores(vectors, table, ids, cosine) * factor
            shape = [1, s["negatives"], scores.shape[1] - 1 - s["negatives"]]
            return scores.split(shape, dim=1)
        items = ids[:, 0].long()
        positives = self._rows(items, table)
        pos, neg = batch_scores(vectors, positives, cosine, factor)
        extra = neg[:, :0]
        if alike := {"user": [users], "item": [items], "both": [users, items]}.get(s["mask_same"]):
            neg = neg.masked_fill(same(*alike), FREE.get(self.loss, -math.inf))
        if ids.shape[1] > 1:
            extra = sampled_scores(vectors, table, ids[:, 1:], cosine) * factor
        return pos, neg, extra

    def _rows(self, ids: Tensor, table: Tensor) -> Tensor:
        """Return rows of a table (n, D), by ids int64; a parameter's gradient may be sparse."""
        # Adam takes a sparse gradient; what a backbone computes its vectors by does not.
        return embedding(ids, table, sparse=self.sparse and table.is_leaf)

    def _log_q(self, ids: Tensor) -> Tensor:
        if not self.in_batch:
            return self.sampler.log_q[ids[:, 1 : 1 + self.settings["negatives"]]]
        return others(self.sampler.log_q[ids[:, 0]].repeat(len(ids), 1))

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
        size = self.settings["batch_size"]
        n = min(len(self.split.train), self.steps * size)
        on_host = self.device.type == "cpu"
        said = started = time.monotonic()
        for step in range(self.steps):
            if time.monotonic() - self.told_to_stop > GRACE:
                raise Stopped(self.kept)
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

    def stop(self) -> None:
        """Have `run` end by `Stopped`, after this epoch if that ends soon."""
        self.told_to_stop = min(self.told_to_stop, time.monotonic())

    def evaluate(self, on_test: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return users (n,) and their metrics on test or validation: `Ranking.per_user`."""
        with torch.no_grad():
            users, items = self.model()
            scores = dot_scores(users, items, ranks_by_cosine(self.settings))
            return self.ranking(on_test).per_user(scores)

    def ranking(self, on_test: bool) -> Ranking:
        """Return the ranking of test or validation, made once."""
        if on_test not in self._ranking:
            make = ranking.on_test if on_test else ranking.on_validation
            self._ranking[on_test] = make(self.split, self.device)
        return self._ranking[on_test]

    def run(
        self,
        path: Path | None = None,
        fingerprint: str = "",
        enough: Callable[[dict[str, Any]], bool] = lambda row: False,
    ) -> None:
        """Train to the end, from the checkpoint `path` if it is this run's; leave the best tables.

        It is written at the end of an epoch, never within one: draws depend only on
        (seed, epoch, step), so that repeating an epoch repeats its numbers. enough: asked with each
        new row of the history whether to end there. Raises `Stopped` where `stop` was called.
        """
        s, p = self.settings, self.progress
        if path is not None and path.exists():
            p = self._resume(path, fingerprint)
        on_test = len(self.split.valid.users) == 0
        saved, cost = time.monotonic(), 0.0
        while p.epoch < s["max_epochs"] and not self._ended():
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
                if enough(p.history[-1]):
                    break
            now = time.monotonic()
            stopping = now > self.told_to_stop
            if path is not None and (stopping or cost <= CHECKPOINT_SHARE * (now - saved)):
                self._save(path, fingerprint)
                saved, cost = time.monotonic(), time.monotonic() - now
            if stopping:
                raise Stopped(self.kept)
        self.model.load_state_dict(self.best)

    def _ended(self) -> bool:
        s, p = self.settings, self.progress
        if s["schedule"] == "reduce":
            return p.learning_rate < s["min_learning_rate"]
        return p.stale >= s["patience"]

    def _after_evaluation(
        self, loss: float, metrics: dict[str, float], watched: dict[str, float]
    ) -> None:
        """Note the evaluation, keep the best tables, and act on a plateau.

        `watched` is only noted: nothing is picked by it.
        """
        s, p = self.settings, self.progress
        improved = metrics[s["monitor"]] > p.best
        seconds = p.train_seconds + p.eval_seconds
        row = {"epoch": p.epoch, "train_loss": loss, "learning_rate": p.learning_rate}
        p.history.append(row | metrics | watched | {"seconds": round(seconds, 3)})
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
        if s["schedule"] == "reduce" and p.stale >= s["patience"]:
            p.learning_rate *= s["lr_factor"]
            p.stale = 0
        elif s["schedule"] == "plateau":
            p.learning_rate = max(p.learning_rate * s["lr_factor"], s["min_learning_rate"])
            self.model.load_state_dict(self.best)

    def _save(self, path: Path, fingerprint: str) -> None:
        state = {"progress": json.dumps(vars(self.progress)), "best": self.best}
        state |= {"tables": self.model.state_dict(), "optimiser": self.optimiser.state()}
        if fault := checkpoint.write(path, fingerprint, state):
            since = f"epoch {self.kept}" if self.kept else "the start"
            self.say(f"{fault}; the run goes on, and a kill would cost what it did since {since}")
        else:
            self.kept = self.progress.epoch

    def _resume(self, path: Path, fingerprint: str) -> Progress:
        """Take up the state in a checkpoint, unless it is damaged or of another run."""
        state = checkpoint.read(path, fingerprint, self.device)
        if isinstance(state, str):
            self.say(f"{state}; starting anew")
            return self.progress
        self.model.load_state_dict(state["tables"])
        for mine, saved in zip(self.optimiser.state(), state["optimiser"], strict=True):
            mine.copy_(saved)
        self.best = state["best"]
        self.progress = Progress(**json.loads(state["progress"]))
        self.kept = self.progress.epoch
        self.say(f"resumed after epoch {self.kept}")
        return self.progress


def duration(seconds: float) -> str:
    """Write seconds as a reader says them: 42 s, 7 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
