"""A pair file at work: both sides opened, matched, given the same weights, and run with changes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.explain.causes.candidates import Candidate, Context
from compare.explain.comparing import Comparator, Stage
from compare.explain.matching import Match, match_layers
from compare.explain.pair_file import Pair
from compare.explain.processes import SideError, SideProcess, Sides

# Without `epochs` two are trained, so that the first step of a second epoch is seen; never more than MAX_STEPS.
EPOCHS, MAX_STEPS = 2, 40

# Steps kept whole: a few at the start, and around the smaller last batch of the first epoch.
FIRST_STEPS = 4

ENSEMBLE_SIZE = (1, 2, 3)

# How many numbers a side may keep for one step before only the first steps are kept whole.
MANY_NUMBERS = 2_000_000


class Investigation:
    """Runs both sides of a pair from the same weights on the same batches, with counterfactuals.

    Raises InputError, with the file's own line, for a mistake in the pair file; SideError where a process died.
    """

    def __init__(self, sides: Sides, pair: Pair) -> None:
        self.sides, self.pair = sides, pair
        self._runs: dict[str, dict[str, np.ndarray]] = {}
        file = str(pair.file)
        # Each process is asked for once: one that dies between its request and its answer would be started anew.
        keras_side, torch_side = sides.keras, sides.torch
        keras_side.send("open", file=file)
        torch_side.send("open", file=file)
        self._receive(keras_side, "keras_side")
        options, _ = self._receive(torch_side, "torch_side")
        self.batch_size = int(options["batch_size"])
        data = self._data()
        self.inputs, self.targets = data["inputs"], data["targets"]
        self.batches = self._schedule(options)
        first = self.batches[0]
        for side in (keras_side, torch_side):
            side.send("set_data", data)
            side.receive()
            side.send("describe", batch=first)
        torch, torch_failure = self._described(torch_side, "torch_side")
        keras, keras_failure = self._described(keras_side, "keras_side")
        for failure in (keras_failure, torch_failure):
            if failure is not None:
                raise failure
        assert keras is not None  # neither failed
        assert torch is not None
        (self.keras, self.weights), (self.torch, _) = keras, torch
        self.matches: list[Match] = match_layers(
            self.keras, self._without_own(self.torch), str(self.pair.file), options["parameter_map"]
        )
        with_dropout = self.keras["dropout_calls"] or self.torch["dropout_calls"]
        self.dropout = "off" if not with_dropout else "rows" if self.torch["reordered"] else "shared"
        self.steps = self._recorded()

    # Opening ----------------------------------------------------------------------------------------------------

    def _receive(self, side: SideProcess, function: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        try:
            return side.receive()
        except SideError as error:
            if error.died:
                raise
            # What a side says of one of the file's options begins with its name.
            function = next((name for name in ("torch_step", "scheduler") if f" {name}()" in str(error)), function)
            location = f"{self.pair.file}:{error.line or self._line(function)}"
            raise InputError(f"{location}: {function}(): {error}{self._shapes(function)}") from None

    def _shapes(self, function: str) -> str:
        if not hasattr(self, "inputs"):
            return ""
        return f" (data() gives inputs {self.inputs.shape} and targets {self.targets.shape})"

    def _line(self, function: str) -> int:
        for number, line in enumerate(self.pair.file.read_text("utf-8").splitlines(), 1):
            if line.startswith(f"def {function}"):
                return number
        return 1

    def _data(self) -> dict[str, np.ndarray]:
        torch_side = self.sides.torch
        torch_side.send("data")
        _, data = self._receive(torch_side, "data")
        return data

    def _described(self, side: SideProcess, function: str) -> tuple[Any, Exception | None]:
        try:
            return self._receive(side, function), None
        except (InputError, SideError) as error:
            return None, error

    def _without_own(self, torch: Mapping[str, Any]) -> dict[str, Any]:
        own = set(torch["own_parameters"])
        return {**torch, "unknown": [name for name in torch["unknown"] if name not in own]}

    def _schedule(self, options: Mapping[str, Any]) -> list[list[int]]:
        """The windows of every batch: in order, or shuffled every epoch where the pair file has a seed."""
        draw = None if options["seed"] is None else np.random.default_rng(options["seed"])
        epochs = max(int(options["epochs"]), EPOCHS)
        batches: list[list[int]] = []
        for _ in range(epochs):
            order = np.arange(len(self.inputs)) if draw is None else draw.permutation(len(self.inputs))
            batches += [order[i : i + self.batch_size].tolist() for i in range(0, len(order), self.batch_size)]
        return batches[:MAX_STEPS]

    def _recorded(self) -> list[int]:
        numbers = sum(int(value.size) for value in self.weights.values())
        an_epoch = -(-len(self.inputs) // self.batch_size)
        count = len(self.batches)
        few = set(range(min(FIRST_STEPS, count)))
        around = {an_epoch - 2, an_epoch - 1, an_epoch, count - 2, count - 1}
        return sorted(step for step in few | (around if numbers < MANY_NUMBERS else set()) if 0 <= step < count)

    # Running ----------------------------------------------------------------------------------------------------

    def keras_run(self, candidates: Sequence[Candidate], dropout: str) -> dict[str, np.ndarray]:
        """Train the Keras side; what it was given at the start is in the run too."""
        changes = [dict(change) for candidate in candidates for change in candidate.keras]
        key = json.dumps(["keras", changes, dropout])
        if key not in self._runs:
            _, run = self.sides.keras.ask(
                "run", self.weights, batches=self.batches, changes=changes, recorded=self.steps, dropout=dropout
            )
            zeroed = {f"{change['key']}/{change['tensor']}" for change in changes if change["change"] == "zero"}
            start = {name: np.zeros_like(value) if name in zeroed else value for name, value in self.weights.items()}
            self._runs[key] = {**run, **start}
        return self._runs[key]

    def torch_run(
        self, candidates: Sequence[Candidate], dropout: str, perturbed: int | None = None
    ) -> dict[str, np.ndarray]:
        """Train the PyTorch side; with `perturbed` from weights that differ in their last bits."""
        changes = [dict(change) for candidate in candidates for change in candidate.torch]
        zeroed = sorted(
            f"{change['key']}/{change['tensor']}"
            for candidate in candidates for change in candidate.keras if change["change"] == "zero"
        )  # fmt: skip
        key = json.dumps(["torch", changes, dropout, perturbed, zeroed])
        if key not in self._runs:
            _, run = self.sides.torch.ask(
                "run", self._torch_start(changes), batches=self.batches, changes=changes, recorded=self.steps,
                dropout=dropout, perturbed=perturbed,
            )  # fmt: skip
            self._runs[key] = run
        return self._runs[key]

    def torch_weights(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weights of the Keras side under the names of the PyTorch side's parts, and under Keras's own for the user."""
        held = {}
        for match in self.matches:
            for name in match.tensors:
                location = f"{match.torch['key']}/{name}"
                if name in match.keras["shapes"] and name in match.torch["shapes"]:
                    held[location] = weights[f"{match.keras['key']}/{name}"]
                elif name in match.torch["shapes"] and name in ("bias", "beta"):
                    held[location] = np.zeros(match.torch["shapes"][name], np.float32)
            for name, variable in match.keras["variables"].items():
                held[f"keras:{variable}"] = weights[f"{match.keras['key']}/{name}"]
        return held

    def _torch_start(self, changes: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        masked = any(change["change"] == "masked" for change in changes)
        return self.torch_weights(self.weights) | (self._masks() if masked else {})

    def _masks(self) -> dict[str, np.ndarray]:
        """Which timesteps Keras computes at every step, and in the evaluation, which is of the first batch."""
        run = self.keras_run([], "off")
        key = self.keras["masks"][0]
        masks = {
            f"mask:{step}": run[f"mask:{step}"].astype(np.uint8)
            for step in range(len(self.batches)) if f"mask:{step}" in run
        }  # fmt: skip
        ends = run.get(f"end/evaluation/mask/{key}")
        return masks | ({} if ends is None else {f"mask:{len(self.batches)}": ends.astype(np.uint8)})

    def stages(self, candidates: Sequence[Candidate], dropout: str, members_of: Sequence[Candidate]) -> list[Stage]:
        """Compare both sides with causes taken away, with rounding error measured without `members_of`'s."""
        keras, torch = self.keras_run(candidates, dropout), self.torch_run(candidates, dropout)
        without_ensemble = self.torch_run(members_of, dropout)
        members = [
            _moved_alike(torch, without_ensemble, self.torch_run(members_of, dropout, seed)) for seed in ENSEMBLE_SIZE
        ]
        excluded = {name for candidate in candidates for name in candidate.excluded}
        rule = self.keras["rule"] or {}
        comparator = Comparator(self.matches, excluded, rule.get("beta_2"), (keras, torch, members))
        return comparator.stages(self.steps, len(self.batches))

    def context(self, stage: Stage, candidates: Sequence[Candidate], dropout: str) -> Context:
        """What the causes of a difference are proposed from."""
        batch = self.batches[min(stage.step, len(self.batches) - 1)] if stage.phase != "evaluation" else self.batches[0]
        return Context(
            self.keras, self.torch, self.matches, stage,
            self.keras_run(candidates, dropout), self.torch_run(candidates, dropout),
            self.inputs[batch], self.targets[batch], self.batch_size, self.inputs,
        )  # fmt: skip


def _moved_alike(
    run: Mapping[str, np.ndarray], without_ensemble: Mapping[str, np.ndarray], member: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """The ensemble member that a run would have, if rounding did to it what it does to another run."""
    if run is without_ensemble:
        return member
    return {
        name: run[name] + (value.astype(np.float64) - without_ensemble[name])
        for name, value in member.items()
        if name in run and name in without_ensemble and run[name].shape == without_ensemble[name].shape == value.shape
    }
