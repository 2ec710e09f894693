"""A service over an empty project, a client of it, and a real server in a thread."""

import contextlib
import socket
import threading
import time
from pathlib import Path

from litefleet_controller.project import Options
from litefleet_controller.serve.app import make_app
from litefleet_controller.serve.auth import Person, Role, needs, person_of
from litefleet_controller.serve.auth.auth import Auth, OneTimeLink, Proxy
from litefleet_controller.serve.auth.users import Users
from litefleet_controller.serve.server import Server, configuration, listening
from litefleet_controller.serve.service import ServeSettings, Service
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

HTML = {"accept": "text/html"}


def project(folder: Path) -> Options:
    """Write a project of one device and one model."""
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "hosts.yaml").write_text("devices:\n  cam-1: {host: 127.0.0.1, port: 1}\n")
    (folder / "litefleet.yaml").write_text(
        f"fleet: shop\ninventory: {folder / 'hosts.yaml'}\nstore: {folder / 'store'}\nmodels:\n  cls: {{source: model}}\n"
    )
    return Options(folder / "litefleet.yaml")


def service_in(folder: Path, proxy: Proxy | None = None, **settings: object) -> Service:
    """Return a service with a one-time link for an admin, and an empty file of users."""
    link = OneTimeLink(Person("alice", Role.ADMIN, "link"))
    return Service(
        project(folder),
        Auth(Users(folder / "users.json"), link, proxy or Proxy()),
        ServeSettings(**settings),  # type: ignore[arg-type]
    )


def app_of(service: Service):
    """Return the application with endpoints that the tests call: /t/view, /t/operate and /t/admin say who called."""
    app = make_app(service)
    for role in Role:

        @needs(role)
        def endpoint(request):
            return PlainTextResponse(f"{person_of(request).name} {person_of(request).role}")

        app.router.routes.insert(0, Route(f"/t/{role}", endpoint, methods=["GET", "POST"]))

    async def fails(request):
        raise RuntimeError("secret-of-the-server")

    async def echo(request):
        return PlainTextResponse(str(len(await request.body())))

    async def large(request):
        return PlainTextResponse(b"x" * 30_000_000)

    app.router.routes.insert(0, Route("/t/large", large))
    app.router.routes.insert(0, Route("/t/fails", fails))
    app.router.routes.insert(0, Route("/t/echo", echo, methods=["POST"]))
    return app


def client_of(service: Service, peer: str = "127.0.0.1", **options: object) -> TestClient:
    """Return a client, of an address, that follows no redirect."""
    options = {"base_url": "http://127.0.0.1:8470", "follow_redirects": False, **options}
    return TestClient(app_of(service), client=(peer, 50000), **options)  # type: ignore[arg-type]


def logged_in(service: Service, role: Role, name: str = "") -> TestClient:
    """Return a client with the session of a new user."""
    client = client_of(service)
    token = service.auth.users.add(name or f"{role}-user", role)
    response = client.post("/login", data={"token": token})
    assert response.status_code == 303
    return client


def csrf_of(service: Service, client: TestClient) -> str:
    """Return what the pages of a client's session have in their forms."""
    session = service.auth.sessions.find(client.cookies[service.auth.cookie_name])
    assert session is not None
    return session.csrf


@contextlib.contextmanager
def running(service: Service, **limits: float):
    """Serve over a real socket in a thread; yields the port."""
    listener = listening(ServeSettings(port=0))
    config = configuration(service, **limits)
    config.app = app_of(service)
    server = Server(config, service)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not server.started and time.monotonic() < end:
        time.sleep(0.01)
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        service.opened.close()


def ends_within(connection: socket.socket, seconds: float) -> bool:
    """Return whether the other side ends a connection within a time, whatever it sends before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.settimeout(max(0.01, end - time.monotonic()))
        try:
            if not connection.recv(65536):
                return True
        except TimeoutError:
            return False
        except OSError:
            return True
    return False
