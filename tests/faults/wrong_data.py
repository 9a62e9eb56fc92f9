"""Planted faults: data and schedules that differ after both sides' hashes agreed."""

import numpy as np


def _schedule(change):
    """Train by another schedule: change(schedule, batch size) -> schedule, or None where it was changed in place."""

    def plant(side):
        schedule = np.array(side.schedule)
        changed = change(schedule, side.experiment.case.training.batch_size)
        side.schedule = schedule if changed is None else changed

    return plant


def _data(name, change):
    """Train on other inputs or targets: change(array) -> array, or None where it was changed in place."""

    def plant(side):
        array = np.array(getattr(side, name))
        changed = change(array)
        setattr(side, name, array if changed is None else changed)

    return plant


# Two batches change places in the third epoch.
batches_swapped_in_third_epoch = _schedule(
    lambda schedule, size: schedule[2].__setitem__(slice(2 * size), np.roll(schedule[2, : 2 * size], size))
)
# Two samples of the first batch change places, which changes nothing but the order of a sum.
samples_swapped_within_a_batch = _schedule(lambda schedule, _: schedule[0].__setitem__([0, 1], schedule[0, [1, 0]]))
# The last, smaller batch of every epoch is dropped.
last_partial_batch_dropped = _schedule(lambda schedule, size: schedule[:, : schedule.shape[1] // size * size])
# The first epoch's order is used in every epoch.
not_shuffled_again = _schedule(lambda schedule, _: np.repeat(schedule[:1], len(schedule), axis=0))
# The last epoch is missing.
one_epoch_missing = _schedule(lambda schedule, _: schedule[:-1])

# One window is the one after it; one input is NaN.
one_window_shifted = _data("inputs", lambda inputs: inputs.__setitem__(5, inputs[6]))
not_a_number = _data("inputs", lambda inputs: inputs.__setitem__((20, 0, 0), np.nan))
# The inputs were scaled with figures that include the held-out part, or went through float16.
scaled_on_all_data = _data("inputs", lambda inputs: inputs * inputs.dtype.type(1.003))
inputs_in_half_precision = _data("inputs", lambda inputs: inputs.astype(np.float16).astype(inputs.dtype))
# Every target is the one before it.
all_targets_shifted = _data("targets", lambda targets: np.roll(targets, 1, axis=0))
