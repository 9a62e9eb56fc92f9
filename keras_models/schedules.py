"""Learning rates by the number of steps done, Keras's own; `torch_models/schedules.py` is the mirror."""

import keras

SCHEDULES = ("constant", "exponential", "cosine", "piecewise")


def build_schedule(
    schedule: str,
    learning_rate: float,
    decay_steps: int | None,
    decay_rate: float | None,
    boundaries: tuple[int, ...],
    values: tuple[float, ...],
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Build a schedule by name from the options that it needs; raises ValueError for an unknown one."""
    if schedule == "constant":
        return float(learning_rate)
    if schedule == "exponential":
        return keras.optimizers.schedules.ExponentialDecay(learning_rate, decay_steps, decay_rate)
    if schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(learning_rate, decay_steps)
    if schedule == "piecewise":
        return keras.optimizers.schedules.PiecewiseConstantDecay(list(boundaries), list(values))
    raise ValueError(f"schedule={schedule!r} is unknown; accepted: {', '.join(SCHEDULES)}")
