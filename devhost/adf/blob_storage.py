"""Blobs through the Azure SDK: any account, Azurite included. The SDK is imported when a blob is first touched."""

from __future__ import annotations

import base64
import csv
import fnmatch
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from devhost.adf.errors import ActivityFailure
from devhost.adf.spans import stamp

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient

    from devhost.adf.datasets import BlobDataset

# The emulator's published account; it opens nothing but an emulator.
_EMULATOR_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
EMULATOR: Final = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
    f"AccountKey={_EMULATOR_KEY};BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;"
)


@dataclass(frozen=True)
class BlobPath:
    """A blob, or a folder when `file` is empty. `connection` is a connection string or an account's address."""

    connection: str
    container: str
    folder: str
    file: str

    @property
    def name(self) -> str:
        """The blob's name in its container."""
        return "/".join(part for part in (self.folder, self.file) if part)

    def child(self, name: str) -> BlobPath:
        """A blob below this folder."""
        whole = "/".join(part for part in (self.folder, name) if part)
        folder, _, file = whole.rpartition("/")
        return replace(self, folder=folder, file=file)

    def below(self, base: BlobPath) -> str:
        """This blob's name relative to another's folder."""
        return self.name.removeprefix(base.folder + "/") if base.folder else self.name

    def __str__(self) -> str:
        return f"{self.container}/{self.name}"


class Storage:
    """Reads and writes blobs. `default` is the connection for every linked service that this machine overrides."""

    def __init__(self, default: str | None = None) -> None:
        self._default = default
        self._clients: dict[str, BlobServiceClient] = {}

    @property
    def is_overridden(self) -> bool:
        """Whether every linked service leads to this machine's storage, whatever its settings say."""
        return self._default is not None

    def connection(self, settings: Mapping[str, Any], name: str, secrets: Mapping[str, str]) -> str:
        """The connection of a linked service by its type properties. Raises ActivityFailure when it has none here."""
        if self._default is not None:
            return self._default
        for key in ("connectionString", "sasUri", "serviceEndpoint", "url"):
            value = settings.get(key)
            if isinstance(value, dict):  # a SecureString, or a secret that the caller may have handed over
                value = secrets.get(str(value.get("secretName"))) if "secretName" in value else value.get("value")
            if isinstance(value, str) and value:
                return EMULATOR if value == "UseDevelopmentStorage=true" else value
        raise ActivityFailure(
            f"linked service {name!r} has no address for this machine; give --storage, --linked-service {name}=... or, "
            "where it names a Key Vault secret, --secret",
            code="BadRequest",
            retryable=False,
        )

    def read(self, path: BlobPath) -> bytes:
        """A blob's content. Raises ActivityFailure when it is not there."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return bytes(self._blob(path).download_blob().readall())
        except ResourceNotFoundError:
            raise ActivityFailure(f"The required Blob is missing: {path}", code="2100") from None

    def write(self, path: BlobPath, content: bytes) -> None:
        """Write a blob, replacing what is there."""
        self._blob(path).upload_blob(content, overwrite=True)

    def delete(self, path: BlobPath) -> None:
        """Delete a blob."""
        self._blob(path).delete_blob()

    def files(
        self,
        path: BlobPath,
        *,
        recursive: bool = True,
        folder_pattern: str | None = None,
        file_pattern: str | None = None,
        prefix: str | None = None,
    ) -> list[BlobPath]:
        """The blob itself, or the blobs of the folder that match the patterns, by name."""
        from azure.core.exceptions import ResourceNotFoundError

        client = self._client(path.connection)
        if path.file and not file_pattern and not folder_pattern:
            return [path] if self._blob(path).exists() else []
        start = prefix if prefix is not None else (f"{path.folder}/" if path.folder and not folder_pattern else "")
        container = client.get_container_client(path.container)
        try:
            names = sorted(str(blob.name) for blob in container.list_blobs(name_starts_with=start or None))
        except ResourceNotFoundError:
            return []
        found = []
        for name in names:
            folder, _, file = name.rpartition("/")
            if not recursive and folder != path.folder and not folder_pattern:
                continue
            if folder_pattern and not fnmatch.fnmatchcase(folder, folder_pattern.strip("/")):
                continue
            if not file_pattern or fnmatch.fnmatchcase(file, file_pattern):
                found.append(replace(path, folder=folder, file=file))
        return found

    def describe(self, path: BlobPath) -> dict[str, Any] | None:
        """Metadata of a blob or folder, None when it does not exist."""
        if path.file:
            blob = self._blob(path)
            if not blob.exists():
                return None
            properties = blob.get_blob_properties()
            md5 = properties.content_settings.content_md5
            return {
                "itemName": path.file,
                "itemType": "File",
                "size": properties.size,
                "lastModified": stamp(properties.last_modified)[:19] + "Z",
                "contentMD5": base64.b64encode(bytes(md5)).decode() if md5 else None,
            }
        files = self.files(path)
        if not files:
            return None
        children: dict[str, str] = {}
        for file in files:
            first, _, rest = file.below(path).partition("/")
            children[first] = "Folder" if rest else "File"
        listed = [{"name": name, "type": kind} for name, kind in sorted(children.items())]
        return {
            "itemName": path.folder.rpartition("/")[2] or path.container,
            "itemType": "Folder",
            "childItems": listed,
        }

    def _blob(self, path: BlobPath) -> Any:
        return self._client(path.connection).get_blob_client(path.container, path.name)

    def _client(self, connection: str) -> BlobServiceClient:
        from azure.storage.blob import BlobServiceClient

        if connection not in self._clients:
            if connection.startswith("http"):
                self._clients[connection] = BlobServiceClient(connection, credential=_credential(connection))
            else:
                self._clients[connection] = BlobServiceClient.from_connection_string(connection)
        return self._clients[connection]


def _credential(address: str) -> Any:
    """None for a signed address, the emulator's key on loopback, else the signed-in identity."""
    if "sig=" in address:
        return None
    if "127.0.0.1" in address or "localhost" in address:
        return {"account_name": "devstoreaccount1", "account_key": os.environ.get("AZURITE_KEY", _EMULATOR_KEY)}
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


def read_rows(content: bytes, dataset: BlobDataset) -> list[dict[str, Any]]:
    """Rows of JSON (an array, one object, or one object a line) or delimited text. Raises ActivityFailure."""
    text = content.decode(dataset.encoding)
    if dataset.format == "DelimitedText":
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=dataset.delimiter, quotechar=dataset.quote))
        if not lines:
            return []
        names = lines[0] if dataset.header else [f"Prop_{index}" for index in range(len(lines[0]))]
        body = lines[1:] if dataset.header else lines
        return [
            {name: None if value == dataset.null_text else value for name, value in zip(names, line, strict=False)}
            for line in body
        ]
    if dataset.format != "Json":
        raise ActivityFailure(f"rows cannot be read from a {dataset.format} dataset", code="2100", retryable=False)
    try:
        whole = json.loads(text)
        return whole if isinstance(whole, list) else [whole]
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise ActivityFailure(f"{dataset.path} is not JSON: {error}", code="2100", retryable=False) from None


def write_rows(rows: list[dict[str, Any]], dataset: BlobDataset) -> bytes:
    """Rows as the dataset writes them. Raises ActivityFailure for a binary dataset."""
    if dataset.format == "Json":
        return "\r\n".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows).encode()
    if dataset.format != "DelimitedText":
        raise ActivityFailure(f"rows cannot be written to a {dataset.format} dataset", code="2200", retryable=False)
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=dataset.delimiter, quotechar=dataset.quote, lineterminator="\n")
    names = list(rows[0]) if rows else []
    if dataset.header:
        writer.writerow(names)
    writer.writerows([["" if row.get(name) is None else row[name] for name in names] for row in rows])
    return text.getvalue().encode()
