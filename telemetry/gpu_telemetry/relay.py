"""A command's output on its way to ours: passed on as it comes, and looked through for "out of memory"."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import termios
import threading
import tty
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# As PyTorch, JAX, TensorFlow, CuPy, the CUDA runtime, cuBLAS, cuDNN and the driver word it.
_OUT_OF_MEMORY = re.compile(
    rb"CUDA out of memory|CUDA error: out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation"
    rb"|torch\.(?:cuda\.)?OutOfMemoryError|cupy\S*OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED"
    rb"|CUDNN_STATUS_ALLOC_FAILED|RESOURCE_EXHAUSTED: .*(?:[Oo]ut of memory|OOM)|ResourceExhaustedError|OOM when allocating tensor",
)
_LONGEST_LINE = 8192


class MemoryWatch:
    """Looks for the words with which CUDA programs say that a GPU's memory is full.

    Attributes:
        line: The first line that says so; None so far.
    """

    def __init__(self) -> None:
        self.line: str | None = None
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Look at the next piece of output, wherever it was cut."""
        if self.line is not None:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        # A progress bar may never end its line.
        if len(self._rest) > _LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], self._rest[-256:]
        for line in lines:
            if _OUT_OF_MEMORY.search(line):
                self.line = line.decode(errors="replace").strip()[:500]
                return

    def finish(self) -> None:
        """Look at what was left without a line end."""
        self.feed(b"\n")


class Relay:
    """Takes one output stream of a command, by a terminal where ours is one, so that the command behaves the same.

    Args:
        target: Our file descriptor that the output goes to.
        watch: Told of every piece of output.
    """

    def __init__(self, target: int, watch: Callable[[bytes], None]) -> None:
        self._target = target
        self._watch = watch
        if os.isatty(target):
            self._source, self.child_end = os.openpty()
            # What the command writes must come out as it went in; our own terminal does the rest.
            tty.setraw(self.child_end)
            self.resize()
        else:
            self._source, self.child_end = os.pipe()
        self._thread = threading.Thread(target=self._pass_on, name="gpu-telemetry-relay", daemon=True)

    def start(self) -> None:
        """Begin once the command has its end; ours of it is closed."""
        os.close(self.child_end)
        self._thread.start()

    def resize(self) -> None:
        """Give the command's terminal the size of ours."""
        if os.isatty(self._target):
            size = fcntl.ioctl(self._target, termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self._source, termios.TIOCSWINSZ, size)

    def finish(self, timeout_seconds: float) -> None:
        """Wait for the rest of the output; something that the command left running may hold it open for ever."""
        self._thread.join(timeout_seconds)

    def _pass_on(self) -> None:
        while data := self._read():
            self._watch(data)
            try:
                while data:
                    data = data[os.write(self._target, data) :]
            except OSError:
                # Nobody reads us any more (`| head`); the command is not stopped for that.
                self._target = os.open(os.devnull, os.O_WRONLY)

    def _read(self) -> bytes:
        try:
            return os.read(self._source, 65536)
        except OSError as error:
            if error.errno == errno.EIO:  # A terminal's way to say that its other end is closed.
                return b""
            raise
