"""What one browser has asked for and been given. All of it is in memory, and bounded."""

import asyncio
import hashlib
import re
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from controlgen.errors import DataError
from controlgen.image_io import IMAGE_SUFFIXES
from controlgen.serve.job_queue import QueueFull
from controlgen.serve.schemas import EditResponse
from controlgen.serve.studio.wishes import Wish

VISITS = 64  # browsers that are remembered; the one silent for longest is forgotten first
PAST = 24  # drawings of one visit
UPLOADS = 128  # images of one visit
UPLOADED = 24_000_000  # characters of base64, of one visit
ALL_UPLOADED = 256_000_000  # of all visits
TURNS = 16  # events of one visit, with the one that is answered
SETTLED = 1.5  # seconds without a move after which a drawing keeps its place in the history


@dataclass(frozen=True)
class Settings:
    """How a wish is drawn. `steps` pictures lead to the result, which is the last of them."""

    steps: int = 4
    residual: bool = False
    refine: int = 0


@dataclass(frozen=True)
class Drawing:
    """A wish that was drawn: what came out, and the images (base64) and saved directions read.

    live: drawn while a slider or a number was moving.
    """

    number: int
    model: str
    wish: Wish
    settings: Settings
    text: str
    answer: EditResponse
    images: Mapping[str, str] = field(repr=False, default_factory=dict)
    directions: Mapping[str, bytes] = field(repr=False, default_factory=dict)
    variants: EditResponse | None = None
    live: bool = False


@dataclass
class Visit:
    """One open page."""

    model: str
    clock: Callable[[], float] = time.monotonic
    token: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    wish: Wish = field(default_factory=Wish)
    settings: Settings = field(default_factory=Settings)
    images: "OrderedDict[str, str]" = field(default_factory=OrderedDict)
    groups: int = 1  # the pair of groups that is being gathered
    current: Drawing | None = None
    past: "deque[Drawing]" = field(default_factory=lambda: deque(maxlen=PAST))
    count: int = 0
    met: bool = False  # its page was opened here, and knows what there is
    walked: tuple[str, str] | None = None  # model and start of the axes that are pictured
    _drawn_at: float = 0.0
    _turns: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def uploaded(self) -> int:
        """Characters of base64 that it holds."""
        return sum(map(len, self.images.values()))

    def keep(self, drawing: Drawing) -> None:
        """Show a drawing; one that only moved a number a moment ago gives up its place to it."""
        now = self.clock()
        if self.past and _takes_the_place(self.past[-1], drawing, now - self._drawn_at):
            self.past.pop()
        self.past.append(drawing)
        self.current, self._drawn_at = drawing, now

    def replace(self, drawing: Drawing) -> None:
        """The same drawing with more to show."""
        self.past = deque(
            (drawing if item.number == drawing.number else item for item in self.past), PAST
        )
        self.current = drawing

    def next_number(self) -> int:
        """Counts drawings."""
        self.count += 1
        return self.count

    def find(self, number: int) -> Drawing:
        """One of the past. Raises DataError where it is no longer kept."""
        saved = [self.current, *self.past]
        for drawing in saved:
            if drawing is not None and drawing.number == number:
                return drawing
        raise DataError(f"drawing {number} is no longer kept")

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One event of the page at a time, in the order in which they came. Raises Busy."""
        if self._turns >= TURNS:
            raise QueueFull(
                f"{self._turns} steps of this page wait already; wait for one of them", 1
            )
        self._turns += 1
        try:
            async with self._lock:
                yield
        finally:
            self._turns -= 1

    def check_room(self, files: Sequence[tuple[str, str]]) -> None:
        """Raise DataError where images (names, base64) could not all be kept, or bear no name."""
        full = self.uploaded
        for at, (name, content) in enumerate(files):
            safe_name(name)
            full += len(content)
            if full > UPLOADED or len(self.images) + at >= UPLOADS:
                raise DataError(
                    f"{name[:60]}: this visit holds {len(self.images)} images already, and may not "
                    "hold so many more; forget them first (under Settings)"
                )

    def take(self, name: str, content: str, folder: str = "") -> str:
        """Keep an image (base64) under a name of its own, which is returned. Raises DataError."""
        self.check_room([(name, content)])
        saved = _unused(folder + safe_name(name), self.images)
        self.images[saved] = content
        return saved

    def group(self, side: str) -> list[str]:
        """Names of the images gathered on one side, `more` or `less`."""
        return [name for name in self.images if name.startswith(self.folder(side))]

    def folder(self, side: str) -> str:
        """Where a side's images stand."""
        return f"{side}-{self.groups}/"


class Visits:
    """The visits there are, by the name that each page has given itself."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._visits: OrderedDict[str, Visit] = OrderedDict()

    def of(self, name: str | None) -> Visit:
        """A page's own; a new one where it is not known (any more)."""
        key = hashlib.sha256((name or "").encode()).hexdigest()
        visit = self._visits.pop(key, None) or Visit(self._model)
        self._visits[key] = visit
        while len(self._visits) > VISITS or (len(self._visits) > 1 and self._full()):
            self._visits.popitem(last=False)
        return visit

    def by_token(self, token: str) -> Visit | None:
        """The one whose downloads bear this token."""
        # Downloads are asked for in a thread, while pages come and go in the loop.
        for visit in list(self._visits.values()):
            if secrets.compare_digest(visit.token.encode(), token.encode()):
                return visit
        return None

    def __len__(self) -> int:
        return len(self._visits)

    def _full(self) -> bool:
        return sum(visit.uploaded for visit in self._visits.values()) > ALL_UPLOADED


def safe_name(name: str) -> str:
    """A file's name that can stand in an expression, a zip and on any disk. Raises DataError."""
    path = PurePath(name.replace("\\", "/"))
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise DataError(f"{name[:60]!a}: no image file ({', '.join(IMAGE_SUFFIXES)})")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-")[:40]
    return f"{stem or 'image'}{suffix}"


def _unused(name: str, taken: Mapping[str, str]) -> str:
    path, n = PurePath(name), 1
    lower = {item.lower() for item in taken}
    while name.lower() in lower:
        n += 1
        name = str(path.with_name(f"{path.stem}-{n}{path.suffix}"))
    return name


def _takes_the_place(last: Drawing, drawing: Drawing, seconds: float) -> bool:
    # The same again, or the same but for its numbers while they are still moving.
    if (last.model, last.settings) != (drawing.model, drawing.settings):
        return False
    moving = last.live and drawing.live and seconds < SETTLED
    return last.text == drawing.text or (moving and _bare(last) == _bare(drawing))


def _bare(drawing: Drawing) -> Wish:
    wish = drawing.wish
    parts = tuple(replace(part, amount=1.0) for part in wish.parts)
    return replace(wish, parts=parts, start=wish.start if wish.seed is None else "seed(0)")
