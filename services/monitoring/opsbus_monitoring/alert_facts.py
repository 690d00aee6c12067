"""An alert of Alertmanager as an event tells it: bounded, and without what looks like a secret."""

import re
from collections.abc import Mapping
from typing import Any

from opsbus_monitoring.alert_owner import AlertOwners

LABELS_MAX = 30
KEY_CHARS, VALUE_CHARS, SUMMARY_CHARS, TEXT_CHARS = 100, 200, 400, 4_000
MASKED = "[masked]"

_SECRET_NAME = re.compile(r"(?i)pass(?:word|wd)?$|secret|api_?key|private_?key|access_?key|credential|(?:^|_)token$")
_SECRETS = (
    (re.compile(r"(://[^\s/:@]*:)[^\s/@]+(@)"), r"\g<1>" + MASKED + r"\g<2>"),
    (re.compile(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"), r"\g<1>" + MASKED),
    (
        re.compile(
            r"(?i)((?:password|passwd|secret|token|api[_-]?key|access[_-]?key)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;]+"
        ),
        r"\g<1>" + MASKED,
    ),
)


class NoAlertError(Exception):
    """Alertmanager listed something that is no alert."""


def fingerprint_of(alert: Mapping[str, Any]) -> tuple[str, str]:
    """Alertmanager's id of an alert, and since when it fires.

    Raises:
        NoAlertError: it is none.
    """
    fingerprint, starts_at, labels = alert.get("fingerprint"), alert.get("startsAt"), alert.get("labels")
    if not isinstance(fingerprint, str) or not isinstance(starts_at, str) or not isinstance(labels, dict):
        raise NoAlertError("an alert has no fingerprint, startsAt or labels")
    if not fingerprint or len(fingerprint) > 64 or len(starts_at) > 64:
        raise NoAlertError("an alert's fingerprint or startsAt is none")
    return fingerprint, starts_at


def facts_of(alert: Mapping[str, Any], owners: AlertOwners) -> dict[str, Any]:
    """The data of ``event.monitoring.alert_firing``.

    Raises:
        NoAlertError: it is none.
    """
    fingerprint, starts_at = fingerprint_of(alert)
    labels = {str(key): str(value) for key, value in alert["labels"].items()}
    notes = alert.get("annotations")
    notes = notes if isinstance(notes, dict) else {}
    whose = owners.whose(labels)
    summary = str(notes.get("summary") or notes.get("description") or notes.get("message") or "")
    return {
        "fingerprint": fingerprint,
        "alertname": _short(labels.get("alertname", "")),
        "severity": _short(labels.get("severity", "")),
        "service": whose.service and _short(whose.service),
        "namespace": _short(labels["namespace"]) if labels.get("namespace") else None,
        "labels": {
            key[:KEY_CHARS]: MASKED if _SECRET_NAME.search(key) else _short(value)
            for key, value in sorted(labels.items())[:LABELS_MAX]
        },
        "summary": masked(summary)[:SUMMARY_CHARS] or None,
        "starts_at": starts_at,
        "owner": whose.owner and _short(whose.owner),
    }


def masked(text: str) -> str:
    """A text without what looks like a secret; the end of a very long one is gone."""
    text = text[:TEXT_CHARS]
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _short(text: str) -> str:
    return masked(text)[:VALUE_CHARS]
