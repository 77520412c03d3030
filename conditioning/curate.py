"""Curated zone: the conditioned sources of all weeks joined into the plain folder of CSVs that the jobs read.

A curated folder is immutable and named by what went into it, so the same conditioned versions give the same folder
and a second call finds it done. Nothing of the run week's own deliveries, or later, is ever in it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
from pyarrow import csv as pacsv

from conditioning.raw_row_index import RawRows
from conditioning.table_csv import table_csv
from domain import lake_paths
from domain.assortment import ACTIVE, ActivityRule
from domain.errors import BlobNotFound, GateClosed, IntegrityError
from domain.ports import Lake
from domain.sales_weeks import SalesWeek, weeks_between
from domain.scenario import Scenario, Source
from domain.segments import VELOCITY_RULE, Segment, velocity_of_products

CURATOR_VERSION = "3"
RECENT_WEEKS = 4
_FOR_READERS = ("pins", "segments", "recent_units", "raw_files")  # in the manifest, too long for a run's document
WEATHER_COLUMNS = ("tmax_c", "tmin_c", "precip_mm", "snow_mm", "wind_ms")
READ_AHEAD = 8

Pins = dict[str, dict[str, str]]  # source -> sales week -> data version


class CurateServices(Protocol):
    """What curation needs."""

    @property
    def lake(self) -> Lake:
        """The data lake."""

    @property
    def scenario(self) -> Scenario:
        """The business scenario."""


@dataclass(frozen=True)
class _Weeks:
    """The weeks that matter to one curated folder."""

    run_week: SalesWeek
    history_start: SalesWeek
    horizon: int

    @property
    def cutoff(self) -> SalesWeek:
        return self.run_week.plus(-1)

    @property
    def last_known_future(self) -> SalesWeek:
        return self.run_week.plus(self.horizon - 1)


def curate_week(services: CurateServices, request: Mapping[str, Any]) -> dict[str, Any]:
    """Make the curated folder for `request["sales_week"]` and return its summary (the manifest without the pins).

    `request["as_of"]` (ISO 8601 UTC time, optional) uses the data versions that were known then. Raises GateClosed if
    there is nothing to curate, IntegrityError if a conditioned file does not match its manifest.
    """
    lake, scenario = services.lake, services.scenario
    weeks = _Weeks(SalesWeek.parse(request["sales_week"]), scenario.history_start, scenario.horizon_weeks)
    pins = pin_versions(lake, scenario, weeks, request.get("as_of") or "")
    if not pins.get("deliveries"):
        raise GateClosed(f"no conditioned deliveries before {weeks.run_week}", field="deliveries")
    rule = ActivityRule(scenario.min_selling_weeks, scenario.active_within_weeks)
    identity = {"pins": pins, "curator": CURATOR_VERSION, "week": str(weeks.run_week), "horizon": weeks.horizon,
                "rule": [rule.min_selling_weeks, rule.active_within_weeks]}
    version = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder = lake_paths.curated_folder(weeks.run_week, version)
    try:
        manifest, _ = lake.read_json(lake_paths.CURATED, folder + "manifest.json")
    except BlobNotFound:
        manifest = _build(lake, scenario, weeks, pins, rule, folder)
        manifest.update({"as_of_version": version, "pins": pins, "velocity_rule": VELOCITY_RULE})
        lake.write_json(lake_paths.CURATED, folder + "manifest.json", manifest)
    return {key: value for key, value in manifest.items() if key not in _FOR_READERS} | {
        "folder": lake_paths.datastore_uri(lake_paths.CURATED, folder), "pinned": sum(map(len, pins.values())),
    }


def pin_versions(lake: Lake, scenario: Scenario, weeks: _Weeks, as_of: str) -> Pins:
    """Return, per source and week, the data version that this run reads."""
    pins: Pins = {}
    for source in scenario.sources:
        available = _versions_as_of(lake, source.name, as_of) if as_of else _current_versions(lake, source.name)
        usable = {week: version for week, version in available.items() if _is_wanted(source, week, weeks)}
        if source.is_snapshot or source.name == "weather_forecast":
            # The latest snapshot stands for all weeks; of the forecasts only the newest issue may be used.
            usable = dict([max(usable.items())]) if usable else {}
        if usable:
            pins[source.name] = {str(week): version for week, version in sorted(usable.items())}
    return pins


def _is_wanted(source: Source, week: SalesWeek, weeks: _Weeks) -> bool:
    if source.name == "promotions":
        return weeks.history_start <= week <= weeks.last_known_future
    if source.is_snapshot or source.name == "weather_forecast":
        return week <= weeks.run_week
    return weeks.history_start <= week <= weeks.cutoff


def _current_versions(lake: Lake, source: str) -> dict[SalesWeek, str]:
    pointers = _paths(lake, source, "/current.json")
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        documents = pool.map(lambda path: lake.read_json(lake_paths.CONDITIONED, path)[0], pointers)
        return {SalesWeek.parse(path.split("/")[1]): str(document["data_version"])
                for path, document in zip(pointers, documents, strict=True)}


def _paths(lake: Lake, source: str, ending: str) -> list[str]:
    return [blob.path for blob in lake.list(lake_paths.CONDITIONED, f"{source}/") if blob.path.endswith(ending)]


def _versions_as_of(lake: Lake, source: str, as_of: str) -> dict[SalesWeek, str]:
    """Return the newest usable version per week among those whose conditioning had ended by `as_of`."""
    newest: dict[SalesWeek, tuple[str, str]] = {}
    paths = _paths(lake, source, ".manifest.json")
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        for document in pool.map(lambda path: lake.read_json(lake_paths.CONDITIONED, path)[0], paths):
            if document["status"] == "rejected" or document["ended_at"] > as_of:
                continue
            week = SalesWeek.parse(document["sales_week"])
            newest[week] = max(newest.get(week, ("", "")), (document["ended_at"], document["data_version"]))
    return {week: version for week, (_, version) in newest.items()}


def _build(
    lake: Lake, scenario: Scenario, weeks: _Weeks, pins: Pins, rule: ActivityRule, folder: str
) -> dict[str, Any]:
    """Write every table of the folder and return what the manifest says of them."""
    read = _Reader(lake, pins)
    stores = read.snapshot("stores", ("store_id", "region", "store_format", "zip", "opened_on", "closed_on"))
    products = read.snapshot(
        "products", ("product_id", "name", "department", "category", "brand", "pack_size")
    )
    raw_rows = RawRows()
    weekly = read.weekly_units("deliveries", raw_rows)
    known_store = weekly["store_id"].isin(set(stores["store_id"]))
    known_product = weekly["product_id"].isin(set(products["product_id"]))
    orphans = {
        "orphan_stores": int(weekly.loc[~known_store, "store_id"].nunique()),
        "orphan_store_rows": int((~known_store).sum()),
        "orphan_products": int(weekly.loc[~known_product, "product_id"].nunique()),
        "orphan_product_rows": int((~known_product).sum()),
    }
    deliveries = weekly[known_store & known_product]
    del weekly  # ten million rows are half a gigabyte a copy
    deliveries = deliveries.sort_values(["store_id", "product_id", "sales_week"], ignore_index=True)
    if deliveries.empty:
        raise GateClosed("no delivery belongs to a store and a product of the references", field="deliveries")
    span = weeks.cutoff.weeks_since(SalesWeek.parse(deliveries["sales_week"].min())) + 1
    pairs = _pair_states(deliveries, stores, weeks, rule, span)
    velocity = _velocity(deliveries, pairs, span)
    products["velocity"] = products["product_id"].map(velocity).fillna("slow")
    pairs = _with_segments(pairs, products)
    unknown_segments = sorted(set(pairs["segment"]) - {segment.key for segment in scenario.segments()})
    if unknown_segments:
        raise IntegrityError(
            f"the stores reference names segments that the scenario does not have: {', '.join(unknown_segments[:5])}",
            remedy="add the region or format to the scenario, or correct the stores file",
        )
    tables = {
        "deliveries": deliveries,
        "stores": stores.drop(columns="closed_on"),
        "products": products,
        "pairs": pairs,
    }
    tables |= _optional_tables(read, pins, weeks, products)
    raw_rows.write(lake, lake_paths.CURATED, lake_paths.raw_row_index(folder))
    files = {name: _write_table(lake, folder, name, table) for name, table in sorted(tables.items())}
    active = pairs[pairs["state"] == ACTIVE]
    recent = {str(weeks.cutoff.plus(-back)) for back in range(RECENT_WEEKS)}
    lately = deliveries[deliveries["sales_week"].isin(recent)].merge(active, on=["store_id", "product_id"])
    return {
        "sales_week": str(weeks.run_week), "cutoff": str(weeks.cutoff),
        "weeks_of_history": span, "files": files, "orphans": orphans, "raw_files": raw_rows.files,
        "sources": sorted(pins), "absent_sources": sorted({s.name for s in scenario.sources} - set(pins)),
        "pair_states": {str(k): int(v) for k, v in pairs["state"].value_counts().sort_index().items()},
        "segments": {str(k): int(v) for k, v in active["segment"].value_counts().sort_index().items()},
        "recent_units": {
            str(k): round(float(v), 4) for k, v in (lately.groupby("segment")["units"].sum() / RECENT_WEEKS).items()
        },
    }


def _velocity(deliveries: pd.DataFrame, pairs: pd.DataFrame, span: int) -> dict[str, str]:
    """Return the velocity of every product that some store actively sells, by what its active pairs sold."""
    active = pairs.loc[pairs["state"] == ACTIVE, ["store_id", "product_id"]]
    by_pair = deliveries.groupby(["store_id", "product_id"], as_index=False)["units"].sum()
    totals = by_pair.merge(active, on=["store_id", "product_id"]).groupby("product_id")["units"].sum()
    return velocity_of_products({str(product): float(total) / span for product, total in totals.items()})


def _pair_states(
    deliveries: pd.DataFrame, stores: pd.DataFrame, weeks: _Weeks, rule: ActivityRule, span: int
) -> pd.DataFrame:
    """Return one row per pair ever delivered: store_id, product_id, region, store_format, state."""
    sold = deliveries[deliveries["units"] > 0]
    pairs = sold.groupby(["store_id", "product_id"], as_index=False).agg(
        selling_weeks=("sales_week", "nunique"), last_week=("sales_week", "max")
    )
    pairs = pairs.merge(stores[["store_id", "region", "store_format", "closed_on"]], on="store_id", validate="m:1")
    since = {text: weeks.run_week.weeks_since(SalesWeek.parse(text)) for text in pairs["last_week"].unique()}
    first_day = weeks.run_week.monday.isoformat()
    pairs["state"] = [
        rule.state(
            selling_weeks=int(selling_weeks), weeks_since_last_sale=since[last_week], weeks_of_history=span,
            store_open=not closed_on or str(closed_on) >= first_day,
        )
        for selling_weeks, last_week, closed_on in zip(
            pairs["selling_weeks"], pairs["last_week"], pairs["closed_on"], strict=True
        )
    ]
    return pairs[["store_id", "product_id", "region", "store_format", "state"]]


def _with_segments(pairs: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """Return store_id, product_id, segment, state, sorted."""
    pairs = pairs.merge(products[["product_id", "velocity"]], on="product_id", validate="m:1")
    pairs["segment"] = [
        Segment(*parts).key for parts in zip(pairs["region"], pairs["store_format"], pairs["velocity"], strict=True)
    ]
    return pairs[["store_id", "product_id", "segment", "state"]].sort_values(["store_id", "product_id"])


def _optional_tables(read: _Reader, pins: Pins, weeks: _Weeks, products: pd.DataFrame) -> dict[str, pd.DataFrame]:
    tables: dict[str, pd.DataFrame] = {}
    if "returns" in pins:
        tables["returns"] = read.weekly_units("returns").sort_values(["store_id", "product_id", "sales_week"])
    if "promotions" in pins:
        promotions = read.all_weeks("promotions", ("store_id", "product_id", "display_share", "mailer_share"))
        promotions = promotions[promotions["product_id"].isin(set(products["product_id"]))]
        shares = ["display_share", "mailer_share"]
        promotions[shares] = promotions[shares].astype(float)
        tables["promotions"] = promotions.groupby(
            ["store_id", "product_id", "sales_week"], as_index=False
        )[shares].max().sort_values(["store_id", "product_id", "sales_week"])
    if "special_events" in pins:
        events = read.snapshot("special_events", ("event_id", "name", "kind", "start_date", "end_date", "region"))
        tables["special_events"] = _events_by_week(events, weeks)
    if "shoppers" in pins:
        tables["shoppers"] = read.snapshot(
            "shoppers",
            ("store_id", "households", "median_income", "median_age", "household_size", "coverage_share"),
        )
    weather = [
        _weather_by_week(read.all_weeks(source, ("zip", "date", *WEATHER_COLUMNS)), origin)
        for source, origin in (("weather_history", "history"), ("weather_forecast", "forecast")) if source in pins
    ]
    if weather:
        joined = pd.concat(weather, ignore_index=True)
        # The horizon knows forecasts only; the past only what was measured (R5).
        is_future = joined["sales_week"] >= str(weeks.run_week)
        joined = joined[is_future == (joined["origin"] == "forecast")]
        tables["weather"] = joined.sort_values(["zip", "sales_week", "origin"])
    return tables


def _events_by_week(events: pd.DataFrame, weeks: _Weeks) -> pd.DataFrame:
    rows = []
    for event in events.to_dict("records"):
        start, end = date.fromisoformat(event["start_date"]), date.fromisoformat(event["end_date"])
        first = max(SalesWeek.of(start), weeks.history_start)
        last = min(SalesWeek.of(end), weeks.last_known_future)
        for week in weeks_between(first, last):
            days = (min(end, week.sunday) - max(start, week.monday)) // timedelta(days=1) + 1
            rows.append((str(week), event["name"], event["kind"], days, event["region"]))
    table = pd.DataFrame(rows, columns=["sales_week", "event", "kind", "days", "region"])
    return table.sort_values(["sales_week", "event", "region"])


def _weather_by_week(daily: pd.DataFrame, origin: str) -> pd.DataFrame:
    daily = daily.assign(sales_week=[str(SalesWeek.of(day)) for day in pd.to_datetime(daily["date"]).dt.date])
    daily[list(WEATHER_COLUMNS)] = daily[list(WEATHER_COLUMNS)].apply(pd.to_numeric)
    weekly = daily.groupby(["zip", "sales_week"], as_index=False).agg(
        tmax_c=("tmax_c", "mean"), tmin_c=("tmin_c", "mean"), precip_mm=("precip_mm", "sum"),
        snow_mm=("snow_mm", "sum"), wind_ms=("wind_ms", "mean"),
    )
    weekly[list(WEATHER_COLUMNS)] = weekly[list(WEATHER_COLUMNS)].round(3)
    weekly.insert(2, "origin", origin)
    return weekly


def _write_table(lake: Lake, folder: str, name: str, table: pd.DataFrame) -> dict[str, Any]:
    data = table_csv(table)
    lake.write(lake_paths.CURATED, f"{folder}{name}.csv", data)
    return {"rows": len(table), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class _Reader:
    """Reads the pinned conditioned files; every hash is checked against the manifest (R137)."""

    def __init__(self, lake: Lake, pins: Pins) -> None:
        self._lake = lake
        self._pins = pins

    def snapshot(self, source: str, columns: tuple[str, ...]) -> pd.DataFrame:
        """Return the pinned snapshot as text columns; missing optional columns are empty. GateClosed if absent."""
        if source not in self._pins:
            raise GateClosed(f"the {source} reference was never conditioned", field=source)
        (week, version), = self._pins[source].items()
        frame = self._read(source, week, version).to_pandas().astype(str).replace({"None": "", "nan": ""})
        for column in columns:
            if column not in frame:
                frame[column] = ""
        selected: pd.DataFrame = frame[list(columns)].sort_values(columns[0]).reset_index(drop=True)
        return selected

    def all_weeks(self, source: str, columns: tuple[str, ...]) -> pd.DataFrame:
        """Return the rows of every pinned week, with the column sales_week added."""
        frames = []
        for week, table in self._tables(source, columns):
            frame = table.to_pandas()
            frame["sales_week"] = week
            frames.append(frame)
        joined: pd.DataFrame = pd.concat(frames, ignore_index=True)
        return joined

    def weekly_units(self, source: str, raw_rows: RawRows | None = None) -> pd.DataFrame:
        """Return units summed per store, product and week; `raw_rows` is given every row on the way."""
        frames = []
        wanted = ("store_id", "product_id", "units")
        for week, table in self._tables(source, wanted if raw_rows is None else (*wanted, *RawRows.READS)):
            if raw_rows is not None:
                raw_rows.add(week, table)
            frame = table.select(list(wanted)).to_pandas()
            frame["units"] = frame["units"].astype(float)
            summed = frame.groupby(["store_id", "product_id"], as_index=False)["units"].sum()
            summed.insert(2, "sales_week", week)
            frames.append(summed)
        joined: pd.DataFrame = pd.concat(frames, ignore_index=True)
        return joined

    def _tables(self, source: str, columns: tuple[str, ...]) -> Iterator[tuple[str, pa.Table]]:
        """Yield each pinned week's columns; a few weeks are read ahead, not all: those would fill the memory."""
        with ThreadPoolExecutor(READ_AHEAD) as pool:
            ahead: deque[tuple[str, Future[pa.Table]]] = deque()
            for week, version in self._pins[source].items():
                ahead.append((week, pool.submit(self._read, source, week, version, columns)))
                if len(ahead) > READ_AHEAD:
                    done, table = ahead.popleft()
                    yield done, table.result()
            yield from ((week, table.result()) for week, table in ahead)

    def _read(self, source: str, week_text: str, version: str, columns: tuple[str, ...] = ()) -> pa.Table:
        week = SalesWeek.parse(week_text)
        manifest, _ = self._lake.read_json(
            lake_paths.CONDITIONED, lake_paths.conditioned_manifest(source, week, version)
        )
        path = lake_paths.conditioned_data(source, week, version)
        data = self._lake.read(lake_paths.CONDITIONED, path).data
        expected = manifest["outputs"]["data"]["sha256"]
        if hashlib.sha256(data).hexdigest() != expected:
            raise IntegrityError(
                f"{path} does not have the bytes that its manifest promises", path=path, expected=expected,
                remedy="condition the source file again with force",
            )
        names = data[: data.index(b"\n")].decode().split(",")
        texts = {name: pa.string() for name in names}
        return pacsv.read_csv(
            io.BytesIO(data),
            convert_options=pacsv.ConvertOptions(
                column_types=texts, strings_can_be_null=False, include_columns=list(columns)
            ),
        )
