"""The controls of the page, and what happens when they are used."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

# Before gradio is imported: it would tell others that it was.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gradio as gr

from controlgen.editing.directions.axes import FAMILIES
from controlgen.serve.studio import look
from controlgen.serve.studio.desk import FAR, Desk, Job, Updates
from controlgen.serve.studio.visits import VISITS
from controlgen.serve.studio.wishes import MOST

Parts = dict[str, Any]


def build(desk: Desk) -> gr.Blocks:
    """The page, which asks the desk."""
    service = desk.asking.service
    names, limits = list(service.models), service.limits
    parts: Parts = {}
    page = gr.Blocks(analytics_enabled=False, title="controlgen studio", fill_width=True)
    with page:
        with gr.Column(elem_classes="studio"):
            with gr.Column(elem_id="top"):
                parts["about"] = gr.HTML(padding=False)
                parts["message"] = gr.HTML(padding=False, elem_id="message")
            with gr.Row():
                with gr.Column(scale=4, min_width=340, elem_classes="controls"):
                    _start(parts, names, limits.image_bytes)
                    _directions(parts)
                    _adding(parts, limits.image_bytes)
                    _settings(parts, desk.most_steps, limits.refine)
                with gr.Column(scale=8, min_width=480, elem_classes="outcome"):
                    _outcome(parts, limits.answers)
        _wire(page, parts, desk)
    page.state_session_capacity = VISITS
    return page


def _start(parts: Parts, names: Sequence[str], most: int) -> None:
    gr.HTML("<h2>Start</h2>")
    parts["model"] = gr.Dropdown(list(names), value=names[0], label="Model", interactive=True)
    with gr.Row(elem_classes="beside"):
        parts["seed"] = gr.Number(7, label="Seed of a sample", step=1)
        parts["another"] = gr.Button("Another sample", size="sm")
    label = "Or your own image: drop it here, or choose it"
    parts["image"] = gr.HTML(look.picker(label, most), js_on_load=look.PICKED, elem_id="own")


def _directions(parts: Parts) -> None:
    gr.HTML("<h2>Directions</h2>")
    none = "<p>None yet: add one below, then move its slider.</p>"
    parts["nothing"] = gr.HTML(none)
    for place in range(MOST):
        with gr.Column(visible=False, elem_classes="part") as row:
            parts[f"slider{place}"] = gr.Slider(
                -FAR,
                FAR,
                0,
                step=0.05,
                label=f"Direction {place + 1}",
                interactive=True,
                buttons=[],
            )
            parts[f"remove{place}"] = gr.Button(f"Remove direction {place + 1}", size="sm")
        parts[f"part{place}"] = row
    parts["hold"] = gr.CheckboxGroup([], label="Hold what is measured", visible=False)


def _adding(parts: Parts, most: int) -> None:
    gr.HTML("<h2>Add a direction</h2>")
    with gr.Tabs():
        with gr.Tab("Text"):
            parts["no_text"] = gr.HTML("<p>This model reads no text.</p>", visible=False)
            with gr.Column() as parts["by_text"]:
                parts["text_more"] = gr.Textbox(label="More of", placeholder="a bold digit")
                parts["text_less"] = gr.Textbox(label="Less of", placeholder="a thin digit")
                parts["text_add"] = gr.Button("Add this text", size="sm")
        with gr.Tab("Pictures"):
            for side, label in (("more", "More like these"), ("less", "Less like these")):
                picker = look.picker(label, most, several=True)
                parts[f"{side}_picker"] = gr.HTML(picker, js_on_load=look.PICKED, elem_id=side)
                parts[side] = gr.HTML()
            parts["groups_add"] = gr.Button("Add these pictures", size="sm")
        with gr.Tab("Axes"):
            parts["family"] = gr.Radio(list(FAMILIES), value="sefa", label="Axes without labels")
            parts["axes_show"] = gr.Button("Show the axes", size="sm")
            parts["axes"] = gr.HTML(js_on_load=look.PICK, elem_id="axes")
        with gr.Tab("Measured"):
            words = "<p>This model was fitted without measured attributes.</p>"
            parts["no_attribute"] = gr.HTML(words, visible=False)
            with gr.Column() as parts["by_attribute"]:
                parts["attribute"] = gr.Dropdown([], label="One sigma more of", interactive=True)
                parts["attribute_add"] = gr.Button("Add what is measured", size="sm")
        with gr.Tab("Saved"):
            parts["saved"] = gr.Dropdown([], label="Saved directions", interactive=True)
            parts["saved_add"] = gr.Button("Add the saved one", size="sm")
            parts["keep_name"] = gr.Textbox(
                label="Keep the directions above as one, named", placeholder="bold-and-slanted"
            )
            parts["keep"] = gr.Button("Keep them", size="sm")


def _settings(parts: Parts, steps: int, refine: int) -> None:
    with gr.Accordion("Settings", open=False):
        parts["settings_steps"] = gr.Slider(
            1, steps, 4, step=1, label="Pictures on the way", interactive=True, buttons=[]
        )
        parts["settings_residual"] = gr.Checkbox(
            label="Keep more of a generated source (residual)", interactive=True
        )
        parts["settings_refine"] = gr.Slider(
            0, refine, 0, step=1, label="Steps of refinement", interactive=True, buttons=[]
        )
        parts["forget"] = gr.Button("Forget my images", size="sm")


def _outcome(parts: Parts, answers: int) -> None:
    parts["strip"] = gr.HTML(elem_id="strip")
    # What is drawn goes into the box by way of the reader's browser, which knows if it is in use.
    parts["expression"] = gr.Textbox(visible="hidden", elem_id="told")
    with gr.Row(elem_classes="beside"):
        parts["written"] = gr.Textbox(
            label="Expression: what is drawn; write your own and press Enter",
            lines=1,
            max_lines=6,
            buttons=["copy"],
            elem_classes="mono",
            elem_id="expression",
            html_attributes=gr.InputHTMLAttributes(spellcheck=False, autocomplete="off"),
            interactive=True,
            scale=9,
        )
        parts["draw"] = gr.Button("Draw", size="sm", scale=1, min_width=70)
    with gr.Row():
        with gr.Column(scale=2, min_width=220):
            parts["compare"] = gr.HTML(js_on_load=look.COMPARE, elem_id="compare")
        with gr.Column(scale=5, min_width=300):
            parts["recipe"] = gr.Textbox(
                label="Recipe of the result",
                lines=6,
                max_lines=16,
                buttons=["copy"],
                elem_classes="mono",
                elem_id="recipe",
                interactive=False,
            )
            parts["parcel"] = gr.HTML(elem_id="parcel")
    parts["count"] = gr.Slider(
        2, answers, 8, step=1, label="Answers of the map to this", interactive=True, buttons=[]
    )
    parts["variants_show"] = gr.Button("Show the answers", size="sm")
    parts["variants"] = gr.HTML(elem_id="variants")
    gr.HTML("<h2>History of this visit</h2>")
    parts["past"] = gr.HTML(js_on_load=look.PICK, elem_id="past")


def _wire(page: gr.Blocks, parts: Parts, desk: Desk) -> None:
    # Which event asks what. Sliders and numbers are followed as they move: while one drawing is
    # under way the newest values wait, and those between are left out.
    on = _Wiring(desk, parts)
    on(page.load, desk.opened)
    _script(page.load, look.NAMES)
    _script(page.load, look.REFILLED)
    written = parts["written"]
    _script(parts["expression"].change, look.WRITTEN, [parts["expression"], written], [written])
    on(parts["model"].input, desk.model, ["model"])
    on(parts["seed"].input, desk.seed, ["seed"], live=True)
    on(parts["another"].click, desk.another)
    on(parts["image"].picked, desk.image, heard=True)
    sliders = [f"slider{place}" for place in range(MOST)]
    for place, slider in enumerate(sliders):
        # First: what is bound to one event waits for what was bound to it before.
        _script(parts[slider].input, look.widened(place), [parts[slider]], [parts[slider]])
        on(parts[slider].input, desk.slide, sliders, live=True)
        on(parts[slider].release, desk.left, sliders, live=True)
        gone = on(parts[f"remove{place}"].click, desk.removed, fixed=[place])
        _script(gone.then, look.focus_near(place))
    on(parts["hold"].input, desk.hold, ["hold"])

    # Directions that are added, and one that is kept.
    for event in (parts["text_add"].click, parts["text_more"].submit, parts["text_less"].submit):
        on(event, desk.text, ["text_more", "text_less"])
    for side in ("more", "less"):
        on(parts[f"{side}_picker"].picked, desk.gather, fixed=[side], heard=True)
    on(parts["groups_add"].click, desk.groups)
    on(parts["axes_show"].click, desk.axes, ["family"])
    on(parts["axes"].pick, desk.axis, heard=True)
    on(parts["attribute_add"].click, desk.attribute, ["attribute"])
    on(parts["saved_add"].click, desk.saved, ["saved"])
    for event in (parts["keep"].click, parts["keep_name"].submit):
        on(event, desk.keep, ["keep_name"])

    # How it is drawn, and what was drawn.
    settings = ["settings_steps", "settings_residual", "settings_refine"]
    for name in settings:
        on(parts[name].input, desk.settings, settings, live=True)
    for name in ("settings_steps", "settings_refine"):
        on(parts[name].release, desk.settings_left, settings, live=True)
    for event in (parts["written"].submit, parts["draw"].click):
        on(event, desk.expression, ["written"])
    on(parts["variants_show"].click, desk.variants, ["count"])
    on(parts["past"].pick, desk.back, heard=True)
    on(parts["forget"].click, desk.forget)


def _script(
    event: Callable[..., Any], js: str, inputs: Sequence[Any] = (), outputs: Sequence[Any] = ()
) -> None:
    # What runs in the browser alone.
    event(None, list(inputs), list(outputs), js=js, queue=False, api_visibility="private")


@dataclass(frozen=True)
class _Wiring:
    """Ties events to the desk. Gradio's own queue is passed by: the one of the models is behind
    the desk, and what waits there is told."""

    desk: Desk
    parts: Parts
    counter: Iterator[int] = field(default_factory=count)

    def __call__(
        self,
        event: Callable[..., Any],
        job: Job,
        inputs: Sequence[str] = (),
        fixed: Sequence[Any] = (),
        heard: bool = False,
        live: bool = False,
    ) -> Any:
        # What is given comes as it is, for the desk judges it: a refusal of Gradio's own would be
        # a failed request, without a word on the page. Of a button that stands for one thing a
        # second click is the first one again; pictures that are picked are each their own.
        return event(
            self._hearing(job, fixed) if heard else self._handler(job, fixed),
            [self.parts[name] for name in inputs],
            list(self.parts.values()),
            queue=False,
            preprocess=False,
            api_visibility="private",
            show_progress="hidden" if live else "minimal",
            show_progress_on=self.parts["strip"],
            trigger_mode="always_last" if live else "multiple" if heard else "once",
        )

    def _handler(self, job: Job, fixed: Sequence[Any]) -> Callable[..., Any]:
        async def handler(request: gr.Request, *given: Any) -> list[Any]:
            return self._updates(await self.desk.answer(job, request.session_hash, *fixed, *given))

        return handler

    def _hearing(self, job: Job, fixed: Sequence[Any]) -> Callable[..., Any]:
        # What an event itself says comes last.
        async def handler(request: gr.Request, event: gr.EventData, *given: Any) -> list[Any]:
            text = event._data if isinstance(event._data, dict) else {}
            return self._updates(
                await self.desk.answer(job, request.session_hash, *fixed, *given, text)
            )

        return handler

    def _updates(self, updates: Updates) -> list[Any]:
        actual = []
        for name in self.parts:
            value = updates.get(name, gr.skip())
            if name == "expression" and isinstance(value, str):
                # Counted, so that the same text anew is a change as well.
                value = f"{next(self.counter)} {value}"
            actual.append(gr.update(**value) if type(value) is dict else value)
        return actual
