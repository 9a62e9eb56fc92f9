"""The command `tune`: a search for the best fields of a case. Called, the package searches: `compare.tune(...)`."""

from compare.callable_package import make_callable

make_callable(__name__)
