"""Lookup, GetMetadata, Copy, Delete and Validation on a real Azurite."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest

from devhost.adf.errors import NotModelled
from devhost.adf.factory import Factory
from devhost.adf.runner import Options, PipelineRun, run_pipeline
from tests.adf.small_factory import activity, expression, factory

_NUMBERS = itertools.count()


class Container:
    """A fresh container and a factory whose datasets are in it."""

    def __init__(self, connection: str) -> None:
        from azure.storage.blob import BlobServiceClient

        self.connection = connection
        self.name = f"adf-{next(_NUMBERS)}"
        self.client = BlobServiceClient.from_connection_string(connection).create_container(self.name)

    def put(self, name: str, text: str) -> None:
        self.client.upload_blob(name, text.encode(), overwrite=True)

    def get(self, name: str) -> str:
        return self.client.download_blob(name).readall().decode()

    def names(self) -> list[str]:
        return sorted(str(blob.name) for blob in self.client.list_blobs())

    def factory(self, *activities: dict[str, Any]) -> Factory:
        made = factory(*activities)
        made.linked_services["ls"] = {"type": "AzureBlobStorage", "typeProperties": {"serviceEndpoint": "https://x"}}
        for kind in ("Json", "DelimitedText", "Binary", "Parquet"):
            location = {
                "type": "AzureBlobStorageLocation",
                "container": self.name,
                "folderPath": expression("@dataset().folder"),
                "fileName": expression("@dataset().file"),
            }
            made.datasets[kind] = {
                "type": kind,
                "linkedServiceName": {"referenceName": "ls", "type": "LinkedServiceReference"},
                "parameters": {"folder": {"type": "String"}, "file": {"type": "String", "defaultValue": ""}},
                "typeProperties": {"location": location, "columnDelimiter": ";", "firstRowAsHeader": True},
            }
        return made

    def run(self, *activities: dict[str, Any], **options: Any) -> PipelineRun:
        settings = Options(**{"storage": self.connection, "wait_scale": 600.0} | options)
        return run_pipeline(self.factory(*activities), "main", options=settings)


@pytest.fixture
def container(azurite: str) -> Container:
    return Container(azurite)


def dataset(kind: str, folder: str, file: str = "") -> dict[str, Any]:
    return {"referenceName": kind, "type": "DatasetReference", "parameters": {"folder": folder, "file": file}}


def lookup(kind: str, folder: str, file: str, **properties: Any) -> dict[str, Any]:
    return activity("L", "Lookup", source={"type": f"{kind}Source"}, dataset=dataset(kind, folder, file), **properties)


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": 2}]', '{"a": 1}\n{"a": 2}\n'])
def test_lookup_reads_json_rows(container: Container, text: str) -> None:
    container.put("f/x.json", text)
    assert container.run(lookup("Json", "f", "x.json")).activity("L").output == {"firstRow": {"a": 1}}
    all_rows = container.run(lookup("Json", "f", "x.json", firstRowOnly=False)).activity("L").output
    assert all_rows == {"count": 2, "value": [{"a": 1}, {"a": 2}]}


def test_lookup_reads_delimited_text(container: Container) -> None:
    container.put("f/x.csv", 'a;b\n1;"x;y"\n2;\n')
    rows = container.run(lookup("DelimitedText", "f", "x.csv", firstRowOnly=False)).activity("L").output["value"]
    assert rows == [{"a": "1", "b": "x;y"}, {"a": "2", "b": None}]


def test_lookup_gives_at_most_5000_rows(container: Container) -> None:
    container.put("f/x.csv", "a\n" + "1\n" * 6000)
    output = container.run(lookup("DelimitedText", "f", "x.csv", firstRowOnly=False)).activity("L").output
    assert output["count"] == 5000


def test_lookup_names_a_missing_blob(container: Container) -> None:
    ended = container.run(lookup("Json", "f", "none.json"))
    assert f"The required Blob is missing: {container.name}/f/none.json" in ended.message


def test_get_metadata_gives_the_fields_asked_for(container: Container) -> None:
    container.put("f/x.csv", "a;b\n1;2\n")
    container.put("f/deep/y.csv", "a\n")
    fields = ["exists", "size", "itemName", "columnCount"]
    file = activity("M", "GetMetadata", dataset=dataset("DelimitedText", "f", "x.csv"), fieldList=fields)
    assert container.run(file).activity("M").output == {
        "exists": True,
        "size": 8,
        "itemName": "x.csv",
        "columnCount": 2,
    }
    folder = activity("M", "GetMetadata", dataset=dataset("Binary", "f"), fieldList=["childItems", "itemType"])
    assert container.run(folder).activity("M").output == {
        "childItems": [{"name": "deep", "type": "Folder"}, {"name": "x.csv", "type": "File"}],
        "itemType": "Folder",
    }


def test_a_missing_blob_is_an_error_unless_exists_is_asked_for(container: Container) -> None:
    def metadata(*fields: str) -> PipelineRun:
        return container.run(
            activity("M", "GetMetadata", dataset=dataset("Binary", "f", "none"), fieldList=list(fields))
        )

    assert metadata("exists").activity("M").output == {"exists": False}
    assert "missing" in metadata("size").message


def copy(origin: dict[str, Any], target: dict[str, Any], **properties: Any) -> dict[str, Any]:
    source = {"type": f"{origin['referenceName']}Source"} | properties.pop("source", {})
    made = activity("C", "Copy", source=source, sink={"type": f"{target['referenceName']}Sink"}, **properties)
    return made | {"inputs": [origin], "outputs": [target]}


def test_copy_takes_a_folder_as_it_is(container: Container) -> None:
    container.put("in/a.bin", "A")
    container.put("in/deep/b.bin", "B")
    output = container.run(copy(dataset("Binary", "in"), dataset("Binary", "out"))).activity("C").output
    assert (output["filesRead"], output["filesWritten"], output["dataRead"]) == (2, 2, 2)
    assert container.names() == ["in/a.bin", "in/deep/b.bin", "out/a.bin", "out/deep/b.bin"]


def test_copy_takes_files_by_pattern(container: Container) -> None:
    container.put("in/a.csv", "A")
    container.put("in/b.txt", "B")
    store = {"type": "AzureBlobStorageReadSettings", "wildcardFileName": "*.csv"}
    container.run(copy(dataset("Binary", "in"), dataset("Binary", "out"), source={"storeSettings": store}))
    assert "out/a.csv" in container.names()
    assert "out/b.txt" not in container.names()


def test_copy_turns_delimited_text_into_json_and_renames_columns(container: Container) -> None:
    container.put("in/a.csv", "a;b\n1;x\n")
    mapping = [{"source": {"name": "b"}, "sink": {"name": "B"}}]
    translator = {"type": "TabularTranslator", "mappings": mapping}
    ended = container.run(
        copy(dataset("DelimitedText", "in", "a.csv"), dataset("Json", "out", "a.json"), translator=translator)
    )
    assert container.get("out/a.json") == '{"B":"x"}'
    assert ended.activity("C").output["rowsCopied"] == 1


def test_delete_removes_a_folders_blobs(container: Container) -> None:
    container.put("in/a.csv", "A")
    container.put("keep/a.csv", "A")
    output = (
        container.run(activity("D", "Delete", dataset=dataset("Binary", "in"), recursive=True)).activity("D").output
    )
    assert output["filesDeleted"] == 1
    assert container.names() == ["keep/a.csv"]


def test_validation_waits_until_the_blob_is_there(container: Container) -> None:
    def later() -> None:
        time.sleep(0.3)
        container.put("in/late.csv", "1234")

    thread = threading.Thread(target=later)
    thread.start()
    check = activity(
        "V", "Validation", dataset=dataset("Binary", "in", "late.csv"), timeout="0.01:00:00", minimumSize=4
    )
    ended = container.run(check)
    thread.join()
    assert ended.activity("V").output["size"] == 4


def test_validation_gives_up(container: Container) -> None:
    check = activity("V", "Validation", dataset=dataset("Binary", "in", "never"), timeout="0.00:10:00")
    ended = container.run(check, limit_scale=600.0)
    assert ended.activity("V").status == "TimedOut"


def test_another_format_is_refused_by_name(container: Container) -> None:
    with pytest.raises(NotModelled, match="main/L: dataset dataset of type Parquet, source of type ParquetSource"):
        container.run(lookup("Parquet", "f", "x"))


def test_a_connection_comes_from_a_datasets_parameter_and_a_secret_that_was_handed_over(
    container: Container, azurite: str
) -> None:
    container.put("in/a.json", '{"n": 1}')
    made = container.factory(lookup("Json", "in", "a.json"))
    secret = {"type": "AzureKeyVaultSecret", "secretName": "@{linkedService().secret}"}
    made.linked_services["ls"] = {
        "type": "AzureBlobStorage",
        "parameters": {"secret": {"type": "String"}},
        "typeProperties": {"connectionString": secret},
    }
    made.datasets["Json"]["parameters"]["which"] = {"type": "String", "defaultValue": "lake"}
    named = expression("@concat(dataset().which, '-key')")
    made.datasets["Json"]["linkedServiceName"]["parameters"] = {"secret": named}
    ended = run_pipeline(made, "main", options=Options(secrets={"lake-key": azurite}))
    assert ended.status == "Succeeded", ended.message
    assert ended.activity("L").output["firstRow"] == {"n": 1}
    without = run_pipeline(made, "main", options=Options())
    assert "linked service 'ls' has no address for this machine" in without.message and "--secret" in without.message
    del made.datasets["Json"]["linkedServiceName"]["parameters"]
    missing = run_pipeline(made, "main", options=Options(secrets={"lake-key": azurite}))
    assert "parameter 'secret'" in missing.message and missing.activity("L").error["errorCode"] == "BadRequest"
