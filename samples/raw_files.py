"""Raw files as the sources deliver them, with bytes that depend on nothing but their content."""

from __future__ import annotations

import gzip
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold


@dataclass(frozen=True)
class RawFile:
    """One file of one source for one sales week, before it lands."""

    source: str
    sales_week: str
    name: str
    data: bytes

    @property
    def path(self) -> str:
        """Path below the landing container and below a folder of raw drops alike."""
        return f"{self.source}/{self.sales_week}/{self.name}"

    def write(self, out: Path) -> Path:
        """Write the file below `out` and return its path; a file of the same name is replaced."""
        target = out / self.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.data)
        return target


def gzipped(data: bytes) -> bytes:
    """Return `data` as one gzip member without name and time."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as member:
        member.write(data)
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    """Return a zip of the named members in their order, dated 1980-01-01."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name, _ZIP_EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # the same byte on every machine
            archive.writestr(member, data)
    return buffer.getvalue()
