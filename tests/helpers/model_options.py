"""Every option that a model has, as small examples: weights, a batch of inputs and targets, and states."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compare.config.case import make_case
from compare.config.model import ModelConfig
from compare.data.examples import Examples, Part
from compare.experiment.experiment import Experiment
from compare.experiment.initial_weights import draw_initial_weights

BATCH, TIME, FEATURES, UNITS, OUTPUTS, VOCABULARY = 4, 4, 2, 3, 2, 5

# Rows of different length; what is padded may stand anywhere, and a row may be padding altogether.
PATTERNS = {
    "right": [[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]],
    "left": [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 1, 1]],
    "scattered": [[1, 1, 1, 1], [1, 0, 0, 1], [0, 1, 0, 1], [0, 1, 1, 0]],
    "empty row": [[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 0]],
}
CROSSENTROPY = "sparse_categorical_crossentropy"
CELLS = ("simple_rnn", "lstm", "gru")


@dataclass(frozen=True)
class Option:
    """A model's fields, what pads its sequences, and its loss."""

    cell: str
    model: Mapping[str, Any] = field(default_factory=dict)
    padding: str | None = None
    loss: str = "mse"


@dataclass(frozen=True)
class Example:
    """An option made concrete: everything that a training step takes."""

    option: Option
    model: ModelConfig
    weights: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    targets: np.ndarray
    non_trainable: dict[str, np.ndarray]

    @property
    def keywords(self) -> dict[str, Any]:
        """The keywords with which either side builds the model."""
        return {
            **self.model.model_dump(exclude={"initial_state", "sequence_first"}),
            "features": FEATURES,
            "vocabulary": VOCABULARY if self.model.embedding else None,
            "outputs": OUTPUTS,
            "batch_size": BATCH if self.model.stateful else None,
            "masked": self.option.padding is not None,
            "initial_state": self.model.initial_state == "given",
            "dtype": str(self.weights["head/bias"].dtype),
        }


def _options() -> dict[str, Option]:
    computed: dict[str, Option] = {}

    def add(name: str, cell: str, padding: str | None = None, loss: str = "mse", **model: Any) -> None:
        computed[f"{cell} {name}"] = Option(cell, model, padding, loss)

    for cell in CELLS:
        add("alone", cell)
        add("without biases", cell, use_bias=False)
        add("backwards", cell, go_backwards=True)
        add("given states", cell, initial_state="given", layers=2)
        add("stateful", cell, stateful=True, layers=2)
        # No case may have these two, which both packages can have.
        add("stateful and padding", cell, "empty row", stateful=True, layers=2)
        add("stateful and padding, stepped", cell, "scattered", stateful=True, activation="elu")
        add("input dropout", cell, input_dropout=0.4)
        add("recurrent dropout", cell, recurrent_dropout=0.3)
        add("input and recurrent dropout", cell, input_dropout=0.4, recurrent_dropout=0.3, layers=2)
        for activation in ("relu", "linear", "elu", "hard_sigmoid", "sigmoid", "softplus", "softsign"):
            add(f"activation {activation}", cell, activation=activation)
        for pattern in PATTERNS:
            add(f"{pattern} padding", cell, pattern)
            add(f"{pattern} padding backwards", cell, pattern, go_backwards=True, head="every_output")
        add("every output zeroed at padding", cell, "scattered", zero_output_for_mask=True, head="every_output")
        add("layers zeroed at padding", cell, "scattered", zero_output_for_mask=True, layers=2)
        add("last output zeroed at padding", cell, "right", zero_output_for_mask=True)
        add("backwards zeroed at padding", cell, "empty row", zero_output_for_mask=True, go_backwards=True, layers=2)
        add("given states and padding", cell, "empty row", initial_state="given", layers=2)
        add("given states and dropout", cell, initial_state="given", recurrent_dropout=0.3, layers=2)
        add("activation elu and padding", cell, "empty row", activation="elu", go_backwards=True)
        add("recurrent dropout and padding", cell, "scattered", recurrent_dropout=0.3, input_dropout=0.2)
        add("given states, dropout and padding", cell, "left", initial_state="given", input_dropout=0.3, layers=2)
        add("both directions and padding", cell, "scattered", bidirectional="concat", head="every_output", layers=2)
        add("both directions, last state, padding", cell, "empty row", bidirectional="sum", layers=2)
        add("both directions, last output, padding", cell, "left", bidirectional="mul", head="last_output")
        states = {"initial_state": "given", "bidirectional": "ave"}
        add("both directions, given states, padding", cell, "right", head="every_output", **states)
    for recurrent in ("hard_sigmoid", "tanh"):
        for cell in ("lstm", "gru"):
            add(f"recurrent activation {recurrent}", cell, recurrent_activation=recurrent)
    before = {
        "alone": {},
        "without biases": {"use_bias": False},
        "input dropout": {"input_dropout": 0.4},
        "recurrent dropout": {"recurrent_dropout": 0.3, "input_dropout": 0.2},
        "given states": {"initial_state": "given", "layers": 2},
        "both directions": {"bidirectional": "concat", "layers": 2},
    }
    for name, fields in before.items():
        add(f"reset before, {name}", "gru", reset_after=False, **fields)
    add("reset before, padding", "gru", "empty row", reset_after=False)
    for merge in ("concat", "sum", "mul", "ave"):
        for head in ("last_state", "last_output", "every_output"):
            add(f"both directions {merge} {head}", "gru", bidirectional=merge, head=head, layers=2)
    add("both directions and dropout", "lstm", bidirectional="concat", recurrent_dropout=0.3, input_dropout=0.2)
    for cell in ("simple_rnn", "lstm"):
        add("embedding", cell, loss=CROSSENTROPY, embedding=3, layers=2)
        add("embedding and padding", cell, "left", CROSSENTROPY, embedding=3, head="every_output")
    for kind in ("layer", "batch"):
        for head in ("last_state", "last_output", "every_output"):
            add(f"{kind} normalization {head}", "lstm", normalization=kind, head=head, layers=2)
        add(f"{kind} normalization of both directions", "gru", normalization=kind, bidirectional="concat", layers=2)
    add("layer normalization and padding", "gru", "scattered", normalization="layer", head="every_output", layers=2)
    for head in ("last_state", "last_output", "every_output"):
        add(f"dropout {head}", "gru", dropout=0.3, head=head, layers=3)
    add("dropout and normalization", "lstm", dropout=0.3, normalization="batch", layers=2)
    add("l2", "lstm", l2=0.02, layers=2)
    add(
        "l2 of both directions and embedding",
        "gru",
        l2=0.02,
        bidirectional="concat",
        embedding=3,
        normalization="layer",
    )
    for loss in ("mse", "mae", "huber", CROSSENTROPY):
        add(f"{loss} of every output", "gru", loss=loss, head="every_output")
        add(f"{loss} of every output, padding", "gru", "empty row", loss, head="every_output")
        add(f"{loss} of the last output, padding", "gru", "right", loss)
    everything = {"layers": 3, "dropout": 0.3, "input_dropout": 0.2, "recurrent_dropout": 0.25, "l2": 0.01}
    everything |= {"bidirectional": "concat", "normalization": "layer", "embedding": 3, "head": "every_output"}
    for cell in CELLS:
        add("everything", cell, "empty row", CROSSENTROPY, **everything)
    return computed


OPTIONS = _options()


def random_weights(shape: Mapping[str, Any], seed: int, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Draw weights of the size of one, biases too, for a model of some keywords of `build`."""
    sizes = {"features": 1, "outputs": 1, "vocabulary": VOCABULARY}
    model = {name: value for name, value in shape.items() if name not in ("dtype", *sizes)}
    sizes |= {name: shape[name] for name in sizes if name in shape}
    generator = np.random.default_rng([seed, 77])
    return {
        name: (generator.normal(0, 0.6, tensor.shape) + name.endswith("gamma")).astype(dtype)
        for name, tensor in draw_initial_weights(make_case({"name": "a", "model": model}, "a"), **sizes).items()
    }


def example(name: str, dtype: str = "float64", seed: int = 0) -> Example:
    """Draw an example of an option: its inputs, states and masks are those of a step of an experiment."""
    option = OPTIONS[name]
    fields = {"cell": option.cell, "units": UNITS, **option.model}
    training = {"batch_size": BATCH}
    case = make_case({"name": "example", "dtype": dtype, "model": fields, "training": training}, name)
    generator = np.random.default_rng([seed, 78])
    shape = (BATCH, TIME, OUTPUTS) if case.model.head == "every_output" else (BATCH, OUTPUTS)
    targets = generator.normal(size=shape).astype(dtype)
    if option.loss == CROSSENTROPY:
        targets = generator.integers(0, OUTPUTS, shape[:-1], dtype=np.int32)
    sequence = generator.normal(size=(BATCH, TIME, FEATURES)).astype(dtype)
    if case.model.embedding:
        sequence = generator.integers(0, VOCABULARY, (BATCH, TIME), dtype=np.int32)
    part = Part(sequence, targets, np.array(PATTERNS[option.padding], bool) if option.padding else None)
    weights = random_weights(fields | {"features": FEATURES, "outputs": OUTPUTS}, seed, dtype)
    experiment = Experiment(case, Examples(part, part, OUTPUTS, FEATURES), None, weights, np.arange(BATCH)[None])
    inputs = experiment.batch_inputs(0, np.arange(BATCH))
    return Example(option, case.model, weights, inputs, targets, _non_trainable(case.model, generator, dtype))


def _non_trainable(model: ModelConfig, generator: np.random.Generator, dtype: str) -> dict[str, np.ndarray]:
    """States in the middle of an epoch, and running figures that have moved."""
    non_trainable: dict[str, np.ndarray] = {}
    width = 2 * model.units if model.bidirectional == "concat" else model.units
    for index in range(model.layers):
        if model.stateful:
            for part in ("h", "c") if model.cell == "lstm" else ("h",):
                non_trainable[f"layer{index}/forward/state/{part}"] = generator.normal(0, 0.5, (BATCH, model.units))
        if model.normalization == "batch":
            non_trainable[f"normalization{index}/moving_mean"] = generator.normal(0, 0.2, width)
            non_trainable[f"normalization{index}/moving_variance"] = generator.uniform(0.5, 1.5, width)
    return {name: array.astype(dtype) for name, array in non_trainable.items()}


def check_same(*, obtained: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: float) -> None:
    """Raise AssertionError naming every expected tensor that is missing or off by more than the tolerance.

    Errors are relative to the tensor's largest value, of a gradient to that of all gradients where that tensor hardly
    reaches the loss; of another shape, or not a number, is off.
    """
    assert expected
    largest = max([np.abs(value).max() for name, value in expected.items() if name.startswith("gradient/")], default=0)
    wrong = []
    for name, value in expected.items():
        if name not in obtained:
            wrong.append(f"{name} is missing")
            continue
        computed = np.asarray(obtained[name], np.float64)
        if computed.shape != np.shape(value):
            wrong.append(f"{name} has shape {computed.shape}, expected {np.shape(value)}")
            continue
        scale = max(np.abs(value).max(), 1e-2 * largest if name.startswith("gradient/") else 0) or 1.0
        error = np.abs(computed - value).max() / scale
        if not error <= tolerance:
            wrong.append(f"{name} is off by {error:.2g}, tolerance {tolerance:.2g}")
    assert not wrong, "; ".join(wrong)
