"""Finds the site's file, reads it, and reports mistakes by file, line and key."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from ds01_monitoring import paths
from ds01_monitoring.config import yamlfile
from ds01_monitoring.config.model import Settings
from ds01_monitoring.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

SITE_FILE = Path("/etc/ds01-monitoring/monitoring.yaml")

OVERRIDES = {
    "GRAFANA_ADMIN_USER": ("grafana", "admin_user"),
    "GRAFANA_ROOT_URL": ("grafana", "root_url"),
    "DS01_EXPORTER_BIND": ("exporter", "bind"),
    "DS01_EXPORTER_PORT": ("exporter", "port"),
}
"""Environment variables that stand above the file. GRAFANA_ADMIN_PASSWORD is one more: see `secrets`."""


def config_path(given: Path | None = None, env: Mapping[str, str] = os.environ) -> Path:
    """The file in force: the one given, $MONITORING_CONFIG, /etc/ds01-monitoring, or the defaults that ship.

    Raises:
        ConfigError: The file that was named does not exist.
    """
    named = given or (Path(env["MONITORING_CONFIG"]) if env.get("MONITORING_CONFIG") else None)
    if named is not None:
        if not named.exists():
            raise ConfigError(
                "no such configuration file", place=str(named), hint="see --config and $MONITORING_CONFIG"
            )
        return named
    return SITE_FILE if SITE_FILE.exists() else paths.data_root() / "config" / "monitoring.yaml"


def load_settings(path: Path | None = None, env: Mapping[str, str] = os.environ) -> Settings:
    """Read the configuration file in force and the environment above it.

    Raises:
        ConfigError: Every mistake found, with its place and what would be right.
    """
    file = config_path(path, env)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot be read: {error}", place=str(file), hint="it must be a UTF-8 text file"
        ) from error
    return parse_settings(text, str(file), env)


def parse_settings(
    text: str, name: str = "monitoring.yaml", env: Mapping[str, str] | None = None
) -> Settings:
    """Validate the text of a configuration file; `name` stands for it in messages.

    Raises:
        ConfigError: As `load_settings`.
    """
    document = yamlfile.read(text, name)
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        raise ConfigError("must be a mapping of settings", place=name, hint="see config/monitoring.yaml")
    from_env = _apply_environment(data, env or {})
    try:
        return Settings.model_validate(data, context=document)
    except ValidationError as error:
        mistakes: dict[tuple[str, ...], ConfigError] = {}
        for details in error.errors():  # A key that may be of two types has one for each.
            key = tuple(filter(_is_key, map(str, details["loc"])))
            mistakes.setdefault(key, _explain(details, document, from_env))
        raise ConfigError.together(mistakes.values()) from error


def _apply_environment(data: dict[str, Any], env: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    applied: dict[tuple[str, ...], str] = {}
    for variable, (section, key) in OVERRIDES.items():
        value = env.get(variable)
        if not value:
            continue
        target = data.get(section)
        if target is None:
            target = data[section] = {}
        if isinstance(target, dict):
            target[key] = [part.strip() for part in value.split(",")] if key == "bind" else value
            applied[section, key] = variable
    return applied


def _explain(
    error: ErrorDetails, document: yamlfile.Document, from_env: Mapping[tuple[str, ...], str]
) -> ConfigError:
    path = [str(part) for part in error["loc"] if part != "[key]"]
    variable = from_env.get(tuple(path[:2]))
    place = f"environment variable {variable}" if variable else document.place(path)
    shown, known = _walk_model(path)
    key = ".".join(shown)
    if error["type"] == "extra_forbidden":
        return ConfigError(f"{key}: unknown key", place=place, hint=_suggest(path[-1], known))
    if error["type"] == "missing":
        return ConfigError(f"{key}: is missing", place=place, hint=f"{path[-1]} must be given here")
    return ConfigError(f"{key}: {_message(error)}", place=place, hint=_hint(error, document, tuple(path)))


def _walk_model(path: Sequence[str]) -> tuple[list[str], list[str]]:
    """The path without pydantic's own names of union members, and the keys allowed where it ends."""
    model: Any = Settings
    shown: list[str] = []
    known: list[str] = []
    for part in path:
        fields = _fields(model)
        known = sorted(fields)
        if fields and part not in fields and shown and part == path[-1]:
            shown.append(part)
        elif part in fields:
            shown.append(part)
            model = fields[part]
        elif not fields or part.isdigit():
            shown.append(part) if _is_key(part) else None
            model = _item(model)
    return shown or list(path), known


def _is_key(part: str) -> bool:
    return not part.startswith(("function-", "constrained-", "literal[", "list[", "dict["))


def _fields(annotation: Any) -> dict[str, Any]:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return {info.alias or name: info.annotation for name, info in candidate.model_fields.items()}
    return {}


def _item(annotation: Any) -> Any:
    arguments = get_args(annotation)
    return arguments[-1] if arguments else annotation


def _suggest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    allowed = f"allowed here: {', '.join(known)}"
    return f"did you mean {close[0]}? {allowed}" if close else allowed


def _message(error: ErrorDetails) -> str:
    text = error["msg"].removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _hint(error: ErrorDetails, document: yamlfile.Document, path: tuple[str, ...]) -> str:
    value, written = error["input"], document.texts.get(path)
    if error["type"] == "string_type" and error["loc"][-1] == "[key]":
        return f"YAML reads the key {value} as a {type(value).__name__}; put it in quotes"
    if written and isinstance(value, bool) and written.lower() not in {"true", "false"}:
        return f"YAML reads {written} as {str(value).lower()}; put it in quotes if the word is meant: '{written}'"
    if written and error["type"] == "string_type":
        return f"YAML reads {written} as a {type(value).__name__}; put it in quotes: '{written}'"
    if error["type"] == "literal_error" and isinstance(value, str):
        allowed = (
            str(error.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
        )
        return _suggest(value, allowed)
    return f"the value given is {value!r}; config/monitoring.yaml documents every key"
