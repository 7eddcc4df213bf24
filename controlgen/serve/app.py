"""The FastAPI application: paths, OpenAPI examples, and errors as problem JSON."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from fastapi import Body, FastAPI, File, Form, Path, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.models import Example
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser

from controlgen import rng
from controlgen._version import __version__
from controlgen.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    ConfigError,
    ControlGenError,
    DataError,
    Incompatible,
)
from controlgen.serve import middleware, serialization
from controlgen.serve.job_queue import DeadlineExceeded, JobQueue, QueueFull
from controlgen.serve.limits import Limits
from controlgen.serve.middleware import PROBLEM_JSON
from controlgen.serve.registry import ServedModel, get_model
from controlgen.serve.schemas import (
    ArrayFormat,
    DirectionRequest,
    DirectionResponse,
    EditRequest,
    EditResponse,
    EmbedRequest,
    FeaturesResponse,
    GenerateRequest,
    Health,
    ImagesResponse,
    InvertRequest,
    ModelCard,
    ModelInfo,
    NearestRequest,
    NearestResponse,
    Problem,
    SampleRequest,
    SweepRequest,
)
from controlgen.serve.service import Service

if TYPE_CHECKING:
    from controlgen.serve.studio.mount import Studio

T = TypeVar("T", bound=BaseModel)
ERRORS: dict[type[ControlGenError], tuple[int, str]] = {
    DeadlineExceeded: (503, "Deadline exceeded"),
    QueueFull: (429, "Too many requests"),
    ArtifactMissing: (404, "Not found"),
    Incompatible: (409, "Incompatible"),
    DataError: (422, "Invalid data"),
    ConfigError: (422, "Invalid request"),
    ArtifactCorrupt: (422, "Corrupt artifact"),
}
STATUS_DESCRIPTIONS = {
    400: "not readable",
    404: "no such model, direction or path",
    409: "incompatible with this model",
    413: "too large",
    422: "invalid request",
    429: "too many requests wait; Retry-After says when to try again",
    503: "no response within the time limit of a request",
}
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "model": Problem, "content": {PROBLEM_JSON: {}}}
    for status, description in STATUS_DESCRIPTIONS.items()
}
PNG_RESPONSE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
MORE, LESS = "a digit eight", "a digit three"  # texts of the examples


def create_app(
    models: Mapping[str, ServedModel],
    limits: Limits | None = None,
    token: str = "",
    hosts: Collection[str] = (),
    studio: bool = False,
) -> FastAPI:
    """The application for these models.

    With `token` every request but /health must carry it. With `hosts` only these Host names are
    served. With `studio` there is the page at /; raises ConfigError if gradio is not installed.
    """
    limits = limits or Limits()
    # Starlette writes uploads beyond 1 MB to disk; uploads here stay in memory.
    MultiPartParser.spool_max_size = max(MultiPartParser.spool_max_size, limits.body_bytes)
    service, jobs = Service(models, limits), JobQueue(limits)
    page = _load_studio(service, jobs) if studio else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with page.running() if page else nullcontext():
            yield
        # Jobs finish, or have had time to notice their deadline.
        await asyncio.get_running_loop().run_in_executor(None, jobs.close)

    app = FastAPI(
        title="controlgen",
        version=__version__,
        summary="Controlled image generation without labels",
        lifespan=lifespan,
        docs_url=None,  # its page loads a script from a CDN
        redoc_url=None,
        responses=PROBLEM_RESPONSES,
    )
    app.state.service, app.state.jobs = service, jobs
    _register_error_handlers(app)
    _register_read_routes(app, service, jobs)
    _register_job_routes(app, service, jobs)
    if page:
        page.put_into(app)
    app.add_middleware(middleware.BodyLimitMiddleware, limits=limits)
    if token.strip():
        app.add_middleware(middleware.BearerTokenMiddleware, token=token)
    if hosts:
        app.add_middleware(middleware.HostAndOriginMiddleware, hosts=hosts)
    app.add_middleware(middleware.RequestLogMiddleware)
    return app


def _load_studio(service: Service, jobs: JobQueue) -> "Studio":
    # Gradio is imported only where its page is served.
    try:
        from controlgen.serve.studio.mount import Studio
    except ImportError as error:
        raise ConfigError(
            f"the studio needs {error.name}: pip install 'controlgen[serve]', or serve with "
            "--no-studio"
        ) from None
    return Studio(service, jobs)


def _register_read_routes(app: FastAPI, service: Service, jobs: JobQueue) -> None:
    # Requests that need no work of a model.
    @app.get("/health", tags=["look"])
    async def health() -> Health:
        """State of the server and length of its queue."""
        return Health(version=__version__, models=list(service.models), waiting=jobs.pending)

    @app.get("/v1/models", tags=["look"])
    async def models() -> list[ModelInfo]:
        """List the served models."""
        return [model.to_schema() for model in service.models.values()]

    @app.get("/v1/models/{name}", tags=["look"])
    async def model(name: Annotated[str, Path(max_length=200)]) -> ModelCard:
        """Describe a model, with its card."""
        served = get_model(service.models, name)
        return ModelCard(**served.to_schema().model_dump(), card=served.card)

    @app.get(
        "/v1/models/{name}/directions/{file}",
        tags=["look"],
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}},
    )
    async def direction_file(
        name: Annotated[str, Path(max_length=200)], file: Annotated[str, Path(max_length=200)]
    ) -> Response:
        """Download a saved direction as a file that all of `controlgen` reads."""
        served = get_model(service.models, name)
        if file not in served.directions:
            raise ArtifactMissing(f"direction {file!r}: not saved for {name}")
        return Response(served.directions[file], media_type="application/octet-stream")


def _register_job_routes(app: FastAPI, service: Service, jobs: JobQueue) -> None:
    # Requests that a model works on. The queue serializes the responses too, so that a long one
    # does not block the event loop.
    async def run(
        method: Callable[[Any], T], body: Any, respond: Callable[[T], Response] = _json
    ) -> Response:
        return await jobs.run(lambda: respond(method(body)))

    example_model = next(iter(service.models.values()))
    examples = _examples(example_model)

    def example_of(name: str) -> Any:
        return Body(openapi_examples={"example": Example(value=examples[name])})

    @app.post("/v1/sample", tags=["work"], response_model=ImagesResponse)
    async def sample(body: Annotated[SampleRequest, example_of("sample")]) -> Response:
        """Generate samples of a seed; a sample depends on the seed and its index alone."""
        return await run(service.sample, body)

    @app.post("/v1/generate", tags=["work"], response_model=ImagesResponse)
    async def generate(body: Annotated[GenerateRequest, example_of("generate")]) -> Response:
        """Generate images from latents."""
        return await run(service.generate, body)

    @app.post("/v1/embed", tags=["work"], response_model=FeaturesResponse)
    async def embed(body: Annotated[EmbedRequest, example_of("embed")]) -> Response:
        """Embed images, or texts as their mean feature."""
        return await run(service.embed, body)

    @app.post("/v1/invert", tags=["work"], response_model=ImagesResponse)
    async def invert(body: Annotated[InvertRequest, example_of("invert")]) -> Response:
        """Map features or images to latents, and generate their images."""
        return await run(service.invert, body)

    @app.post("/v1/invert/upload", tags=["work"], response_model=ImagesResponse)
    async def invert_upload(
        image: Annotated[UploadFile, File(description="PNG, JPEG, TIFF or WebP")],
        model: Annotated[str | None, Form(max_length=200, examples=[example_model.name])] = None,
        arrays: Annotated[ArrayFormat, Form(examples=["none"])] = "json",
    ) -> Response:
        """Invert an uploaded file."""
        content = await image.read(service.limits.image_bytes + 1)
        serialization.validate_image(content, "image", service.limits)
        text = serialization.to_base64(content)
        return await run(service.invert, InvertRequest(model=model, images=[text], arrays=arrays))

    @app.post("/v1/edit", tags=["work"], response_model=EditResponse, responses=PNG_RESPONSE)
    async def edit(body: Annotated[EditRequest, example_of("edit")], request: Request) -> Response:
        """Edit sources in feature space, and compare the results with their targets.

        With `Accept: image/png` the response is the first image, which carries the recipe of an
        expression.
        """
        return await run(service.edit, body, _json_or_png(request, 0))

    @app.post("/v1/sweep", tags=["work"], response_model=EditResponse, responses=PNG_RESPONSE)
    async def sweep(
        body: Annotated[SweepRequest, example_of("sweep")], request: Request
    ) -> Response:
        """Apply the same edit at several amounts.

        With `Accept: image/png` the response is the image of the last amount.
        """
        return await run(service.sweep, body, _json_or_png(request, -1))

    @app.post("/v1/nearest", tags=["work"], response_model=NearestResponse)
    async def nearest(body: Annotated[NearestRequest, example_of("nearest")]) -> Response:
        """Search the bank for the items nearest to an expression."""
        return await run(service.nearest, body)

    @app.post("/v1/directions", tags=["work"], response_model=DirectionResponse, status_code=201)
    async def directions(
        body: Annotated[DirectionRequest, example_of("directions")],
    ) -> Response:
        """Make a direction from texts, groups of images, values, an attribute or an expression.

        A direction with a name is saved for all requests. It replaces the previous one of this
        name, and the response then says `replaced`.
        """
        return await run(service.direction, body, partial(_json, status=201))


def _examples(model: ServedModel) -> dict[str, dict[str, Any]]:
    # Valid requests for each path: they name the model and have its sizes.
    editor, common = model.editor, {"model": model.name}
    (latents,) = rng.normals(7, "example", 0, 1, editor.latent_size)
    grey = np.full((1, *editor.image_shape), 128, np.uint8)
    image = serialization.to_base64(serialization.encode_png(grey))
    has_text = hasattr(editor.space, "embed_text")
    direction = f"text('{MORE}') - text('{LESS}')" if has_text else "seed(8) - seed(9)"
    edit = {**common, "expression": f"seed(7) + 1.5 * ({direction})"}
    sides = {"text": [MORE], "neutral": [LESS]} if has_text else {"expression": direction}
    return {
        "sample": {**common, "n": 2, "seed": 7},
        "generate": {**common, "latents": [[float(f"{number:.2f}") for number in latents]]},
        "embed": {**common, **({"texts": [MORE]} if has_text else {"images": [image]})},
        "invert": {**common, "images": [image], "arrays": "none"},
        "edit": {**edit, "amount": 0.8},
        "sweep": {**edit, "amounts": [0.5, 1.0]},
        "nearest": {**common, "expression": "slerp(seed(1), seed(2), 0.3)", "n": 4},
        "directions": {**common, **sides, "name": "bold"},
    }


def _json(body: BaseModel, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status, media_type="application/json")


def _json_or_png(request: Request, index: int) -> Callable[[EditResponse], Response]:
    if request.headers.get("accept", "").split(",")[0].split(";")[0].strip() != "image/png":
        return _json

    def respond(response: EditResponse) -> Response:
        image = serialization.from_base64(response.pictures[index].image, "image")
        return Response(image, media_type="image/png")

    return respond


def _register_error_handlers(app: FastAPI) -> None:
    def respond(request: Request, status: int, title: str, detail: str, **headers: str) -> Response:
        request_id = getattr(request.state, "request_id", "")
        body = middleware.problem_json(status, title, detail, request_id)
        return Response(body, status, headers, PROBLEM_JSON)

    @app.exception_handler(ControlGenError)
    async def controlgen_error(request: Request, error: ControlGenError) -> Response:
        status, title = next(
            (entry for kind, entry in ERRORS.items() if isinstance(error, kind)),
            (500, "Internal error"),
        )
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, QueueFull) else {}
        return respond(request, status, title, str(error), **headers)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        invalid_json = any(problem["type"] == "json_invalid" for problem in error.errors())
        status = 400 if invalid_json else 422
        return respond(request, status, "Invalid request", _format_problems(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        return respond(request, error.status_code, "Rejected", str(error.detail), **headers)

    @app.exception_handler(Exception)
    async def internal_error(request: Request, error: Exception) -> Response:
        request_id = getattr(request.state, "request_id", "")
        middleware.LOG.error("%s failed", request_id, exc_info=error)
        detail = "internal error; see the server's log"
        # Starlette sends this response outside of the middleware that sets the id.
        return respond(request, 500, "Internal error", detail, **{"X-Request-ID": request_id})


def _format_problems(error: RequestValidationError) -> str:
    parts = []
    for problem in error.errors()[:5]:
        field = ".".join(str(part) for part in problem["loc"][1:]) or "body"
        parts.append(f"{field}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts)
