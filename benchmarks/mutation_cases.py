"""The tiny cases whose lines are mutated: together they run what a training with the matched optimizers runs."""

from typing import Any

from compare.config.case import Case, load_case, with_fields

TINY = {"data.points": 70, "data.window": 6, "model.units": 3, "training.epochs": 2, "training.batch_size": 16}
SEQUENCES = {"data.dataset": "signals", "data.examples": 50, "data.window": 6}
SUITE: dict[str, tuple[str, dict[str, Any]]] = {
    "adam": ("lstm", {}),
    "clipped": ("gru", {"training.optimizer": "rmsprop", "training.momentum": 0.9, "training.clipnorm": 0.01}),
    "scheduled": (
        "simple_rnn",
        {
            "model.layers": 2,
            "training.optimizer": "sgd",
            "training.momentum": 0.9,
            "training.nesterov": True,
            "training.schedule": "exponential",
            "training.decay_steps": 3,
            "training.decay_rate": 0.5,
        },
    ),
    "both-ways": (
        "lstm",
        {
            "model.bidirectional": "concat",
            "model.normalization": "layer",
            "training.optimizer": "adamw",
            "training.global_clipnorm": 0.01,
        },
    ),
    "padded": ("gru", {**SEQUENCES, "data.padding": "right", "model.layers": 2, "training.optimizer": "nadam"}),
    "dropped": (
        "simple_rnn",
        {
            "model.dropout": 0.3,
            "model.recurrent_dropout": 0.2,
            "model.l2": 1e-3,
            "model.layers": 2,
            "training.optimizer": "adamax",
            "training.loss": "huber",
        },
    ),
    "before": (
        "gru",
        {
            "model.reset_after": False,
            "model.normalization": "batch",
            "training.optimizer": "adagrad",
            "training.clipvalue": 1e-3,
            "training.batch_size": 13,
        },
    ),
    "given": (
        "lstm",
        {
            "model.initial_state": "given",
            "model.go_backwards": True,
            "training.optimizer": "adadelta",
            "training.schedule": "cosine",
            "training.decay_steps": 5,
        },
    ),
    "labels": (
        "gru",
        {
            "task": "tagging",
            "data.dataset": "symbols",
            "data.examples": 40,
            "data.padding": "left",
            "model.embedding": 3,
            "model.head": "every_output",
            "training.optimizer": "sgd",
            "training.loss": "sparse_categorical_crossentropy",
        },
    ),
}


def suite_case(name: str) -> Case:
    """Return a case of the suite by its name."""
    cell, fields = SUITE[name]
    return with_fields(load_case(cell), {**TINY, **fields, "name": name})
