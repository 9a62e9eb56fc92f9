"""The command `run`: from cases to a verdict. Called, the package runs: `compare.run("lstm")`."""

from compare.callable_package import make_callable

make_callable(__name__)
