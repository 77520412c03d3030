"""OpenLineage run events of one conditioning: START and COMPLETE or FAIL, as JSON lines (spec 2-0-2)."""

from __future__ import annotations

import json
import uuid
from typing import Any

_PRODUCER = "https://github.com/shelfcast/shelfcast/conditioning"
_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = "https://openlineage.io/spec/facets"


def run_events(outcome: dict[str, Any], fields: list[tuple[str, str]]) -> bytes:
    """Return both events; the run id follows from what was conditioned, so that a repeat says the same."""
    name = f"conditioning.{outcome['source']}"
    run_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{outcome['sales_week']}/{outcome['data_version']}"))
    base: dict[str, Any] = {
        "producer": _PRODUCER,
        "schemaURL": _SCHEMA,
        "run": {"runId": run_id, "facets": {}},
        "job": {"namespace": "shelfcast", "name": name, "facets": {}},
        "inputs": [
            {
                "namespace": "landing",
                "name": outcome["input"]["path"],
                "facets": {
                    "version": _facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=outcome["input"]["etag"])
                },
            }
        ],
    }
    data = outcome["outputs"].get("data")
    ended: dict[str, Any] = {
        **base,
        "eventType": "FAIL" if data is None else "COMPLETE",
        "eventTime": outcome["ended_at"],
        "outputs": []
        if data is None
        else [
            {
                "namespace": "conditioned",
                "name": data["path"],
                "facets": {
                    "version": _facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=outcome["data_version"]),
                    "schema": _facet(
                        "SchemaDatasetFacet", "1-1-1", fields=[{"name": name, "type": kind} for name, kind in fields]
                    ),
                },
                "outputFacets": {
                    "outputStatistics": _facet(
                        "OutputStatisticsOutputDatasetFacet", "1-0-2", rowCount=data["rows"], size=data["bytes"]
                    ),
                },
            }
        ],
    }
    ended["inputs"] = [
        {
            **base["inputs"][0],
            "inputFacets": {
                "dataQualityMetrics": _facet(
                    "DataQualityMetricsInputDatasetFacet",
                    "1-0-2",
                    rowCount=outcome["counts"]["records_read"],
                    bytes=outcome["input"]["bytes"],
                    columnMetrics={
                        column: {"nullCount": found["nulls"]} for column, found in outcome["quality"]["columns"].items()
                    },
                )
            },
        }
    ]
    started = {**base, "eventType": "START", "eventTime": outcome["started_at"], "outputs": []}
    return b"".join(json.dumps(event, sort_keys=True).encode() + b"\n" for event in (started, ended))


def _facet(name: str, version: str, **content: Any) -> dict[str, Any]:
    return {"_producer": _PRODUCER, "_schemaURL": f"{_FACETS}/{version}/{name}.json", **content}
