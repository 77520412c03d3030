"""The data lake on Azure Blob Storage; the same calls reach Azurite on one machine.

Azure errors become domain errors here: nothing above this module imports the storage SDK.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from adapters.azure_errors import retry_after_seconds
from adapters.azure_identity import app_identity
from domain.errors import BlobConflict, BlobNotFound, IntegrityError, ShelfcastError, Throttled, Unavailable
from domain.ports import BlobContent, BlobInfo, BlobReader, BlobWriter

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, BlobServiceClient

SHORT_WAIT = 10.0  # seconds, when the storage account asks for patience without saying how long
RANGE_BYTES = 4 * 1024 * 1024  # one ranged GET; larger only costs memory (measured)
BEYOND_THE_END = 416  # what storage answers to a range that begins after the blob's last byte
BLOCK_BYTES = 4 * 1024 * 1024  # one staged block; 50,000 blocks a blob bound a file to 195 GB


def connect(connection: str) -> BlobLake:
    """Open the lake from a connection string, or from an account URL with the app's managed identity."""
    from azure.storage.blob import BlobServiceClient

    options: dict[str, Any] = {
        "max_single_get_size": RANGE_BYTES, "max_chunk_get_size": RANGE_BYTES, "retry_total": 3,
        "retry_backoff_factor": 0.4,
    }
    if connection.startswith("https://"):
        return BlobLake(BlobServiceClient(connection, credential=app_identity(), **options))
    return BlobLake(BlobServiceClient.from_connection_string(connection, **options))


@contextmanager
def _azure_errors(container: str, path: str) -> Iterator[None]:
    """Turn the SDK's errors into ours; anything unexpected counts as a service that may recover."""
    from azure.core.exceptions import (
        AzureError,
        HttpResponseError,
        ResourceExistsError,
        ResourceModifiedError,
        ResourceNotFoundError,
    )

    place = {"container": container, "path": path}
    try:
        yield
    except ResourceNotFoundError as error:
        raise BlobNotFound(f"{container}/{path} does not exist", **place) from error
    except (ResourceExistsError, ResourceModifiedError) as error:
        raise BlobConflict(f"{container}/{path} was written by somebody else meanwhile", **place) from error
    except HttpResponseError as error:
        if error.status_code == 412:
            raise BlobConflict(f"{container}/{path} changed meanwhile", **place) from error
        if error.status_code in (429, 503):
            asked = retry_after_seconds(getattr(error.response, "headers", None) or {})
            wait = SHORT_WAIT if asked is None else asked
            raise Throttled(f"storage asks for patience at {container}/{path}", retry_after=wait, **place) from error
        if error.status_code is not None and error.status_code < 500:
            words = error.reason or error.message
            raise ShelfcastError(f"storage refused {container}/{path}: {words}", **place) from error
        raise Unavailable(f"the storage account failed at {container}/{path}: {error.message}", **place) from error
    except AzureError as error:
        raise Unavailable(f"the storage account cannot be reached for {container}/{path}: {error}", **place) from error


class _Reader:
    """Ranged reader pinned to one ETag, so that a replaced blob is an error and never a mixture."""

    def __init__(self, client: BlobClient, info: BlobInfo, container: str) -> None:
        self.info = info
        self._client = client
        self._container = container
        self._offset = 0
        self._buffer = b""

    def read(self, size: int = -1, /) -> bytes:
        wanted = self.info.size if size is None or size < 0 else size
        parts = [self._buffer[:wanted]]
        self._buffer = self._buffer[wanted:]
        have = len(parts[0])
        while have < wanted and self._offset < self.info.size:
            chunk = self._next_range()
            parts.append(chunk[: wanted - have])
            self._buffer = chunk[wanted - have:]
            have += len(parts[-1])
        return b"".join(parts)

    def _next_range(self) -> bytes:
        from azure.core import MatchConditions

        length = min(RANGE_BYTES, self.info.size - self._offset)
        with _azure_errors(self._container, self.info.path):
            chunk = self._client.download_blob(
                offset=self._offset, length=length,
                etag=f'"{self.info.etag}"', match_condition=MatchConditions.IfNotModified,
            ).readall()
        self._offset += len(chunk)
        return chunk

    def close(self) -> None:
        self._buffer = b""

    def readable(self) -> bool:
        return True

    @property
    def closed(self) -> bool:
        return False


class _Writer:
    """Stages blocks; `commit` makes them one blob under its condition."""

    def __init__(self, client: BlobClient, container: str, path: str, content_type: str | None) -> None:
        self._client = client
        self._place = (container, path)
        self._content_type = content_type
        self._pending = bytearray()
        self._blocks: list[str] = []
        self._md5 = hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes) -> int:
        self._pending += data
        self._md5.update(data)
        while len(self._pending) >= BLOCK_BYTES:
            self._stage(bytes(self._pending[:BLOCK_BYTES]))
            del self._pending[:BLOCK_BYTES]
        return len(data)

    def _stage(self, block: bytes) -> None:
        block_id = f"{len(self._blocks):08d}"
        with _azure_errors(*self._place):
            self._client.stage_block(block_id, block)
        self._blocks.append(block_id)

    def commit(self, *, metadata: Mapping[str, str] | None = None, if_none_match: bool = False) -> str:
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock, ContentSettings

        if self._pending:
            self._stage(bytes(self._pending))
            self._pending.clear()
        condition: dict[str, Any] = {"match_condition": MatchConditions.IfMissing} if if_none_match else {}
        # After a staged commit the service keeps no checksum of its own, so it is given one.
        settings = ContentSettings(content_type=self._content_type, content_md5=bytearray(self._md5.digest()))
        with _azure_errors(*self._place):
            answer = self._client.commit_block_list(
                [BlobBlock(block_id) for block_id in self._blocks],
                content_settings=settings, metadata=dict(metadata or {}), **condition,
            )
        return _etag(answer["etag"])


class BlobLake:
    """Implements domain.ports.Lake."""

    def __init__(self, service: BlobServiceClient) -> None:
        self._service = service

    def _blob(self, container: str, path: str) -> BlobClient:
        return self._service.get_blob_client(container, path)

    def read(self, container: str, path: str) -> BlobContent:
        """Return the whole blob; raise BlobNotFound."""
        with _azure_errors(container, path):
            download = self._blob(container, path).download_blob()
            data = download.readall()
        return BlobContent(data, _etag(download.properties.etag))

    def read_json(self, container: str, path: str) -> tuple[Any, str]:
        """Return (document, etag); raise BlobNotFound, or IntegrityError if it is not JSON."""
        content = self.read(container, path)
        try:
            return json.loads(content.data), content.etag
        except ValueError as error:
            raise IntegrityError(f"{container}/{path} is not JSON: {error}", container=container, path=path) from error

    def write(
        self, container: str, path: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None,
        metadata: Mapping[str, str] | None = None, content_type: str | None = None,
    ) -> str:
        """Write the whole blob and return its ETag; raise BlobConflict when a condition fails."""
        from azure.core import MatchConditions
        from azure.storage.blob import ContentSettings

        condition: dict[str, Any] = {}
        if if_none_match:
            condition = {"overwrite": True, "match_condition": MatchConditions.IfMissing}
        elif if_match is not None:
            condition = {"overwrite": True, "etag": f'"{if_match}"', "match_condition": MatchConditions.IfNotModified}
        else:
            condition = {"overwrite": True}
        settings = ContentSettings(content_type=content_type or _content_type(path))
        with _azure_errors(container, path):
            answer = self._blob(container, path).upload_blob(
                data, metadata=dict(metadata or {}), content_settings=settings, **condition
            )
        return _etag(answer["etag"])

    def write_json(
        self, container: str, path: str, document: Any, *, if_none_match: bool = False, if_match: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Write canonical JSON (sorted keys, final newline); conditions as in write."""
        text = json.dumps(document, ensure_ascii=False, sort_keys=True, indent=1) + "\n"
        data = text.encode("utf-8", "backslashreplace")  # half a character of somebody's data is a JSON escape
        return self.write(container, path, data, if_none_match=if_none_match, if_match=if_match, metadata=metadata)

    def list(self, container: str, prefix: str = "") -> Iterator[BlobInfo]:
        """Yield the blobs below the prefix in path order, with metadata."""
        with _azure_errors(container, prefix):
            for blob in self._service.get_container_client(container).list_blobs(
                name_starts_with=prefix or None, include=["metadata"]
            ):
                yield BlobInfo(blob.name, _etag(blob.etag), blob.size, blob.last_modified, dict(blob.metadata or {}))

    def folders(self, container: str, prefix: str = "") -> Iterator[str]:
        """Yield the names of the folders directly below the prefix (a path with its slash), not what is in them."""
        with _azure_errors(container, prefix):
            for found in self._service.get_container_client(container).walk_blobs(prefix or None, delimiter="/"):
                if found.name.endswith("/"):
                    yield found.name.removeprefix(prefix).removesuffix("/")

    def read_range(self, container: str, path: str, offset: int, length: int) -> bytes:
        """Return at most `length` bytes from `offset`, fewer at the end, none beyond it; raise BlobNotFound."""
        from azure.core.exceptions import HttpResponseError

        with _azure_errors(container, path):
            try:
                return self._blob(container, path).download_blob(offset=offset, length=length).readall()
            except HttpResponseError as error:
                if error.status_code == BEYOND_THE_END:
                    return b""
                raise

    def info(self, container: str, path: str) -> BlobInfo | None:
        """Return the blob's properties, or None."""
        try:
            with _azure_errors(container, path):
                found = self._blob(container, path).get_blob_properties()
        except BlobNotFound:
            return None
        return BlobInfo(path, _etag(found.etag), found.size, found.last_modified, dict(found.metadata or {}))

    def open_reader(self, container: str, path: str, *, etag: str | None = None) -> BlobReader:
        """Open a streaming reader on one version of the blob; raise BlobNotFound or BlobConflict."""
        info = self.info(container, path)
        if info is None:
            raise BlobNotFound(f"{container}/{path} does not exist", container=container, path=path)
        if etag is not None and etag != info.etag:
            raise BlobConflict(f"{container}/{path} was replaced", container=container, path=path)
        return _Reader(self._blob(container, path), info, container)

    @contextmanager
    def open_writer(self, container: str, path: str, *, content_type: str | None = None) -> Iterator[BlobWriter]:
        """Open a streaming writer; leaving the block without `commit` leaves nothing behind."""
        yield _Writer(self._blob(container, path), container, path, content_type or _content_type(path))

    def copy(self, container: str, path: str, to_container: str, to_path: str, *, if_none_match: bool = False) -> str:
        """Copy one blob inside the lake and return the new ETag; raise BlobConflict when it must be new and is not."""
        reader = self.open_reader(container, path)
        with self.open_writer(to_container, to_path) as writer:
            while chunk := reader.read(RANGE_BYTES):
                writer.write(chunk)
            return writer.commit(metadata=reader.info.metadata, if_none_match=if_none_match)

    def append(self, container: str, path: str, data: bytes, *, if_length: int) -> int:
        """Append to an append blob only if it is `if_length` bytes long (0 creates it); return the new length."""
        from azure.core import MatchConditions

        client = self._blob(container, path)
        with _azure_errors(container, path):
            if if_length == 0:
                try:
                    client.create_append_blob(match_condition=MatchConditions.IfMissing)
                except Exception as error:
                    from azure.core.exceptions import ResourceExistsError, ResourceModifiedError

                    if not isinstance(error, ResourceExistsError | ResourceModifiedError):
                        raise
            client.append_block(data, appendpos_condition=if_length)
        return if_length + len(data)

    def delete(self, container: str, path: str) -> None:
        """Delete the blob; a missing one is fine."""
        try:
            with _azure_errors(container, path):
                self._blob(container, path).delete_blob()
        except BlobNotFound:
            return

    def download(self, container: str, path: str, to: BinaryIO) -> None:
        """Write the blob's bytes to an open file."""
        with _azure_errors(container, path):
            self._blob(container, path).download_blob().readinto(to)

    def ensure_containers(self, names: Sequence[str]) -> None:
        """Create the containers that are missing."""
        for name in names:
            try:
                with _azure_errors(name, ""):
                    self._service.create_container(name)
            except BlobConflict:
                continue


def _etag(raw: Any) -> str:
    """ETags come with and without quotes, depending on the call; ours never have them."""
    return str(raw).strip('"')


def _content_type(path: str) -> str:
    if path.endswith(".json"):
        return "application/json"
    if path.endswith(".csv"):
        return "text/csv; charset=utf-8"
    return "application/octet-stream"
