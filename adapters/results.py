"""Results in SQL: what Power BI, the order system and the dashboard read. SQLite by default, Azure SQL by URL.

The lake's ledger is the truth; these tables can be lost and written again from it. Every write is one
transaction that removes the run's rows and inserts them anew, so that a repeated activity changes nothing
and a reader never sees half of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.results_tables import MESSAGE_LENGTH, MIGRATIONS, schema
from domain.errors import IntegrityError, ShelfcastError, Unavailable
from domain.runs import RunId
from domain.sales_weeks import SalesWeek
from domain.segments import BASELINE, ENSEMBLE, Segment

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

CHUNK_ROWS = 10_000  # rows handed to the driver at once: bounds memory, costs no measurable time
SQLITE_BUSY_SECONDS = 30.0  # how long a writer waits for another process on this machine


def open_results(url: str) -> SqlResults:
    """Open the results store and bring its schema up to date.

    `url` is `sqlite:///path/results.db` or `mssql+mssqlpython://server.database.windows.net/database?...`
    (managed identity: `Authentication=ActiveDirectoryMSI` in the query). Raise Unavailable if it cannot be reached.
    """
    store = SqlResults(_engine(url))
    store.migrate()
    return store


class SqlResults:
    """Implements domain.ports.Results; `read` methods serve the dashboard and the order export."""

    def __init__(self, engine: Engine, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._now = now

    def migrate(self) -> int:
        """Apply the migrations that are missing and return the schema's version; safe beside other processes."""
        for version in range(self.version() + 1, len(MIGRATIONS) + 1):
            try:
                self._apply(version)
            except ShelfcastError:
                if self.version() < version:  # otherwise another process was quicker, which is as good
                    raise
        return self.version()

    def version(self) -> int:
        """Return the number of the newest applied migration; 0 for an empty database."""
        with self._transaction() as connection:
            return _version(connection)

    def _apply(self, version: int) -> None:
        with self._transaction() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # else two processes could both start to create tables
            if _version(connection) >= version:
                return
            MIGRATIONS[version - 1](connection)
            table = schema()["schema_versions"]
            connection.execute(table.insert(), [{"version": version, "applied_at": _naive(self._now())}])

    def write_run(self, document: Mapping[str, Any]) -> None:
        """Insert or replace a run's row and its steps from its ledger document.

        Read are run_id, kind, sales_week, attempt, status, times, correlation_id, operation_id, message, reason,
        `steps`, `completeness` {expected, scored, explained, gap}, `publish` {version, published_at, rows} and
        `model_quality` {mape, baseline_mape, rmse_0, rmse_all}, `failovers` and `cost`. What is missing stays empty.
        """
        run = _run_row(document)
        steps = [_step_row(run["run_id"], position, step) for position, step in enumerate(document.get("steps") or [])]
        with self._transaction() as connection:
            for name, rows in (("runs", [run]), ("run_steps", steps), ("costs", _cost_rows(run["run_id"], document))):
                table = schema()[name]
                connection.execute(table.delete().where(table.c.run_id == run["run_id"]))
                _insert(connection, table, rows)

    def write_metrics(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the run's model metrics: one row per `segment` and `member`.

        `member` is `candidate` (what the gate said in this run) or `production` (what stood while the run scored); it
        defaults to the segment's kind.
        """
        self._replace("model_metrics", run_id, (_metric_row(run_id, row) for row in rows))

    def write_drift(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the run's drift measurements: segment, feature, sales_week, psi, ks, threshold, breached."""
        columns = ("segment", "feature", "sales_week", "psi", "ks", "threshold")
        self._replace("drift", run_id, (
            {"run_id": run_id, "breached": bool(row.get("breached")), **{name: row.get(name) for name in columns}}
            for row in rows
        ))

    def write_realised(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert or replace realised accuracy: a row per `run_id` (the forecast's), `sales_week` and `segment`."""
        table = schema()["realised"]
        with self._transaction() as connection:
            for row in (_realised_row(one, _naive(self._now())) for one in rows):
                key = ("run_id", "sales_week", "segment")
                connection.execute(table.delete().where(*(table.c[name] == row[name] for name in key)))
                _insert(connection, table, [row])

    def write_forecasts(self, run_id: str, sales_week: str, rows: Iterator[Mapping[str, Any]]) -> int:
        """Replace the run's forecasts of one week in one transaction and return how many there are."""
        week_start = SalesWeek.parse(sales_week).monday
        segments: dict[str, Segment] = {}
        table = schema()["forecasts"]
        with self._transaction() as connection:
            connection.execute(table.delete().where(table.c.run_id == run_id, table.c.sales_week == sales_week))
            return _insert(
                connection, table, (_forecast_row(run_id, sales_week, week_start, segments, row) for row in rows)
            )

    def write_quality(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert or replace quality rows, one per source, week and data version (outcome documents are welcome)."""
        table = schema()["quality"]
        with self._transaction() as connection:
            for row in map(_quality_row, rows):
                connection.execute(table.delete().where(
                    table.c.source == row["source"], table.c.sales_week == row["sales_week"],
                    table.c.data_version == row["data_version"],
                ))
                _insert(connection, table, [row])

    def set_current(self, sales_week: str, run_id: str) -> None:
        """Make a run the one that the `current` views show for a week."""
        SalesWeek.parse(sales_week)
        table = schema()["current_runs"]
        with self._transaction() as connection:
            connection.execute(table.delete().where(table.c.sales_week == sales_week))
            row = {"sales_week": sales_week, "run_id": run_id, "switched_at": _naive(self._now())}
            _insert(connection, table, [row])

    def read(self, source: str, where: Mapping[str, Any] | None = None, *, order_by: Sequence[str] = (),
             limit: int | None = None) -> list[dict[str, Any]]:
        """Return rows of a table or view, filtered by equality; raise KeyError for a name that is neither."""
        from sqlalchemy import column, select
        from sqlalchemy import table as named

        query = select("*").select_from(named(_known(source)))
        for name, value in (where or {}).items():
            query = query.where(column(name) == value)
        query = query.order_by(*(column(name) for name in order_by)).limit(limit)
        with self._transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    def _replace(self, name: str, run_id: str, rows: Iterable[dict[str, Any]]) -> None:
        table = schema()[name]
        with self._transaction() as connection:
            connection.execute(table.delete().where(table.c.run_id == run_id))
            _insert(connection, table, rows)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Give a connection whose work is committed as a whole; database errors become domain errors."""
        from sqlalchemy import exc

        try:
            with self._engine.begin() as connection:
                yield connection
        except exc.IntegrityError as error:
            raise IntegrityError(f"the results store refused the rows: {error.orig}") from error
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            raise Unavailable(f"the results store cannot be used now: {error}") from error
        except exc.SQLAlchemyError as error:
            raise ShelfcastError(f"the results store failed: {error}") from error


def _engine(url: str) -> Engine:
    from sqlite3 import OperationalError

    from sqlalchemy import create_engine, event, make_url

    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        # Azure SQL drops idle connections, and a paused serverless database needs a minute to come back.
        return create_engine(parsed, pool_pre_ping=True, pool_recycle=1500)
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": SQLITE_BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _tune(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        with suppress(OperationalError):  # locked: another process is switching the file's mode this very moment
            cursor.execute("PRAGMA journal_mode=WAL")  # readers go on while a run is written
        cursor.execute("PRAGMA synchronous=NORMAL")  # safe with WAL; the ledger can rebuild the file anyway
        cursor.close()

    return engine


def _version(connection: Connection) -> int:
    from sqlalchemy import func, inspect, select

    table = schema()["schema_versions"]
    if not inspect(connection).has_table(table.name):
        return 0
    return int(connection.execute(select(func.coalesce(func.max(table.c.version), 0))).scalar_one())


def _insert(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> int:
    """Insert by bounded chunks and return how many rows there were."""
    statement, total, source = table.insert(), 0, iter(rows)
    while chunk := list(islice(source, CHUNK_ROWS)):
        connection.execute(statement, chunk)
        total += len(chunk)
    return total


def _known(source: str) -> str:
    from adapters.results_tables import VIEWS

    if source not in VIEWS and source not in schema().metadata.tables:
        raise KeyError(source)
    return source


def _run_row(document: Mapping[str, Any]) -> dict[str, Any]:
    completeness, publish = document.get("completeness") or {}, document.get("publish") or {}
    summary = document.get("summary") or document.get("model_quality") or {}
    week = str(document["sales_week"])
    explained = completeness.get("explained")
    started, ended = _moment(document.get("started_at")), _moment(document.get("ended_at"))
    return {
        "run_id": document["run_id"], "kind": document["kind"], "sales_week": week,
        "week_start": SalesWeek.parse(week).monday, "attempt": int(document.get("attempt") or 1),
        "status": document["status"], "started_at": started, "ended_at": ended,
        "seconds": (ended - started).total_seconds() if started and ended else None,
        "correlation_id": document.get("correlation_id"), "operation_id": document.get("operation_id"),
        "message": _text(document.get("message")), "reason": _text(document.get("reason")),
        "expected": completeness.get("expected"), "scored": completeness.get("scored"),
        "explained": sum(explained.values()) if isinstance(explained, Mapping) else explained,
        "gap": completeness.get("gap"), "publish_version": publish.get("version"),
        "published_at": _moment(publish.get("published_at")), "published_rows": publish.get("rows"),
        "mape": _number(summary.get("mape")), "baseline_mape": _number(summary.get("baseline_mape")),
        "rmse_0": _number(summary.get("rmse_0")), "rmse_all": _number(summary.get("rmse_all")),
        "failover_segments": summary.get("failover_segments", document.get("failovers")),
    }


def _cost_rows(run_id: str, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each job that the run paid for; its phase's cost is shared out by node minutes."""
    rows = []
    for phase, spent in ((document.get("cost") or {}).get("phases") or {}).items():
        for unit, minutes in spent["units"].items():
            share = minutes / spent["node_minutes"] if spent["node_minutes"] else 0.0
            rows.append({
                "run_id": run_id, "phase": phase, "segment": unit, "seconds": minutes * 60, "node_minutes": minutes,
                "amount": spent["cost"] * share, "currency": None,
            })
    return rows


def _step_row(run_id: str, position: int, step: Mapping[str, Any]) -> dict[str, Any]:
    started, ended = _moment(step.get("started_at")), _moment(step.get("ended_at"))
    lasted = (ended - started).total_seconds() if started and ended else None
    return {
        "run_id": run_id, "position": position, "step": step.get("name") or step.get("step"), "status": step["status"],
        "started_at": started, "ended_at": ended,
        "seconds": _number(step.get("seconds", lasted)), "message": _text(step.get("message")),
    }


def _metric_row(run_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    segment = Segment.parse(row["segment"])
    week = str(row.get("sales_week") or RunId.parse(run_id).sales_week)
    numbers = (
        "model_age_days", "mape", "baseline_mape", "mape_reduction", "rmse_0", "rmse_all", "wape", "baseline_rmse_0",
        "baseline_rmse_all", "baseline_wape", "bias", "seconds",
    )
    plain = ("stage", "accepted", "failover", "stale", "meets_mission", "mape_excluded")
    return {
        "run_id": run_id, "segment": segment.key, "member": row.get("member") or row.get("kind") or segment.kind,
        "sales_week": week, "week_start": SalesWeek.parse(week).monday, "region": segment.region,
        "store_format": segment.store_format, "velocity": segment.velocity, "kind": segment.kind,
        "model_version": row.get("model_version") or row.get("version"),
        "evaluated": row.get("evaluated", row.get("n")), "trained_on": _day(row.get("trained_on")),
        "reasons": _text(row.get("reasons")), "trained_at": _moment(row.get("trained_at")),
        "scored_at": _moment(row.get("scored_at")),
        **{name: row.get(name) for name in plain},
        **{name: _number(row.get(name, row.get("age_days") if name == "model_age_days" else None)) for name in numbers},
    }


def _realised_row(row: Mapping[str, Any], measured_at: datetime) -> dict[str, Any]:
    segment, week = Segment.parse(row["segment"]), str(row["sales_week"])
    numbers = ("mape", "baseline_mape", "rmse_0", "rmse_all", "wape", "baseline_wape", "bias", "actual_units",
               "over_units", "under_units")
    return {
        "run_id": row["run_id"], "sales_week": week, "segment": segment.key, "week_start": SalesWeek.parse(week).monday,
        "region": segment.region, "store_format": segment.store_format, "velocity": segment.velocity,
        **{name: _number(row.get(name)) for name in numbers}, "evaluated": row.get("evaluated"),
        "mape_excluded": row.get("mape_excluded"), "measured_at": measured_at,
    }


def _forecast_row(
    run_id: str, sales_week: str, week_start: date, segments: dict[str, Segment], row: Mapping[str, Any]
) -> dict[str, Any]:
    key = row["segment"]
    segment = segments.get(key)
    if segment is None:
        segment = segments.setdefault(key, Segment.parse(key))
    orders, model = row.get("order_units"), row.get("model") or key
    failover, source = _failover(row.get("failover"))
    return {
        "run_id": run_id, "sales_week": sales_week, "store_id": row["store_id"], "product_id": row["product_id"],
        "week_start": week_start, "segment": key, "region": segment.region, "store_format": segment.store_format,
        "velocity": segment.velocity, "model": model,
        "kind": row.get("kind") or (BASELINE if str(model).endswith(f"-{BASELINE}") else ENSEMBLE),
        "model_version": row.get("model_version"), "units": float(row["units"]),
        "order_units": None if orders in (None, "") else int(orders), "failover": failover, "failover_source": source,
    }


def _quality_row(row: Mapping[str, Any]) -> dict[str, Any]:
    counts, week = row.get("counts") or row, str(row["sales_week"])
    return {
        "source": row["source"], "sales_week": week, "data_version": row["data_version"],
        "week_start": SalesWeek.parse(week).monday, "status": row["status"],
        **{name: int(counts.get(name) or 0) for name in ("records_read", "conditioned", "quarantined", "duplicates")},
        "by_reason": json.dumps(counts.get("by_reason") or {}, sort_keys=True, ensure_ascii=False),
        "contract_version": _text(row.get("contract_version")),
        "source_file": row.get("source_file") or (row.get("input") or {}).get("path"),
        "conditioned_at": _moment(row.get("conditioned_at") or row.get("ended_at")),
    }


def _moment(value: Any) -> datetime | None:
    """Read ISO 8601 text (or a datetime) as naive UTC; nothing stays nothing."""
    if value in (None, ""):
        return None
    return _naive(value if isinstance(value, datetime) else datetime.fromisoformat(str(value)))


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _number(value: Any) -> float | None:
    """Return a finite float, or None: SQL Server has no NaN and no infinity."""
    if value in (None, ""):
        return None
    number = float(value)
    return number if number - number == 0 else None


def _failover(value: Any) -> tuple[bool, str | None]:
    """Read the published file's word (empty, or where the forecast came from instead), or a plain flag."""
    text = str(value).strip() if value else ""
    if text.lower() in ("", "false", "0"):
        return False, None
    return True, None if text.lower() in ("true", "1") else text


def _day(value: Any) -> date | None:
    """Read an ISO date; a sales week stands for its Sunday, the last day that a model trained on it has seen."""
    if not value:
        return None
    text = str(value)
    return SalesWeek.parse(text).sunday if "W" in text else date.fromisoformat(text[:10])


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, list | tuple):
        value = "; ".join(str(part) for part in value)
    return str(value)[:MESSAGE_LENGTH]
