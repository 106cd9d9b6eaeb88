"""Code of one's own at fixed moments of a training: callbacks, as Keras and Lightning have them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from minifbi.arguments import number, refused, whole
from minifbi.errors import CallbackError
from minifbi.files.strict_json import parse_json


class Callback:
    """What happens at the moments of a training; override the methods that you need.

    Each method gets the :class:`~minifbi.training.Trainer`, with its `model`, `optimizer`,
    `records`, `history`, `epoch` and `step`.  It may call ``trainer.stop(reason)`` and set
    ``trainer.optimizer.lr``, which the schedule then no longer changes.

    ==================  ================================================================
    on_train_begin      before the first epoch of a call of `train` or `resume`
    on_epoch_begin      before the first update of an epoch
    on_batch_end        after each update
    on_gate_open        when the validation accuracy has opened the gate
    on_epoch_end        after the validation of an epoch, before its checkpoint is written
    on_train_end        after the last epoch, when the folder of the run is finished
    ==================  ================================================================

    Methods of several callbacks are called in the order of the list.  An error in one ends the run
    with a :class:`~minifbi.errors.CallbackError`; the epochs that were finished before are kept.

    Examples
    --------
    Print the norm of a weight every epoch::

        class WeightNorm(Callback):
            def on_epoch_end(self, trainer, record):
                weight = trainer.model.parameters()["conv1.weight"].numpy()
                print(record["epoch"], (weight**2).sum() ** 0.5)


        train(config, callbacks=[WeightNorm()])
    """

    @property
    def name(self) -> str:
        """By which errors and checkpoints know it: the name of its class."""
        return type(self).__name__

    def on_train_begin(self, trainer: Any) -> None:
        """Training starts, or goes on.

        Parameters
        ----------
        trainer : Trainer
            Its `epoch` is 0 unless the run was resumed.
        """

    def on_epoch_begin(self, trainer: Any) -> None:
        """An epoch starts.

        Parameters
        ----------
        trainer : Trainer
            Its `epoch` counts the epochs done, 0 before the first.
        """

    def on_batch_end(self, trainer: Any, batch: Any) -> None:
        """An update was made.

        Overriding it makes each step on a GPU slower: the losses are then read after every
        batch and no longer 50 at once.

        Parameters
        ----------
        trainer : Trainer
            After the update.
        batch : BatchRecord
            Its `step`, from 1, and its `loss`, `task_loss` and `penalty`, which is NaN where it was
            not computed.
        """

    def on_gate_open(self, trainer: Any) -> None:
        """The gate has opened: from the next update on the penalty takes part.

        It is not called if the gate was open from the start (``fbi_gate=0``).

        Parameters
        ----------
        trainer : Trainer
            Its ``gate.step`` says when.
        """

    def on_epoch_end(self, trainer: Any, record: Mapping[str, Any]) -> None:
        """An epoch is done.

        Parameters
        ----------
        trainer : Trainer
            The record is already the last of its `records`.
        record : mapping
            As :meth:`Trainer.run_epoch` returns it.
        """

    def on_train_end(self, trainer: Any, result: Mapping[str, Any]) -> None:
        """The run is complete.  It is not called after an error or an interruption.

        Parameters
        ----------
        trainer : Trainer
            After the last epoch.
        result : mapping
            As :func:`train` returns it.
        """

    def state_dict(self) -> dict[str, Any]:
        """What to save in the checkpoint, so that a resumed run goes on as if nothing happened.

        Returns
        -------
        dict
            Of what JSON can hold: numbers, texts, lists, dictionaries.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` has saved.

        Parameters
        ----------
        state : mapping
            From the checkpoint, which somebody else may have made: check it.
        """


class EarlyStopping(Callback):
    """Stops a run that no longer gets better, as Keras's callback of this name.

    ``TrainConfig(patience=5)`` adds one by itself.  It looks at the validation accuracy, by which
    best.npz is chosen too.  When the gate opens, the count starts again: from there on another loss
    is minimised, and the accuracy may first fall.  It remembers nothing of its own, since all is in
    the records of the run.

    Parameters
    ----------
    patience : int
        Epochs in a row without a better validation accuracy after which the run stops, at least 1.
    min_delta : float
        How much higher than the best the validation accuracy must be to count as better.

    Raises
    ------
    ConfigError
        If a number is outside its range.
    """

    def __init__(self, patience: int = 5, min_delta: float = 0.0) -> None:
        self.patience = whole("patience", patience, 1)
        self.min_delta = number("min_delta", min_delta, 0)

    def on_epoch_end(self, trainer: Any, record: Mapping[str, Any]) -> None:
        """Stop if the last `patience` epochs brought nothing."""
        gate = trainer.gate.step if trainer.config.penalty_weight > 0 else None
        best, best_epoch, waited = -math.inf, 0, 0
        for past in trainer.records:
            if gate is not None and past["step"] <= gate:
                continue
            waited += 1
            if past["val_accuracy"] > best + self.min_delta:
                best, best_epoch, waited = past["val_accuracy"], past["epoch"], 0
        if waited >= self.patience:
            epochs = "epoch" if waited == 1 else f"{waited} epochs"
            trainer.stop(
                f"no better validation accuracy in the last {epochs} than {best:.4f} "
                f"of epoch {best_epoch}"
            )


class Callbacks:
    """The callbacks of one trainer.

    Parameters
    ----------
    callbacks : iterable of Callback
        Each with another name.

    Raises
    ------
    ConfigError
        If one is no :class:`Callback`, or two have the same name.
    """

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self._all: dict[str, Callback] = {}
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise refused("callbacks", callback, "instances of minifbi.training.Callback")
            if self._all.setdefault(callback.name, callback) is not callback:
                raise refused("callbacks", callback.name, "one of this name; override `name`")
        self.looks_at_batches = any(
            getattr(callback.on_batch_end, "__func__", None) is not Callback.on_batch_end
            for callback in self._all.values()
        )
        """Whether a callback wants to be told of every batch."""

    def tell(self, moment: str, *about: Any) -> None:
        """Call this method of all callbacks.

        Parameters
        ----------
        moment : str
            The method's name.
        *about : object
            What it gets, the trainer first.

        Raises
        ------
        CallbackError
            If one fails.
        """
        for name, callback in self._all.items():
            _call(callback, name, moment, *about)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """What each remembers, by name.

        Raises
        ------
        CallbackError
            If JSON cannot hold it, or a callback fails.
        """
        found = {}
        for name, callback in self._all.items():
            state = _call(callback, name, "state_dict")
            try:
                found[name] = parse_json(json.dumps(dict(state), allow_nan=False))
            except (TypeError, ValueError) as error:
                raise CallbackError(
                    f"callback {name}: its state_dict() cannot be saved ({error}); expected a "
                    f"dictionary of finite numbers, texts, lists and dictionaries"
                ) from error
        return found

    def missing(self, states: Mapping[str, dict[str, Any]]) -> list[str]:
        """Names of the callbacks that a run had and that are not here."""
        return sorted(set(states) - set(self._all))

    def load_state_dict(self, states: Mapping[str, dict[str, Any]]) -> None:
        """Give each its state back.

        Parameters
        ----------
        states : mapping of str to dict
            From :meth:`state_dict`.

        Raises
        ------
        CallbackError
            If a callback fails.
        """
        for name, callback in self._all.items():
            if name in states:
                _call(callback, name, "load_state_dict", states[name])


def _call(callback: Callback, name: str, moment: str, *about: Any) -> Any:
    try:
        return getattr(callback, moment)(*about)
    except Exception as error:
        raise CallbackError(
            f"callback {name} failed in {moment}: {type(error).__name__}: {error}"
        ) from error
