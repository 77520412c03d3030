"""Published forecasts, and where one number comes from: run, model, data versions, raw rows (R132)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict

from domain import lake_paths
from domain.errors import NotFound
from domain.ports import Lake
from domain.sales_weeks import SalesWeek
from orchestrators import registry_names
from orchestrators.ledger import Document, RunLedger
from orchestrators.publishing import published_bytes
from orchestrators.services import RunServices

PROBE_BYTES = 4096  # of the index, to see where in the order a place is; a line has some fifty
BLOCK_BYTES = 65_536  # read at once when the place is known: the rows of a pair over years
_INDEX = ("store_id", "product_id", "sales_week", "delivery_date", "units", "source_row")


def forecast_rows(
    services: RunServices, sales_week: str, store_id: str, product_id: str, limit: int
) -> Document:
    """Return a week's published forecasts with their as-of facts; empty filters mean all."""
    data, manifest = published_bytes(services.lake, SalesWeek.parse(sales_week))
    reader = csv.reader(io.StringIO(data.decode()))
    header = next(reader)
    store, product = header.index("store_id"), header.index("product_id")
    rows: list[Document] = []
    stores: set[str] = set()
    products: set[str] = set()
    total = 0
    for cells in reader:
        stores.add(cells[store])
        products.add(cells[product])
        if (store_id and cells[store] != store_id) or (product_id and cells[product] != product_id):
            continue
        total += 1
        if len(rows) < limit:
            rows.append(_typed(dict(zip(header, cells, strict=True))))
    return {
        "sales_week": sales_week, "rows": rows, "total": total, "stores": sorted(stores), "products": sorted(products),
        "manifest": manifest, "publish_version": manifest["publish_version"], "run_id": manifest["run_id"],
    }


def _typed(row: dict[str, str]) -> Document:
    return row | {"units": float(row["units"]), "order_units": int(row["order_units"])}


def explain(services: RunServices, sales_week: str, store_id: str, product_id: str) -> Document:
    """Return where one published number comes from: model, data versions, and every raw row of the pair."""
    data, manifest = published_bytes(services.lake, SalesWeek.parse(sales_week))
    forecast = _one_row(data, store_id, product_id)
    if forecast is None:
        raise NotFound(
            f"{sales_week} has no forecast for store {store_id} and product {product_id}",
            store_id=store_id, product_id=product_id, remedy="see GET /api/forecasts/{sales_week}",
        )
    # A run over some segments carries the others over: each row leads to the run that made it.
    made_by = manifest.get("segment_runs", {}).get(forecast["segment"], manifest["run_id"])
    run = RunLedger(services.lake).run(made_by)
    container, folder = lake_paths.parse_datastore_uri(run["folder"])
    curated, _ = services.lake.read_json(container, folder + "manifest.json")
    versions = services.registry.versions(registry_names.model_name(forecast["model"]))
    model = next((version for version in versions if version.version == forecast["model_version"]), None)
    pins, files = curated["pins"].get("deliveries", {}), curated.get("raw_files", {})
    rows = [
        {"sales_week": week, "units": float(units), "source_file": files.get(week, ""), "source_row": int(source_row),
         "delivery_date": delivered, "data_version": pins.get(week, "")}
        for _, _, week, delivered, units, source_row in raw_rows(
            services.lake, container, lake_paths.raw_row_index(folder), store_id, product_id
        )
    ]
    history: dict[str, float] = dict.fromkeys(sorted(pins), 0.0)
    for row in rows:
        history[row["sales_week"]] = history.get(row["sales_week"], 0.0) + row["units"]
    return {
        "forecast": forecast, "manifest": manifest,
        "model": asdict(model) if model else None,
        "data_versions": curated["pins"], "as_of_version": curated["as_of_version"],
        "code_version": run["code_version"], "run_id": run["run_id"], "correlation_id": run["correlation_id"],
        "history": [{"sales_week": week, "units": units} for week, units in sorted(history.items())],
        "rows": rows,
    }


def _one_row(data: bytes, store_id: str, product_id: str) -> Document | None:
    """Return the row of one pair without parsing the others: the two ids begin its line."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([store_id, product_id])
    place = data.find(f"\n{text.getvalue()},".encode())
    if place < 0:
        return None
    header, line = data[:data.index(b"\n")].decode(), data[place + 1:data.index(b"\n", place + 1)].decode()
    (row,) = csv.DictReader([header, line])
    return _typed(row)


def raw_rows(lake: Lake, container: str, path: str, store_id: str, product_id: str) -> Iterator[list[str]]:
    """Yield the lines of one pair of a raw-row index, by bisection with small ranged reads.

    Cells are store, product, sales week, delivery date, units, source row. Without an index (a folder of an older
    curator, or no longer kept) there are none.
    """
    info = lake.info(container, path)
    if info is None:
        return
    wanted = (store_id, product_id)
    low, high = 0, info.size  # every line that begins before `low` belongs to an earlier pair
    while high - low > BLOCK_BYTES:
        middle = (low + high) // 2
        probe = lake.read_range(container, path, middle, PROBE_BYTES)
        begin = probe.find(b"\n") + 1
        cells = probe[begin:].split(b"\n", 1)[0].decode().split(",")
        if len(cells) == len(_INDEX) and (cells[0], cells[1]) < wanted:
            low = middle + begin
        else:
            high = middle
    rest = b""
    while block := lake.read_range(container, path, low, BLOCK_BYTES):
        low += len(block)
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            cells = line.decode().split(",")
            if (cells[0], cells[1]) == wanted:
                yield cells
            elif (cells[0], cells[1]) > wanted:
                return
