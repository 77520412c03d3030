"""The results store: idempotent writes, current views, migrations, and SQL that Azure SQL accepts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.results import SqlResults, open_results
from adapters.results_tables import MIGRATIONS, VIEWS, schema
from domain.errors import IntegrityError, Unavailable

RUN = {
    "run_id": "weekly-2017-W45-a1", "kind": "weekly", "sales_week": "2017-W45", "attempt": 1, "status": "succeeded",
    "started_at": "2026-01-05T10:00:00+00:00", "ended_at": "2026-01-05T10:05:30Z", "correlation_id": "adf-1",
    "steps": [
        {"name": "condition", "status": "succeeded", "seconds": 12.5, "started_at": "2026-01-05T10:00:00Z"},
        {"name": "train", "status": "succeeded", "seconds": 100},
    ],
    "completeness": {"expected": 10, "scored": 8, "explained": {"thin_history": 2}, "gap": 0},
    "publish": {"version": "v1", "rows": 8, "published_at": "2026-01-05T10:05:00Z"},
    "summary": {"mape": 0.4, "baseline_mape": 0.6},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlResults]:
    results = open_results(f"sqlite:///{tmp_path}/deep/results.db")
    yield results
    results.close()


def forecasts(count: int, units: float = 1.5) -> Iterator[dict[str, object]]:
    for index in range(count):
        yield {
            "store_id": f"{index // 500:05d}", "product_id": f"p{index % 500}", "segment": "r01-large-fast",
            "kind": "ensemble", "model_version": "7", "units": units, "order_units": 2, "failover": "false",
        }


def test_a_run_is_written_with_its_steps_and_again_without_doubling(store: SqlResults) -> None:
    store.write_run(RUN)
    store.write_run({**RUN, "status": "failed", "steps": RUN["steps"][:1]})  # type: ignore[index]
    (run,) = store.read("runs")
    assert (run["status"], run["seconds"], run["explained"], run["mape"]) == ("failed", 330.0, 2, 0.4)
    assert [step["step"] for step in store.read("run_steps")] == ["condition"]


def test_forecasts_of_a_run_are_replaced_and_other_runs_stay(store: SqlResults) -> None:
    assert store.write_forecasts("weekly-2017-W45-a1", "2017-W45", forecasts(30)) == 30
    assert store.write_forecasts("weekly-2017-W45-a2", "2017-W45", forecasts(20)) == 20
    assert store.write_forecasts("weekly-2017-W45-a1", "2017-W45", forecasts(10, units=3)) == 10
    rows = store.read("forecasts", {"run_id": "weekly-2017-W45-a1"})
    assert len(rows) == 10 and {row["units"] for row in rows} == {3.0}
    assert len(store.read("forecasts")) == 30


def test_a_failing_write_leaves_the_old_rows(store: SqlResults) -> None:
    store.write_forecasts("weekly-2017-W45-a1", "2017-W45", forecasts(5))
    twice = [*forecasts(3), *forecasts(1)]
    with pytest.raises(IntegrityError):
        store.write_forecasts("weekly-2017-W45-a1", "2017-W45", iter(twice))
    assert len(store.read("forecasts")) == 5


def test_current_views_show_only_the_run_that_was_made_current(store: SqlResults) -> None:
    store.write_run(RUN)
    store.write_metrics("weekly-2017-W45-a1", [{"segment": "r01-large-fast", "sales_week": "2017-W45", "mape": 0.3}])
    store.write_forecasts("weekly-2017-W45-a1", "2017-W45", forecasts(3))
    assert store.read("current_forecasts") == []
    store.set_current("2017-W45", "weekly-2017-W45-a1")
    assert len(store.read("current_forecasts")) == 3
    assert store.read("current_model_metrics")[0]["region"] == "r01"
    store.write_forecasts("weekly-2017-W45-a2", "2017-W45", forecasts(2))
    store.set_current("2017-W45", "weekly-2017-W45-a2")
    assert len(store.read("current_forecasts")) == 2
    assert store.read("current_run_summary") == []


def test_quality_takes_outcome_documents_and_the_newest_version_is_current(store: SqlResults) -> None:
    outcome = {
        "source": "deliveries", "sales_week": "2017-W44", "data_version": "a", "status": "partial",
        "counts": {"records_read": 10, "conditioned": 8, "quarantined": 1, "duplicates": 1, "by_reason": {"bad": 1}},
        "input": {"path": "deliveries/2017-W44/x.csv"}, "ended_at": "2026-01-05T10:00:00Z", "contract_version": 3,
    }
    store.write_quality([outcome, {**outcome, "data_version": "b", "ended_at": "2026-01-05T11:00:00Z"}])
    store.write_quality([outcome])
    assert len(store.read("quality")) == 2
    (row,) = store.read("current_quality")
    assert (row["data_version"], row["by_reason"]) == ("b", '{"bad": 1}')
    assert row["source_file"] == "deliveries/2017-W44/x.csv"


def test_forecasts_say_by_what_they_were_made_and_what_stood_in(store: SqlResults) -> None:
    row = next(forecasts(1)) | {"kind": "", "model": "r01-large-baseline", "failover": "baseline"}
    store.write_forecasts("weekly-2017-W45-a1", "2017-W45", iter([row]))
    (kept,) = store.read("forecasts")
    assert (kept["kind"], kept["failover"], kept["failover_source"]) == ("baseline", 1, "baseline")


def test_numbers_that_sql_server_cannot_hold_become_null(store: SqlResults) -> None:
    store.write_metrics("train-2017-W45-a1", [{
        "segment": "r01-large-fast", "mape": float("nan"), "wape": float("inf"), "reasons": ["above target", "thin"],
        "trained_on": "2017-11-05", "n": 40,
    }])
    (row,) = store.read("model_metrics")
    assert (row["sales_week"], str(row["trained_on"]), row["evaluated"]) == ("2017-W45", "2017-11-05", 40)
    assert (row["mape"], row["wape"], row["reasons"]) == (None, None, "above target; thin")


def test_a_run_brings_its_costs_shared_out_by_node_minutes(store: SqlResults) -> None:
    spent = {"node_minutes": 4.0, "cost": 2.0, "units": {"r01-large-fast": 1.0, "r01-large-slow": 3.0}}
    for _ in range(2):
        store.write_run({**RUN, "cost": {"node_minutes": 4.0, "cost": 2.0, "phases": {"train": spent}}})
    amounts = {row["segment"]: row["amount"] for row in store.read("costs")}
    assert amounts == {"r01-large-fast": 0.5, "r01-large-slow": 1.5}


def test_candidate_and_production_stand_side_by_side(store: SqlResults) -> None:
    row = {"segment": "r01-large-fast", "mape": 0.3}
    standing = row | {"member": "production", "version": "7", "age_days": 61, "scored_at": "2026-01-05T10:00:00Z"}
    store.write_metrics("weekly-2017-W45-a1", [row | {"member": "candidate"}, standing])
    kept = {row["member"]: row for row in store.read("model_metrics")}
    assert (kept["production"]["model_version"], kept["production"]["model_age_days"]) == ("7", 61.0)
    assert kept["candidate"]["model_age_days"] is None


def test_drift_is_replaced_by_run(store: SqlResults) -> None:
    for _ in range(2):
        drift = {"segment": "s", "feature": "units", "sales_week": "2017-W45", "psi": 0.3, "breached": True}
        store.write_drift("r", [drift])
    assert len(store.read("drift")) == 1


def test_realised_accuracy_is_replaced_and_the_newest_of_each_segment_is_current(store: SqlResults) -> None:
    row = {"run_id": "weekly-2017-W45-a1", "sales_week": "2017-W45", "segment": "r01-large-fast", "mape": 0.5}
    store.write_realised([row, row | {"run_id": "weekly-2017-W45-a2"}, row | {"segment": "r01-large-slow"}])
    store.write_realised([row | {"mape": 0.4, "baseline_mape": float("nan"), "over_units": 3, "mape_excluded": 1}])
    # The second run made one segment only and carried the other over; both are what readers of the week were given.
    store.set_current("2017-W45", "weekly-2017-W45-a2")
    kept, other = store.read("current_realised", order_by=["segment"])
    assert (kept["mape"], kept["baseline_mape"], kept["velocity"]) == (0.4, None, "fast")
    assert (kept["over_units"], kept["mape_excluded"], kept["actual_units"]) == (3.0, 1, None)
    assert (other["segment"], other["run_id"]) == ("r01-large-slow", "weekly-2017-W45-a1")
    assert len(store.read("realised")) == 3


def test_a_database_of_an_earlier_version_gets_what_is_new(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    store = open_results(url)
    with store._transaction() as connection:
        for statement in ("DROP VIEW current_realised", "DROP TABLE realised",
                          "DELETE FROM schema_versions WHERE version >= 3"):
            connection.exec_driver_sql(statement)
    store.write_run(RUN)
    assert store.version() == 2
    assert open_results(url).read("current_realised") == [] and len(store.read("runs")) == 1


def test_rows_of_a_table_that_gets_columns_are_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    store = open_results(url)
    store.write_realised([{"run_id": "r", "sales_week": "2017-W45", "segment": "r01-large-fast", "mape": 0.5}])
    with store._transaction() as connection:
        connection.exec_driver_sql("DROP INDEX ix_realised_week")
        for column in ("mape_excluded", "actual_units", "over_units", "under_units"):
            connection.exec_driver_sql(f"ALTER TABLE realised DROP COLUMN {column}")
        connection.exec_driver_sql("DELETE FROM schema_versions WHERE version = 4")
    (row,) = open_results(url).read("current_realised")
    assert (row["mape"], row["under_units"]) == (0.5, None)


def test_migrating_again_or_from_two_threads_at_once_is_harmless(tmp_path: Path) -> None:
    url, failures = f"sqlite:///{tmp_path}/results.db", []

    def open_it() -> None:
        try:
            assert open_results(url).version() == len(MIGRATIONS)
        except Exception as error:  # the thread's error is the test's
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert open_results(url).migrate() == len(MIGRATIONS)


def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "results.db").mkdir()
    with pytest.raises(Unavailable, match="results store"):
        open_results(f"sqlite:///{tmp_path}/results.db")


def test_reading_an_unknown_table_is_refused(store: SqlResults) -> None:
    with pytest.raises(KeyError):
        store.read("runs; DROP TABLE runs")


def test_two_hundred_thousand_forecasts_take_seconds_of_cpu(store: SqlResults) -> None:
    started = time.process_time()
    assert store.write_forecasts("weekly-2017-W45-a1", "2017-W45", forecasts(200_000)) == 200_000
    assert time.process_time() - started < 15  # 2-4 s on a quiet machine
    store.set_current("2017-W45", "weekly-2017-W45-a1")
    started = time.process_time()
    assert len(store.read("current_forecasts", {"sales_week": "2017-W45", "store_id": "00007"})) == 500
    assert time.process_time() - started < 1


def test_the_schema_is_valid_for_sql_server() -> None:
    from sqlalchemy.dialects import mssql
    from sqlalchemy.schema import CreateTable

    texts = [str(CreateTable(table).compile(dialect=mssql.dialect())) for table in schema().metadata.sorted_tables]
    ddl = "\n".join(texts)
    assert "week_start DATE NOT NULL" in ddl
    assert "DATETIME2(6)" in ddl
    assert " VARCHAR" not in ddl and "TEXT" not in ddl and " DATETIME " not in ddl
    assert all("JOIN current_runs" in query or "NOT EXISTS" in query for query in VIEWS.values())
