"""What a case would take, from its fields alone: refused before anything of it is allocated."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from compare.config.gates import gate_count
from compare.errors import InputError

if TYPE_CHECKING:  # workers read experiments in interpreters that need not have pydantic
    from compare.config.case import Case
    from compare.data.series import Series

# Soft limits; the environment raises them, as the options --limit-memory (GiB) and --limit-hours do.
MEMORY_VARIABLE, HOURS_VARIABLE = "RNN_PARITY_LIMIT_MEMORY", "RNN_PARITY_LIMIT_HOURS"
DEFAULT_HOURS = 24.0

# Lower bounds, so that only what is certain to be too much is refused: a process of a framework, the weights with
# gradients, two slots and a copy, a training step's least time and the products of a fast processor.
WORKER_BYTES = 2**28
WEIGHT_COPIES = 5
STEP_SECONDS = 1e-4
OPERATIONS_PER_SECOND = 1e12

# Figures of every step that the judge holds: of both sides and four members.
TRACES = 6

# What a case is that does not say how many examples there are.
EXAMPLES, VOCABULARY, CLASSES = 200, 12, 3

# What only a file says that was read, beside a case's own sizes.
ROWS, EXAMPLES_READ, FEATURES = "rows of the data", "examples of the data", "features of the data"

# Datasets of which `examples` are generated; all others say how many there are when they are read.
GENERATED = ("signals", "symbols", "tokens", "sequences")


class Estimate(NamedTuple):
    """The least memory (bytes) and time (seconds) of a case."""

    memory: int
    seconds: float


def limits() -> tuple[float, float]:
    """Return the limits of memory, GiB (by default that of this machine), and of time, hours."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return _limit(MEMORY_VARIABLE, machine), _limit(HOURS_VARIABLE, DEFAULT_HOURS)


def _limit(variable: str, default: float) -> float:
    try:
        return float(os.environ.get(variable, default))
    except ValueError:
        raise InputError(f"{variable} = {os.environ[variable]!r} is not a number") from None


def sizes_of(case: "Case") -> dict[str, int]:
    """Return the fields of a case that say how much there is of something, by dotted name."""
    data, model, training = case.data, case.model, case.training
    sizes = {"training.epochs": training.epochs, "model.units": model.units, "model.layers": model.layers}
    sizes |= {"data.window": data.window, "data.horizon": data.horizon}
    if model.embedding:
        sizes["model.embedding"] = model.embedding
    if data.dataset == "sine":
        sizes["data.points"] = data.points
    optional = ("classes", "vocabulary", *(("examples",) if data.dataset in GENERATED and not _from_file(case) else ()))
    sizes |= {f"data.{name}": value for name in optional if (value := getattr(data, name)) is not None}
    named = ("channels", "future", "sampled", "folds")
    return sizes | {f"data.{name}": value for name in named if (value := getattr(data, name))}


def estimate(case: "Case", sizes: Mapping[str, int]) -> Estimate:
    """Estimate from below what a case with these sizes takes; whole numbers, so that none is too large to count."""
    model, data = case.model, case.data
    units, layers, epochs = sizes["model.units"], sizes["model.layers"], sizes["training.epochs"]
    window, horizon, number = sizes["data.window"], sizes["data.horizon"], 8 if case.dtype == "float64" else 4
    few = EXAMPLES if data.dataset in ("signals", "symbols") else 2
    examples = sizes.get(EXAMPLES_READ, sizes.get("data.examples", few))
    rows, features = examples * window, sizes.get(FEATURES, sizes.get("data.channels", 1))
    if series := sizes.get(ROWS, sizes.get("data.points")):
        rows, examples = series, max(series - window - horizon, 1)
    outputs = sizes.get("data.classes", CLASSES) if case.task != "forecasting" else horizon
    directions = 2 if model.bidirectional else 1
    gates, first = gate_count(model.cell), sizes.get("model.embedding", features)
    recurrent = directions * gates * units * (first + units + (layers - 1) * 2 * units)
    weights = recurrent + units * outputs + sizes.get("data.vocabulary", VOCABULARY) * sizes.get("model.embedding", 0)
    steps = epochs * -(-examples // case.training.batch_size)
    columns = 2 + (4 * layers * directions if case.training.record == "norms" else 0)
    batch = min(case.training.batch_size, examples)
    memory = (
        WORKER_BYTES
        + 8 * rows * (features + 1)
        + 8 * examples * horizon * (data.dataset == "signals")
        + 4 * epochs * examples
        + 8 * TRACES * columns * steps
        + number * weights * WEIGHT_COPIES
        + number * batch * min(window, rows) * units * gates * layers * directions
        + 8 * (sizes.get("data.future", 0) + 4 * sizes.get("data.sampled", 0))
        + 8 * rows * sizes.get("data.classes", 0) * (data.dataset == "symbols")
        + 2**12 * layers
    )
    operations = 6 * epochs * examples * min(window, rows) * recurrent
    calls = steps + layers + sizes.get("data.future", 0) + sizes.get("data.sampled", 0)
    seconds = min(operations, 10**300) / OPERATIONS_PER_SECOND + min(calls, 10**300) * STEP_SECONDS
    return Estimate(memory, seconds * sizes.get("data.folds", 1))


def sizes_of_file(case: "Case") -> dict[str, int]:
    """Return what the header of a file of sequences says there is; nothing of a file that reading will refuse."""
    from compare.data.sequences import shape_in_npz

    shape = shape_in_npz(case.data.file) if case.data.dataset == "sequences" and case.data.file else None
    return {} if shape is None else {EXAMPLES_READ: shape[0], FEATURES: shape[2]}


def sizes_of_series(series: "Series") -> dict[str, int]:
    """Return what there is of a series that was read, or made."""
    return {ROWS: len(series.target), FEATURES: series.features.shape[1]}


def check_size(case: "Case", read: Mapping[str, int] | None = None) -> None:
    """Raise InputError where a case takes more memory or time than the limits, with the largest size that fits.

    `read` has the sizes of its data, as `sizes_of_file` and `sizes_of_series` name them, once they are known.
    """
    gib, hours = limits()
    sizes = sizes_of(case) | dict(read or {})

    def fits(of: Mapping[str, int]) -> bool:
        memory, seconds = estimate(case, of)
        return memory <= gib * 2**30 and seconds <= hours * 3600

    if fits(sizes):
        return
    memory, seconds = estimate(case, sizes)
    takes = (
        f"{min(memory, 10**300) / 2**30:.3g} GiB of memory (the limit is {gib:.3g}; --limit-memory GIB raises it)"
        if memory > gib * 2**30
        else f"{seconds / 3600:.3g} hours (the limit is {hours:.3g}; --limit-hours HOURS raises it)"
    )
    raise InputError(f"case {case.name} would take at least {takes}: {_advice(sizes, list(_largest(sizes, fits)))}")


def check_jobs(jobs: int | None) -> None:
    """Raise InputError where so many processes at a time take more memory than the limit."""
    gib, _ = limits()
    largest = max(int(gib * 2**30 // WORKER_BYTES), 1)
    if jobs is not None and jobs > largest:
        raise InputError(
            f"--jobs {_short(jobs)} would take at least {min(jobs, 10**300) * WORKER_BYTES / 2**30:.3g} GiB of memory "
            f"(the limit is {gib:.3g}; --limit-memory GIB raises it); the largest that fits is {largest}"
        )


def _largest(sizes: Mapping[str, int], fits: Callable[[Mapping[str, int]], bool]) -> Iterator[tuple[str, int]]:
    """Yield each size that alone could be less so that all fits, the largest first, with the largest that does."""
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        low, high = 0, sizes[name]
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits({**sizes, name: middle}) else (low, middle)
        if low:
            yield name, low


def _advice(sizes: Mapping[str, int], smaller: list[tuple[str, int]]) -> str:
    if not smaller:
        names = sorted(sizes, key=lambda name: -sizes[name])[:3]
        return f"no single field makes it fit; give less of {', '.join(names)}"
    name, largest = smaller[0]
    return f"{name} = {_short(sizes[name])} is too large, the largest that fits is {largest}"


def _short(number: int) -> str:
    return str(number) if number < 10**15 else f"{min(number, 10**300):.3g}"


def _from_file(case: "Case") -> bool:
    return case.data.file is not None or case.data.csv is not None
