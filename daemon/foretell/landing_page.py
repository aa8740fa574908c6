"""The page at `/`: what is running, for a person with a browser. One file, nothing from elsewhere, light and dark."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_LINKS = {
    "/metrics": "metrics, for Prometheus",
    "/-/healthy": "whether the process answers",
    "/-/ready": "whether frames are forecast",
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>foretell: {reason}</title>
<style>
:root {{ --text: #1c2024; --quiet: #60646c; --line: #d9d9e0; --page: #fcfcfd; --link: #0b68cb; --good: #18794e;
  --bad: #b5561c }}
@media (prefers-color-scheme: dark) {{ :root {{ --text: #edeef0; --quiet: #b0b4ba; --line: #363a3f; --page: #111113;
  --link: #70b8ff; --good: #3dd68c; --bad: #ffa057 }} }}
body {{ max-width: 44rem; margin: 3rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif;
  color: var(--text); background: var(--page) }}
h1 {{ margin: 0; font-size: 1.5rem }}
p {{ margin: 0 0 1.5rem; color: var(--quiet) }}
table {{ width: 100%; border-collapse: collapse; margin-bottom: 1.5rem }}
th, td {{ padding: .4rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: anywhere }}
th {{ width: 11rem; font-weight: normal; color: var(--quiet) }}
td {{ font-variant-numeric: tabular-nums }}
a {{ color: var(--link) }}
.ready {{ color: var(--good) }}
.waiting {{ color: var(--bad) }}
</style>
</head>
<body>
<h1>foretell <span class="{state}">{reason}</span></h1>
<p>Forecasts of streams of sensor frames, in real time.</p>
<table>
{rows}
</table>
<table>
{links}
</table>
</body>
</html>
"""


def render(is_ready: bool, reason: str, facts: Mapping[str, str]) -> str:  # noqa: FBT001 - a claim, not a switch
    """The page as HTML; every text is escaped."""
    rows = (f"<tr><th>{escape(name)}</th><td>{escape(fact)}</td></tr>" for name, fact in facts.items())
    links = (f'<tr><th><a href="{path}">{path}</a></th><td>{what}</td></tr>' for path, what in _LINKS.items())
    return _PAGE.format(
        state="ready" if is_ready else "waiting",
        reason=escape(reason),
        rows="\n".join(rows),
        links="\n".join(links),
    )
