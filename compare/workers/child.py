"""The child process: does what its service does, one request after the other, until its standard input ends.

Messages leave on what was its standard output; everything that a framework prints goes to standard error.
"""

import importlib
import os
import queue
import re
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from compare.workers.protocol import (
    Answer,
    Doing,
    Failed,
    Progress,
    ProtocolError,
    Ready,
    Reply,
    Request,
    Service,
    decode,
    encode,
)
from compare.workers.temporary_folder import FOLDER_PREFIX

# Frameworks colour their messages; a report has no use for the codes.
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def load_service(name: str, runner: str) -> Service:
    """Import a service, given as "module:name", and what the runner computes with."""
    module, _, factory = name.partition(":")
    return getattr(importlib.import_module(module), factory)(runner)


def reply_to(service: Service, request: Request, report: Callable[[Progress | Doing], None]) -> Answer | Failed:
    """Have a service do what is asked for; whatever a framework raises is the request's result, not the child's end."""
    try:
        return service(request, report)
    except Exception as error:
        traceback.print_exc()
        return Failed(ANSI_COLOUR.sub("", f"{type(error).__name__}: {error}"))


def serve(name: str, runner: str) -> None:
    """Reply to requests until standard input ends."""
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    arrays = Path(tempfile.gettempdir()) / "answer.safetensors"

    def send(reply: Reply) -> None:
        replies.write(encode(reply, arrays))

    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    service = load_service(name, runner)
    send(Ready())
    while True:
        try:
            request = decode(lines.get(), (Request,))
        except ProtocolError as error:
            send(Failed(f"ProtocolError: {error}", "defect"))
        else:
            send(reply_to(service, request, send))


def _read(lines: "queue.Queue[bytes]") -> None:
    rest = b""
    # Not through `sys.stdin`: a thread that waits there aborts a process that ends by itself.
    while content := os.read(0, 65536):
        *whole, rest = (rest + content).split(b"\n")
        for line in whole:
            lines.put(line)
    # The parent has closed the pipe or died: there is nobody left to work for, or to remove what was written.
    folder = Path(tempfile.gettempdir())
    if folder.name.startswith(FOLDER_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    serve(*sys.argv[1:])
