"""The web server of the live view, in a thread of its own: the page, its cookie, its stream."""

import asyncio
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from devices import BadInput
from edge_runtime.view.admission import ATTEMPT_SECONDS, Admission, Role, TooManyAttempts
from edge_runtime.view.assets import read_assets
from edge_runtime.view.commands import AskWorklist, Refusal, open_envelope, read_command
from edge_runtime.view.operator import Operator
from edge_runtime.view.viewers import Stalled, Viewer, Viewers

HEARTBEAT_SECONDS = 0.3
"""Seconds between two messages to a viewer at most: silence means that the server has gone."""
REQUEST_SECONDS = 10.0
"""The time for a request to come."""
MAX_REQUEST_BYTES, MAX_HEADER_BYTES = 1024, 16384
"""Of the body of a request or a message of a page, and of the head of a request."""
SERVER_SECONDS = 3.0
"""Seconds for the server to begin, and to end."""
CUT_SECONDS = 0.5
"""Seconds for a connection that was cut to be gone."""
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
TOO_MANY_VIEWERS = 1013
"""The code that closes a WebSocket which may be tried again later (RFC 6455 and its registry)."""
POLICY_VIOLATION = 1008


class WebConnection(asyncio.Protocol):
    """A connection that can be cut."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the connection."""
        super().connection_made(transport)
        self._socket: socket.socket = transport.get_extra_info("socket")

    def cut(self) -> None:
        """Ends the connection at once. A transport of TLS that is closing cannot be aborted."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class LimitedConnection(WebConnection, H11Protocol):
    """A connection that must ask for something in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins the connection."""
        super().connection_made(transport)
        self.loop.call_later(REQUEST_SECONDS, self._end_idle)

    def _end_idle(self) -> None:
        if self.scope is None and not self.transport.is_closing():
            self.transport.abort()


class ViewerConnection(WebConnection, WebSocketsSansIOProtocol):
    """The connection of one viewer."""

    def shutdown(self) -> None:
        """Ends the connection, unless the viewer is leaving already: uvicorn fails at that."""
        if not self.transport.is_closing():
            super().shutdown()


class Guard:
    """Refuses requests for other hosts, and adds SECURITY_HEADERS to every answer."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app, self._admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI asks."""

        async def send_guarded(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        if self._admission.is_own_host(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send_guarded)
        elif scope["type"] == "websocket":
            await WebSocket(scope, receive, send).close(POLICY_VIOLATION)
        else:
            refusal = PlainTextResponse("this is not the address of the live view\n", 421)
            await refusal(scope, receive, send_guarded)


class _Server(Server):
    """Tells when it listens, or has failed."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        self.listens.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends every connection; one that does not end in time is cut."""
        await super().shutdown(sockets)
        for connection in tuple(self.server_state.connections):
            connection.cut()  # type: ignore[union-attr]
        with suppress(TimeoutError):
            async with asyncio.timeout(CUT_SECONDS):
                while self.server_state.connections:
                    await asyncio.sleep(0.01)


class ViewServer:
    """Serves one view until it is stopped. Every method may be called from any thread."""

    def __init__(
        self,
        listener: socket.socket,
        admission: Admission,
        operator: Operator | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Without `operator` nobody gives commands; `tls` encrypts the view, if there is one."""
        self._listener, self._admission = listener, admission
        self._facts: dict[str, Any] = {}
        self._operator = operator
        self._viewers = Viewers()
        self._latest: Callable[[], bytes | None] = lambda: None
        self._loop = asyncio.new_event_loop()
        for name in ("uvicorn.access", "uvicorn.error"):
            logging.getLogger(name).disabled = True  # they write down requests, cookies included
        self._server = _Server(
            Config(
                Guard(self._app(), admission),
                loop="asyncio",
                http=LimitedConnection,
                ws=ViewerConnection,
                ws_max_size=MAX_REQUEST_BYTES,
                ws_per_message_deflate=False,  # a JPEG does not become smaller
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # a client could choose its address, and try more tokens
                server_header=False,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                timeout_graceful_shutdown=1,
                ssl_context_factory=None if tls is None else lambda *_: tls,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="view", daemon=True)

    def start(self, latest: Callable[[], bytes | None]) -> None:
        """Begins to serve; a viewer who joins gets the message `latest`, if there is one."""
        self._latest = latest
        self._thread.start()
        self._server.listens.wait(SERVER_SECONDS)

    def stop(self) -> None:
        """Closes every connection, and ends."""
        self._server.should_exit = True
        self._thread.join(SERVER_SECONDS)

    def watched(self) -> bool:
        """Whether there is a viewer."""
        return len(self._viewers) > 0

    def publish(self, message: bytes) -> None:
        """Offers a message to every viewer."""
        with suppress(RuntimeError):  # the server has ended: nobody watches
            self._loop.call_soon_threadsafe(self._viewers.publish, message)

    def introduce(self, facts: dict[str, Any]) -> None:
        """Tells every viewer, and those who join later, the facts of a new session as JSON."""

        def tell() -> None:
            self._facts = facts
            self._viewers.introduce(facts)

        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(tell)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._server.serve([self._listener]))

    def _app(self) -> Starlette:
        routes: list[Route | WebSocketRoute] = [
            Route(path, _asset(kind, content)) for path, (kind, content) in read_assets().items()
        ]
        routes.append(Route("/cookie", self._give_cookie, methods=["POST"]))
        routes.append(WebSocketRoute("/stream", self._stream))
        return Starlette(routes=routes)

    async def _give_cookie(self, request: Request) -> Response:
        """Exchanges the token in the body for the cookie."""
        host = request.headers.get("host", "")
        if not self._admission.is_own_origin(request.headers.get("origin"), host):
            return PlainTextResponse("the request comes from another site\n", 403)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_REQUEST_BYTES:
                return PlainTextResponse("too long\n", 413, headers={"connection": "close"})
        client = "" if request.client is None else request.client.host
        try:
            cookie = self._admission.exchange(body.decode(errors="replace"), client)
        except TooManyAttempts:
            wait = {"retry-after": f"{ATTEMPT_SECONDS:.0f}"}
            return PlainTextResponse("too many wrong tokens\n", 429, headers=wait)
        if cookie is None:
            return PlainTextResponse("wrong token\n", 403)
        response = Response(status_code=204)
        response.set_cookie(
            self._admission.cookie_name,
            cookie,
            path="/",
            secure=self._admission.encrypted,
            httponly=True,
            samesite="strict",
        )
        return response

    async def _stream(self, page: WebSocket) -> None:
        """Sends results to one viewer until it goes."""
        admission, headers = self._admission, page.headers
        own = admission.is_own_origin(headers.get("origin"), headers.get("host", ""))
        role = admission.role_of(page.cookies.get(admission.cookie_name))
        if not own or role is None:
            await page.close(POLICY_VIOLATION)
            return
        await page.accept()
        viewer = self._viewers.join(role)
        if viewer is None:
            await page.close(TOO_MANY_VIEWERS)
            return
        code = POLICY_VIOLATION
        try:
            viewer.introduce(self._facts)
            if (latest := self._latest()) is not None:
                viewer.offer(latest)
            ways = [
                asyncio.create_task(self._send(page, viewer)),
                asyncio.create_task(self._receive(page, viewer, role)),
            ]
            done, waiting = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            for task in done:
                task.result()
        except (WebSocketDisconnect, OSError):
            return
        except Stalled:
            code = TOO_MANY_VIEWERS
        finally:
            self._viewers.leave(viewer)
        with suppress(RuntimeError, WebSocketDisconnect, OSError):  # it may have gone by now
            await page.close(code)

    async def _send(self, page: WebSocket, viewer: Viewer) -> None:
        """Sends each message, the status where it changes, and a heartbeat where nothing comes."""
        status = ""
        while True:
            message = await viewer.take(HEARTBEAT_SECONDS)
            if isinstance(message, bytes):
                await page.send_bytes(message)
            elif message is not None:
                await page.send_text(message)
            elif viewer.ready:
                await page.send_text("{}")
            if self._operator is not None and status != self._operator.status:
                status = self._operator.status
                await page.send_text(status)

    async def _receive(self, page: WebSocket, viewer: Viewer, role: Role) -> None:
        """Hears what a viewer has drawn and asks, and tells the time.

        Returns at a message that no page sends, and at the end.
        """
        while True:
            text: str | None = (await page.receive()).get("text")
            match (text or "").split():
                case ["drawn"]:
                    viewer.confirm()
                case ["clock", moment] if moment.isascii() and moment.isdecimal():
                    await page.send_text(json.dumps({"clock": [int(moment), time.monotonic()]}))
                case _:
                    if not self._command(text or "", viewer, role):
                        return

    def _command(self, text: str, viewer: Viewer, role: Role) -> bool:
        """Hands a command over, and sees to its answer; False where the text is no command."""
        if (envelope := open_envelope(text)) is None:
            return False
        number = envelope.id

        def answer(refusal: str | None, given: object = None) -> None:
            if refusal is None and self._operator is not None:
                viewer.note(self._operator.status)  # the answer speaks of it
            content = {"id": number, "refused": refusal, "given": given}
            viewer.note(json.dumps({"answer": content}))

        def answer_later(refusal: str | None, given: object = None) -> None:
            with suppress(RuntimeError):  # the server has ended: nobody waits for the answer
                self._loop.call_soon_threadsafe(answer, refusal, given)

        if role is not Role.OPERATOR or self._operator is None:
            answer(Refusal.VIEWER)
        elif not viewer.may_command():
            answer(Refusal.TOO_MANY)
        else:
            try:
                command = read_command(envelope)
                if isinstance(command, AskWorklist):
                    taken = self._operator.ask_worklist(answer_later)
                else:
                    taken = self._operator.submit(command, answer_later)
                if not taken:
                    answer(Refusal.BUSY)
            except BadInput as error:
                answer(str(error))
        return True


def _asset(kind: str, content: bytes) -> Callable[[Request], Response]:
    """What answers with a file of the page."""

    def answer(request: Request) -> Response:  # noqa: ARG001
        return Response(content, media_type=kind)

    return answer
