"""What a sweep keeps on disk: a line for each case that is done, from which everything else can be made again."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from compare.errors import InputError
from compare.run.folder import create_folder
from compare.storage import read_json, write_json
from compare.workers.backends import versions_of

SWEEP_FILE = "sweep.json"
LINES_FILE = "verdicts.jsonl"

Record = dict[str, Any]


class Results:
    """The records of a sweep's folder, one line for each case, written once; a line that was cut short is dropped.

    Raises InputError where the folder holds something else, results of other versions, or another sweep writes to it.
    """

    def __init__(self, out: Path, backends: Sequence[str]) -> None:
        # What a sweep leaves that was killed before it had written its first file.
        (out / SWEEP_FILE).with_suffix(".partial").unlink(missing_ok=True)
        create_folder(out, SWEEP_FILE)
        self.out = out
        made_with = {"backends": list(backends), "versions": versions_of(backends)}
        before = read_json(out / SWEEP_FILE)
        if before not in (None, made_with):
            raise InputError(f"--out {out} holds a sweep with other backends or versions: give a new folder")
        try:
            write_json(out / SWEEP_FILE, made_with)
            self._lines: BinaryIO = (out / LINES_FILE).open("a+b")
        except OSError as error:
            raise InputError(f"--out {out} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lines.close()
            raise InputError(f"--out {out} is being written to by another sweep: wait for it or end it") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def read(self) -> Iterator[Record]:
        """Read every record there is, and make room for more; of a case that was run again the last one counts."""
        self._lines.seek(0)
        whole = 0
        for line in self._lines:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            yield json.loads(line)
        self._lines.truncate(whole)
        self._lines.seek(0, os.SEEK_END)

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep a record; it is written whole or, where the process dies meanwhile, dropped by the next one to read."""
        self._lines.write(json.dumps(record).encode() + b"\n")
        self._lines.flush()
