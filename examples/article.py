"""An article pipeline over a text model: outline, research in parallel, then draft and review until it is good enough.

The model is a resource that the lifespan opens once per worker. The one here is a fake that answers by rule and knows
nothing; a real one is another subclass of `TextModel`, yielded by the same lifespan.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from floxide_amqp import Context, Fixed, Floxide, NextAll, Sum, Workflow, WorkflowCtx, gather, node, repeat


class TextModel:
    async def complete(self, task: str, text: str) -> str:
        raise NotImplementedError


class FakeTextModel(TextModel):
    async def complete(self, task: str, text: str) -> str:
        match task:
            case "outline":
                return f"the origins of {text}\nthe uses of {text}\nthe future of {text}"
            case "research":
                return f"Little is known about {text}."
            case "grade":
                return str(min(10, 4 + 3 * text.count("!")))
            case _:
                return text + "!"


class ArticleContext(Context):
    topic: Fixed[str]
    calls: Annotated[int, Sum()] = 0


@dataclass(frozen=True)
class Draft:
    text: str


@dataclass(frozen=True)
class Article:
    text: str


async def ask(ctx: WorkflowCtx[ArticleContext], task: str, text: str) -> str:
    ctx.state.calls += 1
    return await ctx.resource(TextModel).complete(task, text)


@node(requires=(TextModel,))  # a worker without a model refuses to start
async def outline(ctx: WorkflowCtx[ArticleContext], sections: int) -> NextAll[str]:
    headings = await ask(ctx, "outline", ctx.state.topic)
    return NextAll(headings.splitlines()[:sections])


@node
async def research(ctx: WorkflowCtx[ArticleContext], heading: str) -> str:
    return await ask(ctx, "research", heading)


@node
async def assemble(findings: list[str]) -> Draft:
    return Draft(" ".join(findings))


@node
async def review(ctx: WorkflowCtx[ArticleContext], draft: Draft) -> Draft | Article:
    grade = int(await ask(ctx, "grade", draft.text))
    return Article(draft.text) if grade >= 10 else draft


@node
async def improve(ctx: WorkflowCtx[ArticleContext], draft: Draft) -> Draft:
    return Draft(await ask(ctx, "improve", draft.text))


@node
async def publish(ctx: WorkflowCtx[ArticleContext], article: Article) -> str:
    return f"{ctx.state.topic.upper()}: {article.text} ({ctx.state.calls} calls)"


class ArticlePipeline(Workflow[int, str, ArticleContext]):
    start = outline
    edges = (
        outline >> research >> gather(assemble) >> review,
        review.when(Draft) >> improve >> repeat(review, max_iterations=5),
        review.when(Article) >> publish,
    )


@asynccontextmanager
async def lifespan() -> AsyncGenerator[TextModel]:
    yield FakeTextModel()


async def main() -> str:
    async with Floxide(workflows=[ArticlePipeline], lifespan=lifespan).orchestrator() as orchestrator:
        run = await orchestrator.start(ArticlePipeline, 2, context=ArticleContext(topic="lighthouses"))
        return await run.result()


if __name__ == "__main__":
    print(asyncio.run(main()))
