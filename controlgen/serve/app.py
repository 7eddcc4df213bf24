"""The FastAPI application: paths, and errors as problem+json."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import FastAPI, File, Form, Path, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser

from controlgen._version import __version__
from controlgen.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    ConfigError,
    ControlGenError,
    DataError,
    Incompatible,
)
from controlgen.serve import serialization
from controlgen.serve.examples import put_into
from controlgen.serve.job_queue import Busy, Deadline, TooSlow, Work
from controlgen.serve.limits import Limits
from controlgen.serve.middleware import LOG, PROBLEM, Bounded, SameHost, Token, Traced, problem
from controlgen.serve.registry import Served, chosen
from controlgen.serve.schemas import (
    Answer,
    Arrays,
    DirectionOut,
    DirectionRequest,
    EditRequest,
    EmbedRequest,
    FeaturesOut,
    GenerateRequest,
    Health,
    ImagesOut,
    InvertRequest,
    ModelCard,
    ModelOut,
    NearestRequest,
    Neighbours,
    Problem,
    SampleRequest,
    SweepRequest,
)
from controlgen.serve.service import Service

if TYPE_CHECKING:
    from controlgen.serve.studio.mount import Studio

T = TypeVar("T", bound=BaseModel)
STATUS: dict[type[ControlGenError], tuple[int, str]] = {
    TooSlow: (503, "Too slow"),
    Busy: (429, "Too many requests"),
    ArtifactMissing: (404, "Not found"),
    Incompatible: (409, "Does not belong together"),
    DataError: (422, "Data cannot be used"),
    ConfigError: (422, "Cannot be done as asked"),
    ArtifactCorrupt: (422, "Damaged"),
}
SAID = {
    400: "not readable",
    404: "no such model, direction or path",
    409: "does not fit this model",
    413: "too large",
    422: "cannot be done as asked",
    429: "too many requests wait; Retry-After says when to ask again",
    503: "no answer within the time of a request",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": said, "model": Problem, "content": {PROBLEM: {}}}
    for status, said in SAID.items()
}
PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}


def create_app(
    models: Mapping[str, Served],
    limits: Limits | None = None,
    token: str = "",
    hosts: Collection[str] = (),
    studio: bool = False,
) -> FastAPI:
    """The application for these models.

    `token`, where given, is asked of every request but /health; `hosts`, where given, are the only
    Host names that are answered. With `studio` there is the page at / as well. Raises ConfigError
    where that is asked for and gradio is not installed.
    """
    limits = limits or Limits()
    # Starlette writes uploads beyond 1 MB to the disk; what is given here never goes there.
    MultiPartParser.spool_max_size = max(MultiPartParser.spool_max_size, limits.body_bytes)
    service, work = Service(models, limits), Work(limits)
    page = _studio(service, work) if studio else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with page.running() if page else nullcontext():
            yield
        # What was begun is finished, or was given time to notice that it is too late.
        await asyncio.get_running_loop().run_in_executor(None, work.close)

    app = FastAPI(
        title="controlgen",
        version=__version__,
        summary="Controlled image generation without labels",
        lifespan=lifespan,
        docs_url=None,  # its page needs a script from elsewhere
        redoc_url=None,
        responses=PROBLEMS,
    )
    app.state.service, app.state.work = service, work
    _tell_errors(app)
    _look(app, service, work)
    _ask(app, service, work)
    if page:
        page.put_into(app)
    _give_examples(app, next(iter(models.values())))
    app.add_middleware(Bounded, limits=limits)
    if token.strip():
        app.add_middleware(Token, token=token)
    app.add_middleware(SameHost, hosts=hosts)
    app.add_middleware(Traced)
    return app


def _studio(service: Service, work: Work) -> "Studio":
    # Gradio is imported only where its page is served.
    try:
        from controlgen.serve.studio.mount import Studio
    except ImportError as error:
        raise ConfigError(
            f"the studio needs {error.name}: pip install 'controlgen[serve]', or serve with "
            "--no-studio"
        ) from None
    return Studio(service, work)


def _look(app: FastAPI, service: Service, work: Work) -> None:
    # What can be told without any work of a model.
    @app.get("/health", tags=["look"])
    async def health() -> Health:
        """Whether it works, and how many requests wait."""
        return Health(version=__version__, models=list(service.models), waiting=work.admitted)

    @app.get("/v1/models", tags=["look"])
    async def models() -> list[ModelOut]:
        """The models served."""
        return [one.described() for one in service.models.values()]

    @app.get("/v1/models/{name}", tags=["look"])
    async def model(name: Annotated[str, Path(max_length=200)]) -> ModelCard:
        """One model, with its card."""
        served = chosen(service.models, name)
        return ModelCard(**served.described().model_dump(), card=served.card)

    @app.get(
        "/v1/models/{name}/directions/{file}",
        tags=["look"],
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}},
    )
    async def direction_file(
        name: Annotated[str, Path(max_length=200)], file: Annotated[str, Path(max_length=200)]
    ) -> Response:
        """A kept direction as the file that `controlgen` reads everywhere."""
        served = chosen(service.models, name)
        if file not in served.directions:
            raise ArtifactMissing(f"direction {file!r}: not kept for {name}")
        return Response(served.directions[file], media_type="application/octet-stream")


def _ask(app: FastAPI, service: Service, work: Work) -> None:
    # What a model works for: each goes through the queue, and is written there as well, so that a
    # long answer holds up no other request.
    async def done(
        method: Callable[[Any, Deadline], T], asked: Any, told: Callable[[T], Response] = _json
    ) -> Response:
        return await work.run(lambda deadline: told(method(asked, deadline)))

    @app.post("/v1/sample", tags=["work"], response_model=ImagesOut)
    async def sample(asked: SampleRequest) -> Response:
        """Samples of a seed; sample i of a seed is always the same image."""
        return await done(service.sample, asked)

    @app.post("/v1/generate", tags=["work"], response_model=ImagesOut)
    async def generate(asked: GenerateRequest) -> Response:
        """Latents to images."""
        return await done(service.generate, asked)

    @app.post("/v1/embed", tags=["work"], response_model=FeaturesOut)
    async def embed(asked: EmbedRequest) -> Response:
        """Images to features, or texts to their mean feature."""
        return await done(service.embed, asked)

    @app.post("/v1/invert", tags=["work"], response_model=ImagesOut)
    async def invert(asked: InvertRequest) -> Response:
        """Features or images to latents, and the images that these generate."""
        return await done(service.invert, asked)

    @app.post("/v1/invert/upload", tags=["work"], response_model=ImagesOut)
    async def invert_upload(
        image: Annotated[UploadFile, File(description="PNG, JPEG, TIFF or WebP")],
        model: Annotated[str | None, Form(max_length=200)] = None,
        arrays: Annotated[Arrays, Form()] = "json",
    ) -> Response:
        """The same for one uploaded file."""
        content = await image.read(service.limits.image_bytes + 1)
        text = serialization.to_base64(
            serialization.checked_image(content, "image", service.limits)
        )
        asked = InvertRequest(model=model, images=[text], arrays=arrays)
        return await done(service.invert, asked)

    @app.post("/v1/edit", tags=["work"], response_model=Answer, responses=PICTURE)
    async def edit(asked: EditRequest, request: Request) -> Response:
        """Move sources in feature space; see what was asked and what came out.

        With `Accept: image/png` the first picture alone; that of an expression carries its recipe.
        """
        return await done(service.edit, asked, _as_accepted(request, 0))

    @app.post("/v1/sweep", tags=["work"], response_model=Answer, responses=PICTURE)
    async def sweep(asked: SweepRequest, request: Request) -> Response:
        """The same edit at several amounts, as a slider moves.

        With `Accept: image/png` the last picture alone, where the way ends.
        """
        return await done(service.sweep, asked, _as_accepted(request, -1))

    @app.post("/v1/nearest", tags=["work"], response_model=Neighbours)
    async def nearest(asked: NearestRequest) -> Response:
        """Items of the bank that are most like what an expression asks for."""
        return await done(service.nearest, asked)

    @app.post("/v1/directions", tags=["work"], response_model=DirectionOut, status_code=201)
    async def directions(asked: DirectionRequest) -> Response:
        """Make a direction of texts, groups of images, an attribute or an expression.

        With a name it is kept, for every request. Of a name already taken it takes the place, and
        the answer says `replaced`.
        """
        return await done(service.direction, asked, partial(_json, status=201))


def _give_examples(app: FastAPI, served: Served) -> None:
    # They name a model and have its sizes, so they can be sent as they stand.
    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            put_into(FastAPI.openapi(app), served)
        return FastAPI.openapi(app)

    app.openapi = schema  # type: ignore[method-assign]


def _json(told: BaseModel, status: int = 200) -> Response:
    return Response(told.model_dump_json(), status, media_type="application/json")


def _as_accepted(request: Request, shown: int) -> Callable[[Answer], Response]:
    if request.headers.get("accept", "").split(",")[0].split(";")[0].strip() != "image/png":
        return _json

    def picture(told: Answer) -> Response:
        image = serialization.from_base64(told.pictures[shown].image, "image")
        return Response(image, media_type="image/png")

    return picture


def _tell_errors(app: FastAPI) -> None:
    def told(request: Request, status: int, title: str, detail: str, **headers: str) -> Response:
        request_id = getattr(request.state, "request_id", "")
        body = problem(status, title, detail, request_id)
        return Response(body, status, headers, media_type=PROBLEM)

    @app.exception_handler(ControlGenError)
    async def known(request: Request, error: ControlGenError) -> Response:
        status, title = next(
            (said for kind, said in STATUS.items() if isinstance(error, kind)),
            (500, "Cannot be done"),
        )
        if isinstance(error, Busy):
            wait = {"Retry-After": str(error.retry_after)}
            return told(request, status, title, str(error), **wait)
        return told(request, status, title, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        status = 400 if any(one["type"] == "json_invalid" for one in error.errors()) else 422
        return told(request, status, "Not a request that is known", _lines(error))

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        return told(request, error.status_code, "Refused", str(error.detail), **headers)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> Response:
        LOG.error("%s failed", getattr(request.state, "request_id", ""), exc_info=error)
        # Sent from outside of what gives every other answer its id.
        request_id = {"X-Request-ID": getattr(request.state, "request_id", "")}
        said = "an error that is not yours; the log says more"
        return told(request, 500, "Failed", said, **request_id)


def _lines(error: RequestValidationError) -> str:
    parts = []
    for one in error.errors()[:5]:
        where = ".".join(str(part) for part in one["loc"][1:]) or "body"
        parts.append(f"{where}: {one['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts)
