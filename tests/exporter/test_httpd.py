"""The HTTP server that the exporter and the telemetry share."""

import gzip
import http.client
import os
import signal
import socket
import threading
from base64 import b64encode

import pytest

from gpu_telemetry import http_connection, httpd
from gpu_telemetry.httpd import BindError, PasswordFileError, Request, Response, Server, read_password

LONG = b"ds01_reading 1\n" * 500


def fail(request: Request) -> Response:
    """A handler with a mistake in it."""
    raise RuntimeError(f"a secret detail of {request.path}")


ROUTES = {
    "/short": lambda request: Response(b"hello " + request.query.get("name", "you").encode()),
    "/long": lambda _request: Response(LONG, "text/x-readings"),
    "/fails": fail,
}


@pytest.fixture
def serve():
    """Start servers in threads, and end them after the test."""
    running = []

    def start(**options):
        server = Server(ROUTES, **{"bind": ["127.0.0.1"], "port": 0} | options)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        if not server.stopping.is_set():
            server.stop()
        thread.join(10)
        assert not thread.is_alive()


def get(server, path, method="GET", address="127.0.0.1", **headers):
    """Ask the server once; return the response with its body read."""
    connection = http.client.HTTPConnection(address, server.port, timeout=10)
    connection.request(
        method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    response = connection.getresponse()
    response.text = response.read()
    connection.close()
    return response


def basic(credentials):
    """The value of an Authorization header."""
    return "Basic " + b64encode(credentials.encode()).decode()


def test_serves_a_page_with_its_query(serve):
    """A handler gets the path's query, and its answer arrives with type and length."""
    response = get(serve(), "/short?name=ann")

    assert (response.status, response.text) == (200, b"hello ann")
    assert response.getheader("Content-Type") == "text/plain; charset=utf-8"


def test_head_sends_no_body(serve):
    """HEAD gets the headers of GET and nothing else."""
    response = get(serve(), "/long", method="HEAD")

    assert (response.status, response.text) == (200, b"")
    assert int(response.getheader("Content-Length")) == len(LONG)


def test_unknown_page_and_method(serve):
    """Any other path is 404, any other method 501."""
    server = serve()

    assert get(server, "/etc/passwd").status == 404
    assert get(server, "/short", method="DELETE").status == 501


@pytest.mark.parametrize("accept", ["gzip", "deflate, gzip;q=1.0", "*"])
def test_compresses_long_bodies_for_clients_that_take_it(serve, accept):
    """A long body is compressed where the client says so."""
    response = get(serve(), "/long", accept_encoding=accept)

    assert response.getheader("Content-Encoding") == "gzip"
    assert gzip.decompress(response.text) == LONG


@pytest.mark.parametrize("accept", ["", "identity", "gzip;q=0", "gzip; q=0.0", "br"])
def test_does_not_compress_for_others(serve, accept):
    """A client that refuses gzip, or says nothing, gets the plain body."""
    response = get(serve(), "/long", accept_encoding=accept)

    assert response.getheader("Content-Encoding") is None
    assert response.text == LONG


def test_a_failing_handler_tells_the_client_nothing(serve, caplog):
    """The client sees a bare 500, the log has the reason, and the server goes on."""
    server = serve()
    response = get(server, "/fails")

    assert response.status == 500
    assert b"secret" not in response.text
    assert "a secret detail" in caplog.text
    assert get(server, "/short").status == 200


def test_asks_for_the_password(serve):
    """With a password, each path, known or not, answers only to the right name and password."""
    server = serve(password="s3cret:ä")

    for path in ("/short", "/nowhere"):
        refused = get(server, path)
        assert refused.status == 401
        assert refused.getheader("WWW-Authenticate").startswith("Basic realm=")
    for wrong in (
        "Basic ???",
        "Bearer x",
        "Basic",
        basic("ds01:"),
        basic("root:s3cret:ä"),
        basic("ds01:s3cret"),
    ):
        assert get(server, "/short", authorization=wrong).status == 401
    assert get(server, "/short", authorization=basic("ds01:s3cret:ä")).status == 200


def test_keeps_a_connection_open(serve):
    """Two requests travel over one connection."""
    server = serve()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/short")
    connection.getresponse().read()
    first = connection.sock
    connection.request("GET", "/short")

    assert connection.getresponse().read() == b"hello you"
    assert first is connection.sock
    connection.close()


def test_a_request_body_is_not_taken_for_a_request(serve):
    """After a request with a body the connection is closed, so that nothing can be smuggled in."""
    with socket.create_connection(("127.0.0.1", serve().port), timeout=10) as client:
        client.sendall(b"GET /short HTTP/1.1\r\nContent-Length: 23\r\n\r\nGET /long HTTP/1.1\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.count(b"HTTP/1.1 200") == 1


def test_a_trickling_client_is_cut_off(serve, monkeypatch):
    """The time limit is for the whole request, not for each byte."""
    monkeypatch.setattr(http_connection, "REQUEST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", serve().port), timeout=10) as client:
        client.settimeout(0.05)
        ended = False
        while not ended:
            try:
                client.sendall(b"G")
                ended = client.recv(1) == b""
            except OSError as error:  # noqa: PERF203 - no answer yet, or the server has hung up
                ended = not isinstance(error, TimeoutError)


def test_idle_connections_keep_nobody_out(serve, monkeypatch):
    """A client above the limit takes the place of the one that has waited longest without asking."""
    monkeypatch.setattr(httpd, "MAX_CONNECTIONS", 2)
    server = serve()
    held = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(2)]

    assert get(server, "/short").status == 200
    assert held[0].recv(100) == b""
    held[1].sendall(b"GET /short HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert held[1].recv(100).startswith(b"HTTP/1.1 200")
    for connection in held:
        connection.close()


def test_more_answers_than_the_limit_get_503(serve, monkeypatch):
    """Where every connection is waiting for its answer, one more is turned away at once."""
    monkeypatch.setattr(httpd, "MAX_CONNECTIONS", 1)
    asked, release = threading.Event(), threading.Event()

    def slow(_request):
        asked.set()
        release.wait(10)
        return Response(b"done")

    monkeypatch.setitem(ROUTES, "/slow", slow)
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as first:
        first.sendall(b"GET /slow HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert asked.wait(10)
        assert get(server, "/short").status == 503
        release.set()
        assert b"".join(iter(lambda: first.recv(4096), b"")).endswith(b"done")


def test_listens_on_several_addresses_at_one_port(serve):
    """Every address of the list is served, all on the same port."""
    server = serve(bind=["127.0.0.1", "127.0.0.2"])

    assert get(server, "/short", address="127.0.0.2").status == 200


def test_binds_an_address_that_does_not_exist_yet(serve):
    """An address of a bridge that nobody has made yet does not keep the others from being served."""
    server = serve(bind=["127.0.0.1", "192.0.2.77"])

    assert get(server, "/short").status == 200


def test_says_what_cannot_be_bound():
    """A taken port and a name that is no address are named; nothing stays open."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            BindError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: Address already in use"
        ):
            Server(ROUTES, bind=["127.0.0.2", "127.0.0.1"], port=port)
        with pytest.raises(BindError, match=r"cannot listen on '256\.1\.1\.1'"):
            Server(ROUTES, bind=["127.0.0.2", "256.1.1.1"], port=port)
        with socket.create_server(("127.0.0.2", port)):
            pass


def test_stops_at_once_with_idle_connections(serve):
    """An idle client does not hold up the end of the server."""
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET /short HTTP/1.1\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        server.stop()
        while client.recv(4096):
            pass


def test_reads_the_first_line_as_password(tmp_path):
    """The password is the first line, without its end."""
    path = tmp_path / "password"
    path.write_text("päss word\nanything else\n", encoding="utf-8")

    assert read_password(path) == "päss word"


@pytest.mark.parametrize("content", [None, b"", b"\nsecond", b"\xff\xfe\n"])
def test_refuses_a_password_file_without_password(tmp_path, content):
    """A missing, empty or undecodable file is an error that names it."""
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(PasswordFileError, match="password"):
        read_password(path)


def test_ends_on_a_signal_however_it_arrives(monkeypatch):
    """A signal ends a server that waits for clients, and the process gets its handlers' wake-up back."""
    before = signal.getsignal(signal.SIGUSR1)
    server = Server(ROUTES, bind=["127.0.0.1"], port=0)
    server.stop_on_signals(signal.SIGUSR1)
    threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
    server.serve_forever()

    assert server.stopping.is_set()
    assert signal.set_wakeup_fd(-1) == -1
    signal.signal(signal.SIGUSR1, before)


def test_a_second_signal_does_not_disturb_the_end():
    """An impatient `kill` after the server has ended raises nothing in what is being closed then."""
    server = httpd.Server({}, bind=["127.0.0.1"], port=0)
    server.stop()
    server.serve_forever()
    server.stop()
