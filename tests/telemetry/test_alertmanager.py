"""Alerts on their way to an Alertmanager."""

import base64
import json
import socket
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ds01_monitoring.runtime import packages
from gpu_telemetry import AndonSystem, GpuMetrics
from gpu_telemetry.alertmanager import AlertmanagerPoster
from gpu_telemetry.httpd import PasswordFileError

ROOT = Path(__file__).parents[2]
SECONDS = 20


class Receiver(HTTPServer):
    """Takes alerts as Alertmanager's API v2 does, and lets a test wait for them."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posts, self.status, self.changed = [], 200, threading.Condition()

    def wait_for(self, wanted):
        """Returns the first alert posted for which `wanted` holds."""

        def found():
            return next((alert for post in self.posts for alert in post["alerts"] if wanted(alert)), None)

        with self.changed:
            assert self.changed.wait_for(found, SECONDS), self.posts
            return found()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        alerts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.changed:
            post = {"path": self.path, "auth": self.headers["Authorization"], "alerts": alerts}
            self.server.posts.append(post)
            self.server.changed.notify_all()
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def receiver():
    """A running receiver."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def andon(receiver):
    """A system whose alerts are posted to the receiver, often."""
    system = AndonSystem()
    poster = AlertmanagerPoster(
        f"http://127.0.0.1:{receiver.server_port}/", labels={"host": "gpu01"}, resend_secs=0.05
    ).attach(system)
    yield system
    poster.close()


def full(percent):
    """A GPU whose memory is that full."""
    return GpuMetrics(device_id=3, uuid="GPU-3", memory_used_bytes=percent, memory_total_bytes=100)


def test_an_alert_is_posted_while_it_lasts_and_when_it_is_over(andon, receiver):
    """Alertmanager learns of the beginning, is kept awake, and learns of the end."""
    (alert,) = andon.check([full(92)])
    posted = receiver.wait_for(lambda alert: True)
    assert receiver.posts[0]["path"] == "/api/v2/alerts"
    assert posted["labels"] == {
        "alertname": "DS01AndonMemoryPressure",
        "severity": "warning",
        "host": "gpu01",
        "gpu": "3",
        "gpu_slot": "3",
        "UUID": "GPU-3",
    }
    assert posted["annotations"]["summary"] == alert.message()
    assert posted["startsAt"].endswith("Z")
    first_end = posted["endsAt"]
    receiver.wait_for(lambda alert: alert["endsAt"] > first_end)
    resolved = []
    andon.on_resolved(resolved.append)
    andon.check([full(10)])
    end = resolved[0].resolved_at.isoformat().replace("+00:00", "Z")
    assert receiver.wait_for(lambda alert: alert["endsAt"] == end)["labels"] == posted["labels"]


def test_an_alert_that_grows_worse_ends_under_its_old_labels(andon, receiver):
    """The severity is a label, so the warning must not stay beside the critical alert."""
    andon.check([full(92)])
    receiver.wait_for(lambda alert: alert["labels"]["severity"] == "warning")
    andon.check([full(99)])
    receiver.wait_for(lambda alert: alert["labels"]["severity"] == "critical")
    with receiver.changed:
        last = [post for post in receiver.posts if len(post["alerts"]) == 2][-1]
    ended, lasting = last["alerts"]
    assert (ended["labels"]["severity"], lasting["labels"]["severity"]) == ("warning", "critical")
    assert ended["endsAt"] < lasting["endsAt"]


def test_what_alertmanager_refuses_is_sent_again(andon, receiver, caplog):
    """A refusal is logged once and harms nobody; the end of an alert is not lost by it."""
    receiver.status = 503
    andon.check([full(99)])
    andon.check([full(10)])
    receiver.wait_for(lambda alert: True)
    with receiver.changed:
        receiver.changed.wait_for(lambda: len(receiver.posts) >= 3, SECONDS)
        receiver.posts.clear()
    receiver.status = 200
    receiver.wait_for(lambda alert: alert["labels"]["gpu"] == "3")
    assert caplog.text.count("cannot be posted") == 1


def test_the_password_comes_from_a_file(receiver, tmp_path):
    """The stack's Alertmanager asks for a password, as the user ds01."""
    secret = tmp_path / "http_password"
    secret.write_text("s3cret\n")
    andon = AndonSystem()
    poster = AlertmanagerPoster(f"http://127.0.0.1:{receiver.server_port}", password_file=secret).attach(
        andon
    )
    andon.check([full(99)])
    receiver.wait_for(lambda alert: alert["labels"]["host"])
    poster.close()
    assert receiver.posts[0]["auth"] == "Basic " + base64.b64encode(b"ds01:s3cret").decode()


def test_mistakes_are_reported_at_once(tmp_path):
    """A wrong address or password file is a mistake of the caller, not of the network."""
    with pytest.raises(ValueError, match="http:// or https://"):
        AlertmanagerPoster("localhost:9093")
    with pytest.raises(PasswordFileError):
        AlertmanagerPoster("http://localhost:9093", password_file=tmp_path / "none")


@pytest.mark.tools
@pytest.mark.parametrize("suite", ["bookworm", "sid"])
def test_a_real_alertmanager_takes_them(tmp_path, suite):
    """The oldest version that is supported and a new one show the alert, and that it is over."""
    program = packages.fetch(suite, ROOT / ".tools") / "usr/bin/prometheus-alertmanager"
    (tmp_path / "alertmanager.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [
        str(program),
        f"--config.file={tmp_path}/alertmanager.yml",
        f"--storage.path={tmp_path}/data",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    ]

    def shown():
        with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=SECONDS) as page:
            return [alert["labels"]["alertname"] for alert in json.load(page)]

    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stderr=log, stdout=log) as process:
        try:
            wait_for(lambda: answers(f"{url}/-/ready"))
            andon = AndonSystem()
            poster = AlertmanagerPoster(url).attach(andon)
            andon.check([full(99)])
            wait_for(lambda: shown() == ["DS01AndonMemoryPressure"])
            andon.check([full(10)])
            wait_for(lambda: shown() == [])
            poster.close()
        finally:
            process.terminate()


def answers(url):
    """Whether something answers there."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as page:
            return page.status == 200
    except OSError:
        return False


def wait_for(condition):
    """Returns once it holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
