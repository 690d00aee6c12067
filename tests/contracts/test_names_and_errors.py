"""Names, codes and grants: the small rules that everything leans on."""

import pytest

from opsbus_contracts.errors import CODES, ErrorBody, ErrorCode
from opsbus_contracts.names import mcp_name
from opsbus_contracts.permissions import grants
from opsbus_contracts.streams import BUCKETS, CONSUMERS, STREAMS
from opsbus_contracts.subjects import SUBJECTS, Kind


def test_mcp_name_joins_service_and_tool() -> None:
    assert mcp_name("k8s", "get_pods") == "k8s_get_pods"
    assert mcp_name("k8s-ops", "get_pods") == "k8s_ops_get_pods"


@pytest.mark.parametrize(
    ("service", "tool"), [("a" * 31, "b" * 40), ("a.b", "c"), ("a", "c d"), ("a", "ü"), ("a", "x*")]
)
def test_names_that_clients_refuse_are_refused(service: str, tool: str) -> None:
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        mcp_name(service, tool)


def test_every_code_has_a_meaning_over_http_and_mcp() -> None:
    assert set(CODES) == set(ErrorCode)
    assert all(400 <= info.http <= 599 for info in CODES.values())


def test_a_code_of_a_later_release_reads_as_internal_and_keeps_its_message() -> None:
    body = ErrorBody.model_validate_json('{"code": "not_yet_invented", "message": "kept"}')
    assert (body.code, body.message) == (ErrorCode.INTERNAL, "kept")


def test_a_worker_is_granted_its_own_subjects_only() -> None:
    found = grants("billing")
    for subject in (*found.publish, *found.subscribe):
        assert "billing" in subject or subject.startswith(("$JS.", "$SRV.")), subject
    assert "tool.billing.* billing" in found.subscribe
    assert not any(subject.startswith(("tool.", "audit.edge", "$JS.API.STREAM.UPDATE")) for subject in found.publish)


@pytest.mark.parametrize("identity", ["edge", "auditor", "operator", "billing", "audit"])
def test_nobody_at_run_time_may_change_or_delete_a_stream(identity: str) -> None:
    for subject in grants(identity).publish:
        assert subject != ">"
        assert not subject.startswith(("$JS.API.STREAM.UPDATE", "$JS.API.STREAM.DELETE", "$JS.API.STREAM.PURGE"))
        assert not subject.startswith(("$JS.API.STREAM.CREATE", "$JS.API.STREAM.MSG.DELETE", "$JS.API.>"))


def test_streams_cover_every_stored_subject_and_buckets_every_key() -> None:
    covered = {subject.removesuffix(".>") for stream in STREAMS for subject in stream.subjects}
    assert {row.subject.split(".")[0] for row in SUBJECTS if row.kind is Kind.STREAM} == covered
    assert {row.subject.split(".")[1] for row in SUBJECTS if row.kind is Kind.KV} == {bucket.name for bucket in BUCKETS}
    assert all(consumer.stream in {stream.name for stream in STREAMS} for consumer in CONSUMERS)
