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
# Files chosen or dropped are read here and sent with the event itself.
PICKED = """
element.addEventListener('change', async (event) => {
  const input = event.target;
  if (!input.matches('input[type=file]') || !input.files.length) return;
  const files = [...input.files], most = Number(input.dataset.most);
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
  input.value = '';
});
"""
# Boxes with a copy button lose their label to it.
NAMES = """
() => {
  for (const [id, name] of [['expression', 'Expression'], ['recipe', 'Recipe of the result']]) {
    const whole = document.getElementById(id);
    whole?.querySelector('textarea')?.setAttribute('aria-label', name);
    const copy = whole?.querySelector('button[aria-label="Copy"]');
    copy?.setAttribute('aria-label', 'Copy the ' + name.toLowerCase());
  }
}
"""
# The handle between before and after needs no server.
COMPARE = """
element.addEventListener('input', (event) => {
  const whole = event.target.closest('.compare');
  if (whole) whole.style.setProperty('--at', event.target.value + '%');
});
"""


def picker(label: str, most: int, several: bool = False) -> str:
    """A place to drop images on; also a control that opens the chooser."""
    return (
        f'<label class="picker"><span>{label}</span><input type="file" '
        f'accept="image/png,image/jpeg,image/tiff,image/webp" data-most="{most}"'
        f"{' multiple' if several else ''}></label>"
    )


def theme() -> gr.themes.Base:
    """Gradio's own, denser, with the system's fonts and colours that can be read."""
    made = gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        spacing_size=gr.themes.sizes.spacing_sm,
        font=FONT,
        font_mono=MONO,
    )
    return made.set(
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
    )
