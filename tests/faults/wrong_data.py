"""Planted faults: data and schedules that differ after both sides' hashes agreed."""

import numpy as np


def _replace_schedule(side, change):
    schedule = np.array(side.schedule)
    side.schedule = change(schedule)


def one_window_shifted(side):
    """One window is the one after it."""
    inputs = np.array(side.inputs)
    inputs[5] = inputs[6]
    side.inputs = inputs


def all_targets_shifted(side):
    """Every target is the one before it."""
    side.targets = np.roll(np.array(side.targets), 1, axis=0)


def batches_swapped_in_third_epoch(side):
    """Two batches change places in the third epoch."""
    size = side.experiment.case.training.batch_size

    def change(schedule):
        schedule[2] = np.concatenate([schedule[2, size : 2 * size], schedule[2, :size], schedule[2, 2 * size :]])
        return schedule

    _replace_schedule(side, change)


def samples_swapped_within_a_batch(side):
    """Two samples of the first batch change places, which changes nothing but the order of a sum."""

    def change(schedule):
        schedule[0, [0, 1]] = schedule[0, [1, 0]]
        return schedule

    _replace_schedule(side, change)


def last_partial_batch_dropped(side):
    """The last, smaller batch of every epoch is dropped."""
    size = side.experiment.case.training.batch_size
    _replace_schedule(side, lambda schedule: schedule[:, : schedule.shape[1] // size * size])


def not_shuffled_again(side):
    """The first epoch's order is used in every epoch."""
    _replace_schedule(side, lambda schedule: np.repeat(schedule[:1], len(schedule), axis=0))


def scaled_on_all_data(side):
    """The inputs were scaled with figures that include the held-out part."""
    side.inputs = np.array(side.inputs) * side.inputs.dtype.type(1.003)


def inputs_in_half_precision(side):
    """The inputs went through float16."""
    side.inputs = np.array(side.inputs).astype(np.float16).astype(side.inputs.dtype)


def not_a_number(side):
    """One input is NaN."""
    inputs = np.array(side.inputs)
    inputs[20, 0, 0] = np.nan
    side.inputs = inputs


def one_epoch_missing(side):
    """The last epoch is missing."""
    _replace_schedule(side, lambda schedule: schedule[:-1])
