"""The report of `zoo doctor` as one page that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from zoo.datasets.findings import KINDS
from zoo.reports import doctor_text
from zoo.reports.doctor_cases import worst_cases
from zoo.reports.doctor_plots import plots

if TYPE_CHECKING:
    from zoo.datasets.doctor import Examination

_SHOWN = 200  # findings of a kind on the page; JSON has all
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1200px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: .2em; } h2 { font-size: 1.2em; margin-top: 2em; }
p.sub { color: #666; margin-top: 0; }
table { border-collapse: collapse; } th, td { padding: .25em .8em .25em 0; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid #bbb; font-weight: 600; } td.n, th.n { text-align: right; }
details { border-left: 4px solid #999; padding: .3em .8em; margin: .5em 0; background: #f7f7f7; }
details.error { border-color: #d32f2f; } details.warning { border-color: #f9a825; }
details.info { border-color: #1e88e5; }
summary { cursor: pointer; } summary b { font-weight: 600; } summary span { color: #666; }
ul { margin: .4em 0; padding-left: 1.2em; } li { font: 12.5px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(480px, 1fr)); gap: 1.5em; align-items: start; }
figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: .3em; } img { max-width: 100%; }
code { background: #eee; padding: .1em .3em; }
"""


def page(examination: Examination, command: str = "") -> str:
    """The whole report as HTML; pictures are embedded. File names are escaped, nothing in them is executed."""
    parts = [
        f"<h1>{escape(examination.name)}</h1>",
        f'<p class="sub">{_counts(examination)}</p>',
        "<h2>Findings</h2>",
        *_findings(examination),
    ]
    sheet = worst_cases(examination)
    if sheet is not None:
        parts += ["<h2>Worst cases</h2>", _image(_jpeg(sheet), "jpeg", "pictures of the worst findings")]
    parts += [
        "<h2>Classes</h2>",
        _table(
            ("Class", "Objects", "Share", "Pictures", "Difficult", "Crowds"), doctor_text.class_rows(examination), 1
        ),
    ]
    parts += ["<h2>Plots</h2>", '<div class="plots">']
    for title, png in plots(examination).items():
        parts.append(f"<figure><figcaption>{escape(title)}</figcaption>{_image(png, 'png', title)}</figure>")
    parts += ["</div>", "<h2>Anchors</h2>", *_anchors(examination)]
    if command:
        parts.append(f'<p class="sub">Made by <code>{escape(command)}</code></p>')
    head = f'<meta charset="utf-8"><title>{escape(examination.name)}: zoo doctor</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _counts(examination: Examination) -> str:
    first, *splits = doctor_text.summary(examination)
    text = first.removeprefix(f"{examination.name}: ")
    return escape("; ".join([text, *(split.strip() for split in splits)]))


def _findings(examination: Examination) -> Iterator[str]:
    if not examination.findings:
        yield "<p>Nothing found.</p>"
    for kind, group in groupby(examination.findings, key=lambda finding: finding.kind):
        found, about = list(group), KINDS[kind]
        lines = "".join(f"<li>{escape(finding.text)}</li>" for finding in found[:_SHOWN])
        more = f"<li>and {len(found) - _SHOWN:,} more</li>" if len(found) > _SHOWN else ""
        is_open = " open" if about.severity != "info" and len(found) <= 10 else ""
        yield (
            f'<details class="{about.severity}"{is_open}><summary><b>{escape(about.title)}: {len(found):,}</b> '
            f"<span>{about.severity}. {escape(about.advice)}</span></summary><ul>{lines}{more}</ul></details>"
        )


def _anchors(examination: Examination) -> Iterator[str]:
    plan = examination.plan
    yield (
        f"<p>Pictures are resized to a short side of {plan.short} pixels, a long side of at most {plan.long}; anchors "
        f"stand {plan.stride} pixels apart. For every box the best IoU with any anchor: its mean, and the share of "
        "boxes where it is at least .5 and .7. In training only anchors inside the picture count.</p>"
    )
    columns = ("", "Anchors", "Mean IoU", "IoU .5", "IoU .7", "Mean, inside", ".5, inside", ".7, inside")
    yield _table(columns, doctor_text.anchor_rows(examination), 2)
    if options := doctor_text.options(examination):
        yield f"<p>To train with the suggested ones: <code>{escape(options)}</code></p>"


def _table(columns: Sequence[str], rows: Iterator[tuple[str, ...]], texts: int) -> str:
    """Columns from the ``texts``-th on are numbers."""

    def line(cells: Sequence[str], tag: str) -> str:
        made = (f"<{tag}{' class=n' if at >= texts else ''}>{escape(cell)}</{tag}>" for at, cell in enumerate(cells))
        return f"<tr>{''.join(made)}</tr>"

    return f"<table>{line(columns, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _image(data: bytes, kind: str, title: str) -> str:
    return f'<img alt="{escape(title)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def _jpeg(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=88, subsampling=0)
    return stream.getvalue()
