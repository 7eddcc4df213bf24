"""What there is to show, as HTML. Every word that was written by somebody is escaped here."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from controlgen.editing import Recipe
from controlgen.serve.registry import ServedModel
from controlgen.serve.schemas import EditedImage
from controlgen.serve.studio.asking import SIGMAS, AxesShown
from controlgen.serve.studio.visits import Drawing, Visit

AGREEMENT = "cosine of the features asked for and obtained, -1 to 1"
PROGRESS = "cosine of the change asked for and the change obtained, -1 to 1"
CAPTION = 46  # characters of an expression under a drawing of the past,
HEAD = 18  # so many of them of its beginning
BELIEVED = "calibrated probability, 0 to 1, that the picture is near to what was asked"


def about(served: ServedModel) -> str:
    """The model in one line; what is synthetic says so."""
    text = served.to_schema()
    channels, height, width = text.image_shape
    facts = f"{height} × {width}, {'colour' if channels == 3 else 'grey'}; weights {text.weights}"
    return (
        f'<div class="about"><h1>controlgen studio</h1><strong>{escape(text.about)}</strong>'
        f"<span>{escape(text.name)}: {escape(facts)}</span></div>"
    )


def message(text: str, error: bool = False) -> str:
    """One sentence to the reader; an error is told at once by a screen reader."""
    if not text:
        return '<p role="status"></p>'
    if error:
        return f'<p role="alert" class="error">{escape(text)}</p>'
    return f'<p role="status">{escape(text)}</p>'


def link_message(text: str, href: str, link: str) -> str:
    """A sentence with a link in it."""
    return (
        f'<p role="status">{escape(text)} <a href="{escape(href)}" download>{escape(link)}</a></p>'
    )


def strip(drawing: Drawing) -> str:
    """The source and every step as columns; below each what was asked, obtained and measured."""
    answer, words = drawing.answer, escape(drawing.text)
    pictures = answer.pictures
    heads = [_head(answer.sources[0], f"source, {answer.start}", "source")]
    for at, picture in enumerate(pictures):
        last = at == len(pictures) - 1
        amount = f"{picture.amount or 0:.3g}"
        label = f"{amount} of the way" if len(pictures) > 1 else "as the model shows it"
        heads.append(_head(picture.image, f"{label}: {drawing.text}", "result" if last else amount))
    rows = [
        _row("agreement", AGREEMENT, [f"{picture.agreement:.2f}" for picture in pictures]),
    ]
    if drawing.wish.moves:
        rows.append(
            _row("progress", PROGRESS, [f"{picture.progress or 0:.2f}" for picture in pictures])
        )
    if any(picture.reachability is not None for picture in pictures):
        rows.append(_row("believed", BELIEVED, list(map(_believed, pictures))))
    rows += _measured(pictures)
    return (
        f'<div class="strip" style="--n: {len(heads)}" tabindex="0" role="region" '
        'aria-label="Strip of pictures"><table>'
        f"<caption>{words}</caption><thead><tr><td></td>{''.join(heads)}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>{_in_words(drawing)}"
    )


def compare(drawing: Drawing) -> str:
    """The source over the result, with a handle between them."""
    source, result = drawing.answer.sources[0], drawing.answer.pictures[-1].image
    return (
        '<div class="compare" style="--at: 50%"><div class="both">'
        f'<img src="{_png(result)}" alt="result"><img class="over" src="{_png(source)}" '
        'alt="source"></div><label><span>source</span><span>result</span>'
        '<input type="range" min="0" max="100" value="50" '
        'aria-label="Before and after"></label></div>'
    )


def variants(drawing: Drawing) -> str:
    """Several answers to one feature, best first."""
    if drawing.variants is None:
        return ""
    cells = "".join(
        f'<figure><img src="{_png(picture.image)}" alt="answer {at + 1} of the map">'
        f"<figcaption>{at + 1}: agreement {picture.agreement:.3f}{_believed_below(picture)}"
        "</figcaption></figure>"
        for at, picture in enumerate(drawing.variants.pictures)
    )
    return f'<div class="tiles" role="group" aria-label="Answers of the map">{cells}</div>'


def axes(strips: AxesShown) -> str:
    """Each axis with its two ends and a button that adds it."""
    rows = []
    for ax in strips.axes:
        name = f"{strips.family}, axis {ax.place}"
        ends = (
            (f"{name}, minus {SIGMAS:g} sigmas", ax.less),
            (f"{name}, the start itself", strips.source),
            (f"{name}, plus {SIGMAS:g} sigmas", ax.more),
        )
        images = "".join(f'<img src="{_png(image)}" alt="{alt}">' for alt, image in ends)
        inside = f"{images}<span>Add axis {ax.place}</span>"
        rows.append(
            f"<li>{_pick({'family': strips.family, 'axis': ax.place}, inside)}"
            f"<small>{100 * ax.share:.0f} % of the variance</small></li>"
        )
    title = f"−{SIGMAS:g} sigmas, the start, +{SIGMAS:g} sigmas"
    return f'<p>{title}</p><ol class="axes">{"".join(rows)}</ol>'


def past(visit: Visit) -> str:
    """The drawings of this visit, the newest first; a click brings one back."""
    items = []
    for item in reversed(visit.past):
        image = item.answer.pictures[-1].image
        # Starts and numbers differ at the beginning, directions at the end; the title says it all.
        full = item.text
        text = full if len(full) <= CAPTION else f"{full[:HEAD]}…{full[HEAD - CAPTION :]}"
        title = f"{item.model}: {item.text}"
        inside = f'<img src="{_png(image)}" alt=""><span>{escape(text)}</span>'
        current = visit.current is not None and item.number == visit.current.number
        items.append(f"<li>{_pick({'drawing': item.number}, inside, current, title)}</li>")
    return f'<ol class="past" aria-label="History of this visit">{"".join(items)}</ol>'


def gathered(visit: Visit, side: str) -> str:
    """How many images there are on a side."""
    names = visit.group(side)
    text = ", ".join(name.partition("/")[2] for name in names[:6])
    more = ", ..." if len(names) > 6 else ""
    return f'<p class="gathered">{len(names)} images: {escape(text)}{more}</p>' if names else ""


def recipe(drawing: Drawing) -> str:
    """The result's recipe as TOML."""
    return Recipe.parse(drawing.answer.pictures[-1].recipe or {}, "recipe").toml()


def parcel_link(visit: Visit) -> str:
    """A link to what is shown, as a zip."""
    if visit.current is None:
        return ""
    href = f"studio/{visit.token}/{visit.current.number}.zip"
    return f'<a class="parcel" href="{escape(href)}" download>Download pictures and recipe</a>'


def believed_in_words(picture: EditedImage) -> str:
    """How far a picture can be believed; empty where the map does not say."""
    if picture.reachability is None:
        return ""
    if picture.warning:
        return f"Doubtful, {picture.reachability:.2f}: {picture.warning}."
    return f"Can be believed: {picture.reachability:.2f}."


def _in_words(drawing: Drawing) -> str:
    result = drawing.answer.pictures[-1]
    parts = [f"Asked and obtained agree to {result.agreement:.2f}"]
    if drawing.wish.moves and result.progress is not None:
        parts[0] += f", the change itself to {result.progress:.2f}"
    parts[0] += "."
    share = drawing.answer.share
    if drawing.wish.moves and share is not None and share < 0.995:
        parts.append(f"{100 * share:.0f} % of the change lies within what the model's images span.")
    doubt = ' class="doubt"' if result.warning else ""
    words = believed_in_words(result)
    text = f"<span{doubt}>{escape(words)}</span>" if words else ""
    return f'<p class="words" role="status">{escape(" ".join(parts))} {text}</p>'


def _measured(pictures: Sequence[EditedImage]) -> Iterable[str]:
    for name, first in pictures[0].measured.items():
        title = "measured on the picture; the change in sigmas of the model's images"
        label = name.replace("_", " ") + (" (held)" if first.held else "")
        cells = []
        for picture in pictures:
            got = picture.measured[name]
            change = f"{got.sigmas:+.1f}".replace("-0.0", "+0.0")
            cells.append(f"{got.after:.3g} <small>({change} σ)</small>")
        yield _row(label, title, cells, f"{first.before:.3g}")


def _row(label: str, title: str, cells: Sequence[str], source: str = "") -> str:
    text = "".join(f"<td>{cell}</td>" for cell in cells)
    return (
        f'<tr><th scope="row" title="{escape(title)}">{escape(label)}</th>'
        f"<td>{source}</td>{text}</tr>"
    )


def _believed(picture: EditedImage) -> str:
    if picture.reachability is None:
        return "–"
    if picture.warning:
        words = escape(believed_in_words(picture))
        return f'<span class="doubt" title="{words}">doubtful {picture.reachability:.2f}</span>'
    return f"{picture.reachability:.2f}"


def _believed_below(picture: EditedImage) -> str:
    return "" if picture.reachability is None else f"<br>believed {_believed(picture)}"


def _head(image: str, alt: str, label: str) -> str:
    return (
        f'<th scope="col"><img src="{_png(image)}" alt="{escape(alt)}">'
        f"<span>{escape(label)}</span></th>"
    )


def _pick(value: Mapping[str, Any], inside: str, current: bool = False, title: str = "") -> str:
    mark = ' aria-current="true"' if current else ""
    mark += f' title="{escape(title)}"' if title else ""
    return f'<button type="button" data-pick="{escape(json.dumps(value))}"{mark}>{inside}</button>'


def _png(image: str) -> str:
    return f"data:image/png;base64,{escape(image)}"
