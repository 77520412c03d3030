"""The little of Azure Storage's REST interface that triggers and bindings need, signed with the account key."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import aiohttp
from yarl import URL

from devhost.app_settings import DEVELOPMENT_STORAGE
from devhost.errors import HostError

_VERSION = "2023-11-03"
_SIGNED = ("content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
           "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range")  # fmt: skip
DEVELOPMENT_ACCOUNT = "devstoreaccount1"
DEVELOPMENT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class StorageError(Exception):
    """A request that storage refused; `status` is its HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class BlobItem:
    """A blob in a listing."""

    name: str
    etag: str
    length: int
    content_type: str
    blob_type: str


@dataclass(frozen=True)
class Blob:
    """A blob that was read."""

    content: bytes
    properties: dict[str, Any]
    metadata: dict[str, str]
    url: str


@dataclass(frozen=True)
class QueueItem:
    """A message that was taken."""

    id: str
    receipt: str
    body: str
    dequeue_count: int
    inserted: str
    expires: str
    next_visible: str


class Account:
    """A storage account behind a connection string."""

    def __init__(self, connection: str, session: aiohttp.ClientSession) -> None:
        fields = dict(part.split("=", 1) for part in connection.strip().strip(";").split(";") if "=" in part)
        self._name = fields.get("AccountName", "")
        key = fields.get("AccountKey", "")
        if not self._name or not key:
            raise HostError("A connection string has no AccountName or AccountKey; triggers and bindings need both.")
        self._key = base64.b64decode(key)
        scheme = fields.get("DefaultEndpointsProtocol", "https")
        suffix = fields.get("EndpointSuffix", "core.windows.net")
        self.blobs = fields.get("BlobEndpoint", f"{scheme}://{self._name}.blob.{suffix}").rstrip("/")
        self.queues = fields.get("QueueEndpoint", f"{scheme}://{self._name}.queue.{suffix}").rstrip("/")
        self._session = session

    # -- blobs --------------------------------------------------------------------------------------
    async def list_blobs(self, container: str, prefix: str = "") -> AsyncIterator[BlobItem]:
        """All blobs of a container under a prefix; none if there is no such container."""
        marker = ""
        while True:
            wanted = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
            query = {key: value for key, value in wanted.items() if value}
            status, _, body = await self._send("GET", self.blobs, f"/{container}", query)
            if status == 404:
                return
            root = ElementTree.fromstring(_checked(status, body))  # noqa: S314 (our own storage)
            for item in root.iterfind("Blobs/Blob"):
                yield BlobItem(
                    item.findtext("Name") or "",
                    (item.findtext("Properties/Etag") or "").strip('"'),
                    int(item.findtext("Properties/Content-Length") or 0),
                    item.findtext("Properties/Content-Type") or "",
                    item.findtext("Properties/BlobType") or "BlockBlob",
                )
            marker = root.findtext("NextMarker") or ""
            if not marker:
                return

    async def read_blob(self, container: str, name: str) -> Blob | None:
        """Read a blob, or None if it is not there."""
        path = f"/{container}/{quote(name)}"
        status, headers, body = await self._send("GET", self.blobs, path, {})
        if status == 404:
            return None
        content = _checked(status, body)
        metadata = {k[10:]: v for k, v in headers.items() if k.lower().startswith("x-ms-meta-")}
        properties = {
            "ContentLength": len(content), "Length": len(content), "ETag": headers.get("ETag"),
            "ContentType": headers.get("Content-Type"), "LastModified": headers.get("Last-Modified"),
            "BlobType": headers.get("x-ms-blob-type"),
        }  # fmt: skip
        return Blob(content, properties, metadata, self.blobs + path)

    async def write_blob(self, container: str, name: str, content: bytes) -> None:
        """Write a blob; makes the container if need be."""
        headers = {"x-ms-blob-type": "BlockBlob", "content-type": "application/octet-stream"}
        path = f"/{container}/{quote(name)}"
        status, _, body = await self._send("PUT", self.blobs, path, {}, content, headers)
        if status == 404:
            await self._send("PUT", self.blobs, f"/{container}", {"restype": "container"})
            status, _, body = await self._send("PUT", self.blobs, path, {}, content, headers)
        _checked(status, body)

    # -- queues -------------------------------------------------------------------------------------
    async def put_message(self, queue: str, body: bytes, *, base64_text: bool = True) -> None:
        """Add a message; makes the queue if need be."""
        text = base64.b64encode(body).decode() if base64_text else body.decode()
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        document = f"<QueueMessage><MessageText>{text}</MessageText></QueueMessage>".encode()
        path = f"/{queue}/messages"
        status, _, answer = await self._send("POST", self.queues, path, {}, document)
        if status == 404:
            await self._send("PUT", self.queues, f"/{queue}", {})
            status, _, answer = await self._send("POST", self.queues, path, {}, document)
        _checked(status, answer)

    async def take_messages(self, queue: str, count: int, hidden_seconds: int) -> list[QueueItem]:
        """Take messages and hide them for a while; none if there is no such queue."""
        query = {"numofmessages": str(count), "visibilitytimeout": str(hidden_seconds)}
        status, _, body = await self._send("GET", self.queues, f"/{queue}/messages", query)
        if status == 404:
            return []
        root = ElementTree.fromstring(_checked(status, body))  # noqa: S314 (our own storage)
        fields = ("MessageId", "PopReceipt", "MessageText", "DequeueCount", "InsertionTime", "ExpirationTime",
                  "TimeNextVisible")  # fmt: skip
        found = []
        for item in root.iterfind("QueueMessage"):
            message_id, receipt, text, count_text, inserted, expires, visible = (item.findtext(f) or "" for f in fields)
            found.append(QueueItem(message_id, receipt, text, int(count_text or 1), inserted, expires, visible))
        return found

    async def hide_message(self, queue: str, item: QueueItem, seconds: int) -> QueueItem | None:
        """Hide a taken message for some more seconds (0: show it now); None if it is no longer ours."""
        query = {"popreceipt": item.receipt, "visibilitytimeout": str(seconds)}
        status, headers, _ = await self._send("PUT", self.queues, f"/{queue}/messages/{item.id}", query)
        if status >= 300:
            return None
        receipt = headers.get("x-ms-popreceipt", item.receipt)
        return replace(item, receipt=receipt)

    async def delete_message(self, queue: str, item: QueueItem) -> None:
        """Delete a taken message; one that is gone already is fine."""
        path = f"/{queue}/messages/{item.id}"
        status, _, body = await self._send("DELETE", self.queues, path, {"popreceipt": item.receipt})
        if status != 404:
            _checked(status, body)

    # -- requests -----------------------------------------------------------------------------------
    async def _send(self, method: str, endpoint: str, path: str, query: Mapping[str, str], body: bytes = b"",
                    more: Mapping[str, str] | None = None) -> tuple[int, Mapping[str, str], bytes]:  # fmt: skip
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION, **(more or {})}
        if body:
            headers["content-length"] = str(len(body))
        url = URL(endpoint + path + ("?" + urlencode(query, quote_via=quote, safe="") if query else ""), encoded=True)
        headers.setdefault("content-type", "application/xml" if body else "")
        if not headers["content-type"]:
            del headers["content-type"]
        headers["Authorization"] = f"SharedKey {self._name}:{self._signature(method, url, query, headers)}"
        async with self._session.request(method, url, data=body or None, headers=headers,
                                         skip_auto_headers=("Content-Type",)) as response:  # fmt: skip
            return response.status, response.headers, await response.read()

    def _signature(self, method: str, url: URL, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
        lower = {k.lower(): v for k, v in headers.items()}
        lines = [method, *(lower.get(name, "") for name in _SIGNED)]
        lines += [f"{k}:{v}" for k, v in sorted(lower.items()) if k.startswith("x-ms-")]
        resource = f"/{self._name}{url.raw_path}" + "".join(f"\n{k}:{v}" for k, v in sorted(query.items()))
        text = "\n".join([*lines, resource])
        return base64.b64encode(hmac.new(self._key, text.encode(), hashlib.sha256).digest()).decode()


def _checked(status: int, body: bytes) -> bytes:
    if status >= 300:
        text = body.decode(errors="replace")
        code = text.partition("<Code>")[2].partition("</Code>")[0]
        raise StorageError(status, f"storage answered {status} {code or text[:200]}")
    return body


class Storage:
    """Accounts by the name of their connection setting."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._accounts: dict[str, Account] = {}
        self._session: aiohttp.ClientSession | None = None

    def account(self, setting: str) -> Account:
        """Return the account of a connection setting. HostError names a setting that is missing."""
        if setting not in self._accounts:
            found = next((self._environ[n] for n in (setting, f"AzureWebJobs{setting}") if self._environ.get(n)), None)
            if found is None:
                raise HostError(f"The connection setting {setting!r} is not set (local.settings.json or environment).")
            if found.strip().rstrip(";").lower() == DEVELOPMENT_STORAGE.lower():
                raise HostError(f"The connection {setting!r} means the storage emulator, which does not run: --azurite")
            if self._session is None:
                self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=100))
            self._accounts[setting] = Account(found, self._session)
        return self._accounts[setting]

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
