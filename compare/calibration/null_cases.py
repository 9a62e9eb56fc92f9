"""The cases of null runs, drawn at random over all that a case can say: a difference found in one is a false alarm."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compare.config.case import Case, load_case, with_fields
from compare.config.streams import Stream, random_stream
from compare.errors import InputError
from compare.experiment.experiment import make_experiment
from compare.judge.replay import affordable_steps

Choices = Mapping[str, Sequence[Any]]

# What is listed twice is drawn twice as often. What would take long altogether is drawn again: see `SECONDS`.
MODEL: Choices = {
    "model.units": (1, 3, 8, 16, 50, 256),
    "model.layers": (1, 1, 2, 3),
    "model.bidirectional": (None, None, None, "concat", "sum", "mul", "ave"),
    "model.activation": (*("tanh",) * 6, "relu", "linear", "elu", "hard_sigmoid", "sigmoid", "softplus", "softsign"),
    "model.use_bias": (True, True, True, False),
    "model.go_backwards": (False, False, False, True),
    "model.zero_output_for_mask": (False, False, True),
    "model.initial_state": ("zeros", "zeros", "given"),
    "model.dropout": (0.0, 0.0, 0.0, 0.3),
    "model.input_dropout": (0.0, 0.0, 0.0, 0.2),
    "model.recurrent_dropout": (0.0, 0.0, 0.0, 0.2),
    "model.dropout_masks": (*("shared",) * 8, "independent"),
    "model.normalization": (None, None, None, "layer", "batch"),
    "model.l2": (0.0, 0.0, 0.0, 1e-3, 0.1),
    "model.sequence_first": (False, False, False, True),
}
GATES: Choices = {"model.recurrent_activation": ("sigmoid", "sigmoid", "hard_sigmoid", "tanh")}
RESET: Choices = {"model.reset_after": (True, True, False)}
TRAINING: Choices = {
    "training.batch_size": (1, 8, 32, 64, 256),
    "training.epochs": (1, 2, 4, 10),
    "training.learning_rate": (1e-4, 1e-3, 1e-3, 1e-2, 0.1, 0.3, 1.0),
    "training.initial_weights": ("keras", "torch"),
}
OPTIMIZERS = (*("adam",) * 4, "sgd", "rmsprop", "adamw", "nadam", "adamax", "adagrad", "adadelta")
CLIPPING: Choices = {f"training.{name}": (0.01, 0.5) for name in ("clipvalue", "clipnorm", "global_clipnorm")}

TASKS = {"every_output": "tagging", "last_state": "classification"}
SERIES: Choices = {"model.head": ("last_state", "last_output"), "training.loss": ("mse", "mse", "mae", "huber")}
WINDOWS: Choices = {"data.window": (3, 8, 20, 20, 100, 200)}
EXAMPLES: Choices = {"data.window": (3, 8, 20, 60), "data.examples": (40, 80, 150)}
PADDED: Choices = {**EXAMPLES, "data.padding": ("none", "right", "left")}
TOKENS: Choices = {"model.embedding": (2, 6)}
LABELS: Choices = {"model.head": ("every_output",)}
CLASSES: Choices = {"model.head": ("last_state", "last_output")}
EITHER: Choices = {"model.head": ("every_output", "every_output", "last_state", "last_output")}

# So many steps are taken by one training in five that is drawn, whatever its epochs were to be.
LONG_STEPS = 520

# What a training may take on one core at most, as `compare.judge.replay` estimates it of a step; several are trained.
SECONDS = 2.0

# The options of each dataset; those with a head that says so have classes or labels, the others forecast.
DATASETS: Mapping[str, Choices] = {
    "sine": {**SERIES, **WINDOWS, "data.horizon": (1, 1, 3), "data.points": (120, 200, 600), "data.noise": (0.0, 0.1)},
    "sunspots": {**SERIES, **WINDOWS},
    "elnino": {**SERIES, "data.window": (3, 24), "data.horizon": (1, 12), "data.calendar": (False, True)},
    "digits": {**CLASSES, "data.examples": (40, 150)},
    "text": {**LABELS, **EXAMPLES, **TOKENS},
    "tokens": {**CLASSES, **PADDED, **TOKENS},
    "sequences": {**EITHER, **PADDED, "data.window": (24, 40)},
    "signals": {**EITHER, **PADDED, "data.padding": ("none", "right", "left", "scattered")},
    "symbols": {**EITHER, **PADDED, **TOKENS, "data.padding": ("none", "right", "left", "scattered")},
}
FORECASTS = ("sine", "sunspots", "elnino")
# As often a forecast as a task of another kind.
DRAWN = ("sine",) * 3 + ("sunspots", "elnino") + tuple(name for name in DATASETS if name not in FORECASTS)


def null_case(index: int, backend: str) -> Case:
    """Draw a null run's case by its number, for a backend; what no data or framework can do is drawn again."""
    for fields in _drawn(index, backend):
        is_long = fields.pop("long")
        try:
            case = with_fields(load_case(fields.pop("cell")), {"name": f"null-{index:03d}", "seed": index, **fields})
            experiment = make_experiment(case)
            if is_long:
                case = with_fields(case, {"training.epochs": -(-LONG_STEPS // experiment.steps_per_epoch)})
                experiment = make_experiment(case)
        except InputError:
            continue
        if affordable_steps(experiment, SECONDS) == experiment.steps:
            return case
    raise AssertionError("the draws do not end")


def _drawn(index: int, backend: str) -> Iterator[dict[str, Any]]:
    generator = random_stream(index, Stream.NULL_RUN)

    def pick(options: Sequence[Any]) -> Any:
        return options[int(generator.integers(len(options)))]

    while True:
        cell, dataset = ("simple_rnn", "lstm", "gru")[index % 3], pick(DRAWN)
        of_cell: Choices = {"simple_rnn": {}, "lstm": GATES, "gru": {**GATES, **RESET}}[cell]
        choices = {**MODEL, **of_cell, **TRAINING, **DATASETS[dataset]}
        fields = {"cell": cell, "data.dataset": dataset} | {name: pick(choices[name]) for name in choices}
        if dataset not in FORECASTS:
            fields["task"] = TASKS.get(fields["model.head"], "classification")
            fields["training.loss"] = "sparse_categorical_crossentropy"
        # Keras on TensorFlow squares and clips the rows of an embedding one by one (compare.known.defects).
        simple = backend == "tensorflow" and "model.embedding" in fields
        fields["training.optimizer"] = "sgd" if simple else pick(OPTIMIZERS)
        if not simple and pick((False, True)):
            clipping = pick(tuple(CLIPPING))
            fields[clipping] = pick(CLIPPING[clipping])
        if backend == "tensorflow":
            # Elsewhere Keras 3.15.1 computes in float32 whatever is asked for, and carries no states.
            fields["dtype"] = pick(("float32", "float32", "float64"))
            fields["model.stateful"] = pick((False, False, False, True))
        if backend == "jax" and fields.get("data.padding", "none") != "none":
            fields["model.initial_state"] = "zeros"  # what comes out at padding is a defect (compare.known.defects)
        if fields["training.batch_size"] == 1:
            few = {"training.epochs": 1, "data.window": 8, "data.examples": 40, "data.points": 120}
            fields |= {name: value for name, value in few.items() if name in fields}
        if dataset in ("sunspots", "elnino"):
            fields["training.batch_size"] = max(fields["training.batch_size"], 32)
        yield fields | {"long": pick((True, *(False,) * 4))}
