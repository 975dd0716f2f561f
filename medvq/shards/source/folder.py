"""Where the bytes of a source come from."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from medvq.shards.image.bad import BadImage

LARGEST_FILE = 1 << 30
"""Bytes; a larger image file is refused unread."""


@dataclass(frozen=True)
class Origin:
    """A folder of image files."""

    root: str

    def read(self, path: str, size: int) -> bytes:
        """The whole file at `path`, which is expected to have `size` bytes.

        Raises:
            BadImage: it cannot be read, is empty or too large, or changed since the tree was listed.
        """
        if size > LARGEST_FILE:
            raise BadImage(f"the file has {size:,} bytes, more than {LARGEST_FILE:,}")
        try:
            f = os.open(f"{self.root}/{path}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(f, size + 1)
                while 0 < len(data) < size:
                    more = os.read(f, size + 1 - len(data))
                    if not more:
                        break
                    data += more
            finally:
                os.close(f)
        except OSError as e:
            raise BadImage(f"cannot be read: {e.strerror}") from e
        if not data:
            raise BadImage("the file is empty")
        if len(data) != size:
            raise BadImage("the file changed while it was read")
        return data

    def fingerprint(self, path: str) -> str:
        """sha256 of the file, or why it cannot be read."""
        try:
            with open(os.path.join(self.root, path), "rb") as f:
                return hashlib.file_digest(f, "sha256").hexdigest()
        except OSError as e:
            return str(e.strerror)
