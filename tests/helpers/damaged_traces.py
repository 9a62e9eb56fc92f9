"""Copies of finished traces, to be damaged and judged again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from compare.experiment.experiment import read_experiment
from compare.judge import Comparison, judge
from compare.run.judging import step_references
from compare.run.plan import REPETITION
from compare.storage import read_tensors, write_tensors
from compare.trace.trace import Trace, TraceWriter, read_trace

RUNNERS = {"expected": "torch", "obtained": "keras-tensorflow"}

Tensors = dict[str, np.ndarray]


class DamagedTraces:
    """A copy of one case's traces; `side` is "expected", "obtained" or the name of a member's folder."""

    def __init__(self, case_folder: Path, copy: Path) -> None:
        self.folder = Path(shutil.copytree(case_folder, copy))
        self.experiment = read_experiment(self.folder / "experiment")

    def path(self, side: str) -> Path:
        """The folder of a trace."""
        return self.folder / RUNNERS.get(side, side)

    def read(self, side: str) -> Trace:
        """A trace as it is now."""
        return read_trace(self.path(side))

    @property
    def members(self) -> list[Trace]:
        """The traces of all members of the ensemble."""
        return [read_trace(folder) for folder in sorted(self.folder.glob("member-*"))]

    def judge(self, members: list[Trace] | None = None) -> Comparison:
        """Judge the traces as they are now."""
        members = self.members if members is None else members
        return judge(self.read("expected"), self.read("obtained"), members, self.experiment)

    def judge_whole(self) -> Comparison:
        """Judge the traces as they are now, with every step checked and the repetition."""
        expected, obtained = self.read("expected"), self.read("obtained")
        references = step_references(self.experiment, expected.folder, "float32")
        repetition = read_trace(self.folder / REPETITION)
        return judge(expected, obtained, self.members, self.experiment, references, repetition=repetition)

    def change_manifest(self, side: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change what a trace says of itself."""
        file = self.path(side) / "manifest.json"
        manifest = json.loads(file.read_text())
        change(manifest)
        file.write_text(json.dumps(manifest))

    def change_rows(self, side: str, change: Callable[[list[str], np.ndarray], tuple[list[str], np.ndarray]]) -> None:
        """Change columns and rows of a trace, which are then written as one record."""
        trace = self.read(side)
        columns, rows = change(list(trace.columns), trace.rows.copy())
        written = self.folder / "written"
        facts = {name: fact for name, fact in trace.manifest.items() if name not in ("schema", "columns")}
        with TraceWriter(written, facts, columns) as writer:
            if len(rows):
                writer.append(rows)
        for file in ("manifest.json", "steps.bin"):
            (written / file).replace(trace.folder / file)
        shutil.rmtree(written)

    def set_figure(self, side: str, column: str, step: int, value: float) -> None:
        """Give one recorded figure another value."""

        def change(columns: list[str], rows: np.ndarray) -> tuple[list[str], np.ndarray]:
            rows[step, columns.index(column)] = value
            return columns, rows

        self.change_rows(side, change)

    def change_checkpoint(self, side: str, epoch: int, change: Callable[[Tensors], Tensors | None]) -> None:
        """Change the weights kept after an epoch; None removes them."""
        self._change_tensors(self.path(side) / "checkpoints" / f"{epoch:08d}.safetensors", change)

    def change_predictions(self, side: str, change: Callable[[np.ndarray], np.ndarray | None]) -> None:
        """Change the predictions; None removes them."""

        def change_tensors(tensors: Tensors) -> Tensors | None:
            predictions = change(tensors["predictions"])
            return None if predictions is None else {"predictions": predictions}

        self._change_tensors(self.path(side) / "predictions.safetensors", change_tensors)

    def change_record(self, side: str, step: int, change: Callable[[Tensors], Tensors | None]) -> None:
        """Change what a side recorded of a checked step; None removes it."""
        self._change_tensors(self.path(side) / "single_step" / f"{step:08d}.safetensors", change)

    def _change_tensors(self, file: Path, change: Callable[[Tensors], Tensors | None]) -> None:
        tensors = read_tensors(file)
        assert tensors is not None
        changed = change(dict(tensors))
        file.unlink()
        if changed is not None:
            write_tensors(file, changed)
