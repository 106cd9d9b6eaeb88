"""How large a reproduction is to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minifbi.arguments import whole

LARGEST = {"seeds": 1000, "epochs": 1_000_000}
"""More would be planned, run by run, until the memory is full."""


@dataclass(frozen=True)
class Settings:
    """The size of the whole.

    Attributes
    ----------
    seeds : int
        Seeds 0, 1, ... of the main comparison.
    side_seeds : int
        Of Decoy-MNIST, Fashion-MNIST and the other networks.
    ablation_seeds : int
        Of the ablations and of lambda.
    epochs : int
        Passes over the training images in each run.
    gate_interval : int
        Updates between two looks at the validation accuracy before the gate.
    train, validation, test : int or None
        At most so many images of each split; None: all.
    activation_images : int
        Test images on which activations are measured.
    explanation_images : int
        Test images whose explanations are measured.
    explainer : str
        The explanation that is measured in every way, a name of
        :data:`minifbi.explain.EXPLAINERS`.  LRP-0 is the paper's own relevance.
    second_explainer : str
        One whose concentration and place are measured too: LRP-0 is proportional to the
        pixel, so on a black background it is 0 whatever the network does.
    lambdas : tuple of float
        Weights of the FBI loss, beside 0 and 0.001, for the curve of accuracy against
        concentration.
    searches : int
        Runs that the search for the L1 weight may take.
    thorough : bool
        All values of each ablation, not one of each.
    fashion_dir : Path or None
        Folder with the IDX files of Fashion-MNIST; None: where it was downloaded to.
    """

    seeds: int = 5
    side_seeds: int = 5
    ablation_seeds: int = 1
    epochs: int = 3
    gate_interval: int = 50
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    activation_images: int = 1000
    explanation_images: int = 200
    explainer: str = "lrp-0"
    second_explainer: str = "gradient"
    lambdas: tuple[float, ...] = (0.0001, 0.0003, 0.003, 0.01, 0.1, 1.0)
    searches: int = 4
    thorough: bool = True
    fashion_dir: Path | None = None

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs"):
            whole(name, getattr(self, name), 1, LARGEST[name])
        # a side experiment never has more seeds than the main one
        for name in ("side_seeds", "ablation_seeds"):
            object.__setattr__(self, name, min(getattr(self, name), self.seeds))


def quick(seeds: int | None, epochs: int | None, fashion_dir: Path | None) -> Settings:
    """Everything once, in less than 5 minutes on two cores, on a part of the images.

    Parameters
    ----------
    seeds, epochs : int or None
        None: 2 of each.
    fashion_dir : Path or None
        See :class:`Settings`.

    Returns
    -------
    Settings
        The numbers that come out show that all works.  They are no results.
    """
    return Settings(
        seeds=2 if seeds is None else seeds,
        side_seeds=1,
        epochs=2 if epochs is None else epochs,
        gate_interval=20,
        train=6000,
        validation=500,
        test=1000,
        activation_images=200,
        explanation_images=30,
        lambdas=(0.01, 0.1),
        searches=2,
        thorough=False,
        fashion_dir=fashion_dir,
    )
