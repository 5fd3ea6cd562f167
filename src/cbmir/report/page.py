"""One HTML page that needs nothing else: images inside as data, no script, no outside address."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

RESEARCH_USE = "Research use only. Not for diagnosis."

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1rem 1.25rem 4rem; color: #1a1a1a; background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; padding-top: .5rem; border-top: 2px solid #d7dde3; }
p, li { max-width: 46rem; }
nav a { margin-right: 1rem; }
a { color: #00528a; }
.warning { display: inline-block; padding: .25rem .75rem; border: 2px solid #a40000; color: #a40000;
  font-weight: 600; border-radius: .25rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; padding: 0; margin: 1rem 0; list-style: none; }
.tiles li { border: 1px solid #d7dde3; border-radius: .4rem; padding: .5rem .9rem; background: #f6f8fa; }
.tiles b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
.table { overflow-x: auto; margin: 1rem 0 .25rem; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .35rem; }
th, td { border-bottom: 1px solid #d7dde3; padding: .25rem .6rem; text-align: right; vertical-align: top; }
th:first-child { text-align: left; }
thead th { background: #f0f3f6; vertical-align: bottom; }
tbody th { font-weight: 500; min-width: 9rem; }
.note, figcaption { font-size: .86rem; color: #4a4a4a; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem; }
.pair figure { flex: 1 1 24rem; }
dt { font-weight: 600; margin-top: .5rem; }
dd { margin: 0; max-width: 46rem; }
@media print { nav { display: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(title: str, intro: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """The whole page. title: plain text; intro: HTML; sections: (anchor, plain heading, HTML), empty ones left out."""
    kept = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{escape(anchor)}">{escape(heading)}</a>' for anchor, heading, _ in kept)
    body = "".join(
        f'<section id="{escape(anchor)}"><h2>{escape(heading)}</h2>{html}</section>' for anchor, heading, html in kept
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f'<body><header><p class="warning">{RESEARCH_USE}</p><h1>{escape(title)}</h1>{intro}</header>'
        f"<nav>{links}</nav><main>{body}</main></body></html>\n"
    )


def image(path: Path, alt: str, caption: str = "") -> str:
    """A figure with the picture inside the page. path: PNG or SVG."""
    kind = {".png": "image/png", ".svg": "image/svg+xml"}[path.suffix]
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="data:{kind};base64,{data}" alt="{escape(alt)}">{told}</figure>'


def pair(figures: Sequence[str]) -> str:
    """Figures side by side where the window is wide enough."""
    return f'<div class="pair">{"".join(figures)}</div>' if figures else ""


def paragraphs(texts: Sequence[str]) -> str:
    return "".join(f"<p>{escape(text)}</p>" for text in texts)


def tiles(values: Sequence[tuple[str, str]]) -> str:
    """Headline numbers: (name, value)."""
    cells = "".join(f"<li><b>{escape(value)}</b>{escape(name)}</li>" for name, value in values)
    return f'<ul class="tiles">{cells}</ul>'


def definitions(told: Mapping[str, Any]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in told.items()) + "</dl>"
