"""Plausible answers of the API, deterministic, with hostile names among them: what the page's tests look at."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

REGIONS = [f"r{number:02d}" for number in range(1, 15)]
FORMATS, SPEEDS = ("large", "small"), ("fast", "slow")
NOW = datetime.now(UTC).replace(microsecond=0)
HOSTILE = "<img src=x onerror=\"window.hacked=1\">"
COMPLETENESS = {"expected": 74310, "scored": 61204, "gap": 0,
                "explained": {"thin_history": 9120, "discontinued": 3611, "store_closed": 375}}
REASONS = ["not_a_number", "unknown_store", "outside_sales_week", "negative_units"]
SOURCES = {
    "deliveries": ("weekly", True, "logistics"), "returns": ("weekly", False, "logistics"),
    "weather_history": ("weekly", False, "data engineering"), "weather_forecast": ("weekly", False, "data engineering"),
    "promotions": ("weekly", False, "marketing"), "shoppers": ("snapshot", False, "market research"),
    "special_events": ("snapshot", False, "marketing"), "stores": ("snapshot", True, "sales"),
    "products": ("snapshot", True, "sales"),
}


def _share(*parts: object) -> float:
    """A number in [0, 1) that is the same for the same parts, on every machine."""
    return int(hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:8], 16) / 2**32


def week(back: int, first: date = date(2017, 11, 6)) -> str:
    iso = (first - timedelta(weeks=back)).isocalendar()
    return f"{iso.year}-W{iso.week:02d}"


def segments() -> list[str]:
    return [f"{region}-{form}-{speed}" for region in REGIONS for form in FORMATS for speed in (*SPEEDS, "baseline")]


def verdict(segment: str, sales_week: str) -> dict[str, Any]:
    base = 0.42 + 0.3 * _share(segment, "base") + (0.14 if "slow" in segment else 0)
    mape = base * (0.62 + 0.45 * _share(segment, sales_week))
    baseline = segment.endswith("baseline")
    mape = base if baseline else mape
    accepted = baseline or (mape <= 0.45 and mape < base)
    reasons = ["baseline: the fallback of its region and format"] if baseline else [
        f"MAPE {mape:.3f} <= 0.45" if accepted else f"MAPE {mape:.3f} is above the target 0.45"]
    return {
        "segment": segment, "kind": "baseline" if baseline else "ensemble", "accepted": accepted, "reasons": reasons,
        "mape": mape, "baseline_mape": base, "rmse_0": 0.4 + _share(segment, 1),
        "rmse_all": 1.4 + 2 * _share(segment, 2),
        "wape": mape * 0.9, "bias": 0.2 * _share(segment, 3) - 0.12, "mape_excluded": int(400 * _share(segment, 4)),
        "mape_reduction": 1 - mape / base, "model_version": hashlib.sha256(segment.encode()).hexdigest()[:12],
        "failover": not accepted,
    }


def models() -> dict[str, Any]:
    rows = []
    for segment in segments():
        age = 7.0 * int(1 + 4 * _share(segment, "age")) + (45 if segment.startswith("r09") else 0)
        row = verdict(segment, week(0))
        rows.append(row | {
            "version": row["model_version"], "stage": "production" if row["accepted"] else "refused", "age_days": age,
            "trained_on": "2017-11-05", "stale": age > 60, "scored_by": "baseline" if row["failover"] else "own model",
            "failover_reason": "no accepted model" if row["failover"] else "", "run_id": f"weekly-{week(0)}-a1",
            "realised": None if row["kind"] == "baseline" else {
                "sales_week": week(1), "mape": row["mape"] + 0.04, "baseline_mape": row["baseline_mape"],
                "weeks": 2 if segment.startswith("r12-small") else 0},
        })
    ensembles = [row for row in rows if row["kind"] == "ensemble"]
    groups = [_mean([row for row in ensembles if row["segment"].endswith(f"{form}-{speed}")])
              | {"store_format": form, "velocity": speed} for form in FORMATS for speed in SPEEDS]
    return {"models": rows, "overall": _mean(ensembles), "groups": groups, "mape_target": 0.45, "stale_after_days": 60}


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("mape", "baseline_mape", "rmse_0", "rmse_all", "wape", "bias")
    means = {name: sum(row[name] for row in rows) / len(rows) for name in names}
    return means | {"mape_reduction": 1 - means["mape"] / means["baseline_mape"]}


def next_week(hours: float = 27.5) -> dict[str, Any]:
    """The week after the newest run, due in so many hours."""
    due_at = datetime.now(UTC) + timedelta(hours=hours, minutes=1)  # the page counts from its own now
    return {"sales_week": week(-1), "due_at": due_at.isoformat(), "has_arrived": True, "missing": []}


def runs(count: int = 9) -> list[dict[str, Any]]:
    found = []
    for back in range(count):
        status = {0: "degraded", 3: "failed", 5: "cancelled"}.get(back, "succeeded")
        started = NOW - timedelta(days=7 * back, hours=2)
        sales_week, attempt = week(back), 2 if back == 2 else 1
        found.append({
            "run_id": f"weekly-{sales_week}-a{attempt}", "kind": "weekly", "sales_week": sales_week, "attempt": attempt,
            "status": status, "started_at": started.isoformat(),
            "ended_at": (started + timedelta(minutes=7 + 3 * _share(back))).isoformat(),
            "correlation_id": f"7d9f-{back:04d}",
            "message": "the scoring gate is closed: r03 forecasts are all zero" if status == "failed" else "",
            "summary": {
                "quality": {"mape": 0.41 + 0.05 * _share(back)}, "failovers": 3, "step": "",
                "completeness": COMPLETENESS,
                "publish": None if status in ("failed", "cancelled") else {"rows": 61204 + back * 31},
            },
        })
    return found


STEPS = [("data_gate", 3, "9 of 9 sources are fresh"), ("curate", 38, "1,203,411 rows as version 9f31"),
         ("decide", 2, "56 of 56 segments train: new data"), ("pretrain", 61, "one pooled network"),
         ("train", 214, "83 of 84 models"), ("accept", 9, "31 of 56 ensembles accepted"),
         ("score", 71, "61,204 forecasts"),
         ("scoring_gate", 2, "open"), ("publish", 3, "61204 forecasts as version 5be1c2"), ("results", 8, "")]


def run(run_id: str, *, running: bool = False) -> dict[str, Any] | None:
    short = next((one for one in runs(40) if one["run_id"] == run_id), None)
    if short is None:
        return None
    begun, steps = datetime.fromisoformat(short["started_at"]), []
    for position, (name, seconds, message) in enumerate(STEPS):
        ended = begun + timedelta(seconds=seconds)
        if short["status"] == "failed" and name in ("publish", "results"):
            steps.append({"name": name, "status": "waiting", "started_at": "", "ended_at": "", "message": ""})
            continue
        status = "failed" if short["status"] == "failed" and name == "scoring_gate" else "succeeded"
        if running and position == 4:
            status = "running"
        steps.append({"name": name, "status": status, "started_at": begun.isoformat(), "message": message,
                      "ended_at": "" if status == "running" else ended.isoformat(), "seconds": seconds})
        if status == "running":
            steps += [{"name": name, "status": "waiting", "started_at": "", "ended_at": ""} for name, *_ in STEPS[5:]]
            break
        begun = ended
    sales_week = short["sales_week"]
    return short | {
        "status": "running" if running else short["status"], "ended_at": "" if running else short["ended_at"],
        "steps": steps, "jobs": {"train": _jobs(run_id, running), "score": _jobs(run_id, running, REGIONS)},
        "decisions": [{"segment": segment, "action": "train", "reasons": ["new_data"]} for segment in segments()],
        "verdicts": [verdict(segment, sales_week) for segment in segments()],
        "completeness": COMPLETENESS | {"gap_pairs": [], "failover": {"baseline": 20110}},
        "as_of_version": "9f31c2aa77ab01fe", "code_version": "3c1f2a9", "cutoff": week(1),
        "quality": {name: models()[name] for name in ("overall", "groups")},
        "publish": {} if short["status"] == "failed" else {
            "version": "5be1c2a07d19", "rows": 61204, "published_at": short["ended_at"],
            "path": f"{sales_week}/5be1c2a07d19/forecasts.csv"},
        "operation_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "links": {"trace": "https://portal.azure.com/#trace", "adf": "https://adf.azure.com/monitoring/1"},
        "request": {"reason": "weekly trigger", "requested_by": "data factory"},
        "cost": {"cost": 1.31, "node_minutes": 262.4},
    }


def _jobs(run_id: str, running: bool, units: list[str] | None = None) -> dict[str, Any]:
    items, begun = [], NOW - timedelta(minutes=9)
    for position, unit in enumerate(units or segments()):
        phase = "succeeded"
        if running:
            phase = ("succeeded", "running", "waiting")[0 if position < 30 else 1 if position < 34 else 2]
        failed = unit == "r07-small-slow"
        items.append({
            "name": f"{run_id}-{unit}", "segment": unit, "phase": "failed" if failed else phase,
            "status": "Failed" if failed else {"succeeded": "Completed", "running": "Running"}.get(phase, "Queued"),
            "started_at": begun.isoformat() if phase != "waiting" else "",
            "ended_at": (begun + timedelta(seconds=12 + position)).isoformat() if phase == "succeeded" else "",
            "error": "thin history: 11 series of 40 needed" if failed else "",
        })
    phases = ("planned", "waiting", "running", "succeeded", "failed", "cancelled")
    return {name: sum(item["phase"] == name for item in items) for name in phases} | {"adopted": 3, "items": items}


def _quality(source: str, sales_week: str) -> dict[str, Any]:
    read = int(40000 * (0.2 + _share(source)) * (0.9 + 0.2 * _share(source, sales_week)))
    if SOURCES[source][0] == "snapshot":
        read //= 60
    faulty = source in ("deliveries", "returns", "promotions")
    aside = int(read * 0.02 * _share(source, sales_week, "q")) if faulty else 0
    by_reason = {reason: aside * part // 10 for reason, part in zip(REASONS[:3], (5, 3, 2), strict=True)}
    by_reason = {reason: number for reason, number in by_reason.items() if number}
    aside = sum(by_reason.values())
    double = read // 400
    return {
        "sales_week": sales_week, "status": "partial" if aside else "accepted", "records_read": read,
        "quarantined": aside, "duplicates": double, "conditioned": read - aside - double, "by_reason": by_reason,
        "data_version": hashlib.sha256(f"{source}{sales_week}".encode()).hexdigest()[:16],
        "conditioned_at": NOW.isoformat(),
    }


def sources() -> list[dict[str, Any]]:
    return [{
        "name": name, "cadence": cadence, "required": required, "owner": owner, "origin": "private",
        "contract_version": 2, "latest_week": week(2 if name == "promotions" else 1),
        "state": "late" if name == "promotions" else "fresh",
        "weeks": 23, "max_age_weeks": 1,
    } for name, (cadence, required, owner) in SOURCES.items()]


def quality(source: str, *, rejected: bool = False) -> dict[str, Any]:
    weeks = [_quality(source, week(back)) | {"warnings": [], "error": ""} for back in range(23, 0, -1)]
    if rejected:
        weeks[-1] |= {"status": "rejected", "error": "week.csv.gz: the gzip data ends in the middle"}
    return {"source": source, "weeks": weeks, "misplaced_files": [f"{source}/loose <i>file</i>.csv"]}


def quarantine(source: str, sales_week: str, limit: int, offset: int) -> dict[str, Any]:
    total = int(_quality(source, sales_week)["quarantined"])
    rows = [{
        "source_row": 17 * (number + 1), "reason_code": REASONS[number % 3], "expected": "a number of 0 or more",
        "field": ("units", "store_id", "date")[number % 3], "sales_week": sales_week,
        "value": HOSTILE if number == 0 else ("n/a", "S-9999", "2017-13-02")[number % 3],
        "raw_text": f"{number},00{number % 40},1081,n/a", "source_file": f"deliveries/{sales_week}/<b>drop</b>.csv",
    } for number in range(offset, min(total, offset + limit))]
    return {"rows": rows, "total": total}


STORES = [HOSTILE, *(f"{300 + number:05d}" for number in range(40))]


def forecasts(sales_week: str, store: str, product: str, limit: int, total: int = 4000) -> dict[str, Any]:
    rows = []
    for number in range(total):
        key = (STORES[number % len(STORES)], f"10{number // len(STORES):05d}")
        if (store and key[0] != store) or (product and key[1] != product):
            continue
        segment = f"{REGIONS[number % 14]}-{FORMATS[number % 2]}-{SPEEDS[number % 3 % 2]}"
        units = round(0.5 + 22 * _share(*key), 2)
        failover = "baseline" if number % 5 == 0 else ""
        rows.append({
            "store_id": key[0], "product_id": key[1], "sales_week": sales_week, "segment": segment, "units": units,
            "model": segment.rsplit("-", 1)[0] + "-baseline" if failover else segment, "model_version": "9c1d77",
            "order_units": int(units) + 1, "failover": failover,
        })
    return {"sales_week": sales_week, "publish_version": "5be1c2a07d19", "run_id": f"weekly-{sales_week}-a1",
            "rows": rows[:limit], "total": len(rows), "stores": STORES, "products": [f"10{n:05d}" for n in range(98)]}


def changes(sales_week: str) -> dict[str, Any]:
    fields = {"units": ["4", HOSTILE]}
    return {
        "sales_week": sales_week, "from_version": "1b22c2a07d19", "to_version": "5be1c2a07d19", "total": 1,
        "rows": [{"store_id": HOSTILE, "product_id": "1000001", "segment": "r01-large-fast",
                  "before": {"units": 4.0, "order_units": 6}, "after": {"units": 6.5, "order_units": 12}}],
        "sources": [{"source": "deliveries", "sales_week": week(1), "from_version": "a", "to_version": "b",
                     "rows": [{"source_row": 17, "source_file": "dsd.csv", "fields": fields}]}],
    }


def explain(sales_week: str, store: str, product: str) -> dict[str, Any]:
    forecast = forecasts(sales_week, store, product, 1)["rows"][0]
    past = [{"sales_week": week(back), "units": round(forecast["units"] * (0.6 + 0.8 * _share(store, product, back)))}
            for back in range(1, 40)]
    return {
        "forecast": forecast, "run_id": f"weekly-{sales_week}-a1", "code_version": "3c1f2a9", "history": past,
        "model": {"name": forecast["model"], "version": "9c1d77", "tags": {"trained_on": "2017-11-05"}},
        "manifest": {"produced_at": NOW.isoformat(), "sha256": "5be1c2a07d19" * 5},
        "data_versions": {"deliveries": {week(1): "9f31c2aa", week(2): "1b22c2aa"}, "stores": {week(9): "77ab01fe"}},
        "rows": [one | {"source_file": f"deliveries/{one['sales_week']}/dsd.csv", "source_row": 901 + 7 * number}
                 for number, one in enumerate(past[:12])],
    }


def audit() -> dict[str, Any]:
    actions = [("week_published", week(0), {"publish_version": "5be1c2", "rows": 61204}),
               ("model_promoted", "r01-large-fast:9c1d77", {"mape": 0.381234, "reasons": ["MAPE 0.381 <= 0.45"]}),
               ("run_replayed", "weekly-2017-W43-a1", {"reason": "store list was corrected", "dry_run": False})]
    actors = ("run weekly-2017-W45-a1", "amara@example.com")
    return {"faults": [], "entries": [{
        "at": (NOW - timedelta(hours=5 * number)).isoformat(), "actor": actors[number % 2],
        "action": actions[number % 3][0], "subject": actions[number % 3][1], "details": actions[number % 3][2],
        "hash": hashlib.sha256(str(number).encode()).hexdigest(),
    } for number in range(24)]}


def pipelines() -> dict[str, Any]:
    begun = NOW - timedelta(hours=2)
    names = ["Condition deliveries", "Condition returns", "Condition weather", "Data gate", "Start run", "Wait for run"]
    activities = []
    for position, name in enumerate(names):
        started = begun + timedelta(seconds=4 if position < 3 else 20 * position)
        ended = started + timedelta(seconds=75 if position == 5 else 15)
        activities.append({
            "activityName": name, "activityType": "WebActivity", "status": "Succeeded", "path": [name],
            "activityRunStart": started.isoformat(), "activityRunEnd": ended.isoformat(), "error": {"message": ""},
        })
    return {"runs": [{
        "runId": f"adf-{number}", "pipelineName": "pl_forecast_weekly", "status": "Succeeded", "message": "",
        "runStart": begun.isoformat(), "runEnd": (begun + timedelta(minutes=3)).isoformat(),
        "parameters": {"run_week": week(number)}, "activityRuns": activities,
    } for number in range(3)]}
