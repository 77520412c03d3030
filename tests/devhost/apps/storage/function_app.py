"""Storage triggers and bindings: blobs by Event Grid and by polling, queues, Event Grid events, timers."""

import json
import logging
import os
from pathlib import Path

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


def record(**what: object) -> None:
    with Path(os.environ["EFFECTS"]).open("a") as effects:
        effects.write(json.dumps(what) + "\n")


@app.blob_trigger(
    arg_name="blob", path="landing/{source}/{week}/{name}", connection="LAKE", source=func.BlobSource.EVENT_GRID
)
def arrived(blob: func.InputStream, context: func.Context) -> None:
    record(fn=context.function_name, name=blob.name, uri=blob.uri, length=blob.length, text=blob.read().decode())
    if "bad" in (blob.name or ""):
        raise ValueError("a bad blob")


@app.blob_trigger(arg_name="blob", path="polled/{name}.txt", connection="LAKE")
@app.blob_output(arg_name="copy", path="copies/{name}.copy", connection="LAKE")
def polled(blob: func.InputStream, copy: func.Out[bytes]) -> None:
    record(fn="polled", name=blob.name)
    copy.set(blob.read().upper())


@app.queue_trigger(arg_name="message", queue_name="%QUEUE%", connection="LAKE")
@app.queue_output(arg_name="done", queue_name="done", connection="LAKE")
def job(message: func.QueueMessage, done: func.Out[str]) -> None:
    text = message.get_body().decode()
    record(fn="job", text=text, count=message.dequeue_count, id=message.id)
    if "bad" in text:
        raise ValueError("a bad message")
    done.set(f"done {text}")


@app.event_grid_trigger(arg_name="event")
def noticed(event: func.EventGridEvent) -> None:
    record(fn="noticed", id=event.id, subject=event.subject, data=event.get_json())


@app.timer_trigger(arg_name="timer", schedule="*/1 * * * * *")
def tick(timer: func.TimerRequest) -> None:
    record(fn="tick", past_due=timer.past_due)


@app.timer_trigger(arg_name="timer", schedule="0 0 4 * * Mon", run_on_startup=False)
def nightly(timer: func.TimerRequest) -> None:
    record(fn="nightly", past_due=timer.past_due)


@app.route(route="copies/{name}", methods=["GET"])
@app.blob_input(arg_name="blob", path="copies/{name}.copy", connection="LAKE")
def copies(req: func.HttpRequest, blob: func.InputStream) -> func.HttpResponse:
    logging.info("copy %s", req.route_params["name"])
    return func.HttpResponse(blob.read() if blob else b"", status_code=200 if blob else 404)


@app.route(route="send/{queue}", methods=["POST"])
@app.queue_output(arg_name="out", queue_name="{queue}", connection="LAKE")
def send(req: func.HttpRequest, out: func.Out[str]) -> str:
    out.set(req.get_body().decode())
    return "sent"
