"""Datasets on blob storage: where they are and how their rows are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from devhost.adf.blob_storage import BlobPath
from devhost.adf.errors import FactoryError
from devhost.adf.expressions import Bindings
from devhost.adf.parameters import bind, specs
from devhost.adf.scope import resolve

if TYPE_CHECKING:
    from devhost.adf.blob_storage import Storage
    from devhost.adf.calls import Call

STORES: Final = frozenset({"AzureBlobStorage", "AzureBlobFS", "AzureStorage"})
FORMATS: Final = frozenset({"Json", "DelimitedText", "Binary", "AzureBlob", "AzureBlobFSFile"})


@dataclass(frozen=True)
class BlobDataset:
    """A dataset with its parameters filled in."""

    path: BlobPath
    format: str  # Json, DelimitedText or Binary
    delimiter: str = ","
    quote: str = '"'
    header: bool = False
    encoding: str = "utf-8-sig"
    null_text: str = ""

    @property
    def shape(self) -> tuple[str, str, bool]:
        """What must agree for a copy of bytes to be right."""
        return (self.delimiter, self.quote, self.header) if self.format == "DelimitedText" else ("", "", False)


def read_dataset(call: Call, reference: dict[str, Any]) -> BlobDataset:
    """A dataset reference of an activity. Raises FactoryError, ParameterError or ActivityFailure."""
    factory = call.services.factory
    name = str(reference.get("referenceName"))
    definition = factory.dataset(name)
    values = bind(
        call.resolve(reference.get("parameters") or {}),
        specs(definition.get("parameters")),
        owner=f"dataset {name!r}",
        strict=False,
    )
    bindings = Bindings(pipeline={**call.scope.pipeline}, variables=call.scope.variables, context={"dataset": values})
    settings = resolve(definition.get("typeProperties") or {}, bindings)
    connection = _connection(call, definition.get("linkedServiceName") or {}, bindings)
    location = settings.get("location") or {}
    if definition.get("type") in ("AzureBlob", "AzureBlobFSFile"):
        container, _, folder = str(settings.get("folderPath") or "").partition("/")
        path = BlobPath(connection, container, folder.strip("/"), str(settings.get("fileName") or ""))
        kind = str((settings.get("format") or {}).get("type", "Binary")).removesuffix("Format")
        return BlobDataset(path, {"Text": "DelimitedText"}.get(kind, kind))
    named = location.get("container") or location.get("fileSystem")
    if not named:
        raise FactoryError(f"dataset {name!r} names no container in its location")
    path = BlobPath(
        connection,
        str(named),
        str(location.get("folderPath") or "").strip("/"),
        str(location.get("fileName") or ""),
    )
    return BlobDataset(
        path=path,
        format=str(definition.get("type")),
        delimiter=str(settings.get("columnDelimiter") or ","),
        quote=str(settings.get("quoteChar") or '"'),
        header=settings.get("firstRowAsHeader") is True,
        encoding=_encoding(settings.get("encodingName")),
        null_text=str(settings.get("nullValue") or ""),
    )


def _connection(call: Call, reference: dict[str, Any], bindings: Bindings) -> str:
    """Where a dataset's linked service leads, with the parameters that the dataset gives it."""
    name = str(reference.get("referenceName"))
    service = call.services.factory.linked_service(name)
    given = resolve(reference.get("parameters") or {}, bindings)
    storage: Storage = call.services.storage
    if storage.is_overridden:
        return storage.connection({}, name, call.services.secrets)
    values = bind(given, specs(service.get("parameters")), owner=f"linked service {name!r}", strict=False)
    pipeline = {"globalParameters": call.services.factory.global_parameters}
    own = Bindings(pipeline=pipeline, context={"linkedService": values})
    return storage.connection(resolve(service.get("typeProperties") or {}, own), name, call.services.secrets)


def _encoding(name: Any) -> str:
    return "utf-8-sig" if not name or str(name).upper() in ("UTF-8", "UTF-8-BOM") else str(name)
