"""Alertmanager's notes of what it sent, read as both versions write them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mail.conftest import wait_for

from ds01_monitoring import nflog


def test_the_notes_of_a_real_alertmanager(alertmanager, mailbox):
    """Each mail that was taken is a note with its group, receiver and time; silence leaves none."""
    running = alertmanager(scale=300)
    for name in ("DS01First", "DS01Second"):
        running.post(name, severity="critical", notify="page", container="a" * 300)
    running.post("DS01Hidden", severity="info", notify="dashboard")
    file = running.data / "nflog"
    wait_for(lambda: file.exists() and len(list(nflog.read(file.read_bytes()))) == 2, "two notes")

    notes = sorted(nflog.read(file.read_bytes()), key=lambda note: note.group)
    assert [(note.receiver, note.integration) for note in notes] == [("admins", "email")] * 2
    assert ['alertname="DS01First"' in note.group for note in notes] == [True, False]
    assert all(abs(note.at - time.time()) < 3600 for note in notes)


def test_an_empty_file_has_no_notes():
    """As an Alertmanager writes it that has sent nothing."""
    assert list(nflog.read(b"")) == []


@given(st.binary(max_size=64))
def test_what_is_no_such_file_is_said_to_be_none(content):
    """Whatever the bytes: notes, or a ValueError."""
    try:
        list(nflog.read(content))
    except ValueError:
        return


@pytest.mark.parametrize("content", [b"\xff", b"\x05\x0a", b"\x02\x0f\x00"])
def test_a_damaged_file_is_not_passed_over(content):
    """Cut off within a length, within a message, and an unknown kind of field."""
    with pytest.raises(ValueError, match=r"cut off|wire type"):
        list(nflog.read(content))
