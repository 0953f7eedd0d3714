"""The page of pictures: one file that loads nothing from the network."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, StrictUndefined

from bench.pictures.collect import Sheet
from bench.pictures.draw import WIDTH, addresses
from leaderboard.base.html import readable

_TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>What frozen backbones see</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
  body { max-width: 90rem; margin: 2rem auto; padding: 0 1rem; }
  .sheet { overflow-x: auto; }
  th { text-align: left; font-weight: 600; vertical-align: top; padding: .25rem .75rem .25rem 0; white-space: nowrap; }
  th small { display: block; font-weight: 400; }
  td { padding: .25rem; }
  img { display: block; width: {{ width }}px; image-rendering: pixelated; }
</style>
<h1>What frozen backbones see</h1>
<p>The same validation images for all submissions. Predictions are those of the linear probe, whose value is over all
validation images. Features are drawn by their first three principal components as red, green and blue; the colors of
different submissions cannot be compared.</p>
{% for sheet in sheets %}
<h2>{{ sheet.title }}</h2>
<div class="sheet" tabindex="0" role="region" aria-label="{{ sheet.title }}"><table>
{% for row in sheet.rows %}
<tr><th scope="row">{{ row.name }}<small>{{ row.what }}</small></th>
{% for picture in row.pictures %}
<td><img src="{{ picture }}" alt="{{ row.name }}, {{ row.what }}, image {{ loop.index }}"></td>
{% endfor %}</tr>
{% endfor %}
</table></div>
{% endfor %}
</html>
"""


def render(sheets: Sequence[Sheet]) -> str:
    """The page as HTML."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=readable, trim_blocks=True)
    tables = [{"title": sheet.title, "rows": _rows(sheet)} for sheet in sheets]
    return environment.from_string(_TEMPLATE).render(sheets=tables, width=WIDTH)


def _rows(sheet: Sheet) -> list[dict[str, object]]:
    rows = [("Images", "at the probe's resolution", sheet.images, True), ("Labels", "classes", sheet.labels, False)]
    for seen in sheet.seen:
        rows += [(seen.name, seen.value, seen.predictions, False), (seen.name, "features", seen.features, False)]
    return [
        {"name": name, "what": what, "pictures": addresses(pictures, sheet.labels, smooth=smooth)}
        for name, what, pictures, smooth in rows
    ]
