"""The control plane's one door to Jinja2."""

from __future__ import annotations

import difflib
import json
import traceback
from typing import TYPE_CHECKING, Any

import jinja2  # noqa: TID251 - this module is the door.

from ds01_monitoring import paths
from ds01_monitoring.config.types import duration_seconds
from ds01_monitoring.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def percent(ratio: float) -> str:
    """A share as a percentage without floating-point dust: 0.05 gives `5`, 0.125 gives `12.5`."""
    return f"{ratio * 100:.10g}"


def yaml_scalar(value: object) -> str:
    """A value as one YAML scalar that no reader takes for something else."""
    return json.dumps(
        str(value) if not isinstance(value, (bool, int, float, str)) else value, ensure_ascii=False
    )


def _tojson(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def environment(root: Path) -> jinja2.Environment:
    """The environment of every template: `[[ value ]]`, `[% if %]`, `[# #]`, undefined names are errors."""
    made = jinja2.Environment(  # noqa: S701 - YAML and JSON, never HTML.
        loader=jinja2.FileSystemLoader(root),
        undefined=jinja2.StrictUndefined,
        variable_start_string="[[",
        variable_end_string="]]",
        block_start_string="[%",
        block_end_string="%]",
        comment_start_string="[#",
        comment_end_string="#]",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(percent=percent, duration=duration_seconds, tojson=_tojson, yaml=yaml_scalar)
    return made


class Templates:
    """The templates below one folder, `paths.data_root()` unless a test says otherwise."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or paths.data_root()
        self._environment = environment(self.root)

    def render(self, name: str, variables: Mapping[str, Any]) -> str:
        """Fill in the template called `name` (a path below the root).

        Raises:
            ConfigError: It does not parse, or names something that is not there.
        """
        try:
            return self._environment.get_template(name).render(variables)
        except jinja2.TemplateSyntaxError as error:
            place = f"{error.filename or name}:{error.lineno}"
            raise ConfigError(
                error.message or "not a template", place=place, hint="marks are [[ ]], [% %] and [# #]"
            ) from error
        except (jinja2.TemplateError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                str(error), place=self._place(error, name), hint=_hint(str(error), variables)
            ) from error

    def _place(self, error: BaseException, name: str) -> str:
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if frame.filename.startswith(str(self.root)) and frame.filename.endswith((".j2", name)):
                return f"{frame.filename}:{frame.lineno}"
        return str(self.root / name)


def _hint(message: str, variables: Mapping[str, Any]) -> str:
    words = message.split("'")
    missing = words[-2] if len(words) > 2 else ""
    known = sorted(variables)
    if "has no attribute" in message:
        known = sorted({key for value in variables.values() for key in _names(value)})
    close = difflib.get_close_matches(missing, known, n=3)
    return (
        f"did you mean {', '.join(close)}?" if close else f"known at the top: {', '.join(sorted(variables))}"
    )


def _names(value: object) -> set[str]:
    fields = getattr(type(value), "model_fields", None)
    if not fields:
        return set()
    return set(fields).union(*(_names(getattr(value, name)) for name in fields))
