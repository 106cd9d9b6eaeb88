"""Training: the three steps, the gate, the loop, and the folder in which a run is kept."""

from minifbi.errors import RunFolderError
from minifbi.files.checkpoint import load_checkpoint, save_checkpoint
from minifbi.training.callbacks import Callback, EarlyStopping
from minifbi.training.config import TrainConfig
from minifbi.training.evaluation import evaluate, evaluate_penalty
from minifbi.training.folder import default_folder
from minifbi.training.gate import Gate
from minifbi.training.loading import load_model
from minifbi.training.log import BatchRecord
from minifbi.training.run import resume, train
from minifbi.training.schedule import LearningRate
from minifbi.training.state import RunState, stored
from minifbi.training.three_step import Losses, three_step
from minifbi.training.trainer import Trainer

__all__ = ["BatchRecord", "Callback", "EarlyStopping", "LearningRate"]
__all__ += ["Gate", "Losses", "RunFolderError", "RunState", "TrainConfig", "Trainer"]
__all__ += ["default_folder", "evaluate", "evaluate_penalty", "load_checkpoint", "load_model"]
__all__ += ["resume", "save_checkpoint", "stored", "three_step", "train"]
