"""A folder of image files at any depth, brought to one size; what is wrong with a file is told."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from controlgen.base_config import BaseConfig, runtime_field
from controlgen.datasets._content_hash import pinned_identity
from controlgen.datasets._tiling import Cut, pieces, pieces_of
from controlgen.datasets.arrays import ArrayImages
from controlgen.datasets.cache import canonical, prepared, prepared_folder, write_whole
from controlgen.datasets.folder._groups import (
    GROUPS,
    Source,
    in_short,
    in_test,
    joined,
    read_groups,
)
from controlgen.datasets.folder._import_report import TABLE, Seen, Survey, kept_survey, reports
from controlgen.datasets.folder._listing import listed
from controlgen.datasets.mnist_files import default_cache
from controlgen.errors import DataError
from controlgen.image_io import decode, read_bytes
from controlgen.stains import AnyStain, NoStain
from controlgen.types import Pixels
from controlgen.utils.progress import TqdmReporter

CLASSLESS = "lies in no class folder"
RULE = 1  # to be raised when the same file gives other pixels than before


class ImageFolder(BaseConfig):
    """PNG, JPEG, TIFF and WebP files below `root`, told by content and sorted by relative path.

    `cut = "whole"` takes the centre square, resized with antialiasing (bicubic) to `size`;
    `"tiles"` takes non-overlapping squares of `tile` pixels from the upper left, each resized to
    `size`; the remainder is dropped. `classes = "folders"`: a file's class is the first folder
    under the root, or what `groups.csv` says; it is for judges only. `groups.csv` in the root
    (columns file, class, source_tile) tells which source a file was cut from, and a split never
    separates a source; without it every file is its own source. Files of the same bytes stay
    together in either case.
    """

    kind: Literal["folder"] = "folder"
    root: Path
    split: Literal["train", "test"] = "train"
    size: int = Field(64, ge=4, le=1024)
    channels: Literal[1, 3] = 3
    cut: Cut = "whole"
    tile: int | None = Field(None, ge=4)
    classes: Literal["none", "folders"] = "none"
    test_share: float = Field(0.2, gt=0, lt=1)
    stain: AnyStain = NoStain()
    content: str | None = Field(None, pattern="^[0-9a-f]{12}$")
    on_bad: Literal["skip", "refuse"] = runtime_field("skip")
    cache: Path | None = runtime_field(None)

    @model_validator(mode="after")
    def _fits(self) -> "ImageFolder":
        if (self.tile is not None) != (self.cut == "tiles"):
            raise ValueError('tile (pixels of a square) goes with cut = "tiles", and only with it')
        if self.tile is not None and self.tile < self.size:
            raise ValueError(f"tiles of {self.tile} pixels would be enlarged to size {self.size}")
        if self.channels == 1 and self.stain.kind != "none":
            raise ValueError("stain is a matter of colour; set channels = 3 or leave stain out")
        return self

    def identity(self) -> dict[str, Any]:
        """See `pinned_identity`."""
        return pinned_identity(super().identity(), "root", self.content, self.stain)

    def pinned(self) -> "ImageFolder":
        """The same with `content` set: a digest (12 hex) of the usable files' names and bytes,
        their classes and sources. Its fingerprint names the data, wherever the folder lies.

        Raises DataError as `open` does.
        """
        return self.model_copy(update={"content": self._content(self._roll())})

    def open(self) -> ArrayImages:
        """Decode what is not in the cache yet. Raises DataError.

        The report of what was wrong with which file lies beside the prepared pixels (report.json,
        report.md); one line on standard error says where, when there is anything to tell.
        """
        survey = self._roll()
        if self.content is not None and (found := self._content(survey)) != self.content:
            raise DataError(
                f"{self.root}: holds other images (content {found}) than the ones asked for "
                f"({self.content}); bring those back or leave content out"
            )
        used = [seen for seen in survey.files if seen.pieces]
        identity = {**self._rule(survey.listing), "stain": self.stain.content()}
        pixels = prepared(
            self._cache(),
            self.kind,
            identity,
            sum(seen.pieces for seen in used),
            (self.channels, self.size, self.size),
            lambda start: self._produce(used, start),
        )
        folder = prepared_folder(self._cache(), self.kind, identity)
        for name, text in reports(survey).items():
            path = folder / name
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                write_whole(path, text)
        noted = sum(bool(seen.notes) for seen in used)
        if noted or len(used) < len(survey.files):
            said = f"{len(survey.files) - len(used)} of {len(survey.files)} files left out, {noted}"
            print(f"{self.root}: {said} used with a note; see {folder / TABLE}", file=sys.stderr)
        return self._split(pixels, used)

    def judging(self, split: Literal["train", "test"]) -> "ImageFolder":
        """The same source at the named split, for judges."""
        return self.model_copy(update={"split": split})

    def _cache(self) -> Path:
        return self.cache or default_cache()

    def _rule(self, listing: str) -> dict[str, Any]:
        kept = {"rule": RULE, "listing": listing}
        for name in ("size", "channels", "cut", "tile", "classes"):
            kept[name] = getattr(self, name)
        return kept

    def _roll(self) -> Survey:
        """Every file below the root and what becomes of it, from the cache where it is known."""
        files, unusable, hidden = listed(self.root)
        names = [file.name for file in files if file.name != GROUPS]
        table = read_groups(self.root, names)
        listing = hashlib.sha256(
            canonical({"files": files, "table": table, "unusable": unusable}).encode()
        ).hexdigest()
        folder = prepared_folder(self._cache(), "survey", self._rule(listing))
        survey = kept_survey(folder, listing)
        if survey is None:
            seen = [Seen(file=name, why=why) for name, why in unusable.items()]
            with TqdmReporter().meter(f"look at {self.root}", len(names), 0, "files") as meter:
                for done, name in enumerate(names):
                    seen.append(self._look(name, table))
                    meter.to(done + 1)
            survey = Survey(root=str(self.root), listing=listing, files=_twins(seen), hidden=hidden)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(
                    f"{folder}: cannot be written ({error.strerror}); set CONTROLGEN_DATA to a "
                    "folder that can"
                ) from None
            for name, text in reports(survey).items():
                write_whole(folder / name, text)
        # What is hidden decides nothing, so it is counted anew and asks for nothing to be redone.
        survey = survey.model_copy(update={"hidden": hidden})
        self._refuse(survey, folder / TABLE)
        return survey

    def _refuse(self, survey: Survey, report: Path) -> None:
        """Raise DataError where nothing can be used, or where everything should be."""
        bad = [f"{seen.file} ({seen.why})" for seen in survey.files if not seen.pieces]
        if len(bad) == len(survey.files):
            flat = any(seen.why == CLASSLESS for seen in survey.files)
            hint = '; without labels set classes = "none" (--set train.dataset.classes=none)'
            raise DataError(
                f"{self.root}: none of {len(bad)} files is a usable image"
                + (f", first {bad[0]}; all in {report}" if bad else "; name another folder")
                + (hint if flat else "")
            )
        if bad and self.on_bad == "refuse":
            raise DataError(
                f"{self.root}: {len(bad)} of {len(survey.files)} files cannot be used: "
                f'{in_short(bad)}; all in {report}; remove them or set on_bad = "skip"'
            )

    def _look(self, name: str, table: dict[str, Source] | None) -> Seen:
        """Decode one file for what can be wrong with it; its pixels are dropped again."""
        try:
            source = self._source(name, table)
            content = read_bytes(self.root / name)
            picture, notes = decode(content, PurePosixPath(name).suffix, self.channels)
            count = pieces_of(picture.shape[1:], self.cut, self.size, self.tile)
        except DataError as error:
            return Seen(file=name, why=str(error))
        digest = hashlib.sha256(content).hexdigest()
        return Seen(
            file=name,
            pieces=count,
            sha256=digest,
            label=source.label,
            group=source.group,
            notes=notes,
        )

    def _source(self, name: str, table: dict[str, Source] | None) -> Source:
        if table is not None and name not in table:
            raise DataError(f"not in {GROUPS}, so its source is not known")
        label, group = table[name] if table else ("", name)
        if self.classes == "none":
            return Source("", group)
        if not label and "/" not in name:
            raise DataError(CLASSLESS)
        return Source(label or name.partition("/")[0], group)

    def _content(self, survey: Survey) -> str:
        used = [
            (seen.file, seen.sha256, seen.label, seen.group) for seen in survey.files if seen.pieces
        ]
        return hashlib.sha256(canonical({"files": used}).encode()).hexdigest()[:12]

    def _produce(self, used: list[Seen], start: int) -> Iterator[Pixels]:
        """Blocks (n c h w), one a file, from piece `start` on."""
        before = 0
        for seen in used:
            before += seen.pieces
            if before <= start:
                continue
            content = read_bytes(self.root / seen.file)
            if hashlib.sha256(content).hexdigest() != seen.sha256:
                raise DataError(
                    f"{self.root / seen.file}: changed while it was read; run again when the "
                    "folder is at rest"
                )
            picture, _ = decode(content, PurePosixPath(seen.file).suffix, self.channels)
            block = pieces(picture, self.cut, self.size, self.tile)
            if self.stain.kind != "none":
                block = self.stain.apply(block, self.stain.measure(picture[None]))
            yield block[max(0, start - (before - seen.pieces)) :]

    def _split(self, pixels: Pixels, used: list[Seen]) -> ArrayImages:
        """The images of this split; class and group numbers are those of both splits together."""
        groups = joined(
            {seen.file: seen.group for seen in used}, {seen.file: seen.sha256 for seen in used}
        )
        repeats = np.array([seen.pieces for seen in used])
        of_file = [groups[seen.file] for seen in used]
        test = in_test(np.repeat(np.array(of_file, object), repeats).tolist(), self.test_share)
        chosen = np.flatnonzero(test == (self.split == "test"))
        if not len(chosen):
            raise DataError(
                f"{self.root}: all images are of one source, so there is no {self.split} split; "
                "add images of another source"
            )
        numbers = np.repeat(np.unique(of_file, return_inverse=True)[1], repeats)
        if self.classes == "none":
            return ArrayImages(pixels, groups=numbers[chosen], rows=chosen)
        names, labels = np.unique([seen.label for seen in used], return_inverse=True)
        return ArrayImages(
            pixels,
            np.repeat(labels, repeats)[chosen],
            names.tolist(),
            numbers[chosen],
            chosen,
        )


def _twins(seen: list[Seen]) -> tuple[Seen, ...]:
    """Sorted by name, with a note where the bytes of an earlier file come again."""
    first: dict[str, str] = {}
    told = []
    for one in sorted(seen, key=lambda one: one.file):
        twin = first.setdefault(one.sha256, one.file) if one.pieces else one.file
        if twin != one.file:
            note = f"the same bytes as {twin}; both stay in one split"
            one = one.model_copy(update={"notes": (*one.notes, note)})
        told.append(one)
    return tuple(told)
