"""What an API server's refusal means to a caller: its Status object as a ToolError. No request is made here."""

import json
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientConnectorError

from opsbus import ErrorCode, Executed, ToolError
from opsbus.guard import BackendShutError

MESSAGE_CHARS_MAX = 600
"""An API server's own words, at most: admission webhooks can be long-winded."""


@dataclass(frozen=True)
class Attempt:
    """What was tried, for the wording of an error and for the truth about its effect.

    Args:
        cluster: Its name.
        doing: Ends the sentence "could not ...".
        caller: Whom the cluster took us for; empty: the worker itself.
        writes: It changes something when it succeeds: not a read, not a dry run.
    """

    cluster: str
    doing: str
    caller: str = ""
    writes: bool = False


def status_of(body: bytes) -> dict[str, Any]:
    """The Status object of a failed request; a proxy's HTML page or plain text becomes one with a message alone."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return status
    return {"message": body[:MESSAGE_CHARS_MAX].decode("utf-8", "replace").strip()}


def refused(code: int, body: bytes, attempt: Attempt, retry_after: str | None = None) -> ToolError:
    """An HTTP status of 400 or more as the error a caller is told; the cluster and the attempt are named in it."""
    status = status_of(body)
    said = str(status.get("message") or status.get("reason") or f"HTTP {code}")[:MESSAGE_CHARS_MAX]
    message = f"cluster {attempt.cluster}: could not {attempt.doing}: {said}"
    details: dict[str, Any] = {
        "cluster": attempt.cluster,
        "http_status": code,
        "reason": str(status.get("reason") or ""),
    }
    causes = _causes(status)
    if causes:
        details["causes"] = causes
    if code == 410:
        details["continue"] = str((status.get("metadata") or {}).get("continue") or "")
    if code == 401:
        return ToolError(
            ErrorCode.BACKEND_ERROR,
            f"cluster {attempt.cluster} does not accept the worker's own credentials",
            hint="The kubeconfig or service account of the k8s worker needs renewing; nothing in the call can help.",
            details=details,
            executed=Executed.NO,
        )
    if code == 403:
        return ToolError(ErrorCode.FORBIDDEN, message, hint=_forbidden_hint(attempt, said), details=details)
    if code == 504 and attempt.writes:
        return _outcome_unknown(message, details)
    held = _disruption_budget(status) if code == 429 else ""
    if held:
        return ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{message} {held}",
            hint="It may go once other pods of the same budget are ready again.",
            details=details | {"disruption_budget": held},
            executed=Executed.NO,
            retryable=True,
        )
    executed = Executed.UNKNOWN if attempt.writes and code in (500, 502) else Executed.NO
    if code in (429, 503, 504):
        after_ms = int(retry_after) * 1000 if retry_after and retry_after.isdigit() else None
        return ToolError(
            ErrorCode.BACKEND_UNAVAILABLE,
            message,
            hint="The API server is overloaded or starting; the same call may succeed soon.",
            details=details,
            executed=executed,
            retry_after_ms=after_ms,
        )
    known = {
        400: (
            ErrorCode.INVALID_ARGUMENTS,
            "The API server could not read a selector, a name or a value as it was given.",
        ),
        404: (
            ErrorCode.NOT_FOUND,
            "Check cluster, namespace and name; k8s_get_deployments and k8s_get_pods list them.",
        ),
        409: (ErrorCode.CONFLICT, "The object changed in the meantime: read it again, then repeat the call."),
        410: (
            ErrorCode.BACKEND_ERROR,
            "The list changed faster than it could be read: narrow it by namespace or label.",
        ),
        422: (ErrorCode.INVALID_ARGUMENTS, "The API server names the fields that are wrong."),
    }
    error, hint = known.get(code, (ErrorCode.BACKEND_ERROR, "This is the API server's own failure; its logs say more."))
    return ToolError(error, message, hint=hint, details=details, executed=executed)


def unreachable(error: Exception, attempt: Attempt) -> ToolError:
    """No answer: refused connection, failed name lookup, TLS trouble, silence, a connection that broke.

    A write that was sent and not answered is ``outcome_unknown``.
    """
    timed_out = isinstance(error, TimeoutError)
    what = "did not answer in time" if timed_out else f"cannot be reached ({type(error).__name__}: {error})"
    message = f"cluster {attempt.cluster} {what}: could not {attempt.doing}"
    details = {"cluster": attempt.cluster, "timed_out": timed_out}
    if attempt.writes and not isinstance(error, ClientConnectorError):
        return _outcome_unknown(message, details)
    return ToolError(
        ErrorCode.BACKEND_UNAVAILABLE,
        message,
        hint="k8s_list_clusters says which clusters answer.",
        details=details,
        executed=Executed.NO,
    )


def not_asked(shut: BackendShutError, attempt: Attempt) -> ToolError:
    """The cluster failed several times in a row, so it was not asked now."""
    return ToolError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"could not {attempt.doing}, for several requests in a row failed; the last: {shut.last}",
        hint=f"It is asked again in {shut.retry_in_s:.0f} s; enterprise://k8s/clusters says which clusters answer.",
        details={"cluster": attempt.cluster},
        executed=Executed.NO,
        retry_after_ms=int(shut.retry_in_s * 1000),
    )


def is_outage(error: Exception) -> bool:
    """Whether an error says that the cluster is not there, or not itself."""
    return isinstance(error, ToolError) and error.code in (ErrorCode.BACKEND_UNAVAILABLE, ErrorCode.OUTCOME_UNKNOWN)


def is_passing(error: Exception) -> bool:
    """Whether the same read may succeed at once. After a time-out the call has no time for another."""
    if not isinstance(error, ToolError) or error.code is not ErrorCode.BACKEND_UNAVAILABLE:
        return False
    return not error.details.get("timed_out") and not error.retry_after_ms


def _outcome_unknown(message: str, details: dict[str, Any]) -> ToolError:
    return ToolError(
        ErrorCode.OUTCOME_UNKNOWN,
        f"{message}; whether it happened is unknown",
        hint="Read the object before anything else; do not simply repeat the call.",
        details=details,
        executed=Executed.UNKNOWN,
    )


def _forbidden_hint(attempt: Attempt, said: str) -> str:
    if "cannot impersonate" in said:
        return "The worker's account may not act for its callers: grant it the verb impersonate on users and groups."
    if not attempt.caller:
        return "The cluster's RBAC does not let the worker's account do this."
    return f"The cluster's RBAC decides, and it saw {attempt.caller}; a role can be bound to that user or group."


def _disruption_budget(status: dict[str, Any]) -> str:
    """Why a disruption budget does not let a pod go; empty when it is not about one but about too many requests."""
    for cause in (status.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "DisruptionBudget":
            return str(cause.get("message") or "a disruption budget")[:MESSAGE_CHARS_MAX]
    return ""


def _causes(status: dict[str, Any]) -> list[dict[str, str]]:
    found = (status.get("details") or {}).get("causes") or []
    return [
        {"field": str(cause.get("field", "")), "message": str(cause.get("message", ""))[:MESSAGE_CHARS_MAX]}
        for cause in found[:10]
    ]
