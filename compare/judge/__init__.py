"""The judge: two traces and an ensemble of the reference's in, a comparison out; NumPy only."""

from compare.judge.judge import judge
from compare.judge.step_reference import StepReference
from compare.judge.verdict import Comparison, Curves, Difference, Verdict

__all__ = ["Comparison", "Curves", "Difference", "StepReference", "Verdict", "judge"]
