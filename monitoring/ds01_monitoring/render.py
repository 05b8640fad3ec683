"""Templates and settings into one complete tree of configuration files."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

from ds01_monitoring import context as contexts
from ds01_monitoring import secrets, tree
from ds01_monitoring.annotate import annotate
from ds01_monitoring.errors import ConfigError
from ds01_monitoring.templates import Templates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ds01_monitoring.config import Settings
    from ds01_monitoring.context import Context
    from ds01_monitoring.paths import StateDir
    from ds01_monitoring.tree import RenderedTree

ROOMS = ("prometheus", "alertmanager", "grafana")
"""Folders whose files are rendered to the same path; a new file needs no registration."""

RUNTIME_FILES = {"compose": ("docker-compose.yaml", "supervisord.conf"), "native": ("supervisord.conf",)}
"""Under compose, supervisord keeps up what runs on the host beside the containers."""
COUNTERS = "prometheus/dcgm-counters.csv.j2"


def render(
    settings: Settings,
    state: StateDir,
    *,
    runtime: str | None = None,
    hardware: str | None = None,
    demo: bool = False,
    addresses: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
    out: Path | None = None,
    templates: Templates | None = None,
) -> RenderedTree:
    """Write a fresh version below `rendered/` (or to `out`); it is not in force before `activate()`.

    Args:
        settings: The configuration.
        state: Where versions and secrets lie; missing secrets are made, except with `out`.
        runtime: `compose` or `native`; detected by default.
        hardware: `dcgm`, `nvml` or `none`; detected by default.
        demo: For the simulated server.
        addresses: Overrides of `host:port` by job.
        extra: Further template variables; `exporter_env` in it adds to exporter.env.
        out: Write there instead of below `rendered/`.
        templates: Other templates than those that ship.

    Raises:
        ConfigError: A template is wrong; nothing was written.
        OSError: The folder cannot be written.
    """
    context = contexts.resolve(
        settings, state, runtime=runtime, hardware=hardware, demo=demo, addresses=addresses, extra=extra
    )
    files, sources = render_files(context, templates or Templates())
    if out is not None:
        tree.write_files(files, out)
        return tree.RenderedTree(out, context, sources)
    state.root.mkdir(parents=True, exist_ok=True)
    secrets.ensure(state)
    return tree.RenderedTree(tree.store(files, state.rendered), context, sources)


def render_files(context: Context, templates: Templates) -> tuple[dict[str, str], dict[str, Path]]:
    """Text of every file and the template that it came from, both by path below the tree."""
    files: dict[str, str] = {}
    sources: dict[str, Path] = {}
    variables = context.variables()
    for name, target in _plan(context, templates.root):
        source = templates.root / name
        text = (
            templates.render(name, variables) if name.endswith(".j2") else source.read_text(encoding="utf-8")
        )
        if all(line.startswith("#") for line in text.splitlines() if line.strip()):
            continue  # A template that is switched off as a whole.
        path, finished = _finish(target, text, source, context)
        if path in files:
            raise ConfigError(f"makes {path}, as does {sources[path]}", place=str(source), hint="rename one")
        files[path], sources[path] = finished, source
    return files, sources


def _plan(context: Context, root: Path) -> Iterator[tuple[str, str]]:
    """Each template's path below the root, and the path that it renders to."""
    for room in ROOMS:
        for path in sorted((root / room).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_file() and name != COUNTERS and not path.name.startswith("."):
                yield name, name.removesuffix(".j2")
    yield COUNTERS, "dcgm/counters.csv"
    yield "monitoring/exporter.env.j2", "exporter.env"
    for runtime_file in RUNTIME_FILES[context.runtime]:
        yield f"monitoring/{runtime_file}.j2", runtime_file


def _finish(target: str, text: str, source: Path, context: Context) -> tuple[str, str]:
    """What is done to some kinds of file after the template."""
    if target.startswith("prometheus/rules/"):
        settings = context.settings
        url = settings.site.runbook_url
        return target, annotate(text, place=str(source), runbook_url=url, notify=settings.alerts.notify)
    if target.startswith("grafana/dashboards/"):
        dashboard = _expander()(text, str(source), context.settings)
        return f"grafana/dashboards/{dashboard['uid']}.json", json.dumps(
            dashboard, indent=2, ensure_ascii=False
        ) + "\n"
    return target, text


def _expander() -> Callable[[str, str, Settings], dict[str, Any]]:
    module = importlib.import_module("ds01_monitoring.dashboards")
    expand: Callable[[str, str, Settings], dict[str, Any]] = module.expand
    return expand
