"""Training: the three steps, the gate, the loop, checkpoints and run folders."""

from minifbi.training.checkpoint import load_checkpoint, save_checkpoint
from minifbi.training.config import TrainConfig
from minifbi.training.folder import RunFolderError, default_folder
from minifbi.training.gate import Gate
from minifbi.training.run import load_model, resume, train
from minifbi.training.threads import set_threads
from minifbi.training.three_step import Losses, three_step
from minifbi.training.trainer import Trainer, evaluate

__all__ = [
    "Gate",
    "Losses",
    "RunFolderError",
    "TrainConfig",
    "Trainer",
    "default_folder",
    "evaluate",
    "load_checkpoint",
    "load_model",
    "resume",
    "save_checkpoint",
    "set_threads",
    "three_step",
    "train",
]
