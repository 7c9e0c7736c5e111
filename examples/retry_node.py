"""Retry on a node: which errors, how often, how soon. The due time is in the store, so a retry survives its worker."""

from __future__ import annotations

import asyncio

from floxide_amqp import Backoff, Context, RetryPolicy, RunFailedError, Workflow, WorkflowCtx, node, with_retry

patient = RetryPolicy(
    max_attempts=5, initial_backoff=0.01, backoff=Backoff.EXPONENTIAL, retry_on=(ConnectionError, TimeoutError)
)


@node(retry=patient)
async def fetch(ctx: WorkflowCtx[Context], url: str) -> str:
    if not url.startswith("http"):
        raise ValueError(f"{url!r} is no URL")  # not in retry_on: fails at once
    if ctx.attempt < 3:
        raise ConnectionError("the server is asleep")
    return f"{url} answered at attempt {ctx.attempt}"


class Fetching(Workflow[str, str]):
    start = fetch


hasty = with_retry(fetch, RetryPolicy(max_attempts=2, initial_backoff=0.01))  # the same node under another policy


class FetchingInHaste(Workflow[str, str]):
    start = hasty


async def main() -> list[str]:
    told = [await Fetching.run("http://example.org")]
    for workflow, url in ((Fetching, "example.org"), (FetchingInHaste, "http://example.org")):
        try:
            await workflow.run(url)
        except RunFailedError as error:
            told.append(f"{error.error_type} after {error.attempts}: {error.error_message}")
    return told


if __name__ == "__main__":
    print("\n".join(asyncio.run(main())))
