"""Binding of the operators' page: static files below /api/ops/."""

from __future__ import annotations

import azure.functions as func

blueprint = func.Blueprint()  # type: ignore[no-untyped-call]


# The files hold no data: whoever may read data is decided by the routes that the page calls.
@blueprint.route(route="ops/{*path}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def ops_page(req: func.HttpRequest) -> func.HttpResponse:
    """Return one file of the page; `/api/ops` without its slash is sent to `/api/ops/`."""
    from dashboard.site import answer

    path = req.route_params.get("path") or ""
    if not path and not req.url.partition("?")[0].endswith("/"):
        return func.HttpResponse(status_code=308, headers={"Location": "ops/"})
    found = answer(
        path, if_none_match=req.headers.get("If-None-Match", ""),
        accept_encoding=req.headers.get("Accept-Encoding", ""),
    )
    return func.HttpResponse(found.body, status_code=found.status, headers=found.headers)
