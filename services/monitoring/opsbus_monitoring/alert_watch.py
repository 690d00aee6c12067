"""Tells when alerts begin to fire and when they are over: ``event.monitoring.alert_firing`` and ``alert_resolved``.

What was told is read from the stream itself, so that a worker that starts tells only what the stream has not, also of
what ended while no worker ran, and several workers tell everything once: an event's id is made of the alert, when it
began, what became of it, and which word it follows. What an alert tells is alert_facts.py's.
"""

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nats.aio.client import Client
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.registry import Collector

from opsbus.alerts_told import RESOLVED_KEPT_S, AlertsReader, ToldAlert
from opsbus.event_teller import NotToldError, Teller
from opsbus.logs import Log
from opsbus_monitoring.alert_facts import NoAlertError, facts_of, fingerprint_of
from opsbus_monitoring.alert_owner import AlertOwners
from opsbus_monitoring.alertmanager import Alertmanager
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.tool_alerts import ALERTS_URI

FIRING, RESOLVED = "alert_firing", "alert_resolved"
SERVICE = "monitoring"
WATCHED_MAX = 5_000
"""Alerts that are told to fire at once, at most."""
ROUND_MAX = 1_000
"""Events of one round; the rest is the next one's."""
READ_WITHIN_S = 20.0
TELL_AGAIN_S = timedelta(days=6).total_seconds()
"""The stream keeps seven days: what fires for longer is told again before it is forgotten."""


class WatchMetrics(Collector):
    """Shown on the worker's own /metrics."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        prefix = "opsbus_monitoring_alert"
        self.polls = Counter(f"{prefix}_polls", "Times Alertmanager was asked.", ["outcome"], registry=registry)
        self.told = Counter(f"{prefix}_events", "Events told, by kind.", ["kind"], registry=registry)
        self.not_told = Counter(f"{prefix}_events_not_told", "Events the stream did not take.", registry=registry)
        self.firing = Gauge(f"{prefix}s_firing", "Alerts Alertmanager had when it answered last.", registry=registry)
        self.answered = Gauge(f"{prefix}_poll_timestamp_seconds", "When Alertmanager answered last.", registry=registry)
        self.owners = Gauge("opsbus_monitoring_owners", "Assets with an owner the CMDB told of.", registry=registry)

    def collect(self) -> Iterable[Metric]:
        """Everything counted here, for the registry this collector is put in."""
        return self.registry.collect()


@dataclass(frozen=True, slots=True)
class _News:
    """What is to be told."""

    fingerprint: str
    firing: bool
    starts_at: str
    data: dict[str, Any]
    after: ToldAlert | None
    """The word before it."""

    def fact(self, now: float) -> tuple[object, ...]:
        """The same for every worker that sees it. Where an alert that began at the same time is told to fire again,
        within the stream's memory of ids, that is another fact: the word before it tells them apart."""
        known = self.after
        again = known is not None and known.starts_at == self.starts_at and now - known.at < RESOLVED_KEPT_S
        return self.fingerprint, self.starts_at, self.firing, known.sequence if known is not None and again else 0


class AlertWatch:
    """Asks and tells, for ever.

    Args:
        alertmanager: A connection of its own: its circuit breaker is no tool's.
        settle_s: See the setting ``alert_settle_s``.
    """

    def __init__(
        self,
        nc: Client,
        alertmanager: Alertmanager,
        owners: AlertOwners,
        log: Log,
        metrics: WatchMetrics,
        settle_s: float = 0.0,
    ) -> None:
        self.read = AlertsReader(nc, SERVICE)
        self._teller = Teller(nc, SERVICE)
        self._alertmanager = alertmanager
        self._owners = owners
        self._log = log
        self._metrics = metrics
        self._settle_s = settle_s
        self._said = ""
        self._beyond = False

    async def run(self, every_s: float) -> None:
        """For ever. What goes wrong is logged once, and tried again at the next turn."""
        log = self._log
        await self.read.start()
        try:
            await self.read.ready(READ_WITHIN_S)
            while True:
                try:
                    await self.turn()
                except Exception as bug:  # alerts would be told no more, unseen
                    self._metrics.polls.labels("failed").inc()
                    log.exception("watching alerts failed", bug)
                await asyncio.sleep(every_s * random.uniform(0.85, 1.15))  # noqa: S311 - a scatter
        finally:
            await self.read.stop()

    async def turn(self) -> int:
        """Ask once, and tell what changed; how many events were told."""
        if not self.read.current:
            self._metrics.polls.labels("unread").inc()
            self._say_once("what was told before cannot be read from the stream, so nothing is told")
            return 0
        asked_at = datetime.now(UTC)
        try:
            alerts = await self._alertmanager.alerts()
            now = {fingerprint_of(alert)[0]: alert for alert in alerts}
            young = await self._is_young(now, asked_at)
        except (BackendError, NoAlertError) as error:
            # Nothing is concluded from silence: what fired fires still, for all anybody knows.
            self._metrics.polls.labels("unanswered").inc()
            self._say_once(f"Alertmanager was not heard, and no alert is told to be over: {error}")
            return 0
        self._metrics.polls.labels("answered").inc()
        self._metrics.firing.set(len(now))
        self._metrics.answered.set(asked_at.timestamp())
        self._metrics.owners.set(len(self._owners.known))
        news = self._firing(now, asked_at.timestamp())
        if not young:
            news += self._over(now, asked_at.timestamp())
        return await self._tell(news[:ROUND_MAX])

    def _firing(self, now: dict[str, dict[str, Any]], asked_at: float) -> list[_News]:
        found = []
        room = WATCHED_MAX - len(self.read.told.firing())
        for fingerprint, alert in now.items():
            known = self.read.told.get(fingerprint)
            starts_at = fingerprint_of(alert)[1]
            if known is not None and (known.at > asked_at or self._is_told(known, starts_at, asked_at)):
                continue
            if known is None or not known.firing:
                room -= 1
                if room < 0:
                    break
            found.append(_News(fingerprint, True, starts_at, facts_of(alert, self._owners), known))
        if room < 0 and not self._beyond:
            self._log.warning("not every alert is told: too many fire", told=WATCHED_MAX, firing=len(now))
        self._beyond = room < 0
        return found

    @staticmethod
    def _is_told(known: ToldAlert, starts_at: str, asked_at: float) -> bool:
        return known.firing and known.starts_at == starts_at and asked_at - known.at < TELL_AGAIN_S

    def _over(self, now: dict[str, dict[str, Any]], asked_at: float) -> list[_News]:
        return [
            _News(fingerprint, False, known.starts_at, known.data, known)
            for fingerprint, known in self.read.firing().items()
            if fingerprint not in now and known.at <= asked_at
        ]

    async def _is_young(self, now: dict[str, dict[str, Any]], asked_at: datetime) -> bool:
        """Whether Alertmanager has just started, and may not have heard of everything that fires."""
        if not self._settle_s or all(fingerprint in now for fingerprint in self.read.told.firing()):
            return False
        since = str((await self._alertmanager.status()).get("uptime") or "")
        try:
            began = datetime.fromisoformat(since)
        except ValueError:
            return False
        return began.tzinfo is not None and (asked_at - began).total_seconds() < self._settle_s

    async def _tell(self, news: list[_News]) -> int:
        told, fresh, last = 0, False, 0
        try:
            for one in news:
                kind = FIRING if one.firing else RESOLVED
                now = datetime.now(UTC).timestamp()
                stored = await self._teller.tell(kind, one.data, one.fingerprint, fact=one.fact(now))
                self.read.told.keep(
                    one.fingerprint, ToldAlert(stored.sequence, one.firing, now, one.starts_at, one.data)
                )
                self._metrics.told.labels(kind).inc()
                told, fresh, last = told + 1, fresh or not stored.already, max(last, stored.sequence)
            if fresh:
                await self._teller.resource_updated(ALERTS_URI)
        except NotToldError as error:
            self._metrics.not_told.inc()
            self._say_once(f"what becomes of alerts could not be told: {error}")
            return told
        if self._said:
            self._log.info("alerts are told again")
        self._said = ""
        return told

    def _say_once(self, why: str) -> None:
        """Once per trouble, not at every turn."""
        if not self._said:
            self._log.warning("alert watch", why=why)
        self._said = why
