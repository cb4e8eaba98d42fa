"""There is no socket and no process here: who reaches for one fails."""

import socket
import subprocess

import pytest


@pytest.fixture(autouse=True)
def _nothing_outside(monkeypatch):
    def refuse(*args, **kwargs):
        pytest.fail("a unit test reached for a socket or a process")

    for verb in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, verb, refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
