"""Makes docs/configuration.md from the model and the comments in config/monitoring.yaml.

python -m ds01_monitoring.config.reference > docs/configuration.md
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ds01_monitoring import paths
from ds01_monitoring.config import yamlfile
from ds01_monitoring.config.load import OVERRIDES
from ds01_monitoring.config.model import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTING = re.compile(r"^#((?:  )*)(?=[^ #\n])", re.MULTILINE)


def documented_text() -> str:
    """The text of config/monitoring.yaml as it ships."""
    return (paths.data_root() / "config" / "monitoring.yaml").read_text(encoding="utf-8")


def uncommented(text: str) -> str:
    """The file with the `#` taken off every setting: prose has one space after it, settings an even number."""
    return _SETTING.sub(r"\1", text)


@dataclass(frozen=True)
class Leaf:
    """A key that takes a value, and what it is without one."""

    path: tuple[str, ...]
    default: object
    required: bool


def leaves(
    model: type[BaseModel] = Settings, instance: Any = None, path: tuple[str, ...] = ()
) -> Iterator[Leaf]:
    """Every key that takes a value, with the default it has where it stands."""
    instance = instance or (Settings() if model is Settings else None)
    for name, info in model.model_fields.items():
        here = (*path, info.alias or name)
        section = _section(info.annotation)
        if section is not None:
            yield from leaves(section, getattr(instance, name, None), here)
        elif info.is_required():
            yield Leaf(here, None, required=True)
        else:
            default = getattr(instance, name) if instance else info.get_default(call_default_factory=True)
            yield Leaf(here, default, required=False)


def reference() -> str:
    """docs/configuration.md."""
    text = uncommented(documented_text())
    document = yamlfile.read(text, "config/monitoring.yaml")
    lines = text.splitlines()
    rows: dict[str, list[str]] = {}
    for leaf in leaves():
        meaning = _meaning(lines, document.lines[leaf.path])
        section = ".".join(leaf.path[:-1]) or "Top level"
        rows.setdefault(section, []).append(f"| `{leaf.path[-1]}` | {_default(leaf)} | {meaning} |")
    tables = "\n\n".join(
        f"## {section}\n\n| key | default | meaning |\n|---|---|---|\n" + "\n".join(body)
        for section, body in rows.items()
    )
    overrides = "\n".join(f"| `{name}` | `{'.'.join(path)}` |" for name, path in OVERRIDES.items())
    return _PAGE.format(tables=tables, overrides=overrides)


def _section(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return None if getattr(annotation, "__origin__", None) is list else candidate
    return None


def _meaning(lines: list[str], number: int) -> str:
    _, mark, comment = lines[number - 1].partition("  # ")
    if mark:
        return comment.replace("|", "\\|")
    above = lines[number - 2]
    return above.removeprefix("# ").replace("|", "\\|") if above.startswith("# ") else ""


def _default(leaf: Leaf) -> str:
    if leaf.required:
        return "required"
    if leaf.path == ("site", "host"):
        return "this machine's name"
    if leaf.default in ("", None):
        return "none"
    return f"`{str(leaf.default).lower() if isinstance(leaf.default, bool) else leaf.default}`"


_PAGE = """\
# Configuration

One file holds every setting: the one given with `--config`, else `$MONITORING_CONFIG`, else
`/etc/ds01-monitoring/monitoring.yaml`, else [`config/monitoring.yaml`](../config/monitoring.yaml), which documents
every key and changes none. An empty file is a valid site, and a key without a value means its default.

`monitoring-manage check` looks at the file, at everything that is made from it and at the secrets it names, and changes
nothing; a mistake is reported with its file, line and key. `monitoring-manage reload` applies a change.

This page is made from that file and the model behind it: `python -m ds01_monitoring.config.reference`.

## Environment variables

They stand above the file.

| variable | key |
|---|---|
{overrides}
| `GRAFANA_ADMIN_PASSWORD` | Grafana's password, instead of `grafana.admin_password_file` |

{tables}
"""

if __name__ == "__main__":
    sys.stdout.write(reference())
