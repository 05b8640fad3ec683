"""How long a condition has been known to hold: the one stopwatch of alerts and of the activity agent."""


class Hold:
    """Adds up the seconds between consecutive observations of a condition that held in both.

    An unknown observation (None) neither counts nor clears: what was seen before it stays seen, and the
    time that nobody looked at is not claimed.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._held_at: float | None = None

    @property
    def begun(self) -> bool:
        """Whether the condition has been seen since it last did not hold."""
        return self._held_at is not None or self.seconds > 0

    def update(self, holds: bool | None, now: float) -> float:
        """Takes one observation at `now` (seconds of a monotonic clock); returns the seconds held."""
        if holds is None:
            self._held_at = None
        elif not holds:
            self.seconds, self._held_at = 0.0, None
        else:
            if self._held_at is not None:
                self.seconds += max(now - self._held_at, 0.0)
            self._held_at = now
        return self.seconds
