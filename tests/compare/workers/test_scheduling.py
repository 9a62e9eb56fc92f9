"""Which task comes next, and when another worker is worth its start."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from compare.workers.scheduling import Backlog, Choice, Scheduler, Worker
from compare.workers.tasks import Task


def task(runner: str, name: str = "", **fields: object) -> Task:
    """A training that exists in name only."""
    return Task(runner, "lstm", Path(), Path(name or runner), **fields)


def worker(runner: str, at: Task | None = None, alive: bool = True) -> Worker:
    """A worker without a process."""
    return Worker(runner, SimpleNamespace(alive=alive), at)


def test_an_idle_worker_goes_first() -> None:
    """A task is given to a worker of its runner that has none and lives, before any is started."""
    busy, dead, idle = worker("torch", task("torch", "other")), worker("torch", alive=False), worker("torch")
    able = [task("keras-jax"), task("torch")]
    assert Scheduler().choose(able, able, [busy, dead, idle]) == Choice(able[1], "torch", idle)


def test_what_compiles_longest_is_started_first() -> None:
    """While the PyTorch runner trains, the process is warmed up whose trainings will take the longest."""
    tasks = [task(runner) for runner in ("keras-tensorflow", "keras-torch", "keras-jax")]
    assert Scheduler().choose([], tasks, []) == Choice(None, "keras-jax")
    assert Scheduler().choose(tasks[:2], tasks, []) == Choice(tasks[0], "keras-tensorflow")


def test_what_died_early_is_not_warmed_up_again() -> None:
    """A runner whose process died before it was ready is started for a task alone."""
    scheduler = Scheduler()
    scheduler.died_early.add("torch")
    assert scheduler.choose([], [task("torch")], []) is None
    assert scheduler.choose([task("torch")], [task("torch")], []) == Choice(task("torch"), "torch")


@pytest.mark.parametrize(("seconds", "started"), [(0.5, False), (2.0, True)], ids=["short", "long"])
def test_a_second_worker_must_be_worth_its_import(seconds: float, started: bool) -> None:
    """Four tasks that wait for a busy worker get another one where they take longer than its import."""
    scheduler = Scheduler()
    scheduler.import_seconds, scheduler.task_seconds = {"torch": 3.0}, {"torch": seconds}
    able = [task("torch", str(number)) for number in range(4)]
    choice = scheduler.choose(able, able, [worker("torch", task("torch", "other"))])
    assert choice == (Choice(able[0], "torch") if started else None)


def test_a_task_waits_for_what_it_needs() -> None:
    """A task is able when its reference and all that it comes after neither wait nor are at work."""
    first, needing = task("torch"), task("keras-jax", reference=Path("torch"))
    last = task("judge", after=(Path("torch"), Path("keras-jax")))
    backlog = Backlog([], retries=0)
    backlog.waiting = [first, needing, last]
    assert backlog.able([]) == [first]
    backlog.waiting = [needing, last]
    assert backlog.able([first]) == []
    assert backlog.able([]) == [needing]
    backlog.waiting = [last]
    assert backlog.able([]) == [last]


def test_a_task_without_its_reference_is_given_up() -> None:
    """Where a reference has failed what is compared to it has too; what comes after that goes on."""
    needing, last = task("keras-jax", reference=Path("torch")), task("judge", after=(Path("keras-jax"),))
    backlog = Backlog([], retries=0)
    backlog.waiting, backlog.failed = [needing, last], {Path("torch")}
    assert backlog.give_up() == [needing]
    assert backlog.waiting == [last]
    assert Path("keras-jax") in backlog.failed


def test_a_task_is_tried_again_so_often(tmp_path: Path) -> None:
    """A task waits again as often as it may be retried, first of all, and what it had written is gone."""
    lost, backlog = task("torch", str(tmp_path / "out")), Backlog([], retries=1)
    backlog.waiting = [task("keras-jax")]
    lost.out.mkdir()
    assert backlog.retry(lost)
    assert backlog.waiting[0] is lost
    assert not lost.out.exists()
    assert not backlog.retry(lost)


def test_tasks_are_drawn_as_they_are_needed() -> None:
    """Of a sweep without end no more is drawn than is looked at."""
    backlog = Backlog((task("torch", str(number)) for number in range(10**9)), retries=0)
    backlog.waiting = backlog.draw()
    assert 0 < len(backlog.waiting) < 100
    assert backlog.draw() == []
