"""What both sides train on: windows, batch schedule and initial weights, made once and kept on disk, hashed."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.config.model_facts import plain_case
from compare.config.streams import Stream, random_stream
from compare.data.examples import Examples, Part
from compare.data.windows import Scaling, Windows, batch_schedule, make_windows, stream_order
from compare.errors import InputError
from compare.storage import digest, read_tensors, whole_file, write_json, write_tensors

if TYPE_CHECKING:  # workers read experiments in interpreters that need not have pydantic
    from compare.config.case import Case
    from compare.data.series import Series

Arrays = np.ndarray | Mapping[str, np.ndarray]

CROSSENTROPY = "sparse_categorical_crossentropy"


@dataclass(frozen=True, eq=False)
class Experiment:
    """What both sides of a case start from and train on, the same for both."""

    case: "Case"
    windows: Windows | Examples
    scaling: Scaling | None
    weights: Mapping[str, np.ndarray]
    schedule: np.ndarray

    @cached_property
    def examples(self) -> Examples:
        """What is trained on and what is held out, whatever the task; for a stateful model held out in its order."""
        examples = self.windows.as_examples()
        if not self.case.model.stateful:
            return examples
        order = stream_order(len(examples.test.inputs), self.case)
        return replace(examples, test=Part(examples.test.inputs[order], examples.test.targets[order]))

    @cached_property
    def training_inputs(self) -> Arrays:
        """What the models take of every training example; an array where that is the sequence alone."""
        return self._model_inputs(self.examples.training, Stream.TRAINING_STATES)

    @cached_property
    def test_inputs(self) -> Arrays:
        """What the models take of every held-out example."""
        return self._model_inputs(self.examples.test, Stream.TEST_STATES)

    def _model_inputs(self, part: Part, states: Stream) -> Arrays:
        model = self.case.model
        arrays: dict[str, np.ndarray] = {"sequence": part.inputs}
        if part.mask is not None:
            arrays["mask"] = part.mask
        if model.initial_state == "given":
            generator = random_stream(self.case.seed, states)
            for name in model.layer_inputs("h", "c") if model.cell == "lstm" else model.layer_inputs("h"):
                state = generator.normal(0, 0.5, (len(part.inputs), model.units))
                arrays[name] = state.astype(self.case.dtype)
        return arrays if len(arrays) > 1 or model.shared_masks else part.inputs

    def draw(self, step: int, count: int) -> dict[str, np.ndarray]:
        """Draw the dropout masks of a step, ones and zeros: (examples, …) by name, from the seed and the step alone."""
        model = self.case.model
        if not model.shared_masks:
            return {}
        generator = random_stream(self.case.seed, Stream.DROPOUT_MASKS, step)
        width = 2 * model.units if model.bidirectional == "concat" else model.units
        shapes: dict[str, tuple[float, tuple[int, ...]]] = {}
        for index in range(model.layers):
            seen = width if index else model.embedding or self.examples.features or 0
            if model.dropout:
                last = index == model.layers - 1 and model.head != "every_output"
                time = () if last else self.examples.training.inputs.shape[1:2]
                shapes[f"dropout{index}"] = (model.dropout, (*time, width))
            for name in model.layer_inputs("input_dropout", layer=index) if model.input_dropout else ():
                shapes[name] = (model.input_dropout, (model.mask_gates, seen))
            for name in model.layer_inputs("recurrent_dropout", layer=index) if model.recurrent_dropout else ():
                shapes[name] = (model.recurrent_dropout, (model.mask_gates, model.units))
        return {
            name: (generator.random((count, *shape)) >= rate).astype(self.case.dtype)
            for name, (rate, shape) in shapes.items()
        }

    def batch_inputs(self, step: int, windows: np.ndarray) -> dict[str, np.ndarray]:
        """What the models take at a step, by name, for the windows of a batch."""
        inputs = self.training_inputs
        arrays = inputs if isinstance(inputs, Mapping) else {"sequence": inputs}
        return {name: array[windows] for name, array in arrays.items()} | self.draw(step, len(windows))

    @property
    def steps(self) -> int:
        """The number of training steps, the smaller last batch of each epoch included."""
        return len(self.schedule) * self.steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """The number of training steps in an epoch, the smaller last batch included."""
        return -(-self.schedule.shape[1] // self.case.training.batch_size)

    @property
    def recorded_steps(self) -> list[int]:
        """The checked steps: 0, 1, 2, 4, 8, … and the last, smaller batch of the first epoch."""
        growing = {0, *(2**power for power in range(self.steps.bit_length()))}
        return sorted(step for step in growing | {self.steps_per_epoch - 1} if step < self.steps)

    @property
    def checkpoint_epochs(self) -> list[int]:
        """After which epochs weights are kept: 1, 2, 4, 8, … and the last."""
        epochs = len(self.schedule)
        return sorted({*(2**power for power in range(epochs.bit_length())), epochs})

    def batch(self, step: int) -> np.ndarray:
        """The windows that a step is to be trained on."""
        return self.batch_of(self.schedule, step)

    def batch_of(self, schedule: np.ndarray, step: int) -> np.ndarray:
        """The windows that a step is trained on by a schedule; none where the schedule does not reach so far."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        if epoch >= len(schedule):
            return schedule[:0].ravel()
        size = self.case.training.batch_size
        return schedule[epoch, batch * size : (batch + 1) * size]


def make_experiment(case: "Case") -> Experiment:
    """Load a case's series, cut and scale it, draw the batch schedule and the initial weights.

    Raises InputError for data that cannot be used, and for a case that takes more memory or time than the limits.
    """
    return experiment_of(case, load_checked(case))


def load_checked(case: "Case") -> "Series | Examples":
    """Load a case's data; raises InputError for data that cannot be used and for a case that would take too much."""
    from compare.data.datasets import load_data
    from compare.data.series import Series
    from compare.experiment.size import check_size, sizes_of_file, sizes_of_series

    check_size(case, sizes_of_file(case))
    data = load_data(case)
    if isinstance(data, Series):
        check_size(case, sizes_of_series(data))
    return data


def experiment_of(
    case: "Case", data: "Series | Examples", weights: Mapping[str, np.ndarray] | None = None
) -> Experiment:
    """Make the experiment of a case whose data are these, drawing initial weights unless they are given.

    Raises InputError where case and data do not fit.
    """
    from compare.data.series import Series
    from compare.experiment.initial_weights import draw_initial_weights

    windows, scaling = make_windows(data, case) if isinstance(data, Series) else (data, None)
    examples = windows.as_examples()
    check_model(case, examples)
    if weights is None:
        weights = draw_initial_weights(case, examples.features or 0, examples.outputs, examples.vocabulary)
    count = len(examples.training.inputs)
    if case.model.stateful:
        stream_order(len(examples.test.inputs), case)  # says now what cannot be predicted later
        schedule = np.tile(stream_order(count, case), (case.training.epochs, 1))
    else:
        schedule = batch_schedule(case.seed, case.training.epochs, count)
    return Experiment(case, windows, scaling, weights, schedule)


def check_model(case: "Case", examples: Examples) -> None:
    """Raise InputError where a model or its loss does not fit the examples that it is to learn from."""
    from compare.config.data import DATASET_OPTIONS

    model, masked = case.model, examples.training.mask is not None
    if (case.task == "tagging") != (model.head == "every_output"):
        fitting = '"every_output"' if case.task == "tagging" else '"last_state" or "last_output"'
        raise InputError(f"model.head {model.head!r} does not fit task {case.task!r}; give model.head = {fitting}")
    if (case.task == "forecasting") == (case.training.loss == CROSSENTROPY):
        fitting = '"mse", "mae" or "huber"' if case.task == "forecasting" else f'"{CROSSENTROPY}"'
        raise InputError(
            f"training.loss {case.training.loss!r} does not fit task {case.task!r}; give training.loss = {fitting}"
        )
    if model.stateful and "folds" not in DATASET_OPTIONS[case.data.dataset]:
        series = ", ".join(name for name, options in DATASET_OPTIONS.items() if "folds" in options)
        raise InputError(
            f"a stateful model goes on along a series, and the examples of {case.data.dataset!r} are none; "
            f"give data.dataset = {series}"
        )
    if examples.vocabulary is not None and model.embedding is None:
        raise InputError("the inputs are token ids: give model.embedding, the width of their embedding")
    if examples.vocabulary is None and model.embedding is not None:
        raise InputError("the inputs are numbers, not token ids: leave model.embedding out")
    plain = not (model.bidirectional or model.normalization or model.go_backwards or model.head == "every_output")
    if case.data.future and not (plain and examples.features == examples.outputs == 1):
        raise InputError(
            "data.future needs a model that predicts the next value of its one feature (data.horizon = 1) from a plain "
            "stack of layers: each prediction is its next input"
        )
    if model.normalization == "layer" and model.units == 1 and model.bidirectional != "concat":
        raise InputError('normalization = "layer" makes nothing of a single unit; give model.units = 2 or more')
    if masked and model.normalization == "batch":
        raise InputError('normalization = "batch" would mix padding into its figures; give "layer" or unpadded data')
    size, count = case.training.batch_size, len(examples.training.inputs)
    alone = size == 1 or (count % size == 1 and not model.stateful)
    if model.normalization == "batch" and model.head != "every_output" and alone:
        raise InputError(
            f'normalization = "batch" makes nothing of a single example, and {count} in batches of {size} leave one '
            "alone; give another training.batch_size"
        )
    if masked and model.stateful:
        raise InputError('a stateful model carries states over padding; give data.padding = "none"')
    if model.sequence_first and (masked or model.shared_masks or model.initial_state == "given"):
        raise InputError("sequence_first is for plain sequences; leave out masks, given states and dropout")


def experiment_hashes(
    data: Mapping[str, np.ndarray], schedule: np.ndarray, weights: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Hash what a side starts from; each process does so with the arrays that it holds."""
    return {"data": digest(data), "schedule": digest({"schedule": schedule}), "weights": digest(weights)}


def write_experiment(experiment: Experiment, folder: Path) -> None:
    """Write an experiment into a folder; a series as it is, not as the windows cut from it."""
    folder.mkdir(parents=True, exist_ok=True)
    windows, scaling = experiment.windows, experiment.scaling
    facts: dict[str, Any] = {"case": experiment.case.model_dump(mode="json")}
    if isinstance(windows, Windows):
        write_tensors(folder / "series.safetensors", windows.arrays())
        facts |= {"training": windows.training, "first_test": windows.first_test, "notes": windows.notes}
    else:
        write_tensors(folder / "examples.safetensors", windows.arrays())
        facts["examples"] = {
            field: getattr(windows, field)
            for field in ("outputs", "features", "vocabulary", "symbols", "labels", "notes")
        }
    if scaling is not None:
        facts["scaling"] = {"mean": scaling.mean, "standard_deviation": scaling.standard_deviation}
    write_tensors(folder / "weights.safetensors", experiment.weights)
    with whole_file(folder / "schedule.npy") as partial, partial.open("wb") as file:
        # NumPy's own writer does not say why it could not write.
        schedule = np.ascontiguousarray(experiment.schedule)
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(schedule))
        file.write(schedule.data)
    write_json(folder / "experiment.json", facts)


def read_experiment(folder: Path, read_case: Callable[[Any], Any] = plain_case) -> Experiment:
    """Read an experiment; the schedule stays on disk and is read as it is used.

    Its case has the fields that were written, validated only if `read_case` does so. Raises ValueError where a part of
    it is missing.
    """
    facts = json.loads((folder / "experiment.json").read_text("utf-8"))
    case = read_case(facts["case"])
    windows: Windows | Examples
    if "examples" in facts:
        tensors = _read_whole(folder / "examples.safetensors")
        training, test = (
            Part(*(tensors.get(f"{name}/{field}") for field in ("inputs", "targets", "mask")))  # type: ignore[arg-type]
            for name in ("training", "test")
        )
        sizes = {name: facts["examples"][name] for name in ("outputs", "features", "vocabulary")}
        symbols, labels, notes = (tuple(facts["examples"][name]) for name in ("symbols", "labels", "notes"))
        windows = Examples(training, test, **sizes, symbols=symbols, labels=labels, notes=notes)
    else:
        series = _read_whole(folder / "series.safetensors")
        window, horizon = case.data.window, case.data.horizon
        cut = (facts["training"], facts["first_test"], tuple(facts["notes"]))
        windows = Windows(series["features"], series["target"], window, horizon, *cut)
    scaling = Scaling(**facts["scaling"]) if "scaling" in facts else None
    schedule = np.load(folder / "schedule.npy", mmap_mode="r", allow_pickle=False)
    return Experiment(case, windows, scaling, _read_whole(folder / "weights.safetensors"), schedule)


def _read_whole(file: Path) -> dict[str, np.ndarray]:
    tensors = read_tensors(file)
    if tensors is None:
        raise ValueError(f"{file.parent} holds no whole experiment: {file.name} is missing or damaged")
    return tensors
