"""The loop around the three steps: epochs, the gate, the log, and state to resume from."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from minifbi.backends.cupy_device import clear_device_errors
from minifbi.datasets import Dataset, Split
from minifbi.datasets.resident import ResidentSplit, bring_near
from minifbi.errors import CheckpointError, NonFiniteError, ShapeError
from minifbi.fusion import fuse
from minifbi.layers import Layer
from minifbi.numerics import check_parameters, checked, hint
from minifbi.regularizers import Regularizer
from minifbi.rules import Composite, Rule
from minifbi.training.callbacks import Callback, Callbacks, EarlyStopping
from minifbi.training.config import CUSTOM, TrainConfig, make_optimizer, start_from
from minifbi.training.evaluation import evaluate
from minifbi.training.gate import Gate
from minifbi.training.log import BatchRecord, EpochLog, Progress
from minifbi.training.part import Given
from minifbi.training.parts import Parts
from minifbi.training.schedule import LearningRate, Schedule
from minifbi.training.state import BATCH, RunState
from minifbi.training.three_step import Losses, three_step

READ_EVERY = 50  # steps between two looks at the losses, where looking means waiting for a GPU


class Trainer:
    """Trains one model on one data set with the three-step scheme: Eq. (5), by gradient descent.

    Parameters
    ----------
    config : TrainConfig
        All options of the run.
    dataset : Dataset
        The images to train, validate and test on.
    model, regularizer, rule : object, function or str, optional
        Parts of your own, in the place of those that the configuration names; see
        :func:`minifbi.training.train`.
    callbacks : iterable of Callback
        Who is told of epochs, batches and the gate.
    schedule : callable, optional
        Your own schedule of the learning rate; see :func:`minifbi.training.train`.
    fresh : bool
        False if :meth:`load_state` follows: the weights that the configuration names are not
        read then, and need not be there any more.

    Attributes
    ----------
    model : Layer
    parts : Parts
        Those of your own.
    loaded : LoadedWeights or None
        What was read from the weights that the configuration names.
    regularizer : Regularizer
        The one that the configuration names; the FBI loss in conventional training, where
        it is measured only.
    optimizer : Optimizer
    gate : Gate
    run : RunState
        What has happened so far.
    folder : Path or None
        The folder of the run; None in memory.

    Examples
    --------
    A run in memory, without a folder::

        trainer = Trainer(TrainConfig(epochs=1), load_dataset("mnist"))
        record = trainer.run_epoch()
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        model: Layer | Given | None = None,
        *,
        regularizer: Regularizer | Given | None = None,
        rule: Rule | Composite | Given | None = None,
        callbacks: Iterable[Callback] = (),
        schedule: Schedule | None = None,
        fresh: bool = True,
    ) -> None:
        if schedule is not None:
            config = dataclasses.replace(config, schedule=CUSTOM)
        self.parts = Parts.of(model=model, regularizer=regularizer, rule=rule)
        config = self.parts.named_in(config)
        early = [EarlyStopping(config.patience, config.min_delta)] if config.patience else []
        self.callbacks = Callbacks([*callbacks, *early])
        self.config, self.dataset = config, dataset
        self.regularizer = self.parts.make_regularizer(config, dataset)
        self.model = self.parts.make_model(config, dataset)
        self.loaded = start_from(config, self.model) if fresh else None
        if self.parts != Parts():
            self.parts.try_out(self.model, self.regularizer, dataset)
        # what runs: the model itself, or on a compiled backend its rewriting
        self._fast = fuse(self.model, self.regularizer.rule)
        self.optimizer = make_optimizer(config, self.model)
        self._lr = LearningRate(config, self.optimizer, self.steps_per_epoch, schedule)
        self.gate = Gate(config.fbi_gate)
        # Not default_rng(seed): the initial weights have used up that stream's beginning.
        self.rng = np.random.default_rng([config.seed, 1])
        self.run = RunState(
            config=config.to_dict(),
            input_shape=list(dataset.image_shape),
            num_classes=dataset.num_classes,
            class_names=list(dataset.class_names),
            data=_data_facts(dataset),
        )
        self.folder: Path | None = None
        self._splits: dict[str, Split | ResidentSplit] = {}
        self._shown = 0  # images of this epoch that the progress has been told of
        self._batch: BatchRecord | None = None  # the last one that was read

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.run.epoch

    @property
    def step(self) -> int:
        """Updates done."""
        return self.run.step

    @property
    def records(self) -> list[dict[str, Any]]:
        """One per epoch, as in ``metrics.jsonl``."""
        return self.run.records

    @property
    def history(self) -> dict[str, list[float]]:
        """Numbers of every step and of every look at the validation accuracy, by name."""
        return self.run.history

    @property
    def penalty_active(self) -> bool:
        """Whether the next step minimises the penalty too and not the task loss alone."""
        return self.config.penalty_weight > 0 and self.gate.open

    @property
    def steps_per_epoch(self) -> int:
        """Updates in an epoch; the last batch may be smaller."""
        return math.ceil(len(self.dataset.train) / self.config.batch_size)

    @property
    def done(self) -> bool:
        """Whether all epochs are done, or the run was stopped before."""
        return self.epoch >= self.config.epochs or (self.epoch > 0 and self.run.stopped is not None)

    def stop(self, reason: str) -> None:
        """End the training, and complete the run as if its last epoch were done.

        Called within an epoch, it ends that epoch after the update that is being made; what there
        is of it is validated and counts as an epoch.  A run makes at least one update.

        Parameters
        ----------
        reason : str
            Why, for the log and ``result.json``.  If it is called twice, the first reason stands.
        """
        if self.run.stopped is None:
            # half of a surrogate pair could be written and not read again
            self.run.stopped = str(reason).encode("utf-8", "backslashreplace").decode("utf-8")

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
            epoch, step, task_loss, penalty, penalty_terms, val_accuracy, learning_rate,
            seconds, penalty_active.  ``task_loss`` is the mean over the epoch's batches;
            ``penalty`` (the FBI loss, or that of another regularizer) and ``penalty_terms``
            over those in which it was computed: all once the gate is open; before that, and
            in conventional training, the first of every `gate_interval`, measured only.

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
        self.callbacks.tell("on_epoch_begin", self)
        self.model.train()
        for start in range(0, images, config.batch_size):
            chosen = slice(start, start + config.batch_size)
            self._update(train, order[chosen], places[chosen], log)
            if len(log) == READ_EVERY or self.callbacks.looks_at_batches:
                self._read(log)
            self._show(log, progress)
            if self.callbacks.looks_at_batches:
                self.callbacks.tell("on_batch_end", self, self._batch)
            if not self.gate.open and config.penalty_weight > 0:
                if self.step % config.gate_interval == 0 and chosen.stop < images:
                    self._read(log)
                    self._validate(progress)
            if self.run.stopped is not None:
                break
        self._read(log)
        self._show(log, progress)
        check_parameters(self.model, config.check_numerics, self.step, self.optimizer.lr)
        self.run.epoch += 1
        accuracy = self._validate(progress)
        self.run.seconds += (seconds := time.perf_counter() - begin)
        record = {
            "epoch": self.epoch,
            "step": self.step,
            **log.means(),
            "val_accuracy": accuracy,
            "learning_rate": self.optimizer.lr,
            "seconds": seconds,
            "penalty_active": self.penalty_active,
        }
        self.run.records.append(record)
        if not self.run.best or accuracy > self.run.best["val_accuracy"]:
            self.run.best = {"epoch": self.epoch, "val_accuracy": accuracy}
        self.callbacks.tell("on_epoch_end", self, record)
        return record

    def _near(self, name: str) -> Split | ResidentSplit:
        """A split of the data set, on the device if there is one and room on it."""
        if name not in self._splits:
            self._splits[name] = bring_near(getattr(self.dataset, name), self.model.backend)
        return self._splits[name]

    def _show(self, log: EpochLog, progress: Progress | None) -> None:
        """Draw the progress of what has been read."""
        if progress is not None and log.images > self._shown:
            progress.batch(
                log.images - self._shown,
                log.correct / log.images,
                log.task[-1],
                log.penalty[-1] if log.penalty else None,
            )
        self._shown = log.images

    def _losses(
        self, train: Split | ResidentSplit, indices: Any, places: Any
    ) -> tuple[Losses, Any]:
        """The gradients of one batch in place, its losses, and its labels."""
        x, labels = train.batch(places, self.model.dtype)
        masks = getattr(train, "masks", None)
        losses = three_step(
            self._fast,
            x,
            labels,
            self.regularizer,
            weight=self.config.penalty_weight,
            active=self.penalty_active,
            # counted from the epoch's first step, so that no epoch goes without
            measure=self.step % self.steps_per_epoch % self.config.gate_interval == 0,
            masks=None if masks is None else masks[indices],
            # by the step, so that the batches are the same with every regularizer, and a
            # resumed run draws the same numbers
            rng=np.random.default_rng([self.config.seed, 2, self.step]),
        )
        return losses, labels

    def _update(
        self, train: Split | ResidentSplit, indices: Any, places: Any, log: EpochLog
    ) -> None:
        """One step on the training images of these indices (`places` where `train` is)."""
        config = self.config
        with np.errstate(all="ignore"):  # what overflows is found, and said, when it is read
            losses, labels = checked(
                config.check_numerics,
                f"step {self.step + 1} of epoch {self.epoch + 1}",
                lambda: self._losses(train, indices, places),
            )
        log.add(self.step + 1, losses, labels)
        if not self.model.backend.asynchronous:
            self._read(log)  # costs nothing here, and what is wrong changes no parameter
        self._lr.set(self.run)
        with np.errstate(all="ignore"):
            self.optimizer.step()
        self.run.step += 1
        if config.check_numerics:
            check_parameters(self.model, config.check_numerics, self.step, self.optimizer.lr)

    def _read(self, log: EpochLog) -> None:
        """Read the losses of the steps since the last time; raise if one is not finite."""
        for batch in log.read():
            if not math.isfinite(batch.loss):
                raise NonFiniteError(
                    f"the loss became {batch.loss} at step {batch.step} of epoch "
                    f"{self.epoch + 1} (task loss {batch.task_loss:g}, {self.regularizer.label} "
                    f"{batch.penalty if self.penalty_active else 'not computed'}); "
                    f"try a smaller learning rate than {self.config.lr:g}"
                    f"{hint(self.config.check_numerics)}"
                )
            for name in BATCH:
                self.history[name].append(getattr(batch, name))
            self._batch = batch

    def _validate(self, progress: Progress | None) -> float:
        """Accuracy on the validation split, shown to the gate and written down."""
        accuracy, _ = checked(
            self.config.check_numerics,
            f"validation after step {self.step}",
            lambda: evaluate(self.model, self._near("validation")),
        )
        self.history["val_step"].append(self.step)
        self.history["val_accuracy"].append(accuracy)
        if self.config.penalty_weight > 0 and self.gate.look(self.step, accuracy):
            if progress:
                progress.gate(self.gate, accuracy)
            self.callbacks.tell("on_gate_open", self)
        return accuracy

    # ---- to and from a checkpoint ------------------------------------------------------
    def state(self) -> RunState:
        """A copy of the run as it is, with what the model and the other parts hold.

        Returns
        -------
        RunState
            To :meth:`~minifbi.training.RunState.save`, or to go on from.
        """
        self._lr.notice(self.run)
        return dataclasses.replace(
            copy.deepcopy(self.run),
            parameters=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            gate_step=self.gate.step,
            rng=dict(self.rng.bit_generator.state),
            layer_rngs=self.model.random_states(),
            callbacks=self.callbacks.state_dict(),
        )

    def load_state(self, state: RunState) -> None:
        """Go on from where :meth:`state` was taken.

        Parameters
        ----------
        state : RunState
            It is not changed.

        Raises
        ------
        CheckpointError
            If it was taken from another model, data set or kind of optimiser.
        """
        ours, run = self.run, copy.deepcopy(state)
        try:
            if ours.input_shape != run.input_shape:
                raise ShapeError(
                    f"images are {tuple(ours.input_shape)}, the checkpoint was trained on "
                    f"{tuple(run.input_shape)}"
                )
            if ours.data != run.data:
                raise CheckpointError(
                    f"the checkpoint was trained on other data: {run.data['name']} with "
                    f"{run.data['images']} images, these are {ours.data['name']} with "
                    f"{ours.data['images']}, or their labels differ"
                )
            self.model.load_state_dict(run.parameters)
            self.optimizer.load_state_dict(run.optimizer)
            self.gate.step = run.gate_step
            self.rng.bit_generator.state = run.rng
            self.model.load_random_states(run.layer_rngs)
            self.callbacks.load_state_dict(run.callbacks)
        except CheckpointError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"the checkpoint does not fit this run: {error}") from error
        # the options may have changed since; the arrays live in the model and the optimiser
        self.run = dataclasses.replace(run, config=ours.config, parameters={}, optimizer={})
        self._lr.load(self.run)


def _data_facts(dataset: Dataset) -> dict[str, Any]:
    """What tells one data set from another: its name, sizes, and a checksum of the labels."""
    splits = (dataset.train, dataset.validation, dataset.test)
    return {
        "name": dataset.name,
        "images": [len(split) for split in splits],
        "labels": [zlib.crc32(split.labels.tobytes()) for split in splits],
    }
