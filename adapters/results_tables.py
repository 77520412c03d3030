"""The results tables and the `current` views: the one place that knows a column's name and type.

The same definition makes SQLite on one machine and Azure SQL in the cloud. Two traps are closed here:
`Date` compiles to DATETIME on a dialect that has no live server to ask, and `String` to VARCHAR, which
loses names outside the code page; `UnicodeText` is the retired NTEXT. Hence the variants and `Unicode` everywhere.

Readers (Power BI, the order system) take the `current_*` views only: a view shows the runs that
`current_runs` points at, so nobody sees half a run or two runs of one week.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData, Table

RUN_ID_LENGTH = 64
WEEK_LENGTH = 8  # 2017-W45
NAME_LENGTH = 120
VERSION_LENGTH = 120
MESSAGE_LENGTH = 2000

VIEWS: Mapping[str, str] = {
    "current_forecasts": """
        SELECT f.run_id, f.store_id, f.product_id, f.sales_week, f.week_start, f.segment, f.region, f.store_format,
               f.velocity, f.kind, f.model, f.model_version, f.units, f.order_units, f.failover, f.failover_source
        FROM forecasts AS f JOIN current_runs AS c ON c.run_id = f.run_id AND c.sales_week = f.sales_week""",
    "current_model_metrics": """
        SELECT m.* FROM model_metrics AS m JOIN current_runs AS c ON c.run_id = m.run_id""",
    "current_run_steps": """
        SELECT s.* FROM run_steps AS s JOIN current_runs AS c ON c.run_id = s.run_id""",
    "current_run_summary": """
        SELECT r.* FROM runs AS r JOIN current_runs AS c ON c.run_id = r.run_id""",
    "current_drift": """
        SELECT d.* FROM drift AS d JOIN current_runs AS c ON c.run_id = d.run_id""",
    "current_costs": """
        SELECT k.* FROM costs AS k JOIN current_runs AS c ON c.run_id = k.run_id""",
    # A week's segments may come from several runs, so the newest measurement of each segment counts.
    "current_realised": """
        SELECT a.* FROM realised AS a
        WHERE NOT EXISTS (
            SELECT 1 FROM realised AS newer
            WHERE newer.sales_week = a.sales_week AND newer.segment = a.segment
              AND (newer.measured_at > a.measured_at
                   OR (newer.measured_at = a.measured_at AND newer.run_id > a.run_id)))""",
    "current_quality": """
        SELECT q.* FROM quality AS q
        WHERE NOT EXISTS (
            SELECT 1 FROM quality AS newer
            WHERE newer.source = q.source AND newer.sales_week = q.sales_week
              AND (newer.conditioned_at > q.conditioned_at
                   OR (newer.conditioned_at = q.conditioned_at AND newer.data_version > q.data_version)))""",
}


@dataclass(frozen=True)
class ResultsSchema:
    """All tables, by name."""

    metadata: MetaData

    def __getitem__(self, name: str) -> Table:
        return self.metadata.tables[name]


@cache
def schema() -> ResultsSchema:
    """Return the tables; built on first use because SQLAlchemy is not loaded at import."""
    from sqlalchemy import (
        Boolean,
        Column,
        Date,
        DateTime,
        Float,
        Index,
        Integer,
        MetaData,
        PrimaryKeyConstraint,
        Table,
        Unicode,
    )
    from sqlalchemy.dialects import mssql

    day = Date().with_variant(mssql.DATE(), "mssql")
    moment = DateTime().with_variant(mssql.DATETIME2(precision=6), "mssql")  # type: ignore[no-untyped-call]
    run_id, week, name = Unicode(RUN_ID_LENGTH), Unicode(WEEK_LENGTH), Unicode(NAME_LENGTH)
    version, message = Unicode(VERSION_LENGTH), Unicode(MESSAGE_LENGTH)
    metadata = MetaData()
    # Times are UTC and carry no zone: SQLite has none, and one rule for both engines is easier to join on.
    Table(
        "runs", metadata,
        Column("run_id", run_id, primary_key=True), Column("kind", name, nullable=False),
        Column("sales_week", week, nullable=False), Column("week_start", day, nullable=False),
        Column("attempt", Integer, nullable=False), Column("status", name, nullable=False),
        Column("started_at", moment), Column("ended_at", moment), Column("seconds", Float),
        Column("correlation_id", name), Column("operation_id", name), Column("message", message),
        Column("reason", message), Column("expected", Integer), Column("scored", Integer), Column("explained", Integer),
        Column("gap", Integer), Column("publish_version", version), Column("published_at", moment),
        Column("published_rows", Integer), Column("mape", Float), Column("baseline_mape", Float),
        Column("rmse_0", Float), Column("rmse_all", Float), Column("failover_segments", Integer),
        Index("ix_runs_week", "sales_week"),
    )
    Table(
        "run_steps", metadata,
        Column("run_id", run_id, nullable=False), Column("position", Integer, nullable=False, autoincrement=False),
        Column("step", name, nullable=False), Column("status", name, nullable=False), Column("started_at", moment),
        Column("ended_at", moment), Column("seconds", Float), Column("message", message),
        PrimaryKeyConstraint("run_id", "position"),
    )
    Table(
        "model_metrics", metadata,
        Column("run_id", run_id, nullable=False), Column("segment", name, nullable=False),
        Column("member", name, nullable=False), Column("sales_week", week, nullable=False),
        Column("week_start", day, nullable=False), Column("region", name, nullable=False),
        Column("store_format", name, nullable=False), Column("velocity", name, nullable=False),
        Column("kind", name, nullable=False), Column("model_version", version), Column("stage", name),
        Column("accepted", Boolean), Column("failover", Boolean), Column("stale", Boolean), Column("reasons", message),
        Column("meets_mission", Boolean), Column("trained_on", day), Column("trained_at", moment),
        Column("scored_at", moment),
        Column("model_age_days", Float), Column("mape", Float), Column("baseline_mape", Float),
        Column("mape_reduction", Float), Column("rmse_0", Float), Column("rmse_all", Float), Column("wape", Float),
        Column("baseline_rmse_0", Float), Column("baseline_rmse_all", Float), Column("baseline_wape", Float),
        Column("bias", Float), Column("mape_excluded", Integer), Column("evaluated", Integer), Column("seconds", Float),
        PrimaryKeyConstraint("run_id", "segment", "member"), Index("ix_model_metrics_week", "sales_week"),
    )
    Table(
        "forecasts", metadata,
        Column("run_id", run_id, nullable=False), Column("sales_week", week, nullable=False),
        Column("store_id", name, nullable=False), Column("product_id", name, nullable=False),
        Column("week_start", day, nullable=False), Column("segment", name, nullable=False),
        Column("region", name, nullable=False), Column("store_format", name, nullable=False),
        Column("velocity", name, nullable=False), Column("kind", name, nullable=False),
        Column("model", name), Column("model_version", version), Column("units", Float, nullable=False),
        Column("order_units", Integer), Column("failover", Boolean, nullable=False), Column("failover_source", name),
        PrimaryKeyConstraint("run_id", "sales_week", "store_id", "product_id"),
        sqlite_with_rowid=False,  # the key is the table: half the size, and a week's rows lie together
    )
    Table(
        "quality", metadata,
        Column("source", name, nullable=False), Column("sales_week", week, nullable=False),
        Column("data_version", version, nullable=False), Column("week_start", day, nullable=False),
        Column("status", name, nullable=False), Column("records_read", Integer, nullable=False),
        Column("conditioned", Integer, nullable=False), Column("quarantined", Integer, nullable=False),
        Column("duplicates", Integer, nullable=False), Column("by_reason", Unicode(4000), nullable=False),
        Column("contract_version", name), Column("source_file", Unicode(400)), Column("conditioned_at", moment),
        PrimaryKeyConstraint("source", "sales_week", "data_version"),
    )
    Table(
        "drift", metadata,
        Column("run_id", run_id, nullable=False), Column("segment", name, nullable=False),
        Column("feature", name, nullable=False), Column("sales_week", week, nullable=False), Column("psi", Float),
        Column("ks", Float), Column("threshold", Float), Column("breached", Boolean, nullable=False),
        PrimaryKeyConstraint("run_id", "segment", "feature"),
    )
    Table(
        "realised", metadata,
        Column("run_id", run_id, nullable=False), Column("sales_week", week, nullable=False),
        Column("segment", name, nullable=False), Column("week_start", day, nullable=False),
        Column("region", name, nullable=False), Column("store_format", name, nullable=False),
        Column("velocity", name, nullable=False), Column("mape", Float), Column("baseline_mape", Float),
        Column("rmse_0", Float), Column("rmse_all", Float), Column("wape", Float), Column("baseline_wape", Float),
        Column("bias", Float), Column("evaluated", Integer), Column("measured_at", moment, nullable=False),
        Column("mape_excluded", Integer), Column("actual_units", Float), Column("over_units", Float),
        Column("under_units", Float), PrimaryKeyConstraint("run_id", "sales_week", "segment"),
        Index("ix_realised_week", "sales_week", "segment"),
    )
    Table(
        "costs", metadata,
        Column("run_id", run_id, nullable=False), Column("phase", name, nullable=False),
        Column("segment", name, nullable=False), Column("seconds", Float, nullable=False),
        Column("node_minutes", Float, nullable=False), Column("amount", Float), Column("currency", Unicode(3)),
        PrimaryKeyConstraint("run_id", "phase", "segment"),
    )
    Table(
        "current_runs", metadata,
        Column("sales_week", week, primary_key=True), Column("run_id", run_id, nullable=False),
        Column("switched_at", moment, nullable=False),
    )
    Table(
        "schema_versions", metadata,
        Column("version", Integer, primary_key=True, autoincrement=False), Column("applied_at", moment, nullable=False),
    )
    return ResultsSchema(metadata)


def _create_tables(connection: Connection) -> None:
    schema().metadata.create_all(connection)


def _create_views(connection: Connection) -> None:
    from sqlalchemy import inspect, text

    existing = set(inspect(connection).get_view_names())
    for name, query in VIEWS.items():
        if name not in existing:
            connection.execute(text(f"CREATE VIEW {name} AS{query}"))


def _add_realised(connection: Connection) -> None:
    _create_tables(connection)  # both only create what is missing
    _create_views(connection)


def _add_realised_units(connection: Connection) -> None:
    """Give the table the columns by which its rows add up, and make its view see them: `*` is read when it is made."""
    from sqlalchemy import inspect, text

    table = schema()["realised"]
    known = {column["name"] for column in inspect(connection).get_columns(table.name)}
    for column in table.columns:
        if column.name not in known:
            kind = column.type.compile(connection.dialect)
            connection.execute(text(f"ALTER TABLE {table.name} ADD {column.name} {kind}"))
    for index in table.indexes:
        index.create(connection, checkfirst=True)
    connection.execute(text("DROP VIEW current_realised"))
    _create_views(connection)


# Applied in order, each once; a later change of the schema is a further entry and never an edit of an old one.
MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    _create_tables, _create_views, _add_realised, _add_realised_units,
)
