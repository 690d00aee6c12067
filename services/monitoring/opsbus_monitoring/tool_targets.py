"""monitoring_get_targets."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import Field

from opsbus import Context, ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus.when import seconds_of
from opsbus_monitoring.arguments import Limit, Matchers, PageCursor
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.faults import asking, each
from opsbus_monitoring.matchers import parse_matchers
from opsbus_monitoring.metricmodels import TargetList, TargetRow
from opsbus_monitoring.paging import page_of, require_cursor
from opsbus_monitoring.prometheus import SYSTEM

Health = Literal["up", "down", "unknown"]
HEALTHS: tuple[Health, ...] = ("down", "unknown", "up")
BUDGET_BYTES = 18_000
JOBS_MAX = 50
ERROR_CHARS = 300
SLOW = 0.8
"""Share of its time-out that a scrape may take before it is worth a warning."""

_SECRET_WORDS = ("token", "key", "secret", "pass", "auth", "sig")


async def get_targets(
    ctx: Context[Backends],
    health: Annotated[list[Health] | None, Field(description="Only such. Default: all, those down first.")] = None,
    job: Annotated[str | None, Field(max_length=200, description="Exact name of a scrape job.")] = None,
    matchers: Annotated[Matchers | None, Field(description='On their labels: ["namespace=\\"shop\\""].')] = None,
    limit: Limit = 50,
    cursor: PageCursor = None,
) -> TargetList:
    """What Prometheus scrapes: targets that are down first with why, counts per job, scrapes close to their time-out.

    Ask here when a metric is missing or an `up` alert fires.
    """
    now = datetime.now(UTC)
    wanted = parse_matchers(matchers or [])
    require_cursor(cursor)
    with asking(lacks="scrape targets"):
        raw = await ctx.state.prometheus.targets()
    targets = list(zip(each(row_of, raw, SYSTEM), raw, strict=True))
    jobs = {row.job for row, _ in targets}
    if job is not None and job not in jobs:
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"there is no scrape job {job!r}",
            hint=f"Jobs: {', '.join(sorted(jobs)[:20]) or 'none'}.",
            did_you_mean=near(job, jobs),
        )
    chosen = [
        (row, item)
        for row, item in targets
        if (job is None or row.job == job)
        and all(m.holds({**row.labels, "job": row.job, "instance": row.instance}) for m in wanted)
    ]
    counts = Counter(row.health for row, _ in chosen)
    slow = sum(_is_slow(item) for _, item in chosen)
    page = page_of(
        TargetList,
        [row for row, _ in chosen if health is None or row.health in health],
        lambda row: f"{HEALTHS.index(row.health)}.{row.job[:50]}.{row.instance[:60]}.{row.url[-60:]}",
        limit=limit,
        cursor=cursor,
        budget_bytes=BUDGET_BYTES,
        source="prometheus",
        as_of=now,
        warnings=[f"{slow} scrapes take over {SLOW:.0%} of their time-out: samples will go missing"] if slow else [],
    )
    page.counts = {name: counts[name] for name in HEALTHS if counts[name]}
    page.jobs = _jobs([row for row, _ in chosen])
    return page


def row_of(target: Mapping[str, Any]) -> TargetRow:
    """One target as it is shown."""
    labels = {str(key): str(value) for key, value in sorted((target.get("labels") or {}).items())}
    health = str(target.get("health"))
    scraped = str(target.get("lastScrape") or "")
    error = str(target.get("lastError") or "")
    url = str(target.get("scrapeUrl") or "")
    return TargetRow(
        job=labels.pop("job", str(target.get("scrapePool") or "")),
        instance=labels.pop("instance", ""),
        health="up" if health == "up" else "down" if health == "down" else "unknown",
        url=masked(url),
        error=error.replace(url, masked(url))[:ERROR_CHARS] if url else error[:ERROR_CHARS] or None,
        # Year 1 and 1970 are how it says "never".
        last_scrape=datetime.fromisoformat(scraped) if scraped[:4] > "1970" else None,
        scrape_s=round(float(target.get("lastScrapeDuration") or 0), 4),
        interval=target.get("scrapeInterval") or None,
        labels=labels,
    )


def masked(url: str) -> str:
    """An address without passwords and tokens in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(an address that cannot be read)"
    place = f"***@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else parts.netloc
    query = [
        (key, "***" if any(word in key.lower() for word in _SECRET_WORDS) else value)
        for key, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return urlunsplit((parts.scheme, place, parts.path, urlencode(query, safe="*[]/:"), ""))


def _jobs(rows: list[TargetRow]) -> list[dict[str, str | int]]:
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(row.job, Counter())[row.health] += 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1]["down"], -item[1]["unknown"], item[0]))
    return [
        {"job": job, "up": found["up"], "down": found["down"], "unknown": found["unknown"]}
        for job, found in ordered[:JOBS_MAX]
    ]


def _is_slow(target: Mapping[str, Any]) -> bool:
    """Whether the last scrape came close to its time-out, which not every system tells."""
    text = str(target.get("scrapeTimeout") or "")
    allowed = seconds_of(text)
    return allowed > 0 and float(target.get("lastScrapeDuration") or 0) > SLOW * allowed
