"""Reading tensors that are stored as plain bytes, in safetensors and in torch's archives.

Data is read with pread: several threads may call it at once, and it fails cleanly if a file
shrinks meanwhile. A memory-mapped file would kill the process.
"""

from __future__ import annotations

import math
import os
import stat
import threading
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from keras_bert_zoo.checkpoints.arrays import aligned_empty, copy_array
from keras_bert_zoo.checkpoints.source import TensorInfo, TensorSource
from keras_bert_zoo.errors import CheckpointError

_STRIP_BYTES = 1 << 20  # size of a read before a transpose; it fits the second-level cache


class RawFile:
    """A regular file open for reading.

    Args:
        path: path of the file.

    Raises:
        CheckpointError: it cannot be opened or is not a regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._descriptor = -1
        try:
            # Without O_NONBLOCK, opening a pipe would block.
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be opened: {error.strerror}.") from None
        status = os.fstat(self._descriptor)
        self.size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise CheckpointError(f"{self.path} is not a regular file.")

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self, start: int, out: np.ndarray) -> None:
        """Fills a C-contiguous array with the bytes from position `start`.

        Raises:
            CheckpointError: the file is closed or too short.
        """
        if self._descriptor < 0:
            raise CheckpointError(f"{self.path} has been closed.")
        view = out.reshape(-1).view(np.uint8).data
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._descriptor, [view[done:]], start + done)
            except OSError as error:
                raise CheckpointError(f"{self.path} cannot be read: {error.strerror}.") from None
            if count == 0:
                raise CheckpointError(f"{self.path} became shorter while it was read.")
            done += count

    def read_bytes(self, start: int, count: int) -> bytes:
        """Returns `count` bytes from position `start`.

        Raises:
            CheckpointError: the file is closed or too short.
        """
        out = np.empty(count, np.uint8)
        self.read(start, out)
        return out.tobytes()


class RawTensor(NamedTuple):
    """The position of a tensor. The caller checks that it is inside the file.

    Args:
        file: RawFile.
        info: TensorInfo.
        start: int. Bytes from the start of the file.
        strides: tuple of int, in elements, all >= 0. None: C-contiguous.
    """

    file: RawFile
    info: TensorInfo
    start: int
    strides: tuple[int, ...] | None = None


class RawTensorSource(TensorSource):
    """The tensors of one or several files.

    Args:
        path: path for messages.
        tensors: name -> RawTensor.
        files: files that `close` closes.
    """

    parallel_reads = True

    def __init__(
        self, path: str, tensors: Mapping[str, RawTensor], files: Iterable[RawFile]
    ) -> None:
        super().__init__(path, {name: tensor.info for name, tensor in tensors.items()})
        self._tensors = dict(tensors)
        self._files = list(files)
        self._strips = threading.local()

    def close(self) -> None:
        """Closes the files. Arrays that were read stay usable."""
        for file in self._files:
            file.close()

    def _read(self, stored_name: str) -> np.ndarray:
        file, (shape, dtype), start, strides = self._tensors[stored_name]
        if strides is None or 0 in shape:
            value = aligned_empty(shape, dtype)
            file.read(start, value)
            return value
        # Reads all bytes from the first element to the last, and views them with the strides.
        span = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        data = aligned_empty((span,), dtype)
        file.read(start, data)
        return np.lib.stride_tricks.as_strided(
            data, shape, [stride * dtype.itemsize for stride in strides], writeable=False
        )

    def _read_into(self, stored_name: str, out: np.ndarray) -> None:
        file, (shape, dtype), start, strides = self._tensors[stored_name]
        if strides is None and out.dtype == dtype and out.flags.c_contiguous:
            file.read(start, out)
            return
        if strides is not None or len(shape) != 2 or not math.prod(shape):
            copy_array(out, self._read(stored_name))
            return
        # Each strip of rows is transposed or cast while it is in the cache.
        row_bytes = shape[1] * dtype.itemsize
        rows = max(1, _STRIP_BYTES // row_bytes)
        buffer = self._strip(rows * row_bytes)
        for row in range(0, shape[0], rows):
            count = min(rows, shape[0] - row)
            strip = buffer[: count * row_bytes].view(dtype).reshape(count, shape[1])
            file.read(start + row * row_bytes, strip)
            copy_array(out[row : row + count], strip)

    def _strip(self, size: int) -> np.ndarray:
        """Returns a buffer for the current thread, which all strips reuse."""
        buffer: np.ndarray | None = getattr(self._strips, "buffer", None)
        if buffer is None or buffer.size < size:
            buffer = self._strips.buffer = aligned_empty((size,), np.uint8)
        return buffer
