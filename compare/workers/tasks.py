"""What a pool is given to do and what it tells of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compare.workers.protocol import Request


@dataclass(frozen=True)
class Member:
    """Which member of the ensemble a training is: perturbed in the last bit of a precision, as a seed has it.

    One that `repeats` is not perturbed: it is the training itself once more, by another loop.
    """

    precision: str
    seed: int
    repeats: bool = False


@dataclass(frozen=True)
class Task:
    """One training for one runner: from an experiment's folder to a trace's folder.

    With `reference`, the PyTorch runner's trace, single steps are checked from its states; it must be whole first.
    Trainings of one runner with independent dropout masks are numbered by `sample`. A task that comes `after` others
    waits for their end, whatever becomes of them; one that judges has the `backends` to judge.
    """

    runner: str
    case: str
    experiment: Path
    out: Path
    reference: Path | None = None
    member: Member | None = None
    fault: str | None = None
    sample: int = 0
    after: tuple[Path, ...] = ()
    backends: tuple[str, ...] = ()

    @property
    def needs(self) -> Path | None:
        """The trace that must be whole before this task can be given to a worker."""
        return None if self.reference == self.out else self.reference

    def request(self) -> Request:
        """What a worker is asked for; what it waits for is the pool's business.

        Paths are absolute: a worker that is kept warm may have been started in another folder.
        """
        options: dict[str, Any] = {
            "runner": self.runner,
            "case": self.case,
            "experiment": str(self.experiment.absolute()),
            "out": str(self.out.absolute()),
            "reference": None if self.reference is None else str(self.reference.absolute()),
            "member": None if self.member is None else vars(self.member),
            "fault": self.fault,
            "sample": self.sample,
            "backends": self.backends,
        }
        return Request("perform", options)


def task_of(request: Request) -> Task:
    """Read the task that a worker is asked for."""
    options = dict(request.options)
    reference, member = options.pop("reference"), options.pop("member")
    return Task(
        experiment=Path(options.pop("experiment")),
        out=Path(options.pop("out")),
        reference=None if reference is None else Path(reference),
        member=None if member is None else Member(**member),
        backends=tuple(options.pop("backends")),
        **options,
    )


@dataclass(frozen=True)
class Event:
    """What happened to a task: it started, made progress, was done, failed with an error, or is tried again after one.

    `died` where its process ended by itself or was killed by another.
    """

    kind: Literal["started", "progress", "done", "failed", "retried"]
    task: Task
    epoch: int = 0
    loss: float | None = None
    error: str | None = None
    log: str | None = None
    died: bool = False
