"""One web application for the estate's monitoring: Prometheus at the root, /alertmanager and /grafana beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

from aiohttp import web

from opsbus import tasks
from opsbus_sandbox.alerts.api import AlertmanagerApi
from opsbus_sandbox.grafana.api import GrafanaApi
from opsbus_sandbox.metrics.api import PrometheusApi
from opsbus_sandbox.metrics.estate import Objects
from opsbus_sandbox.metrics.rules import Alerting
from opsbus_sandbox.metrics.sampler import Sampler
from opsbus_sandbox.promql.database import Database


def build_app(
    store: Objects,
    *,
    scrape_targets: Sequence[str] = (),
    step_s: float = 5.0,
    clock: Callable[[], float] = time.time,
    grafana_token: str = "",
) -> web.Application:
    """The application; its history is written when it starts. ``step_s``: seconds between live samples."""
    database = Database()
    sampler = Sampler(store, database, targets=scrape_targets, step_s=step_s, clock=clock)
    alerting = Alerting(database)

    async def live(app: web.Application) -> AsyncIterator[None]:
        sampler.backfill()
        alerting.rehearse(clock())
        task = asyncio.create_task(sampler.run(lambda: alerting.evaluate(clock())))
        yield
        await tasks.end(task)

    app = web.Application(client_max_size=4 * 1024**2)
    app.cleanup_ctx.append(live)
    app.add_routes(PrometheusApi(database, alerting, sampler).routes())
    for prefix, routes in (
        ("/alertmanager", AlertmanagerApi(alerting, clock).routes()),
        ("/grafana", GrafanaApi(clock, grafana_token).routes()),
    ):
        part = web.Application(client_max_size=4 * 1024**2)
        part.add_routes(routes)
        app.add_subapp(prefix, part)
    return app
