"""A mail server that keeps what it gets: as much of RFC 5321 as Alertmanager speaks to a relay without auth.

Each accepted mail becomes `<time>-<number>.eml` in the mailbox directory: the envelope as `X-Envelope-From`
and `X-Envelope-To` lines (one per recipient), then the message as it came, with CRLF made LF. Nothing is
relayed. A mail over `MAX_BYTES` is refused with 552, as RFC 1870 asks.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import DemoError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 10 * 1024 * 1024
"""The largest message that is taken, announced with SIZE."""

KEPT_BYTES, KEPT_MAILS = 100 * 1024 * 1024, 1000
"""What the mailbox holds; every user of the machine can send to it, so that older mail has to go."""

_MAX_RECIPIENTS = 100
_LINE_LIMIT = 64 * 1024
_IDLE_SECONDS = 60.0
_NAME = "ds01-demo"

log = logging.getLogger(__name__)


@dataclass
class _Session:
    greeted: bool = False
    sender: str | None = None
    recipients: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.sender, self.recipients = None, []


class _Closed(Exception):  # noqa: N818 - the client is gone, which is no error.
    """The connection ends here."""


class Mailbox:
    """Stores messages in `directory`; a reader never sees half of one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()

    def store(self, sender: str, recipients: list[str], message: bytes) -> None:
        """Write one message. Raises OSError."""
        name = f"{time.time_ns() // 1_000_000:013d}-{next(self._numbers):04d}.eml"
        envelope = "".join(f"X-Envelope-To: {to}\n" for to in recipients)
        text = f"X-Envelope-From: {sender}\n{envelope}".encode() + message.replace(b"\r\n", b"\n")
        fresh = self._directory / f".{name}.new"
        fresh.write_bytes(text)
        fresh.replace(self._directory / name)
        log.info("mail to %s", ", ".join(recipients))
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        newest = sorted(self._directory.glob("*.eml"), reverse=True)
        room = KEPT_BYTES
        for place, file in enumerate(newest):
            room -= file.stat().st_size
            if room < 0 or place >= KEPT_MAILS:
                file.unlink()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mailbox: Mailbox) -> None:
        self._reader = reader
        self._writer = writer
        self._mailbox = mailbox
        self._session = _Session()

    async def run(self) -> None:
        """Talk until the client quits, goes away or says nothing for a minute."""
        await self._reply(f"220 {_NAME} ESMTP")
        while True:
            line = (await self._line()).rstrip(b"\r\n").decode("utf-8", "replace")
            verb, _, rest = line.partition(" ")
            handler = getattr(self, f"_do_{verb.lower()}", None) if verb.isalpha() else None
            if handler is None:
                await self._reply("500 5.5.2 command not recognised")
            else:
                await handler(rest.strip())

    async def _reply(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self._writer.drain()

    async def _line(self) -> bytes:
        try:
            line = await asyncio.wait_for(self._reader.readuntil(b"\n"), _IDLE_SECONDS)
        except asyncio.LimitOverrunError as error:
            await self._reply("500 5.5.2 line too long")
            raise _Closed from error
        except (asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            raise _Closed from error
        return line

    async def _do_ehlo(self, _: str) -> None:
        self._session = _Session(greeted=True)
        await self._reply(
            f"250-{_NAME}", f"250-SIZE {MAX_BYTES}", "250-8BITMIME", "250-SMTPUTF8", "250 PIPELINING"
        )

    async def _do_helo(self, _: str) -> None:
        self._session = _Session(greeted=True)
        await self._reply(f"250 {_NAME}")

    async def _do_mail(self, rest: str) -> None:
        match = re.fullmatch(r"FROM:\s*<([^<>]*)>((?: \S+)*)", rest, re.IGNORECASE)
        size = re.search(r" SIZE=(\d+)\b", match[2], re.IGNORECASE) if match else None
        if not self._session.greeted or self._session.sender is not None:
            await self._reply("503 5.5.1 bad sequence of commands")
        elif match is None:
            await self._reply("501 5.5.4 want MAIL FROM:<address>")
        elif size and int(size[1]) > MAX_BYTES:
            await self._reply(f"552 5.3.4 more than {MAX_BYTES} bytes")
        else:
            self._session.sender = match[1]
            await self._reply("250 2.1.0 ok")

    async def _do_rcpt(self, rest: str) -> None:
        match = re.fullmatch(r"TO:\s*<([^<>\s]+@[^<>\s]+)>(?: \S+)*", rest, re.IGNORECASE)
        if self._session.sender is None:
            await self._reply("503 5.5.1 MAIL first")
        elif match is None:
            await self._reply("501 5.1.3 want RCPT TO:<name@domain>")
        elif len(self._session.recipients) >= _MAX_RECIPIENTS:
            await self._reply("452 4.5.3 too many recipients")
        else:
            self._session.recipients.append(match[1])
            await self._reply("250 2.1.5 ok")

    async def _do_data(self, _: str) -> None:
        if not self._session.recipients:
            await self._reply("503 5.5.1 RCPT first")
            return
        await self._reply("354 end with a line that holds only a dot")
        message = await self._message()
        if message is None:
            await self._reply(f"552 5.3.4 more than {MAX_BYTES} bytes")
        else:
            try:
                self._mailbox.store(self._session.sender or "", self._session.recipients, message)
                await self._reply("250 2.0.0 stored")
            except OSError as error:
                log.warning("mail not stored: %s", error)
                await self._reply("451 4.3.0 cannot store the message")
        self._session.reset()

    async def _message(self) -> bytes | None:
        """The message up to its closing dot, dots unstuffed; None when it is too large."""
        parts, size = [], 0
        while (line := await self._line()) not in {b".\r\n", b".\n"}:
            line = line.removeprefix(b".")
            size += len(line)
            if size <= MAX_BYTES:
                parts.append(line)
        return b"".join(parts) if size <= MAX_BYTES else None

    async def _do_rset(self, _: str) -> None:
        self._session.reset()
        await self._reply("250 2.0.0 ok")

    async def _do_noop(self, _: str) -> None:
        await self._reply("250 2.0.0 ok")

    async def _do_vrfy(self, _: str) -> None:
        await self._reply("252 2.1.5 cannot verify, will take it")

    async def _do_quit(self, _: str) -> None:
        await self._reply("221 2.0.0 bye")
        raise _Closed


class MailSink:
    """The mail server in a thread of its own, while it is used as a context manager.

    `port` 0 takes any free one; `address` tells which. Raises DemoError when it cannot listen.
    """

    def __init__(self, host: str, port: int, directory: Path) -> None:
        self._mailbox = Mailbox(directory)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp", daemon=True)
        try:
            start = asyncio.start_server(self._serve, host, port, limit=_LINE_LIMIT)
            self._server = self._loop.run_until_complete(start)
        except OSError as error:
            self._loop.close()
            raise DemoError(f"{host}:{port}: {error.strerror}", hint="choose another --smtp-port") from error
        self.address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _Connection(reader, writer, self._mailbox).run()
        except (_Closed, ConnectionError):
            log.debug("connection closed")
        finally:
            writer.close()

    def __enter__(self) -> MailSink:  # noqa: PYI034 - Self is not in 3.10.
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
