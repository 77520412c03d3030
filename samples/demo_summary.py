"""The demo's last word: what came in, what was trained, how good it is, what was published, how long it took."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

Document = dict[str, Any]


def print_summary(console: Console, facts: Document) -> None:
    """Print the summary; `facts` holds run, qualities (per source), timings and what was new."""
    run: Document = facts["run"]
    console.print()
    console.print(f"[bold]{run['run_id']}[/bold]  {run['status']}: {run['message']}")
    console.print(_sources(facts))
    console.print(_models(run))
    _print_counts(console, facts)
    console.print(_steps(facts))


def _sources(facts: Document) -> Table:
    table = Table(title="Sources (rows)", title_justify="left")
    for heading in ("source", "files", "rows in", "rows out", "quarantined", "duplicates", "most frequent reasons"):
        table.add_column(heading, justify="left" if heading in ("source", "most frequent reasons") else "right")
    for source, weeks in sorted(facts["qualities"].items()):
        if not weeks:
            table.add_row(source, "0", "-", "-", "-", "-", "absent: the run went without it")
            continue
        reasons: dict[str, int] = {}
        for week in weeks:
            for reason, count in week["by_reason"].items():
                reasons[reason] = reasons.get(reason, 0) + count
        most = sorted(reasons.items(), key=lambda item: -item[1])[:3]
        table.add_row(
            source, str(len(weeks)), *(f"{sum(week[key] for week in weeks):,}" for key in
                                       ("records_read", "conditioned", "quarantined", "duplicates")),
            ", ".join(f"{reason} {count:,}" for reason, count in most),
        )
    return table


def _models(run: Document) -> Table:
    table = Table(title="Models against the history average (back-test, ensembles)", title_justify="left")
    for heading in ("format x velocity", "models", "accepted", "MAPE", "RMSE 0", "RMSE all", "WAPE", "bias",
                    "history average MAPE", "relative MAPE reduction"):
        table.add_column(heading, justify="left" if heading == "format x velocity" else "right")
    quality = run.get("quality") or {"groups": [], "overall": None}
    verdicts = [verdict for verdict in run["verdicts"] if verdict["kind"] == "ensemble"]
    for group in quality["groups"]:
        name = f"{group['store_format']}-{group['velocity']}"
        accepted = sum(1 for verdict in verdicts if verdict["accepted"] and verdict["segment"].endswith(f"-{name}"))
        table.add_row(name.replace("-", " x "), *_quality_cells(group, accepted))
    if quality["overall"]:
        accepted = sum(1 for verdict in verdicts if verdict["accepted"])
        table.add_row("[bold]overall[/bold]", *_quality_cells(quality["overall"], accepted))
    return table


def _quality_cells(group: Document, accepted: int) -> list[str]:
    def text(key: str, form: str) -> str:
        return "-" if group.get(key) is None else format(group[key], form)

    return [
        str(group["models"]), str(accepted), text("mape", ".3f"), text("rmse_0", ".2f"), text("rmse_all", ".2f"),
        text("wape", ".3f"), text("bias", "+.3f"), text("baseline_mape", ".3f"), text("mape_reduction", "+.1%"),
    ]


def _print_counts(console: Console, facts: Document) -> None:
    run: Document = facts["run"]
    trained = [verdict for verdict in run["verdicts"] if verdict["kind"] == "ensemble"]
    baselines = len(run["verdicts"]) - len(trained)
    accepted = sum(1 for verdict in trained if verdict["accepted"])
    mission = sum(1 for verdict in trained if verdict["meets_mission"])
    console.print(
        f"Models: {len(trained)} ensembles and {baselines} baselines trained, {accepted} ensembles accepted "
        f"(target MAPE <= {facts['mape_target']:.2f} for this data; {mission} reach 0.45)"
    )
    complete = run.get("completeness")
    if complete:
        explained = ", ".join(f"{reason} {count:,}" for reason, count in complete["explained"].items()) or "none"
        failover = ", ".join(f"{source} {count:,}" for source, count in complete["failover"].items()) or "none"
        console.print(
            f"Completeness: {complete['expected']:,} expected = {complete['scored']:,} scored + "
            f"{sum(complete['explained'].values()):,} explained ({explained}); gap {complete['gap']}; "
            f"of the scored in failover state: {failover}"
        )
    if run.get("publish"):
        publish = run["publish"]
        console.print(f"Published: {publish['rows']:,} forecasts for {run['sales_week']}, version {publish['version']}")
    console.print(
        f"This time: {facts['new_files']} files dropped, {facts['conditioned_now']} conditioned, "
        f"{facts['jobs_now']} jobs submitted" + (", nothing was done twice" if facts["jobs_now"] == 0 else "")
    )


def _steps(facts: Document) -> Table:
    table = Table(title="Time", title_justify="left")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    table.add_column("outcome")
    for name, seconds in facts["timings"]:
        table.add_row(name, f"{seconds:.1f}", "")
    for step in facts["run"]["steps"]:
        if step["seconds"] is not None:
            table.add_row(f"  run: {step['name']}", f"{step['seconds']:.1f}", step["message"])
    table.add_row("[bold]all[/bold]", f"{facts['total_seconds']:.1f}", "")
    return table
