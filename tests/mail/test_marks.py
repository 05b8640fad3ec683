"""Times of maintenance on the dashboards; the requests are those that a real Grafana 9.3 took."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ds01_monitoring import marks
from ds01_monitoring.api import Server
from ds01_monitoring.errors import UserError


@pytest.fixture
def grafana():
    """A server that keeps annotations as Grafana's API does, for one user and password."""
    kept: dict[int, dict] = {}

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: object) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def body(self) -> dict:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def do_POST(self):
            number = len(kept) + 1
            kept[number] = {"id": number, **self.body()}
            self.answer(200, {"id": number})

        def do_GET(self):
            if "YWRtaW46cmlnaHQ=" in self.headers["Authorization"]:
                self.answer(200, list(kept.values()))
            else:
                self.answer(401, {"message": "invalid username or password"})

        def do_PATCH(self):
            kept[int(self.path.rpartition("/")[2])].update(self.body())
            self.answer(200, {"message": "Annotation patched"})

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Server("Grafana", f"http://127.0.0.1:{server.server_port}", ("admin", "right")), kept
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_maintenance_is_marked_and_its_end_is_moved_when_it_ends_sooner(grafana):
    """The mark spans the announced time with the tags that the dashboards ask for; older marks stay."""
    server, kept = grafana
    marks.begin(server, seconds=-60, text="an older one")
    marks.begin(server, seconds=3600, text="gpu01: new cards")

    assert kept[2]["timeEnd"] - kept[2]["time"] == 3_600_000
    assert kept[2]["tags"] == ["ds01", "maintenance"]
    older = kept[1]["timeEnd"]
    marks.end(server)
    assert kept[2]["timeEnd"] <= time.time() * 1000
    assert kept[1]["timeEnd"] == older


def test_a_maintenance_in_place_of_another_ends_its_mark(grafana):
    """Eight hours that were announced, and an hour instead: the dashboards show one hour."""
    server, kept = grafana
    marks.begin(server, seconds=8 * 3600, text="gpu01: new cards")
    marks.begin(server, seconds=3600, text="gpu01: only one card")

    assert kept[1]["timeEnd"] <= kept[2]["time"] < kept[2]["timeEnd"]


def test_a_password_that_grafana_refuses_is_explained(grafana):
    """The message names the server and what to do."""
    server, _ = grafana
    with pytest.raises(UserError, match="refuses the password"):
        marks.end(Server("Grafana", server.url, ("admin", "wrong")))
