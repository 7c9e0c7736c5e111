"""Django: views that start a run and show it, without an event loop; needs `pip install django`.

    python -m examples.django_reports                      # plays three requests
    python -m examples.django_reports runserver            # serves them

In a project the workflows and the client live in a module of an app, such as `reports/flows.py`:

    app = Floxide(settings.FLOXIDE_BROKER, store=settings.FLOXIDE_STORE, workflows=[MakeReport])
    client = Client(app)

which the views import; `floxide worker reports.flows:app` does the work. Nodes that use Django's models are sync
functions: they run in threads. Start runs in `transaction.on_commit`, so that a node finds what the view has saved.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, JsonResponse
from django.test import Client as Browser
from django.urls import path

from floxide_amqp import Floxide, NoContext, RunNotFoundError, Workflow, WorkflowCtx, node
from floxide_amqp.sync import Client


@node
def count_words(ctx: WorkflowCtx[NoContext], text: str) -> int:
    ctx.set_attribute("counted_at", datetime.now(UTC))
    return len(text.split())


@node
async def write_report(words: int) -> str:
    return f"{words} words"


class MakeReport(Workflow[str, str]):
    start = count_words
    edges = (count_words >> write_report,)


client = Client(Floxide(workflows=[MakeReport]))


def make(request: HttpRequest, name: str) -> JsonResponse:
    run = client.start(MakeReport, request.body.decode(), run_id=name, attributes={"kind": "report"})
    return JsonResponse({"run": run.run_id}, status=202)


def show(_: HttpRequest, name: str) -> JsonResponse:
    try:
        found = client.query(MakeReport, name)
    except RunNotFoundError as error:
        return JsonResponse({"error": str(error)}, status=404)
    if not found.status.is_terminal:
        return JsonResponse({"status": found.status.value, "live": found.metrics.live_items})
    return JsonResponse({"status": found.status.value, "report": client.result(MakeReport, name)})


urlpatterns = [path("reports/<name>/make", make), path("reports/<name>", show)]


def configure() -> None:
    if not settings.configured:
        settings.configure(DEBUG=True, ALLOWED_HOSTS=["localhost", "127.0.0.1", "testserver"], SECRET_KEY="-")  # noqa: S106
        django.setup()
    settings.ROOT_URLCONF = __name__


def main() -> list[Any]:
    configure()
    browser: Any = Browser()  # nothing says that its answers are no requests
    answers: list[Any] = [
        browser.post("/reports/may/make", "the quick brown fox", content_type="text/plain").json(),
    ]
    client.wait("may", timeout=20)
    answers.append(browser.get("/reports/may").json())
    answers.append(browser.get("/reports/june").status_code)
    client.close()
    return answers


if __name__ == "__main__":
    if len(sys.argv) > 1:
        configure()
        execute_from_command_line(sys.argv)
    else:
        print(*main(), sep="\n")
