"""The loop around the three steps: epochs, the gate, the log, and state to resume from."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from minifbi.autograd import cross_entropy, no_grad
from minifbi.backends import get_backend
from minifbi.datasets import Dataset, Split
from minifbi.errors import CheckpointError, NonFiniteError, ShapeError
from minifbi.layers import Sequential
from minifbi.layers.base import evaluating
from minifbi.models import build_model
from minifbi.optim import SGD, Adam, Optimizer, learning_rate
from minifbi.training.config import TrainConfig
from minifbi.training.gate import Gate
from minifbi.training.progress import Progress
from minifbi.training.three_step import Losses, three_step

HISTORY = ("step", "task_loss", "fbi_loss")
VALIDATIONS = ("val_step", "val_accuracy")


def evaluate(model: Sequential, split: Split, batch_size: int = 500) -> tuple[float, float]:
    """Accuracy and mean cross-entropy of a model on a split, in evaluation mode.

    Parameters
    ----------
    model : Sequential
    split : Split
    batch_size : int

    Returns
    -------
    accuracy : float
        Share of images whose largest logit is the label's, 0 to 1.
    loss : float
    """
    correct, loss = 0, 0.0
    with evaluating(model), no_grad():
        for begin in range(0, len(split), batch_size):
            x, labels = split.batch(slice(begin, begin + batch_size), model.dtype)
            logits = model.trace(x, fused=True)[-1].z
            correct += int((logits.numpy().argmax(axis=1) == labels).sum())
            loss += cross_entropy(logits, labels).item() * len(labels)
    return correct / len(split), loss / len(split)


def make_optimizer(config: TrainConfig, model: Sequential) -> Optimizer:
    """The optimiser that the configuration names."""
    lr = float(config.lr)  # type: ignore[arg-type]  # TrainConfig has filled it in
    if config.optimizer == "sgd":
        return SGD(model.parameters(), lr, config.momentum, config.weight_decay)
    return Adam(model.parameters(), lr, weight_decay=config.weight_decay)


class Trainer:
    """Trains one model on one data set with the three-step scheme.

    Parameters
    ----------
    config : TrainConfig
    dataset : Dataset
    model : Sequential, optional
        Your own network; the one that the configuration names if left out.

    Attributes
    ----------
    model : Sequential
    optimizer : Optimizer
    gate : Gate
    epoch, step : int
        Epochs and updates done.
    records : list of dict
        One an epoch, as in ``metrics.jsonl``.
    best : dict
        The best epoch so far by validation accuracy: its record's "epoch" and
        "val_accuracy".

    Examples
    --------
    A run in memory, without a folder::

        trainer = Trainer(TrainConfig(epochs=1), load_dataset("mnist"))
        record = trainer.run_epoch()
    """

    def __init__(
        self, config: TrainConfig, dataset: Dataset, model: Sequential | None = None
    ) -> None:
        self.config, self.dataset = config, dataset
        if model is None:
            model = build_model(
                config.model,
                input_shape=dataset.image_shape,
                num_classes=dataset.num_classes,
                seed=config.seed,
                backend=get_backend(config.backend),
                dtype=np.dtype(config.dtype),
            )
        self.model = model
        self.optimizer = make_optimizer(config, model)
        self.gate = Gate(config.fbi_gate)
        # Not default_rng(seed): the initial weights have used up that stream's beginning.
        self.rng = np.random.default_rng([config.seed, 1])
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.records: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.history: dict[str, list[float]] = {name: [] for name in HISTORY + VALIDATIONS}

    @property
    def fbi_active(self) -> bool:
        """Whether the next step minimises Eq. (4) and not the task loss alone."""
        return self.config.fbi_weight > 0 and self.gate.open

    @property
    def steps_per_epoch(self) -> int:
        """Updates in an epoch; the last batch may be smaller."""
        return math.ceil(len(self.dataset.train) / self.config.batch_size)

    # ---- one epoch -------------------------------------------------------------------
    def run_epoch(self, progress: Progress | None = None) -> dict[str, Any]:
        """Train for one epoch and validate.

        Returns
        -------
        dict
            epoch, step, task_loss, fbi_loss, fbi_terms, val_accuracy,
            learning_rate, seconds, fbi_active.  ``task_loss`` is the mean over the
            epoch's batches; ``fbi_loss`` and ``fbi_terms`` over those in which the FBI
            loss was computed: all once the gate is open, before that (and in
            conventional training) one in `gate_interval`, measured only.

        Raises
        ------
        NonFiniteError
            If the loss or a parameter is not finite any more.
        """
        begin = time.perf_counter()
        config, images = self.config, len(self.dataset.train)
        order = self.rng.permutation(images)
        task: list[float] = []
        fbi: list[float] = []
        terms: list[dict[str, float]] = []
        correct = seen = 0
        self.model.train()
        for start in range(0, images, config.batch_size):
            x, labels = self.dataset.train.batch(
                order[start : start + config.batch_size], self.model.dtype
            )
            hits = self._update(x, labels, task, fbi, terms)
            correct, seen = correct + hits, seen + len(labels)
            if progress is not None:
                known = fbi[-1] if fbi else None
                progress.batch(len(labels), correct / seen, task[-1], known)
            if not self.gate.open and config.fbi_weight > 0:
                if self.step % config.gate_interval == 0 and start + len(labels) < images:
                    self._validate(progress)
        self._check_parameters()
        self.epoch += 1
        accuracy = self._validate(progress)
        self.seconds += (seconds := time.perf_counter() - begin)
        record = {
            "epoch": self.epoch,
            "step": self.step,
            "task_loss": float(np.mean(task)),
            "fbi_loss": float(np.mean(fbi)) if fbi else None,
            "fbi_terms": (
                {name: float(np.mean([t[name] for t in terms])) for name in terms[0]}
                if terms
                else None
            ),
            "val_accuracy": accuracy,
            "learning_rate": self.optimizer.lr,
            "seconds": seconds,
            "fbi_active": self.fbi_active,
        }
        self.records.append(record)
        if not self.best or accuracy > self.best["val_accuracy"]:
            self.best = {"epoch": self.epoch, "val_accuracy": accuracy}
        return record

    def _three_step(self, x: Any, labels: Any) -> Losses:
        config = self.config
        return three_step(
            self.model,
            x,
            labels,
            fbi_weight=config.fbi_weight,
            fbi_active=self.fbi_active,
            start=config.fbi_start,
            reduction=config.fbi_reduction,
            stabilizer=config.fbi_stabilizer,
            rule=config.fbi_rule,
            measure_fbi=self.step % config.gate_interval == 0,
        )

    def _update(
        self,
        x: Any,
        labels: Any,
        task: list[float],
        fbi: list[float],
        terms: list[dict[str, float]],
    ) -> int:
        """One step on one batch; return how many of its images were right."""
        config = self.config
        with np.errstate(all="ignore"):  # what overflows is found, and said, below
            losses = self._three_step(x, labels)
        task.append(losses.task_loss.item())
        if losses.fbi_loss is not None:
            fbi.append(losses.fbi_loss.item())
            terms.append({name: term.item() for name, term in losses.fbi_terms.items()})
        if not math.isfinite(losses.loss.item()):
            raise NonFiniteError(
                f"the loss became {losses.loss.item()} at step {self.step + 1} of epoch "
                f"{self.epoch + 1} (task loss {task[-1]:g}, FBI loss "
                f"{fbi[-1] if losses.fbi_loss is not None else 'not computed'}); "
                f"try a smaller learning rate than {config.lr:g}"
            )
        self.optimizer.lr = learning_rate(
            float(config.lr),  # type: ignore[arg-type]
            config.schedule,
            self.step,
            config.epochs * self.steps_per_epoch,
        )
        with np.errstate(all="ignore"):
            self.optimizer.step()
        self.step += 1
        measured = fbi[-1] if losses.fbi_loss is not None else math.nan
        for name, value in zip(HISTORY, (self.step, task[-1], measured), strict=True):
            self.history[name].append(value)
        return int((losses.logits.numpy().argmax(axis=1) == labels).sum())

    def _validate(self, progress: Progress | None) -> float:
        """Accuracy on the validation split, shown to the gate and written down."""
        accuracy, _ = evaluate(self.model, self.dataset.validation)
        self.history["val_step"].append(self.step)
        self.history["val_accuracy"].append(accuracy)
        if self.config.fbi_weight > 0 and self.gate.look(self.step, accuracy) and progress:
            progress.gate(self.gate, accuracy)
        return accuracy

    def _check_parameters(self) -> None:
        for name, p in self.model.parameters().items():
            if not bool(p.backend.xp.isfinite(p.data).all()):
                raise NonFiniteError(
                    f"parameter {name} is not finite any more after step {self.step}; "
                    f"try a smaller learning rate than {self.optimizer.lr:g}"
                )

    # ---- to and from a checkpoint ------------------------------------------------------
    def state(self) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """All that :func:`~minifbi.training.checkpoint.save_checkpoint` needs to resume."""
        arrays = {
            "parameters": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": {name: np.array(values) for name, values in self.history.items()},
        }
        meta = {
            "config": self.config.to_dict(),
            "input_shape": list(self.dataset.image_shape),
            "num_classes": self.dataset.num_classes,
            "class_names": list(self.dataset.class_names),
            "data": self._data_facts(),
            "epoch": self.epoch,
            "step": self.step,
            "gate_step": self.gate.step,
            "seconds": self.seconds,
            "rng": self.rng.bit_generator.state,
            "layer_rngs": self.model.random_states(),
            "records": self.records,
            "best": self.best,
        }
        return arrays, meta

    def _data_facts(self) -> dict[str, Any]:
        """What tells one data set from another: its name, sizes, and a checksum of the labels."""
        splits = (self.dataset.train, self.dataset.validation, self.dataset.test)
        return {
            "name": self.dataset.name,
            "images": [len(split) for split in splits],
            "labels": [zlib.crc32(split.labels.tobytes()) for split in splits],
        }

    def load_state(self, arrays: Mapping[str, Mapping[str, Any]], meta: Mapping[str, Any]) -> None:
        """Go on from where :meth:`state` was taken.

        Raises
        ------
        CheckpointError
            If it was taken from another model, data set or kind of optimiser.
        """
        try:
            if list(self.dataset.image_shape) != meta["input_shape"]:
                raise ShapeError(
                    f"images are {self.dataset.image_shape}, the checkpoint was trained on "
                    f"{tuple(meta['input_shape'])}"
                )
            if meta["data"] != self._data_facts():
                raise CheckpointError(
                    f"the checkpoint was trained on other data: {meta['data']['name']} with "
                    f"{meta['data']['images']} images, these are {self.dataset.name} with "
                    f"{self._data_facts()['images']}, or their labels differ"
                )
            self.model.load_state_dict(arrays["parameters"])
            self.optimizer.load_state_dict(arrays["optimizer"])
            self.rng.bit_generator.state = meta["rng"]
            self.model.load_random_states(meta["layer_rngs"])
            self.history = {name: arrays["history"][name].tolist() for name in self.history}
            self.epoch, self.step = meta["epoch"], meta["step"]
            self.gate.step, self.seconds = meta["gate_step"], meta["seconds"]
            self.records, self.best = list(meta["records"]), dict(meta["best"])
        except CheckpointError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint does not fit this run: {error}") from error
