"""The OpenAPI description of the export server's JSON pages, served by it at /openapi.json."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from gpu_telemetry import api

EXAMPLE: dict[str, Any] = {
    "timestamp": "2025-03-04T23:02:50.123456Z",
    "status": "ok",
    "sample_age_seconds": 12.5,
    "gpus": [
        {
            "id": "gpu-0",
            "name": "NVIDIA GeForce RTX 3080",
            "uuid": "GPU-05a9ed06-0ddb-1882-ccba-3e5f36943994",
            "utilization": 75,
            "memory_utilization": 40,
            "memory": {"total": 10240, "used": 8192, "free": 2048},
            "temperature": 65,
            "power_usage": 220.5,
            "clock_speeds": {"graphics": 1800, "memory": 8000},
        }
    ],
}

STATUSES = {
    "ok": "the sample is recent and could be read",
    "starting": "there is no sample yet",
    "stale": "the last sample is too old to be shown",
    "nvml_unavailable": "the driver cannot be read; `reason` says why",
}


def _reading(text: str, kind: str = "integer", **limits: float) -> dict[str, Any]:
    return {"type": [kind, "null"], "description": f"{text}; null is unknown.", **limits}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


SIMULATED = {"const": True, "description": "Present where the readings are made up."}

GPU = _object(
    {
        "id": {
            "type": "string",
            "pattern": "^gpu-[0-9]+$",
            "description": "Its index; not stable over a restart.",
        },
        "name": {"type": ["string", "null"]},
        "uuid": {"type": "string", "pattern": "^GPU-", "description": "What identifies it."},
        "utilization": _reading("Time with a kernel running, in percent", minimum=0, maximum=100),
        "memory_utilization": _reading(
            "Time with memory being read or written, in percent", minimum=0, maximum=100
        ),
        "memory": _object(
            {part: _reading(f"Memory {part}, in MiB", minimum=0) for part in ("total", "used", "free")}
        ),
        "temperature": _reading("Degrees Celsius"),
        "power_usage": _reading("Watts", "number", minimum=0),
        "clock_speeds": _object(
            {part: _reading(f"The {part} clock, in MHz", minimum=0) for part in ("graphics", "memory")}
        ),
        "simulated": SIMULATED,
    },
    optional=("simulated",),
)

METRICS = _object(
    {
        "timestamp": {
            "type": "string",
            "format": "date-time",
            "description": "When the sample was taken, UTC.",
        },
        "status": {
            "enum": list(STATUSES),
            "description": "; ".join(f"`{key}`: {text}" for key, text in STATUSES.items()),
        },
        "sample_age_seconds": _reading("Seconds since the sample was taken", "number", minimum=0),
        "gpus": {"type": "array", "items": {"$ref": "#/components/schemas/Gpu"}},
        "reason": {"type": "string", "description": "Why the driver cannot be read."},
        "simulated": SIMULATED,
    },
    optional=("reason", "simulated"),
)

HEALTH = _object(
    {
        "status": METRICS["properties"]["status"],
        "sample_age_seconds": METRICS["properties"]["sample_age_seconds"],
        "last_success": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "UTC; null is never.",
        },
    }
)


def document(*, password: bool) -> dict[str, Any]:
    """The description; with `password`, every page asks for one."""
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "GPU metrics",
            "version": _version(),
            "description": "Readings of this host's GPUs.",
        },
        "paths": {
            api.PATH: {"get": _get("The last sample of all GPUs.", {"200": ("The sample.", "GpuMetrics")})},
            "/healthz": {
                "get": _get(
                    "Whether samples can be read.",
                    {"200": ("They can.", "Health"), "503": ("They cannot; see status.", "Health")},
                )
            },
        },
        "components": {
            "schemas": {"Gpu": GPU, "GpuMetrics": METRICS | {"examples": [EXAMPLE]}, "Health": HEALTH}
        },
    }
    if password:
        described["components"]["securitySchemes"] = {"basic": {"type": "http", "scheme": "basic"}}
        described["security"] = [{"basic": []}]
    return described


def _get(summary: str, answers: dict[str, tuple[str, str]]) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {
            status: {
                "description": text,
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
            }
            for status, (text, schema) in answers.items()
        },
    }


def _version() -> str:
    try:
        return version("ds01-monitoring")
    except PackageNotFoundError:
        return "unknown"
