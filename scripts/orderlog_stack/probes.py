"""Is it ready? Each probe returns None when it is, otherwise the reason in a few words."""

import socket
import struct
import urllib.error
import urllib.request

PROBE_WITHIN_S = 2.0
ANSWER_BYTES_MAX = 1024 * 1024
KAFKA_METADATA = 3
KAFKA_METADATA_VERSION = 4

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http(url):
    """Ready when the URL answers 200; a service's /readyz says what it waits for."""
    try:
        with _opener.open(url, timeout=PROBE_WITHIN_S):
            return None
    except urllib.error.HTTPError as error:
        body = error.read(ANSWER_BYTES_MAX).decode("utf-8", "replace").strip()
        return f"{error.code} {' '.join(body.split())[:200]}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def taken(port):
    """Whether something listens on the port already.

    A connection that the system happens to begin at the very port it is made to connects with itself: nobody listens there.
    """
    with socket.socket() as connection:
        connection.settimeout(PROBE_WITHIN_S)
        return connection.connect_ex(("127.0.0.1", port)) == 0 and connection.getsockname() != ("127.0.0.1", port)


def kafka(port):
    """Ready when the metadata names a broker: it is registered, unfenced and will take requests."""
    request = struct.pack(">hhi", KAFKA_METADATA, KAFKA_METADATA_VERSION, 1) + _kafka_string("stack")
    request += struct.pack(">ib", 0, 0)  # no topics, do not create any
    try:
        with socket.create_connection(("127.0.0.1", port), PROBE_WITHIN_S) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (length,) = struct.unpack(">i", _receive(connection, 4))
            answer = _receive(connection, min(length, ANSWER_BYTES_MAX))
    except OSError as error:
        return str(error)
    _correlation, _throttle_ms, brokers = struct.unpack_from(">iii", answer)
    return None if brokers > 0 else "no broker registered yet"


def _kafka_string(text):
    return struct.pack(">h", len(text)) + text.encode()


def mongodb(port):
    """Ready when the server answers a ping."""
    ping = b"\x10ping\x00" + struct.pack("<i", 1) + b"\x02$db\x00" + struct.pack("<i", 6) + b"admin\x00"
    document = struct.pack("<i", len(ping) + 5) + ping + b"\x00"
    message = struct.pack("<iiiiIB", 16 + 5 + len(document), 1, 0, 2013, 0, 0) + document  # 2013 is OP_MSG
    try:
        with socket.create_connection(("127.0.0.1", port), PROBE_WITHIN_S) as connection:
            connection.sendall(message)
            (length,) = struct.unpack("<i", _receive(connection, 4))
            answer = _receive(connection, min(length, ANSWER_BYTES_MAX) - 4)
    except OSError as error:
        return str(error)
    return None if b"\x01ok\x00" + struct.pack("<d", 1.0) in answer else "ping was not answered with ok"


def _receive(connection, length):
    received = b""
    while len(received) < length:
        part = connection.recv(length - len(received))
        if not part:
            raise ConnectionError("connection closed")
        received += part
    return received


