"""Settings that are encrypted or in files of their own, and what is said when they cannot be had."""

import os
import stat

import pytest
from pydantic import BaseModel, Field, SecretStr
from typer.testing import CliRunner

from opsbus import Settings
from opsbus.cli import app
from opsbus.settings import SettingsError, load

SECRET = "canary-9f2c"


class Inner(BaseModel):
    words: list[str] = []


class DbSettings(Settings):
    url: SecretStr = Field(default_factory=lambda: SecretStr(os.environ.get("PLAIN_URL", "")))
    token: SecretStr | None = None
    name: str = Field(default="", max_length=20)
    size: int = 1
    hosts: list[str] = Field(default_factory=list)
    inner: Inner = Inner()


def encrypt(*arguments, given=""):
    return CliRunner().invoke(app, ["encrypt", *arguments], input=given)


@pytest.fixture(autouse=True)
def key_file(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("OPSBUS_", "NATS_", "PLAIN_")):
            monkeypatch.delenv(name)
    path = tmp_path / "settings.key"
    assert encrypt("--new-key", str(path)).exit_code == 0
    monkeypatch.setenv("OPSBUS_SETTINGS_KEY_FILE", str(path))
    return path


def enc(value: str) -> str:
    result = encrypt(given=value + "\n")
    assert result.exit_code == 0, result.stderr
    shown = result.stdout.strip()
    assert shown.startswith("enc:")
    assert SECRET not in shown
    return shown


def test_from_the_environment_at_every_depth(monkeypatch) -> None:
    monkeypatch.setenv("OPSBUS_DB_TOKEN", enc(SECRET))
    monkeypatch.setenv("OPSBUS_DB_SIZE", enc("7"))
    monkeypatch.setenv("OPSBUS_DB_HOSTS", enc('["a", "b"]'))
    monkeypatch.setenv("OPSBUS_DB_INNER__WORDS", f'["plain", "{enc(SECRET)}"]')
    monkeypatch.setenv("OPSBUS_NATS_URL", enc(f"nats://me:{SECRET}@host:4222"))
    monkeypatch.setenv("PLAIN_URL", enc(f"postgresql://me:{SECRET}@host/db"))
    loaded = load(DbSettings, "db")
    assert loaded.token is not None
    assert loaded.token.get_secret_value() == SECRET
    assert (loaded.size, loaded.hosts, loaded.inner.words) == (7, ["a", "b"], ["plain", SECRET])
    assert loaded.nats_url == f"nats://me:{SECRET}@host:4222"
    assert loaded.url.get_secret_value() == f"postgresql://me:{SECRET}@host/db"


def test_from_the_file_of_settings(tmp_path, monkeypatch) -> None:
    path = tmp_path / "opsbus.yaml"
    path.write_text(f"db:\n  token: {enc(SECRET)}\n  inner: {{words: [{enc('x')}]}}\n")
    monkeypatch.setenv("OPSBUS_CONFIG", str(path))
    loaded = load(DbSettings, "db")
    assert loaded.token is not None
    assert (loaded.token.get_secret_value(), loaded.inner.words) == (SECRET, ["x"])


def test_from_a_file_of_its_own(tmp_path, monkeypatch) -> None:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    monkeypatch.setenv("OPSBUS_DB_TOKEN", f"file:{path}")
    monkeypatch.setenv("OPSBUS_DB_NAME", "file:/not/opened")  # no secret: means what it says
    loaded = load(DbSettings, "db")
    assert loaded.token is not None
    assert (loaded.token.get_secret_value(), loaded.name) == (SECRET, "file:/not/opened")
    path.unlink()
    with pytest.raises(SettingsError, match="cannot be read") as caught:
        load(DbSettings, "db")
    assert "setting token" in str(caught.value)


def test_a_key_is_exchanged_one_value_at_a_time(tmp_path, monkeypatch, key_file) -> None:
    monkeypatch.setenv("OPSBUS_DB_TOKEN", enc(SECRET))
    other = tmp_path / "other.key"
    encrypt("--new-key", str(other))
    key_file.write_text(other.read_text() + key_file.read_text())
    monkeypatch.setenv("OPSBUS_DB_NAME", enc("new"))
    loaded = load(DbSettings, "db")
    assert loaded.token is not None
    assert (loaded.token.get_secret_value(), loaded.name) == (SECRET, "new")
    key_file.write_text(other.read_text())
    with pytest.raises(SettingsError, match="setting token cannot be decrypted"):
        load(DbSettings, "db")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        ("", "holds no key"),
        ("not a key", "holds no key"),
        ("\xe4", "holds no key"),
        ("-----BEGIN PRIVATE KEY-----", "holds no key"),
    ],
)
def test_a_wrong_key_is_one_clear_line(monkeypatch, key_file, content, says) -> None:
    monkeypatch.setenv("OPSBUS_DB_TOKEN", enc(SECRET))
    key_file.unlink() if content is None else key_file.write_text(content)
    with pytest.raises(SettingsError, match=says) as caught:
        load(DbSettings, "db")
    assert "\n" not in str(caught.value)
    assert "OPSBUS_SETTINGS_KEY_FILE" in str(caught.value)
    assert "setting token" in str(caught.value)
    assert encrypt(given="x\n").exit_code == 1


def test_no_key_at_all(monkeypatch) -> None:
    monkeypatch.setenv("OPSBUS_DB_TOKEN", enc(SECRET))
    monkeypatch.delenv("OPSBUS_SETTINGS_KEY_FILE")
    with pytest.raises(SettingsError, match="names no key"):
        load(DbSettings, "db")
    assert "--new-key" in encrypt(given="x\n").stderr


@pytest.mark.parametrize("damage", [lambda v: v[:-4] + "AAAA", lambda v: v[:30], lambda v: "enc:", lambda v: "enc:ä"])
def test_a_damaged_value_is_one_clear_line(monkeypatch, damage) -> None:
    monkeypatch.setenv("OPSBUS_DB_TOKEN", damage(enc(SECRET)))
    with pytest.raises(SettingsError, match="setting token cannot be decrypted") as caught:
        load(DbSettings, "db")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPSBUS_DB_SIZE", SECRET),
        ("OPSBUS_DB_NAME", SECRET * 9),
        ("OPSBUS_LOG_LEVEL", SECRET),
        ("OPSBUS_DB_HOSTS", SECRET),
    ],
)
def test_a_wrong_value_that_was_encrypted_is_not_quoted(monkeypatch, variable, value) -> None:
    monkeypatch.setenv(variable, enc(value))
    with pytest.raises(SettingsError) as caught:
        load(DbSettings, "db")
    assert "canary" not in str(caught.value)
    assert variable.rpartition("_")[2].lower() in str(caught.value).lower()


def test_a_key_file_is_for_its_owner_and_never_overwritten(key_file) -> None:
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    before = key_file.read_text()
    again = encrypt("--new-key", str(key_file))
    assert (again.exit_code, key_file.read_text()) == (1, before)
    assert "there already" in again.stderr
    assert encrypt(given="\n").exit_code == 2
