"""Processes that do one fit together: how they find each other, and what they tell each other.

TensorFlow's own way, gRPC, listens on every interface of a machine, without encryption, and does
what anyone who reaches it asks; and its collectives wait for ever for a process that has died. Here
processes of one machine meet at a socket in a folder that is the user's alone, those of several
machines by TLS with certificates made for the run, and one that is gone is noticed at once.
"""

from __future__ import annotations

import json
import math
import socket
import ssl
import struct
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.errors import TransientError

_SOCKET, _ADDRESS = "chief.socket", "chief.json"
# Libraries may come over a slow network.
_SECONDS_TO_MEET = 300.0
# A step, or a look at the validation rows, of the slowest.
_SECONDS_TO_ANSWER = 1800.0
_SECONDS_OF_A_STRANGER = 5.0
_SECONDS_BETWEEN = 0.1
_SIZE = struct.Struct("!Q")
_HELLO = struct.Struct("!8sI")
_GREETING = b"galbatch"
# Two machines of which one loses its power do not say good-bye: ask after 10 s, four times.
_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


@dataclass(frozen=True)
class Certificates:
    """Files by which processes of several machines know each other.

    Parameters
    ----------
    ca, certificate, key : str
        Paths of PEM files.
    """

    ca: str
    certificate: str
    key: str


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a fit find each other.

    Parameters
    ----------
    folder : Path
        That all of them see, with mode 700.
    count : int
        Processes.
    certificates : Certificates, optional
        None: they are on one machine.
    host : str, optional
        Address of the chief's machine, which it listens at; of the chief alone.
    """

    folder: Path
    count: int
    certificates: Certificates | None = None
    host: str = ""


@dataclass
class FitGroup:
    """A process' ties to the others.

    Parameters
    ----------
    number : int
        Of this process. Number 0 is the chief: what it has, counts.
    count : int
        Processes.
    peers : list of socket
        Of the chief: to the others, in their order. Of another: to the chief.
    """

    number: int
    count: int
    peers: list[socket.socket] = field(repr=False)

    @property
    def is_chief(self) -> bool:
        """Whether this process keeps what comes of the fit."""
        return self.number == 0

    def share(self, rows: int) -> slice:
        """The rows of so many that are this process' to do."""
        return slice(rows * self.number // self.count, rows * (self.number + 1) // self.count)

    def sum(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add up what all processes have, in their order.

        Parameters
        ----------
        values : ndarray, shape (n,), float32
            As long in each process.

        Returns
        -------
        ndarray, shape (n,), float32
            The same in each process, to the bit.

        Raises
        ------
        TransientError
            If a process is gone.
        """
        if not self.is_chief:
            self._send(self.peers[0], [values])
            return np.frombuffer(self._receive(0, values.nbytes), np.float32)
        total = values.astype(np.float32, copy=True)
        for index in range(len(self.peers)):
            total += np.frombuffer(self._receive(index, values.nbytes), np.float32)
        for peer in self.peers:
            self._send(peer, [total])
        return total

    def told(
        self, facts: Mapping[str, Any], arrays: Sequence[NDArray[Any]]
    ) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        """What the chief says.

        Parameters
        ----------
        facts : mapping
            JSON-ready; only the chief's are said.
        arrays : sequence of ndarray
            Only the chief's are said.

        Returns
        -------
        facts : dict
        arrays : list of ndarray

        Raises
        ------
        TransientError
            If a process is gone.
        """
        if self.is_chief:
            forms = [[array.dtype.str, list(array.shape)] for array in arrays]
            head = json.dumps({"facts": dict(facts), "arrays": forms}).encode()
            whole = [np.ascontiguousarray(array) for array in arrays]
            for peer in self.peers:
                self._send(peer, [np.frombuffer(head, np.uint8)])
                self._send(peer, whole)
            return dict(facts), list(arrays)
        said = json.loads(bytes(self._receive(0, None)))
        body = self._receive(0, None)
        found, start = [], 0
        for kind, shape in said["arrays"]:
            flat = np.frombuffer(body, np.dtype(kind), math.prod(shape), start)
            found.append(flat.reshape(shape))
            start += flat.nbytes
        return said["facts"], found

    def close(self) -> None:
        """Part."""
        for peer in self.peers:
            peer.close()

    def _send(self, peer: socket.socket, arrays: Sequence[NDArray[Any]]) -> None:
        try:
            peer.sendall(_SIZE.pack(sum(array.nbytes for array in arrays)))
            for array in arrays:
                if array.nbytes:
                    peer.sendall(memoryview(array.data).cast("B"))
        except OSError as error:
            raise self._gone(peer) from error

    def _receive(self, index: int, size: int | None) -> bytearray:
        peer = self.peers[index]
        try:
            sent = _SIZE.unpack(_exactly(peer, _SIZE.size))[0]
            if size is not None and sent != size:
                problem = f"process {self._number_of(peer)} sent {sent} bytes, expected {size}"
                raise TransientError("fit", problem, "do all run the same galbatch?")
            return _exactly(peer, sent)
        except OSError as error:
            raise self._gone(peer) from error

    def _number_of(self, peer: socket.socket) -> int:
        return self.peers.index(peer) + 1 if self.is_chief else 0

    def _gone(self, peer: socket.socket) -> TransientError:
        problem = f"process {self._number_of(peer)} of {self.count} is gone or does not answer"
        return TransientError("fit", problem, "the fit goes on from its last state: run again")


@contextmanager
def joined(meeting: Meeting, number: int) -> Iterator[FitGroup]:
    """Meet the other processes.

    Parameters
    ----------
    meeting : Meeting
    number : int
        Of this process, from 0.

    Yields
    ------
    FitGroup

    Raises
    ------
    TransientError
        If they are not all there within five minutes.
    """
    end = time.monotonic() + _SECONDS_TO_MEET
    peers = _others(meeting, end) if number == 0 else [_chief(meeting, number, end)]
    group = FitGroup(number, meeting.count, peers)
    try:
        for peer in peers:
            peer.settimeout(_SECONDS_TO_ANSWER)
        yield group
    finally:
        group.close()


def _others(meeting: Meeting, end: float) -> list[socket.socket]:
    """The chief's ties to all others, in their order."""
    found: dict[int, socket.socket] = {}
    context = _context(meeting.certificates, ssl.PROTOCOL_TLS_SERVER)
    with _listener(meeting) as listener:
        while len(found) < meeting.count - 1:
            listener.settimeout(max(end - time.monotonic(), 0.001))
            try:
                came, _ = listener.accept()
            except TimeoutError:
                missing = sorted({*range(1, meeting.count)} - {*found})
                problem = f"of {meeting.count} processes these did not come: {missing}"
                hint = "can the machines reach each other by this interface?"
                raise TransientError("fit", problem, hint) from None
            came.settimeout(_SECONDS_OF_A_STRANGER)
            # Whoever cannot say what ours say is nobody's business.
            with suppress(OSError), ExitStack() as unless_ours:
                tie = unless_ours.enter_context(_kept_alive(came))
                if context is not None:
                    tie = unless_ours.enter_context(context.wrap_socket(tie, server_side=True))
                greeting, number = _HELLO.unpack(_exactly(tie, _HELLO.size))
                if greeting == _GREETING and 0 < number < meeting.count and number not in found:
                    found[number] = tie
                    unless_ours.pop_all()
    return [found[number] for number in sorted(found)]


def _chief(meeting: Meeting, number: int, end: float) -> socket.socket:
    """Another's tie to the chief."""
    context = _context(meeting.certificates, ssl.PROTOCOL_TLS_CLIENT)
    while time.monotonic() < end:
        # Until the chief is there.
        with suppress(OSError, ValueError), ExitStack() as unless_met:
            tie = unless_met.enter_context(_dialled(meeting))
            tie.settimeout(_SECONDS_TO_MEET)
            if context is not None:
                tie = unless_met.enter_context(context.wrap_socket(tie))
            tie.sendall(_HELLO.pack(_GREETING, number))
            unless_met.pop_all()
            return tie
        time.sleep(_SECONDS_BETWEEN)
    problem = f"process {number} did not reach the first one"
    raise TransientError("fit", problem, "can the machines reach each other by this interface?")


def _listener(meeting: Meeting) -> socket.socket:
    if meeting.certificates is None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(meeting.folder / _SOCKET))
        listener.listen(meeting.count)
        return listener
    listener = socket.create_server((meeting.host, 0), backlog=meeting.count)
    draft = meeting.folder / f".{uuid.uuid4().hex[:12]}.tmp"
    draft.write_text(json.dumps(listener.getsockname()[:2]), encoding="ascii")
    draft.replace(meeting.folder / _ADDRESS)
    return listener


def _dialled(meeting: Meeting) -> socket.socket:
    if meeting.certificates is None:
        with ExitStack() as unless_met:
            tie = unless_met.enter_context(socket.socket(socket.AF_UNIX))
            tie.connect(str(meeting.folder / _SOCKET))
            unless_met.pop_all()
            return tie
    host, port = json.loads((meeting.folder / _ADDRESS).read_text(encoding="ascii"))
    return _kept_alive(socket.create_connection((host, port), timeout=_SECONDS_OF_A_STRANGER))


def _kept_alive(tie: socket.socket) -> socket.socket:
    if tie.family != socket.AF_UNIX:
        tie.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        tie.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, seconds in _ALIVE.items():
            if hasattr(socket, name):
                tie.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
    return tie


def _context(files: Certificates | None, side: int) -> ssl.SSLContext | None:
    """Both sides show a certificate; names do not matter, as all are of this run."""
    if files is None:
        return None
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.certificate, files.key)
    return context


def _exactly(tie: socket.socket, size: int) -> bytearray:
    found = bytearray(size)
    view, at = memoryview(found), 0
    while at < size:
        count = tie.recv_into(view[at:])
        if not count:
            raise ConnectionError("closed")
        at += count
    return found
