"""A proxy in front of a real backend that breaks on demand: slow, gone, overloaded, failing, lying, cut off, or silent
in the middle of a watch."""

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from pathlib import Path

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from opsbus.testing.ports import free_port

_HOP = frozenset({"host", "connection", "transfer-encoding", "content-length", "content-encoding", "keep-alive"})
_PAGE = "<!doctype html><title>Sign in</title><form>...</form>"


class FaultProxy:
    """Passes requests on to ``upstream``, or does what ``fault`` says to those whose path has ``only`` in it."""

    def __init__(self, upstream: str, certificate: ssl.SSLContext | None = None) -> None:
        self._upstream = upstream
        self._certificate = certificate
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.port = free_port()
        self.fault = ""
        self.only = ""
        self.asked = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listens; on the same port as before."""
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._certificate, reuse_address=True)
        await site.start()
        self._session = aiohttp.ClientSession(auto_decompress=False)

    async def stop(self) -> None:
        """Nobody listens any more."""
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self._session = self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.fault and self.fault != "stale" and self.only in request.path:
            return await self._broken(request)
        if request.query.get("watch"):
            return await self._stream_on(request)
        return await self._pass_on(request)

    async def _stream_on(self, request: web.Request) -> web.StreamResponse:
        """What goes on: piece by piece, and with the fault ``stale`` the connection alone."""
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        forever = aiohttp.ClientTimeout(total=None)
        url = self._upstream + request.raw_path
        async with self._session.get(url, headers=headers, ssl=False, timeout=forever) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                if self.fault != "stale":
                    await response.write(piece)
            return response

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = self._upstream + request.raw_path
        body = await request.read()
        async with self._session.request(request.method, url, headers=headers, data=body, ssl=False) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            if encoding := answer.headers.get("Content-Encoding"):
                kept["Content-Encoding"] = encoding
            return web.Response(status=answer.status, headers=kept, body=await answer.read())

    async def _broken(self, request: web.Request) -> web.StreamResponse:
        match self.fault:
            case "slow":
                await asyncio.sleep(60)
            case "reset":
                assert request.transport is not None
                request.transport.abort()
            case "429" | "500" | "502" | "503":
                return web.json_response({"message": "out of order"}, status=int(self.fault))
            case "html":
                return web.Response(text=_PAGE, content_type="text/html")
            case "other JSON":
                return web.json_response({"hello": "world"})
            case "no JSON":
                return web.Response(text='{"items": [', content_type="application/json")
            case "truncated":
                return await self._cut_off(request)
            case other:
                raise AssertionError(f"no fault {other!r}")
        return web.Response(status=500)

    async def _cut_off(self, request: web.Request) -> web.StreamResponse:
        """Half of what was announced."""
        whole = await self._pass_on(request)
        assert isinstance(whole, web.Response)
        body = bytes(whole.body or b"")  # type: ignore[arg-type]
        answer = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        with contextlib.suppress(ConnectionError):
            await answer.prepare(request)
            await answer.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.close()
        return answer


def expired_certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context whose certificate ended yesterday, and the file to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "expired.pem", folder / "expired.key"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public
