"""The Keras side: SimpleRNN, LSTM and GRU models in backend-agnostic Keras 3."""

from keras_models.dropout_probe import dropout_probe
from keras_models.execution import (
    execution,
    narrowed_operations,
    place,
    release,
    set_precision,
    set_seed,
    threads,
    versions,
)
from keras_models.fit import fit
from keras_models.forecast import forecast
from keras_models.layers import CELLS
from keras_models.losses import build_loss
from keras_models.model import build
from keras_models.optimizers import build_optimizer, load_slots, read_slots, set_learning_rate
from keras_models.single_step import SingleStep
from keras_models.training import columns, predict, train, train_stock
from keras_models.weights import load_canonical, load_non_trainable, read_non_trainable, to_canonical

__all__ = [
    "CELLS",
    "SingleStep",
    "build",
    "build_loss",
    "build_optimizer",
    "columns",
    "dropout_probe",
    "execution",
    "fit",
    "forecast",
    "load_canonical",
    "load_non_trainable",
    "load_slots",
    "narrowed_operations",
    "place",
    "predict",
    "read_non_trainable",
    "read_slots",
    "release",
    "set_learning_rate",
    "set_precision",
    "set_seed",
    "threads",
    "to_canonical",
    "train",
    "train_stock",
    "versions",
]
