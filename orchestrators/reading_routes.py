"""Models, forecasts, lineage and audit over HTTP. Bindings only."""

from __future__ import annotations

import azure.durable_functions as df
import azure.functions as func

from domain.errors import BadRequest
from domain.sales_weeks import SalesWeek
from domain.segments import Segment
from http_api import OPERATOR, READER, ROUTE_AUTH, answer, caller, json_body, number, respond

blueprint = df.Blueprint()


@blueprint.route(route="models", methods=["GET"], auth_level=ROUTE_AUTH)
def list_models(req: func.HttpRequest) -> func.HttpResponse:
    """List the model that stands for each segment, with verdict, age and failover state."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.reading import model_rows

        caller(req, READER)
        return answer(model_rows(services()))

    return respond(req, body)


@blueprint.route(route="models/{segment}", methods=["GET"], auth_level=ROUTE_AUTH)
def show_model(req: func.HttpRequest) -> func.HttpResponse:
    """Show every version of one segment's model."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.reading import model_versions

        caller(req, READER)
        return answer(model_versions(services(), Segment.parse(req.route_params["segment"]).key))

    return respond(req, body)


@blueprint.route(route="models/{segment}/promote", methods=["POST"], auth_level=ROUTE_AUTH)
def promote_model(req: func.HttpRequest) -> func.HttpResponse:
    """Promote one version of a segment's model."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.promoting import promote_model as promote

        actor = caller(req, OPERATOR)
        wish = json_body(req)
        version, reason = str(wish.get("version") or ""), str(wish.get("reason") or "")
        if not version:
            raise BadRequest("say which version to promote", field="version", remedy="see GET /api/models/{segment}")
        return answer(promote(services(), req.route_params["segment"], version, actor, reason))

    return respond(req, body)


@blueprint.route(route="models/{segment}/rollback", methods=["POST"], auth_level=ROUTE_AUTH)
def roll_back_model(req: func.HttpRequest) -> func.HttpResponse:
    """Bring the newest retired version of a segment's model back."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.promoting import roll_back_model as roll_back

        actor = caller(req, OPERATOR)
        reason = str(json_body(req).get("reason") or "")
        return answer(roll_back(services(), req.route_params["segment"], actor, reason))

    return respond(req, body)


@blueprint.route(route="forecasts/{sales_week}", methods=["GET"], auth_level=ROUTE_AUTH)
def show_forecasts(req: func.HttpRequest) -> func.HttpResponse:
    """Return a week's published forecasts as JSON, or as the published CSV (format=csv)."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.explaining import forecast_rows
        from orchestrators.publishing import published_bytes

        caller(req, READER)
        week = req.route_params["sales_week"]
        wanted = req.params.get("format", "json")
        if wanted == "csv":
            data, manifest = published_bytes(services().lake, SalesWeek.parse(week))
            headers = {
                "ETag": f'"{manifest["publish_version"]}"', "X-Content-SHA256": manifest["sha256"],
                "X-As-Of-Version": manifest["as_of_version"], "X-Produced-At": manifest["produced_at"],
            }
            return func.HttpResponse(data, mimetype="text/csv", headers=headers)
        if wanted != "json":
            raise BadRequest(f"format {wanted!r} is not json or csv", field="format", value=wanted)
        return answer(forecast_rows(
            services(), week, req.params.get("store_id", ""), req.params.get("product_id", ""),
            number(req, "limit", 500, 100_000),
        ))

    return respond(req, body)


@blueprint.route(route="forecasts/{sales_week}/changes", methods=["GET"], auth_level=ROUTE_AUTH)
def show_forecast_changes(req: func.HttpRequest) -> func.HttpResponse:
    """Return which forecasts differ between two versions of a week, and which raw rows are behind it."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.comparing import compare_versions

        caller(req, READER)
        return answer(compare_versions(
            services(), req.route_params["sales_week"], req.params.get("from_version", ""),
            req.params.get("to_version", ""), number(req, "limit", 500, 100_000),
        ))

    return respond(req, body)


@blueprint.route(route="forecasts/{sales_week}/rollback", methods=["POST"], auth_level=ROUTE_AUTH)
def roll_back_forecasts(req: func.HttpRequest) -> func.HttpResponse:
    """Make the version published before the current one current again."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.publishing import roll_back_week

        actor = caller(req, OPERATOR)
        wish = json_body(req)
        reason = str(wish.get("reason") or "")
        if not reason:
            raise BadRequest("a rollback needs a reason for the audit trail", field="reason", remedy="say why")
        from_version = str(wish.get("from_version") or "")
        return answer(roll_back_week(services(), req.route_params["sales_week"], actor, reason, from_version))

    return respond(req, body)


@blueprint.route(route="explain", methods=["GET"], auth_level=ROUTE_AUTH)
def explain_forecast(req: func.HttpRequest) -> func.HttpResponse:
    """Return where one published number comes from, down to the raw rows."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.explaining import explain

        caller(req, READER)
        wanted = [req.params.get(name, "") for name in ("sales_week", "store_id", "product_id")]
        if not all(wanted):
            raise BadRequest("explain needs sales_week, store_id and product_id", remedy="give all three")
        return answer(explain(services(), *wanted))

    return respond(req, body)


@blueprint.route(route="audit", methods=["GET"], auth_level=ROUTE_AUTH)
def show_audit(req: func.HttpRequest) -> func.HttpResponse:
    """Return the newest lines of the audit trail and whether the whole of it verifies."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.audit import read_audit, verify_audit

        caller(req, READER)
        lake = services().lake
        faults = verify_audit(lake)
        entries = read_audit(lake, number(req, "limit", 200, 5000))
        return answer({"entries": entries, "intact": not faults, "faults": faults})

    return respond(req, body)


@blueprint.route(route="pipelines/runs", methods=["GET"], auth_level=ROUTE_AUTH)
def list_pipeline_runs(req: func.HttpRequest) -> func.HttpResponse:
    """List the newest Data Factory pipeline runs with their activities."""
    def body() -> func.HttpResponse:
        from bootstrap import services
        from orchestrators.reading import pipeline_runs

        caller(req, READER)
        return answer({"runs": pipeline_runs(services(), number(req, "limit", 20, 200))})

    return respond(req, body)


@blueprint.route(route="openapi.json", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def show_openapi(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 (the binding needs the parameter)
    """Serve the OpenAPI 3.1 document of every route."""
    from pathlib import Path

    document = (Path(__file__).parent.parent / "docs" / "openapi.json").read_bytes()
    return func.HttpResponse(document, mimetype="application/json")


@blueprint.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def show_health(req: func.HttpRequest) -> func.HttpResponse:
    """200 while the settings are usable and the lake answers; 503 with the reason otherwise."""
    def body() -> func.HttpResponse:
        from bootstrap import services

        found = services()
        found.lake.info("runs", "health")
        return answer({"status": "ok", "code_version": found.settings.code_version, "scenario": found.scenario.name})

    return respond(req, body)
