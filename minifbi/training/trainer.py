"""The loop around the three steps: epochs, the gate, the log, and state to resume from."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from minifbi.backends.cupy_device import clear_device_errors
from minifbi.datasets import Dataset, Split
from minifbi.errors import CheckpointError, NonFiniteError, ShapeError
from minifbi.fusion import fuse
from minifbi.layers import Sequential
from minifbi.optim import learning_rate
from minifbi.training.config import TrainConfig
from minifbi.training.epoch_log import EpochLog
from minifbi.training.evaluation import evaluate
from minifbi.training.finite import check_parameters, checked, hint
from minifbi.training.from_config import make_model, make_optimizer, make_regularizer
from minifbi.training.gate import Gate
from minifbi.training.meta import read_history
from minifbi.training.progress import Progress
from minifbi.training.resident import ResidentSplit, bring_near
from minifbi.training.three_step import Losses, three_step

HISTORY = ("step", "task_loss", "fbi_loss")
VALIDATIONS = ("val_step", "val_accuracy")
READ_EVERY = 50  # steps between two looks at the losses, where looking means waiting for a GPU


class Trainer:
    """Trains one model on one data set with the three-step scheme: Eq. (5), by gradient descent.

    Parameters
    ----------
    config : TrainConfig
    dataset : Dataset
    model : Sequential, optional
        Your own network; the one that the configuration names if left out.

    Attributes
    ----------
    model : Sequential
    regularizer : Regularizer
        The one that the configuration names; the FBI loss in conventional training, where
        it is measured only.
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
        self.regularizer = make_regularizer(config, dataset)
        self.model = make_model(config, dataset) if model is None else model
        self.fast = fuse(self.model, self.regularizer.rule)
        self.optimizer = make_optimizer(config, self.model)
        self.gate = Gate(config.fbi_gate)
        # Not default_rng(seed): the initial weights have used up that stream's beginning.
        self.rng = np.random.default_rng([config.seed, 1])
        self.epoch = self.step = 0
        self.seconds = 0.0
        self._splits: dict[str, Split | ResidentSplit] = {}
        self._shown = 0  # images of this epoch that the progress has been told of
        self.records: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        names = (*HISTORY, *VALIDATIONS, *(() if self.trains_fbi else ("penalty",)))
        self.history: dict[str, list[float]] = {name: [] for name in names}

    @property
    def trains_fbi(self) -> bool:
        """Whether the regularizer is the FBI loss, minimised or (in conventional training) not."""
        return self.config.regularizer in ("fbi", "none")

    @property
    def penalty_active(self) -> bool:
        """Whether the next step minimises the regularizer too and not the task loss alone."""
        return self.config.penalty_weight > 0 and self.gate.open

    @property
    def fbi_active(self) -> bool:
        """Whether the next step minimises Eq. (4)."""
        return self.penalty_active and self.trains_fbi

    @property
    def steps_per_epoch(self) -> int:
        """Updates in an epoch; the last batch may be smaller."""
        return math.ceil(len(self.dataset.train) / self.config.batch_size)

    # ---- one epoch -------------------------------------------------------------------
    def run_epoch(self, progress: Progress | None = None) -> dict[str, Any]:
        """Train for one epoch and validate.

        Parameters
        ----------
        progress : Progress, optional
            Whom to tell how far it is.

        Returns
        -------
        dict
            epoch, step, task_loss, fbi_loss, fbi_terms, val_accuracy,
            learning_rate, seconds, fbi_active.  ``task_loss`` is the mean over the
            epoch's batches; ``fbi_loss`` and ``fbi_terms`` over those in which the FBI
            loss was computed: all once the gate is open, before that (and in
            conventional training, and with another regularizer) one in
            `gate_interval`, measured only.  With another regularizer also penalty,
            penalty_terms and penalty_active, which mean the same for its penalty.

        Raises
        ------
        NonFiniteError
            If the loss or a parameter is not finite any more.  On a GPU this is noticed up to
            50 steps later; the message names the very step.
        """
        with clear_device_errors(self.model.backend, self.config.batch_size):
            return self._run_epoch(progress)

    def _run_epoch(self, progress: Progress | None) -> dict[str, Any]:
        begin = time.perf_counter()
        config, images = self.config, len(self.dataset.train)
        train, backend = self._near("train"), self.model.backend
        order = self.rng.permutation(images)
        # the same numbers where the batches are gathered
        places = backend.asarray(order) if isinstance(train, ResidentSplit) else order
        log, self._shown = EpochLog(backend), 0
        self.model.train()
        for start in range(0, images, config.batch_size):
            chosen = slice(start, start + config.batch_size)
            self._update(train, order[chosen], places[chosen], log)
            if len(log) == READ_EVERY:
                self._read(log)
            self._show(log, progress)
            if not self.gate.open and config.penalty_weight > 0:
                if self.step % config.gate_interval == 0 and chosen.stop < images:
                    self._read(log)
                    self._validate(progress)
        self._read(log)
        self._show(log, progress)
        check_parameters(self.model, config, self.step, self.optimizer.lr)
        self.epoch += 1
        accuracy = self._validate(progress)
        self.seconds += (seconds := time.perf_counter() - begin)
        record = {
            "epoch": self.epoch,
            "step": self.step,
            **log.means(with_penalty=not self.trains_fbi),
            "val_accuracy": accuracy,
            "learning_rate": self.optimizer.lr,
            "seconds": seconds,
            "fbi_active": self.fbi_active,
        }
        if not self.trains_fbi:
            record["penalty_active"] = self.penalty_active
        self.records.append(record)
        if not self.best or accuracy > self.best["val_accuracy"]:
            self.best = {"epoch": self.epoch, "val_accuracy": accuracy}
        return record

    def _near(self, name: str) -> Split | ResidentSplit:
        """A split of the data set, on the device if there is one and room on it."""
        if name not in self._splits:
            self._splits[name] = bring_near(getattr(self.dataset, name), self.model.backend)
        return self._splits[name]

    def _show(self, log: EpochLog, progress: Progress | None) -> None:
        """Draw the progress of what has been read."""
        if progress is not None and log.images > self._shown:
            known = log.fbi if self.trains_fbi else log.penalty
            progress.batch(
                log.images - self._shown,
                log.correct / log.images,
                log.task[-1],
                known[-1] if known else None,
            )
        self._shown = log.images

    def _losses(
        self, train: Split | ResidentSplit, indices: Any, places: Any
    ) -> tuple[Losses, Any]:
        """The gradients of one batch in place, its losses, and its labels."""
        config = self.config
        x, labels = train.batch(places, self.model.dtype)
        measure = self.step % config.gate_interval == 0
        masks = getattr(train, "masks", None)
        losses = three_step(
            self.fast,
            x,
            labels,
            self.regularizer,
            weight=config.penalty_weight,
            active=self.penalty_active,
            measure=measure,
            masks=None if masks is None else masks[indices],
            rng=np.random.default_rng([config.seed, 2, self.step]),
        )
        return losses, labels

    def _update(
        self, train: Split | ResidentSplit, indices: Any, places: Any, log: EpochLog
    ) -> None:
        """One step on the training images of these indices (`places` where `train` is)."""
        config = self.config
        with np.errstate(all="ignore"):  # what overflows is found, and said, when it is read
            losses, labels = checked(
                config,
                f"step {self.step + 1} of epoch {self.epoch + 1}",
                lambda: self._losses(train, indices, places),
            )
        log.add(self.step + 1, losses, labels)
        if not self.model.backend.asynchronous:
            self._read(log)  # costs nothing here, and what is wrong changes no parameter
        self.optimizer.lr = learning_rate(
            float(config.lr),  # type: ignore[arg-type]
            config.schedule,
            self.step,
            config.epochs * self.steps_per_epoch,
        )
        with np.errstate(all="ignore"):
            self.optimizer.step()
        self.step += 1
        if config.check_numerics:
            check_parameters(self.model, config, self.step, self.optimizer.lr)

    def _read(self, log: EpochLog) -> None:
        """Read the losses of the steps since the last time; raise if one is not finite."""
        for batch in log.read():
            if not math.isfinite(batch.loss):
                known = batch.fbi_loss if self.trains_fbi else batch.penalty
                raise NonFiniteError(
                    f"the loss became {batch.loss} at step {batch.step} of epoch "
                    f"{self.epoch + 1} (task loss {batch.task_loss:g}, {self.regularizer.label} "
                    f"{known if self.penalty_active else 'not computed'}); "
                    f"try a smaller learning rate than {self.config.lr:g}{hint(self.config)}"
                )
            for name, values in self.history.items():
                if name not in VALIDATIONS:
                    values.append(getattr(batch, name))

    def _validate(self, progress: Progress | None) -> float:
        """Accuracy on the validation split, shown to the gate and written down."""
        accuracy, _ = checked(
            self.config,
            f"validation after step {self.step}",
            lambda: evaluate(self.model, self._near("validation")),
        )
        self.history["val_step"].append(self.step)
        self.history["val_accuracy"].append(accuracy)
        if self.config.penalty_weight > 0 and self.gate.look(self.step, accuracy) and progress:
            progress.gate(self.gate, accuracy)
        return accuracy

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

        Parameters
        ----------
        arrays : mapping of str to mapping of str to array
        meta : mapping
            Both from :meth:`state`.

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
            self.history = read_history(arrays["history"], tuple(self.history))
            self.epoch, self.step = meta["epoch"], meta["step"]
            self.gate.step, self.seconds = meta["gate_step"], meta["seconds"]
            self.records, self.best = list(meta["records"]), dict(meta["best"])
        except CheckpointError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"the checkpoint does not fit this run: {error}") from error
