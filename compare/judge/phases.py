"""The phases of a training step, in the order of computation."""

from typing import Literal, get_args

# "start" is what comes before the first step, "evaluation" what is predicted after the last one.
Phase = Literal["start", "forward", "loss", "gradient", "clip", "update", "evaluation"]
PHASES: tuple[Phase, ...] = get_args(Phase)

# Computed in every step: these the single-step check compares with the reference.
STEP_PHASES = PHASES[1:-1]

# Of these a trace has figures at every step, by which trajectories are compared.
TRAJECTORY_PHASES: tuple[Phase, ...] = ("loss", "gradient", "update")
