"""Training: `fit`, `evaluate`, callbacks, histories, and runs kept in a folder."""

from fastnn.data.about import about

from .callbacks import Callback, Training
from .conditions import ResumeWarning
from .evaluate import Evaluation, evaluate
from .fit import fit
from .history import EpochRecord, History
from .interrupts import Interrupted
from .logs import HistoryFile, MLflow, TensorBoard
from .lr_finder import LRFinder
from .path import ParameterPath, RecordPath
from .predict import predict, predict_proba
from .runs import Checkpoint
from .stopping import EarlyStopping, StopOnPlateau, StopOnStep, StoppingRule

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "EpochRecord",
    "Evaluation",
    "History",
    "HistoryFile",
    "Interrupted",
    "LRFinder",
    "MLflow",
    "ParameterPath",
    "RecordPath",
    "ResumeWarning",
    "StopOnPlateau",
    "StopOnStep",
    "StoppingRule",
    "TensorBoard",
    "Training",
    "about",
    "evaluate",
    "fit",
    "predict",
    "predict_proba",
]
