"""A Docker Engine that answers the three calls of the exporter, and misbehaves on request."""

import json
import queue
import socketserver
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

NAME = "0123456789abcdef" * 4


def container(number, name, *, state="running", labels=None, host=None, env=()):
    """An entry of the list and its inspect document, as Engine 20.10 answers them."""
    identifier = f"{number:04x}" + NAME[4:]
    return {
        "Id": identifier,
        "Names": [f"/{name}"],
        "State": state,
        "Labels": labels or {},
        "inspect": {
            "Id": identifier,
            "HostConfig": {"CgroupParent": "", "Runtime": "runc", "DeviceRequests": None, "Devices": []}
            | (host or {}),
            "Config": {"Env": list(env)},
        },
    }


GPUS_ALL = {"DeviceRequests": [{"Driver": "", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]]}]}


class FakeDocker:
    """Serves `containers` on a unix socket at `path`; `calls` are the paths that were asked for."""

    def __init__(self, path):
        self.path = path
        self.containers = []
        self.calls = []
        self.broken = None
        self._listeners = []
        self._ending = threading.Event()

    @property
    def host(self):
        """The address for DOCKER_HOST."""
        return f"unix://{self.path}"

    def changed(self):
        """Send an event to everybody who listens."""
        for listener in list(self._listeners):
            listener.put(b'{"Type":"container","Action":"start"}\n')

    def hang(self):
        """Accept requests from now on, and answer none of them."""
        self.broken = "hang"

    @contextmanager
    def running(self):
        """Serve until the block ends; a socket file that is there is replaced."""
        self.path.unlink(missing_ok=True)
        self._ending.clear()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                fake.answer(self)

            def log_message(self, *_):
                pass

            def address_string(self):
                return "unix"

        class Engine(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request, client_address):
                pass

        with Engine(str(self.path), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()
                self._ending.set()
                for listener in list(self._listeners):
                    listener.put(None)

    def answer(self, handler):
        """Answer one request."""
        path = urlsplit(handler.path).path
        self.calls.append(path)
        if self.broken == "hang":
            self._ending.wait()
            return
        if self.broken is not None:
            self._send(handler, 200, self.broken)
        elif path == "/events":
            self._events(handler)
        elif path == "/containers/json":
            self._send(
                handler, 200, [{k: v for k, v in one.items() if k != "inspect"} for one in self.containers]
            )
        else:
            found = {f"/containers/{one['Id']}/json": one["inspect"] for one in self.containers}.get(
                unquote(path)
            )
            self._send(handler, 200 if found else 404, found or {"message": "No such container"})

    def _events(self, handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.flush()
        mine = queue.SimpleQueue()
        self._listeners.append(mine)
        if self._ending.is_set():  # it was accepted in the last moment
            mine.put(None)
        while (event := mine.get()) is not None:
            handler.wfile.write(event)
        self._listeners.remove(mine)

    @staticmethod
    def _send(handler, status, document):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
