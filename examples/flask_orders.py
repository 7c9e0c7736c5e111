"""Flask: views start runs, say where they are and cancel them, without an event loop; needs `pip install flask`.

    python -m examples.flask_orders                        # plays three requests
    flask --app examples.flask_orders:web run              # serves them
    gunicorn --preload --workers 4 examples.flask_orders:web

Here everything runs in one process. In a deployment the application has a broker and a store, and `floxide worker`
processes do the work. The client is made at import and opens nothing before the first request of each process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Flask, request

from floxide_amqp import Floxide, NoContext, RunConflictError, RunNotFoundError, Workflow, WorkflowCtx, node
from floxide_amqp.sync import Client


@dataclass(frozen=True)
class Order:
    customer: str
    item: str
    cents: int


@node
async def charge(ctx: WorkflowCtx[NoContext], order: Order) -> Order:
    ctx.set_attribute("stage", "charged")
    return order


@node
async def ship(ctx: WorkflowCtx[NoContext], order: Order) -> str:
    ctx.set_attribute("stage", "shipped")
    return f"{order.customer} paid {order.cents}; shipped {order.item}"


class OrderProcessing(Workflow[Order, str]):
    start = charge
    edges = (charge >> ship,)


client = Client(Floxide(workflows=[OrderProcessing]))
web = Flask(__name__)


@web.post("/orders")
def place() -> tuple[dict[str, Any], int]:
    """A request that is sent twice, as browsers and proxies do, is one run: its id is the request's key."""
    order = Order(**request.get_json())
    run = client.start(
        OrderProcessing, order, run_id=request.headers["Idempotency-Key"], attributes={"customer": order.customer}
    )
    return {"run": run.run_id}, 202


@web.get("/orders/<run_id>")
def show(run_id: str) -> dict[str, Any]:
    info = client.run_info(run_id)
    return {"run": run_id, "status": info.status.value, "stage": info.attributes.get("stage", "new")}


@web.get("/orders/<run_id>/receipt")
def receipt(run_id: str) -> dict[str, Any]:
    return {"receipt": client.result(OrderProcessing, run_id, timeout=20)}


@web.get("/customers/<customer>/orders")
def orders_of(customer: str) -> dict[str, Any]:
    page = client.list_runs(attributes={"customer": customer}, cursor=request.args.get("cursor", ""))
    return {"orders": [run.run_id for run in page.runs], "next": page.next_cursor}


@web.delete("/orders/<run_id>")
def cancel(run_id: str) -> dict[str, Any]:
    return {"cancelled": client.cancel(run_id, reason="by the customer")}


@web.errorhandler(RunNotFoundError)
def not_found(error: RunNotFoundError) -> tuple[dict[str, Any], int]:
    return {"error": str(error)}, 404


@web.errorhandler(RunConflictError)
def conflict(error: RunConflictError) -> tuple[dict[str, Any], int]:
    return {"error": str(error)}, 409


def main() -> list[Any]:
    shop = web.test_client()
    order = {"customer": "Ada", "item": "pen", "cents": 30}
    answers = [shop.post("/orders", json=order, headers={"Idempotency-Key": "order-17"}).json for _ in range(2)]
    answers.append(shop.get("/orders/order-17/receipt").json)
    answers.append(shop.get("/orders/order-17").json)
    answers.append(shop.get("/customers/Ada/orders").json)
    answers.append(shop.get("/orders/order-18").status_code)
    answers.append(
        shop.post("/orders", json={**order, "cents": 31}, headers={"Idempotency-Key": "order-17"}).status_code
    )
    client.close()
    return answers


if __name__ == "__main__":
    print(*main(), sep="\n")
