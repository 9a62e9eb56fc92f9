"""What an editor is given: a confirmed cause, the pair file that has it, and what is known of Keras's training."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from compare.explain.fixes.pair_source import Change, Edit, PairSource
from compare.judge.verdict import Cause

# What no line of the pair file says: where `torch_side` returns something else than a triple.
NO_TRIPLE = "torch_side() has no line `return module, loss, optimizer`"


@dataclass(frozen=True)
class Request:
    """One cause to be fixed in a pair file; `trace` is what Keras's training told."""

    cause: Cause
    source: PairSource
    trace: Mapping[str, Any]

    @cached_property
    def code(self) -> str:
        """The code of the fix without the remark behind it, named as the file can name it."""
        return self.source.name_in_scope((self.cause.fix or "").partition("  #")[0].strip())

    @property
    def expression(self) -> str:
        """The user's expression in which it shows; empty where none is known."""
        return str((self.cause.source or {}).get("expression") or "")

    @property
    def line(self) -> int:
        """The line of that expression."""
        return int((self.cause.source or {}).get("line") or 0)

    def edit(self, message: str, *changes: Change) -> Edit:
        """An edit that is made because of this cause."""
        return Edit(f"{self.cause.name}: {message}", changes)

    def before_optimizer(self, lines: list[str], message: str) -> Edit | None:
        """Lines, with `module.` for the module's name, put where the module is made and the optimizer is not."""
        returned = self.source.returned()
        if returned is None:
            return None
        module = self.source.text_of(returned.module)
        optimizer = self.source.optimizer()
        function = self.source.function("torch_side")
        assert function is not None  # it has the return
        statement = next(
            (
                node
                for node in function.body
                if optimizer is not None and node.lineno <= optimizer.lineno <= (node.end_lineno or 0)
            ),
            returned.statement,
        )
        if not module.isidentifier():
            return self.edit(
                message,
                self.source.before(returned.statement, [f"module = {module}", *lines]),
                self.source.replaced(returned.module, "module"),
            )
        lines = [line.replace("module.", f"{module}.") for line in lines]
        return self.edit(message, self.source.before(statement, lines))

    def before_return(self, lines: list[str], message: str, *changes: Change) -> Edit | None:
        """Lines put before the return of `torch_side`, with `MODULE` and `OPTIMIZER` for what it returns."""
        returned = self.source.returned()
        if returned is None:
            return None
        more = list(changes)
        for word, node in (("MODULE", returned.module), ("OPTIMIZER", returned.optimizer)):
            text = self.source.text_of(node)
            if not any(word in line for line in lines):
                continue
            if not text.isidentifier():
                name = word.lower()
                inside = [c for c in more if self.source.span(node)[0] <= c[0] < self.source.span(node)[1]]
                if inside:
                    return None
                lines = [f"{name} = {text}", *lines]
                more.append(self.source.replaced(node, name))
                text = name
            lines = [line.replace(word, text) for line in lines]
        return self.edit(message, self.source.before(returned.statement, lines), *more)

    def wrapped_loss(self, body: str, message: str) -> Edit | None:
        """The loss function in another, whose result is `body` of `loss`, `prediction`, `target` and `rest`."""
        returned = self.source.returned()
        if returned is None:
            return None
        name = "loss_as_in_keras"
        loss = self.source.text_of(returned.loss)
        if f"def {name}" in self.source.text:
            name += "_too"
        lines = ["", f"def {name}(prediction, target, *rest, loss={loss}):", f"    return {body}", ""]
        return self.before_return(lines, message, self.source.replaced(returned.loss, name))
