"""What a sweep keeps on disk: a line for each case that is done, from which everything else can be made again."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from compare.errors import InputError
from compare.run.folder import results_folder
from compare.storage import SealedLines, is_sealed, not_writable, read_json, sealed, write_json
from compare.workers.backends import versions_of

SWEEP_FILE = "sweep.json"
LINES_FILE = "verdicts.jsonl"

Record = dict[str, Any]


class Results:
    """The records of a sweep's folder, one line for each case, written once; a line that was cut short is dropped.

    Raises InputError where the folder holds something else, results of other versions, or another sweep writes to it.
    """

    def __init__(self, out: Path, backends: Sequence[str]) -> None:
        self.out = out
        with contextlib.ExitStack() as held:
            held.enter_context(results_folder(out, SWEEP_FILE))
            made_with = sealed({"backends": list(backends), "versions": versions_of(backends)})
            before = read_json(out / SWEEP_FILE)
            if (out / SWEEP_FILE).exists() and not is_sealed(before):
                raise InputError(f"--out {out}: {SWEEP_FILE} is damaged, or of an earlier version: give a new folder")
            if before not in (None, made_with):
                raise InputError(f"--out {out} holds a sweep with other backends or versions: give a new folder")
            try:
                write_json(out / SWEEP_FILE, made_with)
                self._lines = held.enter_context(SealedLines(out / LINES_FILE))
            except OSError as error:
                raise not_writable("--out", out, error) from None
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @property
    def damaged(self) -> int:
        """How many records were read that are not as they were written."""
        return self._lines.damaged

    def read(self) -> Iterator[Record]:
        """Read every record there is, and make room for more; of a case that was run again the last one counts."""
        return self._lines.read()

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep a record."""
        self._lines.add(record)
