"""The PyTorch side: SimpleRNN, LSTM and GRU models in native PyTorch."""

from torch_models.dropout_probe import dropout_probe
from torch_models.ensemble import perturb_optimizer, perturb_weights, repeat
from torch_models.execution import (
    execution,
    narrowed_operations,
    operations_per_second,
    place,
    release,
    set_precision,
    set_seed,
    threads,
    versions,
)
from torch_models.forecast import forecast
from torch_models.layers import CELLS
from torch_models.losses import build_loss
from torch_models.model import build, train_both_biases
from torch_models.optimizers import build_optimizer, load_slots, read_slots
from torch_models.single_step import SingleStep
from torch_models.training import columns, predict, train, train_stock
from torch_models.weights import load_canonical, load_non_trainable, read_non_trainable, to_canonical

__all__ = [
    "CELLS",
    "SingleStep",
    "build",
    "build_loss",
    "build_optimizer",
    "columns",
    "dropout_probe",
    "execution",
    "forecast",
    "load_canonical",
    "load_non_trainable",
    "load_slots",
    "narrowed_operations",
    "operations_per_second",
    "perturb_optimizer",
    "perturb_weights",
    "place",
    "predict",
    "read_non_trainable",
    "read_slots",
    "release",
    "repeat",
    "set_precision",
    "set_seed",
    "threads",
    "to_canonical",
    "train",
    "train_both_biases",
    "train_stock",
    "versions",
]
