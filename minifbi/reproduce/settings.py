"""The size of a reproduction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minifbi.arguments import whole

LARGEST = {"seeds": 1000, "epochs": 1_000_000}
"""Larger plans would fill the memory, since every run is planned at the start."""


@dataclass(frozen=True)
class Settings:
    """The size of a reproduction.

    Attributes
    ----------
    seeds : int
        Number of seeds of the main comparison: 0, 1, ...
    side_seeds : int
        Number of seeds for Decoy-MNIST, Fashion-MNIST and the other networks.
    ablation_seeds : int
        Number of seeds for the ablations and for each lambda.
    epochs : int
        Passes over the training images in each run.
    gate_interval : int
        Updates between two measurements of the validation accuracy before the gate opens.
    train, validation, test : int or None
        Largest number of images used of each split; None for all.
    activation_images : int
        Number of test images on which activations are measured.
    explanation_images : int
        Number of test images whose explanations are measured.
    explainer : str
        The explanation to which all measures apply, a name of
        :data:`minifbi.explain.EXPLAINERS`.  LRP-0 is the paper's own relevance.
    second_explainer : str
        An explanation to which only the measures of concentration and localization apply.
        It is needed because LRP-0 is proportional to the pixel, so it is 0 on a black
        background for every network.
    lambdas : tuple of float
        Weights of the FBI loss, in addition to 0 and 0.001, for the curve of accuracy against
        concentration.
    searches : int
        Largest number of runs in the search for the L1 weight.
    thorough : bool
        Whether to run all values of each ablation, or one of each.
    fashion_dir : Path or None
        Folder with the IDX files of Fashion-MNIST; None for the download folder.
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
    """Everything once, on a part of the images, in less than 5 minutes on two cores.

    Parameters
    ----------
    seeds, epochs : int or None
        Number of seeds, and of epochs per run; None for 2.
    fashion_dir : Path or None
        See :class:`Settings`.

    Returns
    -------
    Settings
        The resulting numbers show that everything works.  They are not results.
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
