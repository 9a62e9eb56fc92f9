"""What a sweep keeps on disk: a line for each case that is done, from which everything else can be made again."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from compare.errors import InputError
from compare.run.folder import results_folder
from compare.storage import CHECKSUM, is_sealed, not_writable, read_json, sealed, write_json
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
        self.damaged = 0
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
                self._lines: BinaryIO = held.enter_context((out / LINES_FILE).open("a+b"))
            except OSError as error:
                raise not_writable("--out", out, error) from None
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def read(self) -> Iterator[Record]:
        """Read every record there is, and make room for more; of a case that was run again the last one counts.

        One that is not as it was written is left out and counted in `damaged`.
        """
        self._lines.seek(0)
        whole = 0
        for line in self._lines:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if is_sealed(record):
                yield {key: value for key, value in record.items() if key != CHECKSUM}
            else:
                self.damaged += 1
        self._lines.truncate(whole)
        self._lines.seek(0, os.SEEK_END)

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep a record; it is written whole or, where the process dies meanwhile, dropped by the next one to read."""
        try:
            self._lines.write(json.dumps(sealed(record)).encode() + b"\n")
            self._lines.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.out / LINES_FILE)) from error
