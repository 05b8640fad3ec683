"""The command itself: started as a program, asked over HTTP, ended with a signal."""

import gzip
import http.client
import signal
import socket
import subprocess  # noqa: TID251 - the program is what is tested
import sys
from base64 import b64encode

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from tests.exporter.conftest import until

# What Prometheus 2.42 sends.
ACCEPT = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@pytest.fixture
def start(tmp_path):
    """Start the exporter with flags; returns the process and its port."""
    running = []

    def run(*flags):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        sources = ["--state-file=none", "--events-file=none", "--docker-host=none", "--topology=none"]
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ds01_exporter",
                *sources,
                f"--state-dir={tmp_path}",
                f"--port={port}",
                *flags,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process, port

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


def get(port, path, **headers):
    """Ask once; None while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        response = connection.getresponse()
        response.body = response.read()
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()
    return response


def test_serves_its_pages_and_ends_cleanly(start):
    """Metrics in both formats, gzip, health, an index page; SIGTERM ends it with code 0."""
    process, port = start()
    plain = until(lambda: get(port, "/metrics"))
    assert plain.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert any(one.name in {"ds01_exporter", "ds01_exporter_info"} for one in parse_text(plain.body.decode()))

    zipped = get(port, "/metrics", accept=ACCEPT, accept_encoding="gzip")
    assert zipped.getheader("Content-Type") == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert zipped.getheader("Content-Encoding") == "gzip"
    assert list(parse_openmetrics(gzip.decompress(zipped.body).decode()))

    assert get(port, "/health").body == b"OK\n"
    assert b'href="metrics"' in get(port, "/").body
    assert get(port, "/nowhere").status == 404

    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "Traceback" not in process.stderr.read()


def test_says_how_much_memory_it_takes(start):
    """The metrics of the process itself are there, in both formats, under their usual names."""
    _, port = start()
    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
        answer = until(lambda accept=accept: get(port, "/metrics", accept=accept))
        lines = answer.body.decode().splitlines()
        memory = [line for line in lines if line.startswith("process_resident_memory_bytes ")]

        assert len(memory) == 1
        assert 1e6 < float(memory[0].split()[1]) < 1e9


def test_odd_accept_headers_get_an_answer(start):
    """Versions that are no numbers or are unknown get one of the two formats."""
    _, port = start()
    until(lambda: get(port, "/health"))
    for accept in (
        "application/openmetrics-text;version=x",
        "text/plain;version=9.9",
        "image/png",
        ";;;,",
        "",
    ):
        response = get(port, "/metrics", accept=accept)

        assert response.status == 200
        assert b"ds01_collector_success" in response.body


def test_asks_for_the_password_of_the_file(start, tmp_path):
    """With a password file every page is 401 without it."""
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    _, port = start(f"--password-file={secret}")
    until(lambda: get(port, "/health"))
    for path in ("/metrics", "/health", "/"):
        assert get(port, path).status == 401
        assert get(port, path, authorization="Basic " + b64encode(b"ds01:s3cret").decode()).status == 200


def test_says_what_keeps_it_from_starting(start, tmp_path):
    """A missing password file is wrong usage (2), a taken port a failure (1); both are named without traceback."""
    process, _ = start(f"--password-file={tmp_path / 'none'}")
    assert process.wait(20) == 2
    message = process.stderr.read()
    assert message.startswith("error: ")
    assert str(tmp_path / "none") in message

    with socket.create_server(("127.0.0.1", 0)) as taken:
        process, _ = start(f"--port={taken.getsockname()[1]}")
        assert process.wait(20) == 1
        message = process.stderr.read()
    assert "Address already in use" in message
    assert "hint: " in message
    assert "Traceback" not in message
