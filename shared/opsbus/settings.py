"""Settings of a process: environment and one YAML file, checked once at the start. A service derives its own class.

A field is read from, first wins: ``OPSBUS_<SERVICE>_<FIELD>``; for the common fields ``OPSBUS_<FIELD>``, and
``NATS_URL`` and ``OTEL_EXPORTER_OTLP_ENDPOINT`` as everybody spells them; the section of the service in the file that
``OPSBUS_CONFIG`` names; for the common fields the file's section ``opsbus``. Values may be encrypted or in files of
their own: secret_values.py.
"""

import os
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, SettingsConfigDict

from opsbus.scheduling import Scheduling
from opsbus.secret_values import KEY_FILE, SecretValueError, SecretValues
from opsbus.toolerror import near

S = TypeVar("S", bound="Settings")

CONFIG_FILE = "OPSBUS_CONFIG"
_PLAIN_NAMES = ("nats_url", "otel_exporter_otlp_endpoint")
_NO_SETTING = ("OPSBUS_CONFIG", KEY_FILE)


class SettingsError(Exception):
    """A wrong setting, in one line: which, what is wrong, what to do."""


class Settings(BaseSettings):
    """What every process of the platform can be set to."""

    model_config = SettingsConfigDict(
        extra="forbid", env_nested_delimiter="__", nested_model_default_partial_update=True
    )

    nats_url: str = Field(default="nats://127.0.0.1:4222", description="Servers, separated by commas.")
    nats_seed_file: Path | None = Field(default=None, description="File with the nkey seed.")
    nats_creds: Path | None = Field(
        default=None, description="File with JWT and seed, where the operator mode is used."
    )
    nats_tls_ca: Path | None = Field(default=None, description="Certificates to trust, PEM.")
    nats_tls_cert: Path | None = Field(default=None, description="Own certificate, PEM.")
    nats_tls_key: Path | None = Field(default=None, description="Key of the own certificate, PEM.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = Field(default="auto", description="auto: text on a terminal.")
    http_host: str = Field(default="127.0.0.1", description="Where /live, /ready and /metrics listen.")
    http_port: int = Field(default=0, ge=0, le=65535, description="0: a free port.")
    ready_file: Path | None = Field(default=None, description="Written when ready: service, instance, http_url, pid.")
    otel_exporter_otlp_endpoint: str = Field(default="", description="Where traces go; empty: nowhere.")
    drain_timeout_s: float = Field(default=25.0, ge=0, le=3600, description="Running calls may take this long to end.")
    concurrency: int = Field(default=64, ge=1, le=10_000, description="Calls at once.")
    scheduling: Scheduling = Field(
        default="batch", description="batch: longer turns on a busy machine; normal: each message at once. Linux."
    )
    shadow: bool = Field(default=False, description="A candidate: answers recorded reads sent again, and nothing else.")
    shadow_key_file: Path | None = Field(
        default=None, description="Public key, PEM, of who may send a candidate calls; nobody else may."
    )
    queue: int = Field(default=32, ge=0, le=10_000, description="Calls that may wait; beyond it the answer is busy.")


class _NotJsonError(Exception):
    """A list or mapping in the environment that is no JSON. Not a ValueError: pydantic-settings would wrap it."""


class _Environment(EnvSettingsSource):
    """Environment variables of a prefix, for some fields only."""

    def __init__(
        self, cls: type[BaseSettings], prefix: str, secrets: SecretValues, only: tuple[str, ...] | None = None
    ) -> None:
        super().__init__(cls, env_prefix=prefix, env_ignore_empty=True)
        self._secrets = secrets
        self._only = only

    def prepare_field_value(self, field_name: str, field: Any, value: Any, value_is_complex: bool) -> Any:
        if self._only is None or field_name in self._only:
            value = self._secrets.value(field_name, value)  # before it is read as JSON
        try:
            return super().prepare_field_value(field_name, field, value, value_is_complex)
        except ValueError:
            raise _NotJsonError(f"{self.env_prefix}{field_name.upper()}") from None

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        return self._secrets.all(
            {key: value for key, value in values.items() if self._only is None or key in self._only}
        )


def load(cls: type[S], service: str, **given: Any) -> S:
    """The settings of a service; ``given`` beats all else.

    Raises:
        SettingsError: in one line what is wrong and where.
    """
    common = tuple(Settings.model_fields)
    prefix = env_prefix(service)
    section = _file_section(cls, service, common)
    secrets = SecretValues(frozenset(name for name in cls.model_fields if _is_secret(cls, name)))

    def sources(*_: Any, **__: Any) -> tuple[Any, ...]:
        return (
            InitSettingsSource(loaded, init_kwargs=given),
            _Environment(loaded, prefix, secrets),
            _Environment(loaded, "OPSBUS_", secrets, common),
            _Environment(loaded, "", secrets, _PLAIN_NAMES),
            InitSettingsSource(loaded, init_kwargs=secrets.all(section)),
        )

    loaded: type[S] = type(cls.__name__, (cls,), {"settings_customise_sources": staticmethod(sources)})
    try:
        return _with_defaults_opened(loaded(), secrets)
    except ValidationError as error:
        raise SettingsError(_one_line(error, cls, service, prefix, secrets.opened)) from None
    except SecretValueError as error:
        raise SettingsError(f"{service}: {error}") from None
    except _NotJsonError as error:
        raise SettingsError(
            f'{service}: setting {error}: no valid JSON; write it as ["a", "b"] or {{"key": "value"}}'
        ) from None


def _with_defaults_opened(settings: S, secrets: SecretValues) -> S:
    """A default may come from a variable with a name of its own, such as DATABASE_URL."""
    found: dict[str, SecretStr] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            opened = secrets.value(name, text)
            if opened != text:
                found[name] = SecretStr(opened)
    return settings.model_copy(update=found) if found else settings


def _is_secret(cls: type[Settings], name: str) -> bool:
    return "Secret" in str(cls.model_fields[name].annotation)


def env_prefix(service: str) -> str:
    """``OPSBUS_K8S_``."""
    return f"OPSBUS_{service.upper().replace('-', '_')}_"


def unknown_variables(cls: type[Settings], service: str) -> list[str]:
    """Environment variables of this service that name no setting: a warning for each, with the nearest name."""
    prefix = env_prefix(service)
    found = []
    for name in sorted(os.environ):
        field = name.removeprefix(prefix).split("__")[0].lower()
        if name.startswith(prefix) and field not in cls.model_fields and name not in _NO_SETTING:
            close = near(field, cls.model_fields)
            meant = f"; did you mean {prefix}{close[0].upper()}?" if close else ""
            found.append(f"{name} is no setting of {service}{meant}")
    return found


def _file_section(cls: type[Settings], service: str, common: tuple[str, ...]) -> dict[str, Any]:
    path = os.environ.get(CONFIG_FILE)
    if not path:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(
            f"{CONFIG_FILE}: {path} cannot be read ({error.strerror}); name a readable YAML file"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(getattr(error, "problem_mark", None), "line", None)
        line = f" at line {where + 1}" if where is not None else ""
        raise SettingsError(f"{CONFIG_FILE}: {path} is no valid YAML{line}; correct it") from None
    sections = content if isinstance(content, dict) else {"": None}
    merged: dict[str, Any] = {}
    for name in ("opsbus", service):
        section = sections.get(name) or {}
        if not isinstance(content, dict) or not isinstance(section, dict):
            raise SettingsError(f"{CONFIG_FILE}: {path}: section {name!r} must be a mapping of settings; correct it")
        allowed = common if name == "opsbus" else tuple(cls.model_fields)
        for key in section:
            if key not in allowed:
                close = near(str(key), allowed)
                todo = f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(allowed))}"
                raise SettingsError(f"{CONFIG_FILE}: {path}: {name}.{key} is no setting; {todo}")
        merged |= section
    return merged


def _one_line(error: ValidationError, cls: type[Settings], service: str, prefix: str, opened: set[str]) -> str:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    field = cls.model_fields.get(name)
    secret = field is None or _is_secret(cls, name)
    problem = first["msg"][0].lower() + first["msg"][1:]
    if name in opened:
        secret, problem = True, "the value that was encrypted or in a file is not valid"  # other words may quote it
    if not secret and first["type"] != "missing" and isinstance(first["input"], str | int | float):
        problem = f"{str(first['input'])[:80]!r}: {problem}"
    more = f" ({error.error_count() - 1} more settings are wrong)" if error.error_count() > 1 else ""
    variable = f"{prefix}{name.upper()}"
    if name in Settings.model_fields:
        variable = f"OPSBUS_{name.upper()}"
    path = ".".join(str(part) for part in first["loc"])
    return (
        f"{service}: setting {path}: {problem}; set {variable} in the environment,"
        f" or {name} in section {service!r} of the file that {CONFIG_FILE} names{more}"
    )
