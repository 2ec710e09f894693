"""Attacks on `litefleet serve`: forged requests, sessions, roles, paths, host names, logins, bodies."""

import contextlib

import pytest
from litefleet_controller.serve.auth import Role
from litefleet_controller.serve.auth.auth import Proxy
from litefleet_controller.serve.auth.routes import own_path
from litefleet_controller.serve.limits import host_name

from tests.controller.serve.serving import HTML, client_of, csrf_of, logged_in, service_in


@pytest.fixture
def service(tmp_path):
    made = service_in(tmp_path)
    yield made
    made.opened.close()


def audited(service, action):
    assert service.entries.settle(20)
    with service.state() as state:
        return [entry for entry in state.audit() if entry.action == action]


def test_nothing_but_login_static_and_health_is_served_to_an_unknown_person(service):
    client = client_of(service)
    for path in (
        "/",
        "/devices",
        "/api/v1/devices",
        "/metrics",
        "/t/view",
        "/static/../t/view",
        "//static/x",
        "/loginx",
    ):
        response = client.get(path, headers=HTML)
        assert response.status_code in (303, 401, 404), path
        assert "alice" not in response.text
    assert client.get("/t/view", headers=HTML).headers["location"] == "/login?next=%2Ft%2Fview"
    assert client.get("/api/v1/devices").json()["status"] == 401
    assert client.get("/healthz").status_code == 200


def test_the_link_works_once_and_a_prefetch_does_not_use_it(service):
    secret, client = service.auth.link.secret, client_of(service)
    client.get(f"/login?link={secret}", headers={"sec-purpose": "prefetch"})
    client.head(f"/login?link={secret}")
    assert client.get("/login?link=wrong").status_code == 401
    first = client.get(f"/login?link={secret}")
    assert first.status_code == 303
    assert "HttpOnly; SameSite=Strict" in first.headers["set-cookie"]
    assert client.get("/t/admin").text == "alice admin"
    assert client_of(service).get(f"/login?link={secret}").status_code == 401
    (entry,) = audited(service, "logged in")
    assert entry.who.startswith("alice")
    assert entry.what == {"address": "127.0.0.1", "way": "link", "role": "admin"}


def test_a_session_chosen_by_somebody_else_is_never_used(service):
    client = client_of(service)
    client.cookies.set(service.auth.cookie_name, "chosen-by-the-attacker")
    token = service.auth.users.add("bob", Role.OPERATE)
    response = client.post("/login", data={"token": token})
    made = response.headers["set-cookie"].split(";")[0].partition("=")[2]
    assert made != "chosen-by-the-attacker"
    assert client_of(service).get("/t/view", headers={"cookie": f"litefleet={made}"}).status_code == 200
    again = client_of(service).post("/login", data={"token": token}, headers={"cookie": f"litefleet={made}"})
    assert made not in again.headers["set-cookie"]
    assert client_of(service).get("/t/view", headers={"cookie": f"litefleet={made}"}).status_code == 401


def test_a_form_of_another_site_changes_nothing(service):
    client = logged_in(service, Role.ADMIN)
    right = csrf_of(service, client)
    assert client.post("/t/admin").status_code == 403
    assert client.post("/t/admin", data={"csrf": "wrong"}).status_code == 403
    assert client.post("/t/admin", json={"csrf": right}).status_code == 403
    assert client.post("/t/admin", data={"csrf": right}, headers={"origin": "https://evil.example"}).status_code == 403
    assert client.post("/t/admin", data={"csrf": right}, headers={"origin": "null"}).status_code == 403
    assert client.post("/t/admin", data={"csrf": right}, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.post("/login", data={"token": "x"}, headers={"origin": "https://evil.example"}).status_code == 403
    assert audited(service, "request refused")[0].what["path"] == "/t/admin"
    assert client.post("/t/admin", data={"csrf": right}, headers={"origin": "http://127.0.0.1:8470"}).status_code == 200
    assert client.post("/t/admin", headers={"x-csrf-token": right}).status_code == 200
    other = logged_in(service, Role.ADMIN, "eve")
    assert client.post("/t/admin", headers={"x-csrf-token": csrf_of(service, other)}).status_code == 403


def test_a_role_is_what_the_file_says_now(service):
    client = logged_in(service, Role.VIEW, "vic")
    csrf = {"x-csrf-token": csrf_of(service, client)}
    assert client.get("/t/view").text == "vic view"
    for path in ("/t/operate", "/t/admin"):
        refused = client.post(path, headers={**csrf, "x-role": "admin", "x-forwarded-user": "alice"})
        assert refused.status_code == 403
    assert audited(service, "request refused")[-1].who.startswith("vic ")
    token = service.auth.users.add("op", Role.OPERATE)
    bearer = {"authorization": f"Bearer {token}"}
    assert client_of(service).post("/t/operate", headers=bearer).text == "op operate"
    assert client_of(service).post("/t/admin", headers=bearer).status_code == 403
    service.auth.users.remove("vic")
    assert client.get("/t/view").status_code == 401
    service.auth.users.remove("op")
    assert client_of(service).post("/t/operate", headers=bearer).status_code == 401


def test_a_token_that_is_given_must_be_right_even_beside_a_session(service):
    client = logged_in(service, Role.ADMIN)
    assert client.get("/t/view", headers={"authorization": "Bearer wrong"}).status_code == 401


def test_the_proxys_header_counts_from_the_proxy_only(tmp_path):
    import ipaddress

    proxy = Proxy("X-Forwarded-User", (ipaddress.ip_network("10.0.0.5/32"),), Role.VIEW)
    service = service_in(tmp_path, proxy)
    service.auth.users.add("root", Role.ADMIN)
    named = {"x-forwarded-user": "root", "x-forwarded-for": "192.0.2.9, 10.0.0.5", "x-forwarded-proto": "https"}
    assert client_of(service, "10.0.0.6").get("/t/view", headers=named).status_code == 401
    through = client_of(service, "10.0.0.5")
    first = through.get("/t/admin", headers=named)
    assert first.text == "root admin"
    assert "; Secure" in first.headers["set-cookie"]
    assert audited(service, "logged in")[0].what["address"] == "192.0.2.9"
    assert through.get("/t/admin", headers={"x-forwarded-user": "vera"}).status_code == 403
    twice = [("x-forwarded-user", "vera"), ("x-forwarded-user", "root")]
    assert client_of(service, "10.0.0.5").get("/t/view", headers=twice).status_code == 401
    for wrong in ("", "a b", "x" * 81, "<script>"):
        assert client_of(service, "10.0.0.5").get("/t/view", headers={"x-forwarded-user": wrong}).status_code == 401
    # What the proxy sends with each request is no proof that the proxy's own page sent it.
    assert client_of(service, "10.0.0.5").post("/t/admin", headers=named).status_code == 403
    # The cookie alone, past the proxy, is nobody.
    cookie = first.headers["set-cookie"].split(";")[0]
    assert client_of(service, "10.0.0.6").get("/t/view", headers={"cookie": cookie}).status_code == 401
    service.opened.close()


def test_logins_are_limited_for_an_address_and_for_all(service):
    token = service.auth.users.add("bob", Role.VIEW)
    slow = client_of(service, "192.0.2.1")
    statuses = [slow.post("/login", data={"token": f"guess{n}"}).status_code for n in range(7)]
    assert statuses == [401] * 5 + [429] * 2
    held = slow.post("/login", data={"token": token})
    assert held.status_code == 429
    assert 1 <= int(held.headers["retry-after"]) <= 31
    assert slow.get("/t/view", headers={"authorization": "Bearer guess"}).status_code == 429
    assert client_of(service, "192.0.2.2").post("/login", data={"token": token}).status_code == 303
    for n in range(60):
        client_of(service, f"198.51.100.{n}").post("/login", data={"token": "guess"})
    assert client_of(service, "203.0.113.1").post("/login", data={"token": token}).status_code == 429
    assert client_of(service, "192.0.2.2").post("/login", data={"token": token}).status_code == 303  # known from before
    refused = audited(service, "login refused")
    assert refused[0].who == "unknown at 192.0.2.1"
    assert len(refused) <= 25  # of 65: the log does not grow as fast as somebody guesses


@pytest.mark.parametrize(
    "goal",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "evil",
        "",
    ],
)
def test_a_login_leads_to_no_other_site(service, goal):
    assert own_path(goal) == "/"
    token = service.auth.users.add("bob", Role.VIEW)
    response = client_of(service).post("/login", data={"token": token, "next": goal})
    assert response.headers["location"] == "/"


def test_a_login_leads_back_to_the_page_that_was_asked_for(service):
    token = service.auth.users.add("bob", Role.VIEW)
    response = client_of(service).post("/login", data={"token": token, "next": "/rollouts/r-1?page=2"})
    assert response.headers["location"] == "/rollouts/r-1?page=2"


def test_no_header_can_be_injected(service):
    token = service.auth.users.add("bob", Role.VIEW)
    client = client_of(service)
    response = client.post("/login", data={"token": token, "next": "/x\r\nSet-Cookie: a=b"})
    assert response.headers["location"] == "/"
    hidden = client_of(service).get("/login?lang=zh%0d%0aSet-Cookie:%20a=b", headers=HTML)
    assert "set-cookie" not in hidden.headers
    page = client_of(service).get('/login?next=/"><script>alert(1)</script>', headers=HTML)
    assert "<script>alert" not in page.text


def test_other_host_names_are_not_served(tmp_path):
    service = service_in(tmp_path, hosts=("Fleet.example",))
    client = client_of(service)
    for host in ("evil.example", "evil.example:8470", "127.0.0.1.evil.example", "localhost@evil", "", "a b"):
        assert client.get("/healthz", headers={"host": host}).status_code == 421, host
    for host in ("localhost:8470", "127.0.0.1", "[::1]:8470", "fleet.example:8470", "FLEET.example."):
        assert client.get("/healthz", headers={"host": host}).status_code == 200, host
    assert host_name("[::1]:8470") == "::1"
    service.opened.close()


def test_bodies_are_bounded_with_and_without_a_length(tmp_path):
    service = service_in(tmp_path, most_body=1000)
    client = logged_in(service, Role.VIEW)
    csrf = {"x-csrf-token": csrf_of(service, client)}
    assert client.post("/t/echo", content=b"x" * 1000, headers=csrf).text == "1000"
    assert client.post("/t/echo", content=b"x" * 1001, headers=csrf).status_code == 413
    assert client.post("/t/echo", content=iter([b"x" * 600] * 3), headers=csrf).status_code == 413
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/t/echo", content=iter([b"a=b&" * 200] * 3), headers=form).status_code == 413
    assert client.post("/t/echo", content=b"a=b&" * 249, headers=form).status_code == 403
    with contextlib.suppress(ValueError):
        assert client.post("/t/echo", headers={**csrf, "content-length": "-1"}).status_code in (400, 413)
    service.opened.close()


def test_an_error_shows_a_number_and_no_more(service, caplog):
    client = logged_in(service, Role.VIEW)
    client_of(service)
    response = client.get("/t/fails", headers=HTML)
    assert response.status_code == 500
    assert "secret-of-the-server" not in response.text
    assert "Traceback" not in response.text
    number = response.text.partition("number ")[2][:8]
    assert number in caplog.text
    assert "secret-of-the-server" in caplog.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


def test_every_response_carries_the_policy(service):
    client = client_of(service)
    nonces = set()
    for path in ("/login", "/healthz", "/t/view", "/static/none"):
        headers = client.get(path, headers=HTML).headers
        found = headers["content-security-policy"]
        assert "unsafe" not in found
        assert "http:" not in found
        assert headers["x-content-type-options"] == "nosniff"
        nonces.add(found.partition("nonce-")[2].partition("'")[0])
    assert len(nonces) == 4


def test_the_language_is_the_requests_own(service):
    client = client_of(service)
    assert "Log in" in client.get("/login", headers=HTML).text
    assert "登录" in client.get("/login", headers={**HTML, "accept-language": "fr, zh-TW;q=0.9, en;q=0.5"}).text
    chosen = client.get("/login?lang=zh", headers=HTML)
    assert "登录" in chosen.text
    assert "litefleet-lang=zh" in chosen.headers["set-cookie"]
    assert "登录" in client.get("/login", headers=HTML).text
    assert "Log in" in client_of(service).get("/login?lang=xx", headers=HTML).text


def test_metrics_need_a_login(service):
    token = service.auth.users.add("prometheus", Role.VIEW)
    response = client_of(service).get("/metrics", headers={"authorization": f"Bearer {token}"})
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE litefleet_" in response.text
