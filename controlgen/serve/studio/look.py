"""How the page looks, and the little that runs in the browser; nothing comes from elsewhere."""

from pathlib import Path

import gradio as gr

HERE = Path(__file__).parent
CSS = (HERE / "studio.css").read_text(encoding="utf-8")
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

# A click on a button says what the button stands for.
PICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-pick]');
  if (button && element.contains(button)) trigger('pick', JSON.parse(button.dataset.pick));
});
"""
# Files chosen or dropped, on the label as well, are read here and sent with the event itself.
PICKED = """
const send = async (files, most) => {
  const large = files.find((file) => file.size > most);
  const whole = files.reduce((sum, file) => sum + file.size, 0);
  if (large || whole > 2.5 * most) {
    trigger('picked', {too_large: large ? large.name : files.length + ' images at once'});
  } else {
    const read = (file) => new Promise((done) => {
      const reader = new FileReader();
      reader.onload = () => done({name: file.name, data: reader.result.split(',')[1] || ''});
      reader.onerror = () => done({name: file.name, data: ''});
      reader.readAsDataURL(file);
    });
    trigger('picked', {files: await Promise.all(files.map(read))});
  }
};
element.addEventListener('change', async (event) => {
  const input = event.target;
  if (!input.matches('input[type=file]') || !input.files.length) return;
  await send([...input.files], Number(input.dataset.most));
  input.value = '';
});
element.addEventListener('dragover', (event) => event.preventDefault());
element.addEventListener('drop', (event) => {
  event.preventDefault();
  const files = [...(event.dataTransfer?.files || [])];
  if (files.length) send(files, Number(element.querySelector('input[type=file]').dataset.most));
});
"""
# Boxes with a copy button lose their label to it. A page from elsewhere than this machine has no
# clipboard without TLS; what is selected can be copied there all the same.
NAMES = """
() => {
  if (!navigator.clipboard) {
    const writeText = async (text) => {
      const box = document.createElement('textarea'), before = document.activeElement;
      box.value = text;
      box.style.cssText = 'position: fixed; top: 0; opacity: 0';
      document.body.append(box);
      box.select();
      document.execCommand('copy');
      box.remove();
      before?.focus();
    };
    Object.defineProperty(navigator, 'clipboard', {value: {writeText}, configurable: true});
  }
  for (const [id, name] of [['expression', 'Expression'], ['recipe', 'Recipe of the result']]) {
    const whole = document.getElementById(id);
    whole?.querySelector('textarea')?.setAttribute('aria-label', name);
    const copy = whole?.querySelector('button[aria-label="Copy"]');
    copy?.setAttribute('aria-label', 'Copy the ' + name.toLowerCase());
  }
}
"""
# An emptied box is no number: it shows its last one again as it is left, before Gradio makes it 0.
REFILLED = """
() => {
  const last = new WeakMap(), box = 'input[type=number]';
  const keep = ({target}) => {
    if (target.matches?.(box) && target.value !== '') last.set(target, target.value);
  };
  document.addEventListener('focusin', keep, true);
  document.addEventListener('input', keep, true);
  document.addEventListener('blur', ({target}) => {
    if (!target.matches?.(box) || target.value !== '' || !last.has(target)) return;
    target.value = last.get(target);
    target.dispatchEvent(new Event('input', {bubbles: true}));
  }, true);
}
"""
# What is drawn stands in the box, unless the reader is writing something else there.
WRITTEN = """
(told, written) => {
  const box = document.querySelector('#expression textarea');
  const text = told.slice(told.indexOf(' ') + 1), before = box?.dataset.told ?? written;
  const typing = box === document.activeElement && written !== before;
  if (box) box.dataset.told = text;
  return typing ? written : text;
}
"""
# The handle between before and after needs no server, and stays where it is in the next drawing.
COMPARE = """
let at = '50';
const set = () => {
  const whole = element.querySelector('.compare'), input = whole?.querySelector('input');
  if (!input) return;
  if (input.value !== at) input.value = at;
  if (whole.style.getPropertyValue('--at') !== at + '%') whole.style.setProperty('--at', at + '%');
};
element.addEventListener('input', (event) => { at = event.target.value; set(); });
const changes = {childList: true, subtree: true, attributes: true};
new MutationObserver(set).observe(element, changes);
"""


def widened(place: int) -> str:
    """A slider reaches as far as the number that is written beside it, and nothing moves in it.

    It is the reader's browser that widens it: an answer that comes when the box has been left is
    too late, for Gradio has by then put the number within the slider.
    """
    return """
(amount) => {
  const slider = document.querySelectorAll('.part input[type=range]')[PLACE];
  const far = Math.abs(amount ?? 0);
  return {__type__: 'update', ...(far > slider?.max ? {minimum: -far, maximum: far} : {})};
}
""".replace("PLACE", str(place))


def focus_near(place: int) -> str:
    """A direction is gone, and its button with it: the focus goes to one near it, or to adding."""
    return """
() => setTimeout(() => {
  if (document.activeElement && document.activeElement !== document.body) return;
  const shown = [...document.querySelectorAll('.part input[type=range]')]
    .filter((one) => one.offsetParent);
  const next = shown[Math.min(PLACE, shown.length - 1)]
    || document.querySelector('.controls [role=tab][aria-selected=true]');
  next?.focus();
}, 50)
""".replace("PLACE", str(place))


def picker(label: str, most: int, several: bool = False) -> str:
    """A place to drop images on; also a control that opens the chooser."""
    return (
        f'<label class="picker"><span>{label}</span><input type="file" '
        f'accept="image/png,image/jpeg,image/tiff,image/webp" data-most="{most}"'
        f"{' multiple' if several else ''}></label>"
    )


def theme() -> gr.themes.Base:
    """Gradio's own, denser, with the system's fonts and colours that can be read."""
    result = gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        spacing_size=gr.themes.sizes.spacing_sm,
        font=FONT,
        font_mono=MONO,
    )
    return result.set(
        color_accent="*primary_700",
        color_accent_soft="*primary_50",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        block_info_text_color="*neutral_600",
        input_placeholder_color="*neutral_500",
        slider_color="*primary_700",
        slider_color_dark="*primary_400",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        checkbox_border_color_hover="*neutral_700",
        checkbox_border_color_hover_dark="*neutral_200",
    )
