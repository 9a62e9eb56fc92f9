"""Every margin and floor of the judge, each with its derivation and what was measured of it.

Relative errors are counted in ulps of the working precision: `ulp` is that of the numbers just below one, 2^-24 in
float32, so that one rounding to nearest errs by at most one ulp. `benchmarks/power.md` has the distribution of
error / tolerance over 300 null runs, drawn from every option of models, data and trainings; how much of each tolerance
they used at most is said below.
"""

import numpy as np

# --- The single-step check: a side against the float64 reference ---

# How often the reference is computed in Monte Carlo arithmetic; the largest of the errors counts.
MONTE_CARLO_SAMPLES = 4

# A side may be this many times as far from the reference as the Monte Carlo samples are: the largest of four samples
# falls short of the largest possible, and in float64 the reference rounds too.
# Measured, error / tolerance of a null run: median 0.17, 99 % 0.51, largest 0.60.
MONTE_CARLO_MARGIN = 6.5

# Samples that happen to be exact (a sum of one term, a tensor of zeros) would tolerate nothing: one rounding, and a
# quarter for that of the reference's result.
MONTE_CARLO_FLOOR_ULPS = 1.25

# Errors go through the reference linearly, as small ones do. Where rounding carries the outputs further than this part
# of their root mean square (a model with large weights and no bound on its activations, at a high learning rate), what
# follows from them may be anything: outputs and gradients of such a step are not judged.
LINEAR_LIMIT = 0.05

# --- The trajectory: two free-running trainings against one another ---

# Matched trainings may drift this many times as far apart as the members of the ensemble did: a member is perturbed
# once, while two frameworks round differently at every operation, and four members are a small sample of a maximum.
# Measured, error / tolerance of a null run: median 0.04, 99 % 0.22, largest 0.46.
ENSEMBLE_MARGIN = 8.0

# No drift of an ensemble counts as less than this, or members that happen to agree to the last bit at the first steps
# would tolerate nothing: a loss of n terms is summed in another order on each side, with an error of log2(n) ulps for
# pairwise sums (Higham 2002, section 4.2), five in a default batch of n = 32.
ENSEMBLE_FLOOR_ULPS = 8.0

# A training of the reference that rounds at random stays as near to the exact one as the members stay to theirs, or the
# PyTorch side does something else in each. Where one of them crosses a kink, as of relu or mae, it may part by far more
# than the others; a fault that strikes other steps in each training parts them 10^4 times as far as rounding does.
WITNESS_MARGIN = 300.0

# Below this drift of an ensemble no fault can hide that is worth two more trainings by the reference.
SUSPICIOUS_DRIFT = 1e-3

# A row of the training and the step taken alone are two samples of rounding, of which the Monte Carlo samples are more.
# Measured, error / tolerance of a null run: see `benchmarks/power.md`.
ROW_MARGIN = 16.0

# The norm of a tensor's update in a row may be off by so much of that of the whole update.
UPDATE_SHARE = 1e-3


def ulp(precision: str) -> float:
    """The unit in the last place of the numbers just below one, the unit roundoff: 2^-24 in float32."""
    return float(np.finfo(precision).epsneg)
