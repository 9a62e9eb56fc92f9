"""Statements that are repeated with other names, as a loop over time leaves them, written as a loop again."""

import re
from collections.abc import Sequence

TOKENS = re.compile(r'"[^"]*"|[A-Za-z_]\w*|\d+\.\d*(?:e[+-]?\d+)?|\d+|\s+|.')
TARGETS = re.compile(r"([A-Za-z_]\w*(?:, [A-Za-z_]\w*)*) = ")
LIST = re.compile(r"\[([\w\s,]+)\]")
# How often something is repeated before it becomes a loop.
FEWEST = 3
# Where a name is assigned: the statement, and which of its targets.
Place = tuple[int, int]


class NoLoop(Exception):
    """These repetitions are no loop."""


def rolled(statements: Sequence[str], width: int) -> tuple[list[str], set[str]]:
    """The statements with their longest repetition as a loop, and the names that have vanished in it."""
    places = {name: (i, j) for i, text in enumerate(statements) for j, name in enumerate(targets(text))}
    tokens = [TOKENS.findall(text) for text in statements]
    shapes = [tuple("N" if t.isdigit() else "V" if t in places else t for t in line) for line in tokens]
    for start, period, times in _repetitions(shapes):
        try:
            return _Loop(statements, tokens, places, start, period, times).written(width)
        except NoLoop:
            continue
    return list(statements), set()


def targets(text: str) -> list[str]:
    """The names that a statement assigns."""
    match = TARGETS.match(text)
    return match[1].split(", ") if match else []


def _repetitions(shapes: Sequence[tuple[str, ...]]) -> list[tuple[int, int, int]]:
    """Starts, periods and numbers of repetitions, those first that save the most."""
    numbers: dict[tuple[str, ...], int] = {}
    keys = [numbers.setdefault(shape, len(numbers)) for shape in shapes]
    found = []
    for period in range(2, len(keys) // FEWEST + 1):
        same = 0
        for end in range(period, len(keys) + 1):
            if end < len(keys) and keys[end] == keys[end - period]:
                same += 1
                continue
            for shift in range(min(period, same + 1)):  # it may begin at any of its statements
                times = (same - shift) // period + 1
                if times >= FEWEST:
                    found.append((end - same - period + shift, period, times))
            same = 0
    return sorted(found, key=lambda entry: -entry[1] * (entry[2] - 1))


class _Loop:
    """One repetition: `times` blocks of `period` statements from `start` on."""

    def __init__(
        self, statements: Sequence[str], tokens: Sequence[list[str]], places: dict[str, Place], start: int, period: int,
        times: int,
    ) -> None:  # fmt: skip
        self.statements, self.tokens, self.places = statements, tokens, places
        self.start, self.period, self.times = start, period, times
        self.end = start + period * times
        self.first: int | None = None
        self.names = {name for name, (i, _) in places.items() if start <= i < self.end}
        outside = set(places) - self.names
        self.canonical: dict[Place, str] = {}
        for offset in range(period):
            for place, name in enumerate(targets(statements[start + offset])):
                base = re.sub(r"(_\d+)+$", "", name)
                fresh = base not in outside and base not in self.canonical.values()
                self.canonical[offset, place] = base if fresh else name
        self.initial: dict[str, str] = {}

    def written(self, width: int) -> tuple[list[str], set[str]]:
        """All statements with the loop among them; raises NoLoop."""
        body = [self._statement(offset) for offset in range(self.period)]
        before, appended = [], []
        after = list(self.statements[self.end :])
        for place, name in self.canonical.items():
            lines = self.statements[self.start + place[0] : self.end : self.period]
            every = [targets(line)[place[1]] for line in lines]
            collected = re.sub(r"(_\d+)*$", "_list", name, count=1)
            after, prefix = _with_list(after, every, collected)
            if prefix is not None:
                before.append(f"{collected} = [{', '.join(prefix)}]")
                appended.append(f"{collected}.append({name})")
            after = [_renamed(text, {every[-1]: name}) for text in after]
        left = {token for text in after for token in TOKENS.findall(text)} & self.names
        if left - set(self.canonical.values()):
            raise NoLoop
        starts = {name: value for name, value in self.initial.items() if name != value}
        names = self._simple_names([*body, *after], starts)
        parts = (body, after, before, appended)
        body, after, before, appended = ([_renamed(text, names) for text in texts] for texts in parts)
        before += [f"{names.get(n, n)} = {value}" for n, value in starts.items() if names.get(n, n) != value]
        head = "for _ in range" if self.first is None else "for t in range"
        first = self.first or 0
        bounds = f"{first}, {first + self.times}" if first else str(self.times)
        loop = [f"{head}({bounds}):", *(f"    {line}" for line in [*body, *appended])]
        whole = [*self.statements[: self.start], *before, "\n".join(loop), *after]
        if any("\n" in line or len(line) + 8 > width for line in body) or "t" in self.places:
            raise NoLoop
        return whole, self.names | set(self.canonical.values()) | set(names.values())

    def _simple_names(self, texts: Sequence[str], starts: dict[str, str]) -> dict[str, str]:
        """Names without their numbers, where what had them before is used no more."""
        used = {token for text in texts for token in TOKENS.findall(text)}
        simple: dict[str, str] = {}
        for name in self.canonical.values():
            base = re.sub(r"(_\d+)+$", "", name)
            others = {value for other, value in starts.items() if other != name}
            if base != name and base not in used | others | set(simple.values()):
                simple[name] = base
        return simple

    def _statement(self, offset: int) -> str:
        """A statement of the body."""
        lines = [self.tokens[self.start + k * self.period + offset] for k in range(self.times)]
        parts = []
        for column in zip(*lines, strict=True):
            if column[0].isdigit():
                parts.append(self._number([int(token) for token in column]))
            elif column[0] in self.places:
                parts.append(self._name(offset, column))
            else:
                parts.append(column[0])
        return "".join(parts)

    def _number(self, values: list[int]) -> str:
        if len(set(values)) == 1:
            return str(values[0])
        if any(value != values[0] + k for k, value in enumerate(values)):
            raise NoLoop
        if self.first is None:
            self.first = values[0]
        more = values[0] - self.first
        return "t" if not more else f"t {'+' if more > 0 else '-'} {abs(more)}"

    def _name(self, offset: int, names: Sequence[str]) -> str:
        if len(set(names)) == 1 and names[0] not in self.names:
            return names[0]
        found = {self._relative(k, name) for k, name in enumerate(names)}
        if len(found) == 1 and (relative := next(iter(found))) is not None and relative[0] == 0:
            return self.canonical[relative[1:]]
        carried = {self._relative(k, name) for k, name in enumerate(names) if k}
        if (
            len(carried) != 1
            or (relative := next(iter(carried))) is None
            or relative[0] != -1
            or names[0] in self.names
        ):
            raise NoLoop
        if relative[1] < offset:
            raise NoLoop  # it would be the new value by then
        name = self.canonical[relative[1:]]
        if self.initial.setdefault(name, names[0]) != names[0]:
            raise NoLoop
        return name

    def _relative(self, k: int, name: str) -> tuple[int, int, int] | None:
        """In which repetition, from this one, a name is assigned, at which statement, as which target."""
        if name not in self.names:
            return None
        line, place = self.places[name]
        block, offset = divmod(line - self.start, self.period)
        return block - k, offset, place


def _with_list(texts: list[str], names: list[str], list_name: str) -> tuple[list[str], list[str] | None]:
    """Texts with a list of all names in place of its elements, and what stood before them in it."""
    for number, text in enumerate(texts):
        for match in LIST.finditer(text):
            elements = [each.strip() for each in match[1].split(",") if each.strip()]
            if elements[-len(names) :] == names:
                joined = f"{text[: match.start()]}{list_name}{text[match.end() :]}"
                flat = re.sub(r",?\n\s*\)", ")", re.sub(r"\(\n\s*", "(", joined))
                flat = re.sub(r",\n\s*", ", ", flat)
                return [*texts[:number], flat, *texts[number + 1 :]], elements[: -len(names)]
    return texts, None


def _renamed(text: str, names: dict[str, str]) -> str:
    return (
        "".join(names.get(token, token) for token in TOKENS.findall(text))
        if "\n" not in text
        else re.sub(r"[A-Za-z_]\w*", lambda match: names.get(match[0], match[0]), text)
    )
