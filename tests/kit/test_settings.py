"""Settings: where they come from, and what is said of a wrong one."""

import pytest
from pydantic import BaseModel, Field, SecretStr

from opsbus import Settings
from opsbus.settings import SettingsError, load, unknown_variables


class Retry(BaseModel):
    times: int = 3
    wait_s: float = 0.5


class K8sSettings(Settings):
    kubeconfig: str = ""
    token: SecretStr | None = None
    page_size: int = Field(default=100, ge=1, le=1000)
    clusters: list[str] = Field(default_factory=list)
    retry: Retry = Retry()
    needed: int = 1


class Needs(Settings):
    url: str


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith(("OPSBUS_", "NATS_", "OTEL_")):
            monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path, monkeypatch):
    def write(text: str):
        path = tmp_path / "opsbus.yaml"
        path.write_text(text)
        monkeypatch.setenv("OPSBUS_CONFIG", str(path))
        return path

    return write


def test_defaults():
    loaded = load(K8sSettings, "k8s")
    assert (loaded.page_size, loaded.concurrency, loaded.nats_url) == (100, 64, "nats://127.0.0.1:4222")


def test_environment_own_and_common(monkeypatch):
    monkeypatch.setenv("OPSBUS_K8S_PAGE_SIZE", "7")
    monkeypatch.setenv("OPSBUS_K8S_CLUSTERS", '["a", "b"]')
    monkeypatch.setenv("OPSBUS_K8S_RETRY__TIMES", "9")
    monkeypatch.setenv("OPSBUS_CONCURRENCY", "5")
    monkeypatch.setenv("OPSBUS_HTTP_PORT", "1")
    monkeypatch.setenv("OPSBUS_K8S_HTTP_PORT", "2")
    monkeypatch.setenv("NATS_URL", "nats://everyone:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318")
    monkeypatch.setenv("OPSBUS_KUBECONFIG", "not ours")
    monkeypatch.setenv("PAGE_SIZE", "999")
    loaded = load(K8sSettings, "k8s")
    assert (loaded.page_size, loaded.clusters, loaded.concurrency) == (7, ["a", "b"], 5)
    assert (loaded.retry.times, loaded.retry.wait_s) == (9, 0.5)
    assert loaded.http_port == 2
    assert loaded.nats_url == "nats://everyone:1"
    assert loaded.otel_exporter_otlp_endpoint == "http://otel:4318"
    assert loaded.kubeconfig == ""
    monkeypatch.setenv("OPSBUS_NATS_URL", "nats://ours:1")
    assert load(K8sSettings, "k8s").nats_url == "nats://ours:1"


def test_file_under_the_environment(monkeypatch, config):
    config("opsbus: {concurrency: 3, queue: 4}\nk8s: {page_size: 8, queue: 5, retry: {times: 1}}\nother: {x: 1}\n")
    loaded = load(K8sSettings, "k8s")
    assert (loaded.concurrency, loaded.queue, loaded.page_size, loaded.retry.times) == (3, 5, 8, 1)
    monkeypatch.setenv("OPSBUS_K8S_PAGE_SIZE", "9")
    assert load(K8sSettings, "k8s").page_size == 9
    assert load(K8sSettings, "k8s", page_size=10).page_size == 10


def one_line(service="k8s", cls=K8sSettings) -> str:
    with pytest.raises(SettingsError) as raised:
        load(cls, service)
    text = str(raised.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OPSBUS_K8S_PAGE_SIZE", "many", ["page_size", "'many'", "integer", "OPSBUS_K8S_PAGE_SIZE"]),
        ("OPSBUS_K8S_PAGE_SIZE", "0", ["page_size", "greater than or equal to 1"]),
        ("OPSBUS_HTTP_PORT", "99999", ["http_port", "OPSBUS_HTTP_PORT"]),
        ("OPSBUS_LOG_LEVEL", "loud", ["log_level", "'debug', 'info'"]),
        ("OPSBUS_K8S_RETRY__TIMES", "x", ["retry.times"]),
        ("OPSBUS_K8S_CLUSTERS", "not json", ["OPSBUS_K8S_CLUSTERS", "JSON"]),
    ],
)
def test_a_wrong_value_is_one_line(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    text = one_line()
    assert all(part in text for part in said), text


def test_a_missing_value_is_one_line():
    text = one_line("needs", Needs)
    assert "url" in text
    assert "OPSBUS_NEEDS_URL" in text


def test_no_secret_is_shown(config):
    config("k8s: {token: [hunter2]}\n")
    assert "hunter2" not in one_line()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("k8s: {page_sise: 3}", ["k8s.page_sise", "did you mean page_size"]),
        ("opsbus: {page_size: 3}", ["opsbus.page_size"]),
        ("k8s: [1]", ["section 'k8s'"]),
        ("- a", ["section"]),
        ("k8s: {a: [", ["no valid YAML", "line 1"]),
    ],
)
def test_a_wrong_file_is_one_line(config, text, said):
    config(text)
    found = one_line()
    assert all(part in found for part in said), found


def test_a_missing_file_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("OPSBUS_CONFIG", str(tmp_path / "none.yaml"))
    assert "none.yaml cannot be read" in one_line()


def test_a_misspelt_variable_is_noticed(monkeypatch):
    monkeypatch.setenv("OPSBUS_K8S_PAGE_SISE", "3")
    monkeypatch.setenv("OPSBUS_K8S_RETRY__TIMES", "3")
    assert unknown_variables(K8sSettings, "k8s") == [
        "OPSBUS_K8S_PAGE_SISE is no setting of k8s; did you mean OPSBUS_K8S_PAGE_SIZE?"
    ]
