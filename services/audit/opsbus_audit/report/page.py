"""The page: one HTML file that asks nothing of any server. Light and dark, on screen and on paper; whatever comes from
the record is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from opsbus_audit.report.charts import OUTCOMES, bars, days
from opsbus_audit.report.facts import LISTED_MAX, Facts
from opsbus_audit.summary import Group

_STYLE = """
:root{color-scheme:light dark;--bg:#fbfbfa;--fg:#1d2327;--dim:#5c6670;--line:#d9dde0;--card:#fff;--plain:#3b6ea5;
--success:#2e8b57;--failure:#c0392b;--denied:#8e44ad;--unknown:#b7791f;--cancelled:#7f8c8d}
@media(prefers-color-scheme:dark){:root{--bg:#14181b;--fg:#e6e9eb;--dim:#9aa5ad;--line:#30383e;--card:#1b2125;
--plain:#6ea3d8;--success:#4fb881;--failure:#e57368;--denied:#b98ad0;--unknown:#d9a441;--cancelled:#98a4a8}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1.2rem 4rem}
h1{font-size:1.7rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}
.dim{color:var(--dim)}.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.7rem;
margin:1.4rem 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.7rem .9rem}
.card b{display:block;font-size:1.5rem;font-variant-numeric:tabular-nums}
.box{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem;overflow-x:auto}
svg{width:100%;height:auto;max-width:760px;font:13px system-ui,sans-serif}
svg text{fill:var(--fg)}svg .n{fill:var(--dim)}svg .axis{stroke:var(--line)}
.plain{fill:var(--plain)}.success{fill:var(--success)}.failure{fill:var(--failure)}.denied{fill:var(--denied)}
.unknown{fill:var(--unknown)}.cancelled{fill:var(--cancelled)}
.legend{display:flex;flex-wrap:wrap;gap:1rem;margin:.4rem 0 0;padding:0;list-style:none;font-size:.85rem}
.legend i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.4em;background:currentColor}
.t-success{color:var(--success)}.t-failure{color:var(--failure)}.t-denied{color:var(--denied)}
.t-unknown{color:var(--unknown)}.t-cancelled{color:var(--cancelled)}
table{border-collapse:collapse;width:100%;font-size:.88rem}caption{text-align:left;color:var(--dim);padding:.2rem 0}
th,td{text-align:left;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:break-word}td:first-child{white-space:nowrap}
th{font-weight:600;color:var(--dim)}th.num,td.num{text-align:right;font-variant-numeric:tabular-nums}
code{font:.85em ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.good{color:var(--success);font-weight:600}.bad{color:var(--failure);font-weight:600}
pre{font:.8rem ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;margin:.4rem 0 0}
@media print{:root{--bg:#fff;--card:#fff;--fg:#000;--dim:#444;--line:#bbb}main{max-width:none;padding:0}
h2{break-after:avoid}tr,.card,svg{break-inside:avoid}body{font-size:11px}}
"""


def page(facts: Facts) -> str:
    """The whole document."""
    period = f"{facts.since:%d %B %Y %H:%M} to {facts.until:%d %B %Y %H:%M} UTC"
    sections = (
        _cards(facts),
        _section("Verification", _verification(facts)),
        _section("Calls by day", _boxed(days("Calls by day", facts.by_day) + _legend(facts))),
        _section("How they ended", _boxed(_chart("Calls by outcome", facts.by_outcome, "outcome", coloured=True))),
        _section("By caller", _boxed(_chart("Calls by caller", facts.by_actor, "actor"))),
        _section("By tool", _boxed(_chart("Calls by tool", facts.by_tool, "tool"))),
        _section("By system", _boxed(_chart("Calls by system", facts.by_service, "service"))),
        _section("Writes, with their reasons and changes", _writes(facts)),
        _section("Denials", _denials(facts)),
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>opsbus audit report, {escape(period)}</title><style>{_STYLE}</style></head><body><main>"
        f'<h1>Audit report</h1><p class="dim">{escape(period)}<br>made {facts.made_at:%Y-%m-%d %H:%M} UTC'
        f" by {escape(facts.made_by)}</p>{''.join(sections)}</main></body></html>\n"
    )


def _cards(facts: Facts) -> str:
    numbers = (
        ("calls", facts.calls),
        ("callers", len(facts.by_actor)),
        ("writes", facts.write_calls),
        ("denied", facts.ended("denied")),
        ("failed", facts.ended("failure")),
        ("outcome unknown", facts.ended("unknown")),
    )
    shown = "".join(f'<div class="card"><b>{number:,}</b>{name}</div>' for name, number in numbers)
    return f'<div class="cards">{shown}</div>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content or _NOTHING}</section>"


_NOTHING = '<p class="dim">Nothing in this period.</p>'


def _boxed(content: str) -> str:
    return f'<div class="box">{content}</div>' if content else ""


def _chart(title: str, groups: Sequence[Group], by: str, *, coloured: bool = False) -> str:
    return bars(title, [(group.by[by], group.calls, group.by[by] if coloured else "") for group in groups])


def _legend(facts: Facts) -> str:
    there = [name for name in OUTCOMES if facts.ended(name)]
    if not there:
        return ""
    items = "".join(f'<li class="t-{name}"><i></i>{name}</li>' for name in there)
    return f'<ul class="legend" aria-label="Colours">{items}</ul>'


def _verification(facts: Facts) -> str:
    rows = []
    for part in facts.completeness:
        missing = (
            '<span class="good">none</span>' if part.missing == 0 else f'<span class="bad">{part.missing:,}</span>'
        )
        rows.append(
            f"<tr><td><code>{escape(part.stream)}</code></td><td class=num>{part.first:,}</td>"
            f"<td class=num>{part.last:,}</td><td class=num>{part.events:,}</td><td class=num>{missing}</td>"
            f"<td class=num>{part.unreadable:,}</td></tr>"
        )
    heads = ("stream", "first", "last", "events", "missing", "unreadable")
    text = _table("Events of this period in the store, by number", heads, rows) if rows else ""
    if facts.verified:
        kind = "good" if facts.verified_well else "bad"
        text += f'<p>Merkle tree of the whole store, against the signed checkpoints:</p><pre class="{kind}">'
        text += f"{escape(facts.verified)}</pre>"
    else:
        text += '<p class="dim">The tree was not verified for this report; <code>opsbus audit verify</code> does.</p>'
    if facts.checkpoint:
        text += f"<p>The newest signed checkpoint of the store:</p><pre>{escape(facts.checkpoint)}</pre>"
    return _boxed(text)


def _writes(facts: Facts) -> str:
    rows = [
        f"<tr><td>{write.at:%Y-%m-%d %H:%M:%S}</td><td>{escape(write.actor)}</td><td>{escape(write.tool)}</td>"
        f"<td>{_outcome(write.outcome)}</td><td>{escape(write.reason) or '<span class=bad>none given</span>'}</td>"
        f"<td>{escape(write.change_id)}</td><td><code>{escape(write.arguments)}</code>{_more(write.message)}"
        f"{_more(f'approved by {write.approver}' if write.approver else '')}</td>"
        f"<td><code>{escape(write.call[:8])}</code></td></tr>"
        for write in facts.writes
    ]
    heads = ("time (UTC)", "caller", "tool", "ended", "reason", "change", "what", "call")
    note = f"The newest {LISTED_MAX} are listed" if len(facts.writes) >= LISTED_MAX else "All of them"
    return _boxed(_table(note, heads, rows)) if rows else ""


def _denials(facts: Facts) -> str:
    sums = [
        f"<tr><td>{escape(group.by['actor']) or '(nobody)'}</td><td>{escape(group.by['tool'])}</td>"
        f"<td>{escape(group.by['error'])}</td><td class=num>{group.calls:,}</td></tr>"
        for group in facts.denied
    ]
    rows = [
        f"<tr><td>{entry.stored_at:%Y-%m-%d %H:%M:%S}</td><td>{escape(entry.actor) or '(nobody)'}</td>"
        f"<td>{escape(entry.tool)}</td><td>{escape(entry.error)}{_more(entry.message)}</td>"
        f"<td>{escape(entry.rule)}</td></tr>"
        for entry in facts.denials
    ]
    if not rows:
        return ""
    note = f"The newest {LISTED_MAX}" if len(rows) >= LISTED_MAX else "All of them"
    return _boxed(
        _table("Most often", ("caller", "tool", "why", "times"), sums)
        + _table(note, ("time (UTC)", "caller", "tool", "why", "policy line"), rows)
    )


_NUMBERS = frozenset({"first", "last", "events", "missing", "unreadable", "times"})
_RIGHT = ' class="num"'


def _table(caption: str, heads: Iterable[str], rows: Iterable[str]) -> str:
    head = "".join(f'<th scope="col"{_RIGHT if name in _NUMBERS else ""}>{escape(name)}</th>' for name in heads)
    body = "".join(rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _outcome(outcome: str) -> str:
    return f'<span class="t-{outcome}">{outcome}</span>' if outcome in OUTCOMES else escape(outcome or "not ended")


def _more(text: str) -> str:
    return f'<br><span class="dim">{escape(text)}</span>' if text else ""
