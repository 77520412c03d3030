"""Storage accounts of triggers and bindings, by Azure's own SDK; it is loaded when an app first needs it."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import aiohttp
from yarl import URL

from devhost.app_settings import means_emulator
from devhost.errors import HostError
from devhost.function_index import Binding

if TYPE_CHECKING:
    from azure.storage.queue.aio import QueueClient

_NO_RETRIES: dict[str, Any] = {"retry_total": 0}  # triggers try again themselves, and soon
_SIGNATURE_LIFE = timedelta(days=3650)


class Account:
    """A storage account behind a connection string."""

    def __init__(self, connection: str, *, base64_messages: bool) -> None:
        from azure.storage.blob.aio import BlobServiceClient
        from azure.storage.queue.aio import QueueServiceClient

        try:
            self.blobs: Any = BlobServiceClient.from_connection_string(connection, **_NO_RETRIES)
            self._queues: Any = QueueServiceClient.from_connection_string(connection, **_NO_RETRIES)
            self._key = str(self.blobs.credential.account_key)
        except (ValueError, AttributeError) as problem:
            reason = "A connection string has no AccountName or AccountKey; triggers and bindings need both."
            raise HostError(reason) from problem
        self._base64 = base64_messages

    async def etags(self, container: str, prefix: str) -> dict[str, str]:
        """Name -> ETag of a container's blobs below a prefix; none if there is no such container.

        Containers are listed again and again on the host's loop, and the SDK's list_blobs takes ten times the CPU time.
        """
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        signature = generate_container_sas(
            self.blobs.account_name, container, self._key, permission=ContainerSasPermissions(list=True),
            expiry=datetime.now(UTC) + _SIGNATURE_LIFE,
        )  # fmt: skip
        address = URL(f"{self.blobs.get_container_client(container).url}?{signature}", encoded=True)
        found: dict[str, str] = {}
        marker: str | None = ""
        while marker is not None:
            query = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
            page_address = address.update_query({k: v for k, v in query.items() if v})
            async with aiohttp.request("GET", page_address, raise_for_status=False) as answer:
                if answer.status == 404:
                    return {}
                answer.raise_for_status()
                page = ElementTree.fromstring(await answer.text())  # noqa: S314 (our own storage)
            for blob in page.iterfind("Blobs/Blob"):
                found[blob.findtext("Name") or ""] = (blob.findtext("Properties/Etag") or "").strip('"')
            marker = page.findtext("NextMarker") or None
        return found

    async def read_blob(self, container: str, name: str) -> tuple[bytes, Any] | None:
        """Content and BlobProperties of a blob, or None if it is not there."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            download = await self.blobs.get_blob_client(container, name).download_blob()
            return await download.readall(), download.properties
        except ResourceNotFoundError:
            return None

    async def write_blob(self, container: str, name: str, content: bytes) -> None:
        """Write a blob; makes the container if need be."""
        from azure.core.exceptions import ResourceNotFoundError

        blob = self.blobs.get_blob_client(container, name)
        try:
            await blob.upload_blob(content, overwrite=True)
        except ResourceNotFoundError:
            await self.blobs.create_container(container)
            await blob.upload_blob(content, overwrite=True)

    def queue(self, name: str) -> QueueClient:
        """Client of a queue; its messages are as they are stored."""
        client: QueueClient = self._queues.get_queue_client(name)
        return client

    async def put_message(self, queue: str, text: str) -> None:
        """Add a message as it is to be stored; makes the queue if need be."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            await self.queue(queue).send_message(text)
        except ResourceNotFoundError:
            await self._queues.create_queue(queue)
            await self.queue(queue).send_message(text)

    def encoded(self, body: bytes) -> str:
        """Text of a message as host.json's messageEncoding says."""
        return base64.b64encode(body).decode() if self._base64 else body.decode()

    def decoded(self, text: str) -> str:
        """Text that functions get of a stored message. ValueError if it is not encoded as host.json says."""
        return base64.b64decode(text, validate=True).decode() if self._base64 else text

    async def close(self) -> None:
        """Close connections."""
        await self.blobs.close()
        await self._queues.close()


class Storage:
    """Accounts by the connection setting of a binding."""

    def __init__(self, *, base64_messages: bool) -> None:
        self._base64 = base64_messages
        self._accounts: dict[str, Account] = {}

    def account(self, binding: Binding) -> Account:
        """Return the account that a binding names. HostError names a setting that is missing."""
        setting = binding.connection
        if setting not in self._accounts:
            found = os.environ.get(setting) or os.environ.get(f"AzureWebJobs{setting}")
            if not found:
                raise HostError(f"The connection setting {setting!r} is not set (local.settings.json or environment).")
            if means_emulator(found):
                raise HostError(f"The connection {setting!r} means the storage emulator, which does not run: --azurite")
            self._accounts[setting] = Account(found, base64_messages=self._base64)
        return self._accounts[setting]

    async def close(self) -> None:
        """Close connections."""
        for account in self._accounts.values():
            await account.close()
