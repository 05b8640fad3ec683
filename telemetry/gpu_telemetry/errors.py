"""What can go wrong, in words for a person: the problem, and the next step as a hint."""

from __future__ import annotations


class TelemetryError(Exception):
    """Something a person must act on; only the command line prints it.

    Attributes:
        problem: What is wrong, naming the offending value and place.
        hint: The next step, or "".
        exit_code: 1 failed, 2 wrong usage or input, 3 something optional is not installed.
    """

    def __init__(self, problem: str, *, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.exit_code = exit_code


class BackendUnavailable(TelemetryError):  # noqa: N818 - reads better where it is caught.
    """No reading at all can be had from a backend now; it may come back.

    Attributes:
        reason: `not_installed`, `no_driver`, `no_permission`, `version_mismatch`, `lost`, `timeout` or `error`.
    """

    def __init__(self, problem: str, *, reason: str, hint: str = "") -> None:
        super().__init__(problem, hint=hint)
        self.reason = reason


class NvmlUnavailable(BackendUnavailable):
    """NVML cannot be used now: no library, no driver, no permission."""
