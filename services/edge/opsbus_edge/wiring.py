"""Puts an edge together from its settings, in order, and takes it apart again in reverse."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from opsbus import logs, nats_client
from opsbus.identity import Signer
from opsbus.nats_quick import QuickClient
from opsbus.personal import Persons
from opsbus.settings import SettingsError
from opsbus_contracts.audit import PlatformStage
from opsbus_edge import __version__, keyfiles
from opsbus_edge.audit import AuditLog, Queue, Spool, SpoolError
from opsbus_edge.catalog import Catalog
from opsbus_edge.catalog.announce_refusals import RefusalEvents
from opsbus_edge.catalog.watch import CatalogWatch
from opsbus_edge.context import Edge
from opsbus_edge.dispatch import Dispatcher
from opsbus_edge.gates.api_key import ApiKeys
from opsbus_edge.gates.authenticate import Authenticator
from opsbus_edge.gates.bearer_jwt import BearerJwt, TrustedKey
from opsbus_edge.gates.client_certificate import ClientCertificates
from opsbus_edge.gates.jwks import Jwks
from opsbus_edge.gates.key_use import KeyUses
from opsbus_edge.gates.limit import ConcurrencyLimit
from opsbus_edge.gates.load import ServiceLoad
from opsbus_edge.gates.oauth_jwt import OAuthJwt
from opsbus_edge.gates.personal import PersonalData
from opsbus_edge.gates.policy import Policy, load_policy
from opsbus_edge.gates.policy.watch import PolicyWatch
from opsbus_edge.gates.proof import Proof
from opsbus_edge.gates.rates import RateLimits
from opsbus_edge.gates.refusals import Refusals
from opsbus_edge.gates.shut_out import ShutOut
from opsbus_edge.identity import Minter
from opsbus_edge.limits import Leases
from opsbus_edge.metrics import Metrics
from opsbus_edge.pipeline import Pipeline
from opsbus_edge.redact import DigestKey, Redactor, path_rule
from opsbus_edge.seal import Sealer
from opsbus_edge.settings import EdgeSettings
from opsbus_edge.sign_in.build import directory, session_tokens, sign_in
from opsbus_edge.sign_in.tokens import SessionTokens
from opsbus_edge.signing import SigningKey
from opsbus_edge.tasks import Desk, Runner, TaskSeal, TaskStore
from opsbus_edge.tracing import Tracing

log = logs.get("edge")

START_TIMEOUT_S = 20.0


@asynccontextmanager
async def running_edge(settings: EdgeSettings) -> AsyncIterator[Edge]:
    """An edge that is connected and has read the catalogue. HTTP and stdio are put on top of it.

    Raises:
        SettingsError: a setting or a file that one names is wrong.
        ConnectError: NATS refuses this edge for good.
        TimeoutError: NATS or the catalogue did not answer in time.
    """
    policy = load_policy(settings.policy_file)
    _check_roles(policy, settings)
    signer = _signer(settings)
    sealer = _sealer(settings)
    tokens = session_tokens(settings)
    asked = directory(settings)
    metrics = Metrics(__version__)
    instance = f"edge-{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        if asked is not None:
            stack.callback(asked.close)
        nc = await _connect(settings, instance, metrics)
        stack.push_async_callback(_close, nc)
        api_keys = await _api_keys(settings, nc, stack)
        authenticator = Authenticator(
            _proofs(settings, api_keys, tokens, await _provider(settings, stack)),
            policy,
            tuple(settings.anonymous_roles) if settings.anonymous else None,
            metrics,
            settings.oauth_scopes,
        )
        minter = Minter(signer)
        signing = await _signing(settings, nc, minter, stack)
        tracing = _tracing(settings, instance)
        stack.callback(tracing.close)
        audit = await _audit_log(settings, nc, instance, metrics)
        stack.push_async_callback(audit.close, settings.drain_timeout_s)
        refusal_events = RefusalEvents(nc, instance)
        await refusal_events.start()
        stack.push_async_callback(refusal_events.stop)
        catalog = Catalog(settings.list_page_size, on_refused=refusal_events.tell)
        watch = CatalogWatch(nc, catalog)
        stack.push_async_callback(watch.stop)
        await watch.start(START_TIMEOUT_S)
        dispatcher = Dispatcher(nc, instance, metrics, settings.calls_in_flight_max)
        await dispatcher.start()
        stack.push_async_callback(dispatcher.stop)
        shut_out = ShutOut(nc, settings.quarantine_stale_s)
        stack.push_async_callback(shut_out.quarantines.watch.stop)
        await shut_out.quarantines.watch.start(START_TIMEOUT_S)
        leases = Leases(nc, settings.rate_offline_share)
        leases.start()
        stack.push_async_callback(leases.stop)
        rates = RateLimits(settings, leases, metrics)
        pipeline = Pipeline(
            catalog=catalog,
            policy=policy,
            limit=ConcurrencyLimit(settings.calls_per_caller, metrics),
            rates=rates,
            shut_out=shut_out,
            load=ServiceLoad(catalog, settings.load_factor, metrics),
            audit=audit,
            redactor=_redactor(settings),
            personal=PersonalData(Persons(nc.jetstream()) if settings.audit_personal == "encrypted" else None),
            dispatcher=dispatcher,
            minter=minter,
            metrics=metrics,
            tracing=tracing,
            call_timeout_max_s=settings.call_timeout_max_s,
            arguments_bytes_max=settings.arguments_bytes_max,
        )
        policy_watch = PolicyWatch(
            settings.policy_file,
            policy,
            lambda fresh: _check_roles(fresh, settings),
            lambda before, taken: _policy_changed(audit, catalog, instance, before, taken),
        )
        policy_watch.start()
        stack.push_async_callback(policy_watch.stop)
        yield Edge(
            settings=settings,
            rates=rates,
            shut_out=shut_out,
            policy_watch=policy_watch,
            instance=instance,
            nc=nc,
            catalog=catalog,
            watch=watch,
            pipeline=pipeline,
            dispatcher=dispatcher,
            sealer=sealer,
            metrics=metrics,
            audit=audit,
            tracing=tracing,
            authenticator=authenticator,
            api_keys=api_keys,
            signing=signing,
            tasks=await _tasks(settings, nc, instance, catalog, pipeline, stack),
            refusals=_refusals(settings, nc, stack),
            sign_in=sign_in(settings, asked, tokens, nc, metrics),
        )


async def _connect(settings: EdgeSettings, instance: str, metrics: Metrics) -> QuickClient:
    def on_error(error: Exception) -> None:
        kind = nats_client.error_kind(error)
        metrics.nats_errors.labels(kind).inc()
        log.warning("nats", kind=kind, error=str(error)[:300] or type(error).__name__)

    async def reconnected() -> None:
        log.info("nats: connected again")

    async def disconnected() -> None:
        log.warning("nats: disconnected")

    return await nats_client.connect(
        settings,
        "edge",
        name=instance,
        on_error=on_error,
        on_reconnected=reconnected,
        on_disconnected=disconnected,
        # Subjects are made of tokens whose patterns were checked; checking each again costs as much as sending.
        skip_subject_validation=True,
    )


async def _close(nc: Client) -> None:
    try:
        async with asyncio.timeout(3.0):
            await nc.flush()
    except (nats.errors.Error, TimeoutError, OSError):
        pass  # nothing that was acknowledged depends on it
    finally:
        await nc.close()


def _check_roles(policy: Policy, settings: EdgeSettings) -> None:
    named = {"stdio_roles": settings.stdio_roles}
    if settings.anonymous:
        named["anonymous_roles"] = settings.anonymous_roles
    named["certificate_identities"] = [role for one in settings.certificate_identities for role in one.roles]
    named["ldap_group_roles"] = [role for roles in settings.ldap_group_roles.values() for role in roles]
    for setting, roles in named.items():
        for role in roles:
            if role not in policy.roles:
                there = ", ".join(policy.roles)
                raise SettingsError(f"setting {setting}: the policy has no role {role!r}; it has {there}")


async def _audit_log(settings: EdgeSettings, nc: QuickClient, instance: str, metrics: Metrics) -> AuditLog:
    folder, spool = settings.audit_spool_folder, None
    try:
        if folder is not None:
            spool = Spool(folder, instance, bytes_max=settings.audit_spool_bytes_max)
        audit = AuditLog(
            nc, instance, metrics, Queue(settings.audit_buffer_max, spool), timeout_s=settings.audit_timeout_s
        )
        await audit.start()
    except (SpoolError, OSError) as error:
        raise SettingsError(
            f"setting audit_spool_folder: {error}. Give a folder that this process may write, or none."
        ) from None
    return audit


def _policy_changed(audit: AuditLog, catalog: Catalog, instance: str, before: str, policy: Policy) -> None:
    record = {
        "call": secrets.token_hex(16),
        "actor": instance,
        "method": "platform",
        "target": "policy",
        "policy": policy.digest,
        "details": {"before": before, "after": policy.digest, "roles": policy.roles},
    }
    audit.write(PlatformStage.POLICY_CHANGED, record)
    catalog.seen_anew()


def _signer(settings: EdgeSettings) -> Signer:
    return keyfiles.signer(_identity_key_file(settings), "identity_key_file")


def _identity_key_file(settings: EdgeSettings) -> Path:
    if settings.identity_key_file is None:
        raise SettingsError(
            "setting identity_key_file: workers refuse calls without an identity;"
            " set OPSBUS_EDGE_IDENTITY_KEY_FILE to the Ed25519 private key whose public part is in the bucket KEYS"
        )
    return settings.identity_key_file


def _sealer(settings: EdgeSettings) -> Sealer:
    if settings.seal_key_file is None:
        log.warning("no seal_key_file: questions to users can be answered at this process alone, until it ends")
        return Sealer([secrets.token_bytes(32)], settings.seal_ttl_s)
    return Sealer(keyfiles.secrets_by_line(settings.seal_key_file, "seal_key_file"), settings.seal_ttl_s)


def _task_seal(settings: EdgeSettings) -> TaskSeal:
    """Without a key file tasks lie in the clear: a key of this process alone would hide them from the other edges."""
    if settings.seal_key_file is None:
        return TaskSeal()
    return TaskSeal(keyfiles.secrets_by_line(settings.seal_key_file, "seal_key_file"))


async def _api_keys(settings: EdgeSettings, nc: Client, stack: AsyncExitStack) -> ApiKeys:
    uses = KeyUses(nc)
    uses.start()
    stack.push_async_callback(uses.stop)
    api_keys = ApiKeys(nc, settings.api_keys_stale_s, uses)
    stack.push_async_callback(api_keys.watch.stop)
    try:
        await api_keys.watch.start(START_TIMEOUT_S / 2)
    except TimeoutError:
        log.warning("the API keys cannot be read: requests with one are answered 503; is the bus provisioned?")
    return api_keys


def _refusals(settings: EdgeSettings, nc: Client, stack: AsyncExitStack) -> Refusals:
    refusals = Refusals(nc, names=settings.audit_personal == "clear")
    refusals.start()
    stack.push_async_callback(refusals.stop)
    return refusals


async def _tasks(
    settings: EdgeSettings, nc: QuickClient, instance: str, catalog: Catalog, pipeline: Pipeline, stack: AsyncExitStack
) -> Desk | None:
    if not settings.task_after_s:
        return None
    store = TaskStore(nc, instance, _task_seal(settings))
    runner = Runner(nc, instance, catalog, pipeline, store, settings)
    await runner.start()
    stack.push_async_callback(runner.stop, settings.drain_timeout_s)
    return Desk(store, runner, instance, settings.task_ttl_s)


async def _signing(settings: EdgeSettings, nc: Client, minter: Minter, stack: AsyncExitStack) -> SigningKey:
    signing = SigningKey(_identity_key_file(settings), nc, minter)
    signing.start()
    stack.push_async_callback(signing.stop)
    return signing


async def _provider(settings: EdgeSettings, stack: AsyncExitStack) -> OAuthJwt | None:
    """Tokens of the identity provider, where there is one."""
    if not settings.oauth:
        return None
    keys = Jwks(
        settings.oauth_jwks_url,
        list(settings.oauth_algorithms),
        settings.oauth_jwks_refresh_s,
        settings.oauth_jwks_max_age_s,
    )
    stack.push_async_callback(keys.stop)
    await keys.start()
    return OAuthJwt(settings, keys)


def _proofs(
    settings: EdgeSettings, api_keys: ApiKeys, tokens: SessionTokens | None, provider: OAuthJwt | None
) -> list[Proof]:
    """The ways to prove an identity; another way is another file and a line here."""
    keys = [
        *(
            TrustedKey("EdDSA", keyfiles.ed25519_public_key(path, "jwt_public_key_files"))
            for path in settings.jwt_public_key_files
        ),
        *(TrustedKey("HS256", keyfiles.secret(path, "jwt_secret_files")) for path in settings.jwt_secret_files),
    ]
    if not keys and not settings.anonymous and not settings.certificate_identities and not (tokens or provider):
        log.warning("neither jwt_public_key_files nor jwt_secret_files is set: every HTTP request is refused")
    # The order counts: a bearer token that is an API key, or a session of this edge, is none of the other JWTs.
    return [
        api_keys,
        *([tokens] if tokens is not None else []),
        *([provider] if provider is not None else []),
        BearerJwt(keys, settings.jwt_issuer, settings.jwt_audience),
        ClientCertificates(settings.certificate_identities),
    ]


def _redactor(settings: EdgeSettings) -> Redactor | None:
    path = settings.audit_digest_key_file
    key = DigestKey(keyfiles.secret(path, "audit_digest_key_file")) if path is not None else None
    if settings.audit_arguments == "none":
        return None
    rules = [path_rule(one) for one in settings.audit_redact_paths]
    return Redactor(settings.audit_redact, rules, settings.audit_redact_patterns, key)


def _tracing(settings: EdgeSettings, instance: str) -> Tracing:
    if not settings.otel_exporter_otlp_endpoint:
        return Tracing(None)
    from opsbus.tracing import provider  # the exporter costs start-up time that most edges need not pay

    return Tracing(provider("edge", instance, __version__, settings.otel_exporter_otlp_endpoint))
