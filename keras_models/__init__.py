"""The Keras side: SimpleRNN, LSTM and GRU models in backend-agnostic Keras 3."""

from keras_models.optimizers import build_optimizer
from keras_models.recurrent import CELLS, build
from keras_models.training import columns, execution, predict, train
from keras_models.weights import load_canonical, to_canonical

__all__ = [
    "CELLS",
    "build",
    "build_optimizer",
    "columns",
    "execution",
    "load_canonical",
    "predict",
    "to_canonical",
    "train",
]
