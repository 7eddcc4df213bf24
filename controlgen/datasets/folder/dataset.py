"""A folder of image files at any depth, brought to one size; problem files are reported."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from controlgen.base_config import runtime_field
from controlgen.datasets._tiling import Cut, cut_tiles, tile_count
from controlgen.datasets.arrays import ArrayDataset
from controlgen.datasets.base import DatasetConfig, content_identity
from controlgen.datasets.cache import (
    cache_folder,
    cached_pixels,
    canonical_json,
    default_cache,
    explain_write_errors,
)
from controlgen.datasets.folder._groups import (
    GROUPS,
    FileGroup,
    assign_test_groups,
    ellipsize,
    merge_duplicates,
    read_groups,
)
from controlgen.datasets.folder._import_report import (
    REPORT_TABLE,
    FileReport,
    ImportReport,
    load_report,
    render_reports,
)
from controlgen.datasets.folder._listing import list_files
from controlgen.errors import DataError
from controlgen.image_io import decode, read_bytes
from controlgen.stains import AnyStain, NoStain
from controlgen.types import Pixels
from controlgen.utils.files import write_text
from controlgen.utils.progress import TqdmReporter

CLASSLESS = "lies in no class folder"
RULE = 1  # raise it when the same file gives other pixels than before


class ImageFolder(DatasetConfig):
    """PNG, JPEG, TIFF and WebP files below `root`, recognised by content, sorted by relative path.

    `cut = "whole"` takes the centre square, resized with antialiasing (bicubic) to `size`;
    `"tiles"` takes non-overlapping squares of `tile` pixels from the upper left, each resized to
    `size`; the remainder is dropped. `classes = "folders"`: a file's class is the first folder
    below the root, or the class in `groups.csv`; it is for judges only. `groups.csv` in the root
    (columns file, class, source_tile) names the source that a file was cut from, and a split never
    separates a source; without it each file is its own source. Files of the same bytes always stay
    together.
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
            raise ValueError("stain needs colour; set channels = 3 or leave stain out")
        return self

    def identity(self) -> dict[str, Any]:
        """See `content_identity`."""
        return content_identity(super().identity(), "root", self.content, self.stain)

    def with_content_hash(self) -> "ImageFolder":
        """The same with `content` set: a hash (12 hex) of the usable files' names and bytes, their
        classes and sources. The fingerprint then identifies the data wherever the folder lies.

        Raises DataError as `open` does.
        """
        return self.model_copy(update={"content": self._content(self._inspect())})

    def open(self) -> ArrayDataset:
        """Decode what is not in the cache yet. Raises DataError.

        A report on problem files is stored next to the prepared pixels (report.json, report.md);
        one line on standard error names it if there is any remark.
        """
        report = self._inspect()
        if self.content is not None and (content := self._content(report)) != self.content:
            raise DataError(
                f"{self.root}: holds other images (content {content}) than expected "
                f"({self.content}); bring those back or leave content out"
            )
        used = [file for file in report.files if file.pieces]
        identity = {**self._rule(report.listing), "stain": self.stain.cache_identity()}
        pixels = cached_pixels(
            self._cache(),
            self.kind,
            identity,
            sum(file.pieces for file in used),
            (self.channels, self.size, self.size),
            lambda start: self._produce(used, start),
        )
        folder = cache_folder(self._cache(), self.kind, identity)
        for name, text in render_reports(report).items():
            path = folder / name
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                with explain_write_errors(path):
                    write_text(path, text)
        noted = sum(bool(file.notes) for file in used)
        total, left_out = len(report.files), len(report.files) - len(used)
        if noted or left_out:
            print(
                f"{self.root}: {left_out} of {total} files left out, {noted} used with a note; "
                f"see {folder / REPORT_TABLE}",
                file=sys.stderr,
            )
        return self._split(pixels, used)

    def _cache(self) -> Path:
        return self.cache or default_cache()

    def _rule(self, listing: str) -> dict[str, Any]:
        names = ("size", "channels", "cut", "tile", "classes")
        return {"rule": RULE, "listing": listing, **{name: getattr(self, name) for name in names}}

    def _inspect(self) -> ImportReport:
        """The report on every file below the root, from the cache if nothing has changed."""
        files, unusable, hidden = list_files(self.root)
        names = [file.name for file in files if file.name != GROUPS]
        groups = read_groups(self.root, names)
        listing = hashlib.sha256(
            canonical_json({"files": files, "table": groups, "unusable": unusable}).encode()
        ).hexdigest()
        folder = cache_folder(self._cache(), "survey", self._rule(listing))
        report = load_report(folder, listing)
        if report is None:
            entries = [FileReport(file=name, why=why) for name, why in unusable.items()]
            with TqdmReporter().start(f"inspect {self.root}", len(names), 0, "files") as bar:
                for done, name in enumerate(names, 1):
                    entries.append(self._inspect_file(name, groups))
                    bar.update_to(done)
            report = ImportReport(
                root=str(self.root), listing=listing, files=_note_twins(entries), hidden=hidden
            )
            with explain_write_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                for name, text in render_reports(report).items():
                    write_text(folder / name, text)
        # Hidden entries decide nothing, so a new number of them invalidates nothing.
        report = report.model_copy(update={"hidden": hidden})
        self._require_usable(report, folder / REPORT_TABLE)
        return report

    def _require_usable(self, report: ImportReport, path: Path) -> None:
        """Raise DataError if no file is usable, or any is not and `on_bad` is "refuse"."""
        bad = [f"{file.file} ({file.why})" for file in report.files if not file.pieces]
        if len(bad) == len(report.files):
            classless = any(file.why == CLASSLESS for file in report.files)
            hint = '; without labels set classes = "none" (--set train.dataset.classes=none)'
            raise DataError(
                f"{self.root}: none of {len(bad)} files is a usable image"
                + (f", first {bad[0]}; all in {path}" if bad else "; name another folder")
                + (hint if classless else "")
            )
        if bad and self.on_bad == "refuse":
            raise DataError(
                f"{self.root}: {len(bad)} of {len(report.files)} files cannot be used: "
                f'{ellipsize(bad)}; all in {path}; remove them or set on_bad = "skip"'
            )

    def _inspect_file(self, name: str, groups: dict[str, FileGroup] | None) -> FileReport:
        """Decode a file to report what is wrong with it; its pixels are discarded."""
        try:
            group = self._group(name, groups)
            content = read_bytes(self.root / name)
            picture, notes = decode(content, PurePosixPath(name).suffix, self.channels)
            count = tile_count(picture.shape[1:], self.cut, self.size, self.tile)
        except DataError as error:
            return FileReport(file=name, why=str(error))
        return FileReport(
            file=name,
            pieces=count,
            sha256=hashlib.sha256(content).hexdigest(),
            label=group.label,
            group=group.group,
            notes=notes,
        )

    def _group(self, name: str, groups: dict[str, FileGroup] | None) -> FileGroup:
        if groups is not None and name not in groups:
            raise DataError(f"not in {GROUPS}, so its source is unknown")
        label, group = groups[name] if groups else ("", name)
        if self.classes == "none":
            return FileGroup("", group)
        if not label and "/" not in name:
            raise DataError(CLASSLESS)
        return FileGroup(label or name.partition("/")[0], group)

    def _content(self, report: ImportReport) -> str:
        used = [
            (file.file, file.sha256, file.label, file.group) for file in report.files if file.pieces
        ]
        return hashlib.sha256(canonical_json({"files": used}).encode()).hexdigest()[:12]

    def _produce(self, used: list[FileReport], start: int) -> Iterator[Pixels]:
        """Blocks (n c h w), one per file, from image `start` on."""
        end = 0
        for file in used:
            first, end = end, end + file.pieces
            if end <= start:
                continue
            content = read_bytes(self.root / file.file)
            if hashlib.sha256(content).hexdigest() != file.sha256:
                raise DataError(
                    f"{self.root / file.file}: changed while it was read; run again when the "
                    "folder is at rest"
                )
            picture, _ = decode(content, PurePosixPath(file.file).suffix, self.channels)
            block = cut_tiles(picture, self.cut, self.size, self.tile)
            if self.stain.kind != "none":
                block = self.stain.apply(block, self.stain.measure(picture[None]))
            yield block[max(0, start - first) :]

    def _split(self, pixels: Pixels, used: list[FileReport]) -> ArrayDataset:
        """The images of this split; class and group numbers are those of both splits together."""
        groups = merge_duplicates(
            {file.file: file.group for file in used}, {file.file: file.sha256 for file in used}
        )
        repeats = np.array([file.pieces for file in used])
        of_file = [groups[file.file] for file in used]
        of_image = np.repeat(np.array(of_file, object), repeats)
        test = assign_test_groups(of_image.tolist(), self.test_share)
        rows = np.flatnonzero(test == (self.split == "test"))
        if not len(rows):
            raise DataError(
                f"{self.root}: all images are of one source, so there is no {self.split} split; "
                "add images of another source"
            )
        numbers = np.repeat(np.unique(of_file, return_inverse=True)[1], repeats)
        if self.classes == "none":
            return ArrayDataset(pixels, groups=numbers[rows], rows=rows)
        names, labels = np.unique([file.label for file in used], return_inverse=True)
        labels = np.repeat(labels, repeats)[rows]
        return ArrayDataset(pixels, labels, names.tolist(), numbers[rows], rows)


def _note_twins(files: list[FileReport]) -> tuple[FileReport, ...]:
    """Sorted by name, with a note on files that repeat the bytes of an earlier file."""
    first: dict[str, str] = {}
    noted = []
    for file in sorted(files, key=lambda file: file.file):
        twin = first.setdefault(file.sha256, file.file) if file.pieces else file.file
        if twin != file.file:
            note = f"the same bytes as {twin}; both stay in one split"
            file = file.model_copy(update={"notes": (*file.notes, note)})
        noted.append(file)
    return tuple(noted)
