"""Stand-ins for the official images, made of Debian's packages: the same entry points, users and paths.

There is no registry on a test machine. What differs from the official images is that programs are older and
that busybox is Debian's; everything that docker-compose.yaml relies on is the same: `/bin/prometheus`,
`/bin/alertmanager`, `/bin/node_exporter`, user 65534, `sh`, `wget` and `base64` of busybox.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring import command
from ds01_monitoring.runtime import packages, relocate

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = REPOSITORY / ".tools"
REGISTRY = "127.0.0.1:9"
"""Where nobody listens, so that a pull fails at once, with or without a network."""

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Those of this machine, which may reach PyPI through a proxy with an authority of its own."""

APPLETS = ("sh", "wget", "cat", "base64", "tr", "printf", "kill", "sleep", "dd", "ls", "nc", "id", "httpd")
PROGRAMS = {
    "prometheus": {"prometheus": "prometheus", "promtool": "promtool"},
    "alertmanager": {"prometheus-alertmanager": "alertmanager", "amtool": "amtool"},
    "node-exporter": {"prometheus-node-exporter": "node_exporter"},
    "grafana": {},
    "busybox": {},
}
GRAFANA = {
    "run.sh": "#!/bin/sh\nhttpd -f -p 3000 -h /usr/share/grafana &\ntrap exit TERM\nwait\n",
    "bin/grafana": "#!/bin/sh\n[ \"$*\" = 'cli admin reset-admin-password --password-from-stdin' ] || exit 2\n"
    'read -r word\necho "$word" >/tmp/password\n',
    "usr/share/grafana/api/health": "{}\n",
    "usr/share/grafana/metrics": "grafana_stat_totals_dashboard 6\n",
}
"""Grafana has no package: its stand-in answers the two pages that the rest of the stack asks for, and keeps a new password."""

PYTHON = (
    *("libc6", "busybox", "ca-certificates", "media-types"),
    *("python3.11-minimal", "python3.11", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-venv"),
    *(
        "python3-pip-whl",
        "python3-setuptools-whl",
        "libssl3",
        "libexpat1",
        "zlib1g",
        "libffi8",
        "libsqlite3-0",
    ),
    *("libbz2-1.0", "liblzma5", "libncursesw6", "libtinfo6", "libreadline8", "libuuid1", "libgcc-s1"),
)
"""What the exporter's image starts from here, in place of python:3.12-slim."""

VOLUMES = {"prometheus": ["VOLUME /prometheus"], "alertmanager": ["VOLUME /alertmanager"]}
"""As in the official images: each container gets a volume there, unless something else is mounted."""

LIBRARIES = (
    "libc.so.6",
    "libresolv.so.2",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libdl.so.2",
    "libm.so.6",
)


def compose_plugin() -> Path:
    """A folder for $DOCKER_CONFIG that holds `docker compose`, from a Debian newer than the Engine's."""
    tree = packages.unpack("sid", ["docker-compose"], TOOLS / "docker-compose")
    folder = TOOLS / "docker-config" / "cli-plugins"
    folder.mkdir(parents=True, exist_ok=True)
    plugin = folder / "docker-compose"
    if not plugin.exists():
        shutil.copy2(tree / "usr/libexec/docker/cli-plugins/docker-compose", plugin)
    return folder.parent


def build_all() -> dict[str, str]:
    """Build what is missing; the name of each image by its service."""
    return {service: _build(service, programs) for service, programs in PROGRAMS.items()}


def python_base() -> str:
    """Build, where it is missing, an image with Python, pip and venv, and this machine's certificates; its name."""
    mark = hashlib.sha256("".join(PYTHON).encode() + Path(__file__).read_bytes()).hexdigest()[:12]
    name = f"{REGISTRY}/ds01-test/python:{mark}"
    if command.run(["docker", "image", "inspect", name], timeout=30, check=False).returncode == 0:
        return name
    tree = packages.unpack("bookworm", list(PYTHON), TOOLS / f"python-{mark}")
    archive = TOOLS / f".python.{os.getpid()}.tar"
    try:
        with tarfile.open(archive, "w") as tar:
            tar.add(tree, ".")
            for link, target in {
                **{f"bin/{applet}": "busybox" for applet in (*APPLETS, "awk", "mkdir", "rm")},
                "usr/bin/python3": "python3.11",
                "usr/bin/env": "/bin/busybox",
            }.items():
                _link(tar, link, target)
            if CERTIFICATES.is_file():
                _add(tar, str(CERTIFICATES).lstrip("/"), CERTIFICATES.read_bytes())
        environment = [
            "ENV PATH=/usr/bin:/bin",
            *([f"ENV PIP_CERT={CERTIFICATES}"] if CERTIFICATES.is_file() else []),
        ]
        flags = [word for change in environment for word in ("--change", change)]
        command.run(["docker", "import", *flags, str(archive), name], timeout=300)
    finally:
        archive.unlink(missing_ok=True)
    return name


def _link(tar: tarfile.TarFile, path: str, target: str) -> None:
    link = tarfile.TarInfo(path)
    link.type, link.linkname = tarfile.SYMTYPE, target
    tar.addfile(link)


def _build(service: str, programs: Mapping[str, str]) -> str:
    servers = packages.fetch("bookworm", TOOLS)
    base = packages.unpack("bookworm", ["libc6", "busybox"], TOOLS / "libc6-busybox")
    mark = hashlib.sha256(
        (servers / ".packages").read_bytes() + Path(__file__).read_bytes() + service.encode()
    ).hexdigest()[:12]
    name = f"{REGISTRY}/ds01-test/{service}:{mark}"
    there = command.run(["docker", "image", "inspect", name], timeout=30, check=False)
    if there.returncode == 0:
        return name
    archive = TOOLS / f".{service}.{os.getpid()}.tar"
    try:
        with tarfile.open(archive, "w") as tar:
            _fill(tar, base, servers, programs)
            for path, text in (GRAFANA if service == "grafana" else {}).items():
                _add(tar, path, text.encode())
        entry = "/run.sh" if service == "grafana" else f"/bin/{next(iter(programs.values()), 'sh')}"
        changes = [f'ENTRYPOINT ["{entry}"]', "USER 65534", "ENV PATH=/bin", *VOLUMES.get(service, ())]
        flags = [word for change in changes for word in ("--change", change)]
        command.run(["docker", "import", *flags, str(archive), name], timeout=120)
    finally:
        archive.unlink(missing_ok=True)
    return name


def _fill(tar: tarfile.TarFile, base: Path, servers: Path, programs: Mapping[str, str]) -> None:
    libraries = base / "lib/x86_64-linux-gnu"
    tar.add((libraries / "ld-linux-x86-64.so.2").resolve(), "lib64/ld-linux-x86-64.so.2")
    for library in LIBRARIES:
        tar.add((libraries / library).resolve(), f"lib/x86_64-linux-gnu/{library}")
    tar.add(base / "bin/busybox", "bin/busybox")
    for applet in APPLETS:
        _link(tar, f"bin/{applet}", "busybox")
    for folder in ("tmp", "etc", "proc", "sys", "dev"):
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
        tar.addfile(entry)
    for source, name in programs.items():
        moved = servers / "usr/lib/ds01" / source
        if not moved.exists():
            tar.add((servers / "usr/bin" / source).resolve(), f"bin/{name}")
            continue
        # Alertmanager: here its templates lie where Debian's build looks for them.
        content = moved.read_bytes().replace(relocate.THROUGH_DESCRIPTOR, relocate.TEMPLATES)
        _add(tar, f"bin/{name}", content)
    # Debian's builds look for these; the official ones carry them inside.
    if any(name in {"prometheus", "alertmanager"} for name in programs.values()):
        tar.add(servers / "usr/share/prometheus", "usr/share/prometheus")


def _add(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(content), 0o755
    tar.addfile(entry, io.BytesIO(content))
