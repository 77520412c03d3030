"""After scoring: one table from all jobs, the completeness ledger, the scoring gate, the staged week.

A run over some segments stages a whole week all the same: what it is not about is carried over from the version that
readers see now. Where nothing is published yet it stages nothing.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from domain import lake_paths
from domain.assortment import ACTIVE
from domain.completeness import Completeness
from domain.errors import BlobNotFound, NotFound
from domain.job_states import Phase
from domain.runs import PLANS, Step, is_overridden
from domain.sales_weeks import SalesWeek
from domain.scoring_gate import scoring_gate
from domain.segments import Segment
from domain.staleness import age_days
from orchestrators import job_plans
from orchestrators.job_watch import disown
from orchestrators.ledger import Document, RunLedger
from orchestrators.publishing import current_version, version_bytes
from orchestrators.services import RunServices
from orchestrators.tracing import run_dimensions

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "store_id", "product_id", "sales_week", "segment", "model", "model_version", "units", "order_units", "failover",
)
SCORED = ("store_id", "product_id", "sales_week", "segment", "units")  # of a job's forecasts.csv
MAX_NAMED = 20


def collect_scores(services: RunServices, request: dict[str, Any]) -> dict[str, Any]:
    """Join the jobs' forecasts, account for every expected pair, judge, and stage the week. Safe to repeat."""
    ledger = RunLedger(services.lake)
    run = ledger.run(request["run_id"])
    noted = ledger.noted(run["run_id"], "lineup")
    lineup = noted["lineup"]
    container, folder = lake_paths.parse_datastore_uri(run["folder"])
    curated, _ = services.lake.read_json(container, folder + "manifest.json")
    pairs = _table(services, container, folder + "pairs.csv")
    if run["request"]["segments"]:
        pairs = pairs[pairs["segment"].isin(set(run["request"]["segments"]))]
    products = _table(services, container, folder + "products.csv")
    forecasts, bad_rows = _forecasts(services, ledger, run, lineup, pairs, products)
    _disown_incomplete(services, ledger, run, lineup, pairs, forecasts)
    completeness = _completeness(pairs, forecasts, lineup)
    ledger.note(run["run_id"], "completeness", completeness.to_dict())
    by_segment = {str(key): float(value) for key, value in forecasts.groupby("segment")["units"].sum().items()}
    gate = scoring_gate(completeness, by_segment, curated["recent_units"], bad_rows)
    failovers = [key for key, entry in lineup.items() if entry["failover"]]
    counts = {
        "expected": completeness.expected, "scored": completeness.scored,
        "explained": sum(completeness.explained.values()), "gap": completeness.gap,
        "failover_segments": len(failovers),
    }
    result: dict[str, Any] = {
        "counts": counts,
        "message": "{expected} expected = {scored} scored + {explained} explained, gap {gap}".format(**counts),
        "facts": {"completeness": completeness.to_dict(), "failovers": len(failovers)},
    }
    result["facts"]["scoring_gate"] = gate
    if not gate["open"]:
        closed = "; ".join(gate["reasons"][:5])
        if not (gate["overridable"] and is_overridden(run["request"], Step.SCORING_GATE)):
            result["failed"] = f"the scoring gate is closed: {closed}"
            return result
        result |= {"overridden": closed, "message": f"{result['message']}; the gate was closed: {closed}"}
    for key, entry in lineup.items():
        _emit(services, run, key, entry, by_segment.get(key, 0.0))
    week = SalesWeek.parse(run["sales_week"])
    base = None
    if run["request"]["segments"] and Step.PUBLISH in PLANS[run["kind"]]:
        base = _published(services, week)
        missing = sorted(set(curated["segments"]) - set(lineup))
        if base is None and missing:
            result["failed"] = (
                f"nothing is published for {week} yet, and this run covers {len(lineup)} of {len(curated['segments'])} "
                "segments: half a week is never published; run all segments first"
            )
            return result
        if base is not None:
            forecasts = _with_others(forecasts, pairs, base)
    data = _csv(forecasts)
    staged = f"{lake_paths.staging_folder(week, run['run_id'])}forecasts.csv"
    services.lake.write(lake_paths.STAGING, staged, data)
    segment_runs = (base.segment_runs if base else {}) | dict.fromkeys(lineup, run["run_id"])
    present = set(forecasts["segment"])
    result["facts"]["staged"] = {
        "path": staged, "rows": len(forecasts), "sha256": hashlib.sha256(data).hexdigest(),
        "units": round(float(forecasts["units"].sum()), 3), "base": base.version if base else "",
        "segment_runs": {key: value for key, value in sorted(segment_runs.items()) if key in present},
    }
    if base is not None:
        carried = len(forecasts) - completeness.scored
        result["message"] += f"; {carried} forecasts of the other segments carried over from version {base.version}"
        result["counts"] |= {"carried_over": carried}
    return result


@dataclass(frozen=True)
class _Base:
    """The published week that a run over some segments builds on."""

    version: str
    table: pd.DataFrame
    segment_runs: dict[str, str]


def _published(services: RunServices, week: SalesWeek) -> _Base | None:
    import pandas as pd

    try:
        version = current_version(services.lake, week)["publish_version"]
    except NotFound:
        return None
    data, manifest = version_bytes(services.lake, week, version)
    table = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    table["units"] = table["units"].astype(float)
    table["order_units"] = table["order_units"].astype(int)
    fallback = dict.fromkeys(table["segment"].unique(), manifest["run_id"])
    return _Base(version, table, fallback | manifest.get("segment_runs", {}))


def _with_others(forecasts: pd.DataFrame, pairs: pd.DataFrame, base: _Base) -> pd.DataFrame:
    """Add the published forecasts of every segment and pair that this run is not about."""
    import pandas as pd

    ours = set(zip(pairs["store_id"], pairs["product_id"], strict=True))
    keys = zip(base.table["store_id"], base.table["product_id"], strict=True)
    is_other = pd.Series([key not in ours for key in keys], index=base.table.index, dtype=bool)
    others = base.table[is_other & ~base.table["segment"].isin(set(pairs["segment"]))]
    joined = pd.concat([forecasts, others[list(COLUMNS)]], ignore_index=True)
    return joined.sort_values(["store_id", "product_id", "sales_week"])


def _emit(services: RunServices, run: Document, key: str, entry: dict[str, Any], units: float) -> None:
    region, store_format, velocity = key.split("-")
    measures = {"units": units}
    if entry["trained_on"]:
        scored_on = SalesWeek.parse(run["sales_week"]).monday
        measures["model_age_days"] = float(age_days(date.fromisoformat(entry["trained_on"]), scored_on))
    services.telemetry.event(
        "region_scored",
        run_dimensions(run) | {
            "segment": key, "region": region, "store_format": store_format, "velocity": velocity,
            "model_version": entry["version"], "failover": entry["failover"], "failover_reason": entry["reason"],
        },
        measures,
    )


def _forecasts(
    services: RunServices, ledger: RunLedger, run: Document, lineup: dict[str, Any],
    pairs: pd.DataFrame, products: pd.DataFrame,
) -> tuple[pd.DataFrame, list[str]]:
    """Return the forecasts of the active pairs, each by the model that its segment's lineup names."""
    import pandas as pd

    items = (ledger.jobs(run["run_id"], job_plans.SCORE) or {"items": {}})["items"].values()
    parts = []
    for item in items:
        if item["phase"] == Phase.SUCCEEDED.value:
            container, prefix = lake_paths.parse_datastore_uri(item["output"])
            with suppress(BlobNotFound, pd.errors.EmptyDataError):  # its pairs are the gap
                parts.append(_table(services, container, f"{prefix}forecasts.csv").reindex(columns=list(SCORED)))
    scored = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(SCORED))
    scored = scored.rename(columns={"segment": "model"})
    active = pairs[pairs["state"] == ACTIVE].copy()
    active["model"] = active["segment"].map({key: entry["model"] for key, entry in lineup.items()})
    joined = active.merge(scored, on=["store_id", "product_id", "model"], how="inner", validate="1:m")
    joined["model_version"] = joined["segment"].map({key: entry["version"] for key, entry in lineup.items()})
    failovers = {key: entry["source"] for key, entry in lineup.items() if entry["failover"]}
    joined["failover"] = [failovers.get(key, "") for key in joined["segment"]]
    joined["units"] = pd.to_numeric(joined["units"], errors="coerce").astype(float)
    usable = joined["units"].map(math.isfinite) & (joined["units"] >= 0)
    bad = joined[~usable]
    bad_rows = [f"{store}/{product}: {units}" for store, product, units in
                zip(bad["store_id"], bad["product_id"], bad["units"], strict=True)][:MAX_NAMED]
    pack = dict(zip(products["product_id"], products["pack_size"], strict=True))
    joined["order_units"] = [
        order_units(units, int(pack.get(product) or 1)) if math.isfinite(units) else 0
        for units, product in zip(joined["units"], joined["product_id"], strict=True)
    ]
    return joined[list(COLUMNS)].sort_values(["store_id", "product_id", "sales_week"]), bad_rows


def _disown_incomplete(
    services: RunServices, ledger: RunLedger, run: Document, lineup: dict[str, Any],
    pairs: pd.DataFrame, forecasts: pd.DataFrame,
) -> None:
    """Count scoring jobs as failed that ended well and left pairs out, so that a replay does just these again."""
    scored = set(zip(forecasts["store_id"], forecasts["product_id"], strict=True))
    active = pairs[pairs["state"] == ACTIVE]
    left_out = Counter(
        Segment.parse(segment).region
        for store, product, segment in zip(active["store_id"], active["product_id"], active["segment"], strict=True)
        if (store, product) not in scored and lineup[segment]["model"]
    )
    items = (ledger.jobs(run["run_id"], job_plans.SCORE) or {"items": {}})["items"]
    useless = {
        unit: f"the job completed, but left no forecast of {left_out[unit]} pairs"
        for unit, item in items.items() if left_out[unit] and item["phase"] == Phase.SUCCEEDED.value
    }
    disown(ledger, run["run_id"], job_plans.SCORE, useless, services.clock.now())


def order_units(units: float, pack_size: int) -> int:
    """Return what to order (R46): the forecast rounded to whole units, then up to full packs."""
    whole = math.floor(units + 0.5)
    return -(-whole // pack_size) * pack_size


def _completeness(pairs: pd.DataFrame, forecasts: pd.DataFrame, lineup: dict[str, Any]) -> Completeness:
    states = pairs["state"].value_counts().sort_index()
    explained = {str(state): int(count) for state, count in states.items() if state != ACTIVE}
    active = pairs[pairs["state"] == ACTIVE]
    without_model = {key for key, entry in lineup.items() if not entry["model"]}
    orphaned = int(active["segment"].isin(without_model).sum())
    if orphaned:
        explained["no_model"] = orphaned
    expected_keys = set(zip(active["store_id"], active["product_id"], strict=True))
    scored_keys = set(zip(forecasts["store_id"], forecasts["product_id"], strict=True))
    excused = active[active["segment"].isin(without_model)]
    missing = expected_keys - scored_keys - set(zip(excused["store_id"], excused["product_id"], strict=True))
    failover = {str(k): int(v) for k, v in forecasts[forecasts["failover"] != ""]["failover"].value_counts().items()}
    return Completeness(
        expected=len(pairs), scored=len(expected_keys & scored_keys), explained=explained, failover=failover,
        unexpected=len(forecasts) - len(expected_keys & scored_keys),
        gap_pairs=tuple("/".join(pair) for pair in sorted(missing)[:MAX_NAMED]),
    )


def _table(services: RunServices, container: str, path: str) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(io.BytesIO(services.lake.read(container, path).data), dtype=str, keep_default_na=False)


def _csv(forecasts: pd.DataFrame) -> bytes:
    text = io.StringIO()
    forecasts.to_csv(text, index=False, lineterminator="\n", float_format="%.4f")
    return text.getvalue().encode()
