"""The command `explain`: where a user's own two models first differ, and why. Called, it does so."""

from compare.callable_package import make_callable

make_callable(__name__)
