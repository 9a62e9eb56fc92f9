"""Packages that can be called: `compare.run(...)` works, though `compare.run` is a package too."""

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package that is called as the function of `compare.api` that has its name, imported when it is first needed."""

    def _function(self) -> Callable[..., Any]:
        module, _, name = self.__name__.rpartition(".")
        return getattr(importlib.import_module(f"{module}.api"), name)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._function()(*arguments, **keywords)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function())

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return f"{self.__name__}{self.__signature__}\n\n{inspect.getdoc(self._function())}"


def make_callable(package: str) -> None:
    """Let a package, by its name in `sys.modules`, be called; `help` and `inspect.signature` show what it takes."""
    sys.modules[package].__class__ = _CallablePackage
