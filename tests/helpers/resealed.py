"""Makes what a test has changed in a trace or a golden trace count as recorded so: its checksums are made anew."""

from pathlib import Path

from compare.golden.store import INDEX
from compare.storage import CHECKSUM, file_digest, read_json, sealed, write_json
from compare.trace.trace import END, seal_trace


def reseal_trace(folder: Path) -> None:
    """Make the checksums of a finished trace anew."""
    end = read_json(folder / END)
    seal_trace(folder, {key: value for key, value in end.items() if key not in ("files", CHECKSUM)})


def reseal_golden(case: Path) -> None:
    """Make the checksums of a case's golden traces anew, and of all files."""
    for end in case.glob(f"*/{END}"):
        reseal_trace(end.parent)
    index = read_json(case / INDEX)
    files = {name: file_digest(case / name) for name in index["files"]}
    write_json(case / INDEX, sealed({**{key: index[key] for key in index if key != CHECKSUM}, "files": files}))
