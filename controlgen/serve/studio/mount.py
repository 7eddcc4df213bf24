"""The page put into the application: its gate, its downloads, and its life."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import Response

from controlgen.errors import ArtifactMissing
from controlgen.serve.job_queue import JobQueue
from controlgen.serve.registry import get_model
from controlgen.serve.service import Service
from controlgen.serve.studio import look
from controlgen.serve.studio.asking import Asking
from controlgen.serve.studio.desk import Desk
from controlgen.serve.studio.gate import Gate
from controlgen.serve.studio.page import build
from controlgen.serve.studio.parcel import parcel
from controlgen.serve.studio.visits import Visits


class Studio:
    """The page over a service, to be put into an application that has everything else already."""

    def __init__(self, service: Service, work: JobQueue) -> None:
        self._models = service.models
        self._visits = Visits(next(iter(service.models)))
        desk = Desk(Asking(service, work), self._visits)
        # Gradio wants an event loop as it is put together; this one is gone afterwards.
        with ThreadPoolExecutor(1) as pool:
            self._blocks, self._page = pool.submit(asyncio.run, _put_together(desk)).result()

    def put_into(self, app: FastAPI) -> None:
        """The page at /, and its downloads."""

        @app.get("/studio/{token}/{number}.zip", include_in_schema=False)
        def download(token: str, number: int) -> Response:
            visit = self._visits.by_token(token)
            if visit is None:
                raise ArtifactMissing("this visit is no longer known; open the page again")
            drawing = visit.find(number)
            content = parcel(drawing, get_model(self._models, drawing.model))
            name = f"{drawing.model}-{number}.zip"
            by_name = {"Content-Disposition": f'attachment; filename="{name}"'}
            return Response(content, media_type="application/zip", headers=by_name)

        app.router.routes.append(Gate(self._page))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the application is."""
        async with self._page.router.lifespan_context(self._page):
            # Nothing goes through Gradio's own queue, which would look for it a thousand times a
            # second and hold up what is at work each time.
            self._blocks._queue.close()  # type: ignore[no-untyped-call]
            yield


async def _put_together(desk: Desk) -> tuple[gr.Blocks, FastAPI]:
    # An application of its own: its routes are reached through the gate alone.
    blocks = build(desk)
    page = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=look.theme(),
        css=look.CSS,
    )
    return blocks, page
