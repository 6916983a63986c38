"""Looks a document up in MongoDB over its wire protocol: there is no client to install for one question."""

import datetime
import socket
import struct
import uuid

from orderlog_stack.report import Failure

ANSWER_WITHIN_S = 10
ANSWER_BYTES_MAX = 16 * 1024 * 1024
OP_MSG = 2013


def find(address, database, collection, filter_, limit=1):
    """The documents that match the filter, at most `limit`."""
    host, port = address.split(":")
    command = {"find": collection, "filter": filter_, "limit": limit, "singleBatch": True, "$db": database}
    document = encode(command)
    message = struct.pack("<iiiiIB", 21 + len(document), 1, 0, OP_MSG, 0, 0) + document
    with socket.create_connection((host, int(port)), ANSWER_WITHIN_S) as connection:
        connection.sendall(message)
        stream = connection.makefile("rb")
        (length,) = struct.unpack("<i", stream.read(4))
        if length > ANSWER_BYTES_MAX:
            raise Failure(f"MongoDB answers with {length} bytes")
        answer = stream.read(length - 4)
    reply, _ = decode(answer, 17)
    if reply.get("ok") != 1.0:
        raise Failure(f"MongoDB refused to look into {collection}: {reply.get('errmsg')}")
    return reply["cursor"]["firstBatch"]


def encode(document):
    """BSON of a document of strings, numbers, booleans and documents."""
    body = b""
    for name, value in document.items():
        key = name.encode() + b"\x00"
        if isinstance(value, bool):
            body += b"\x08" + key + struct.pack("<B", value)
        elif isinstance(value, int):
            body += b"\x10" + key + struct.pack("<i", value)
        elif isinstance(value, str):
            text = value.encode() + b"\x00"
            body += b"\x02" + key + struct.pack("<i", len(text)) + text
        elif isinstance(value, uuid.UUID):
            body += b"\x05" + key + struct.pack("<iB", 16, 4) + value.bytes
        else:
            body += b"\x03" + key + encode(value)
    return struct.pack("<i", len(body) + 5) + body + b"\x00"


def decode(data, at):
    """A BSON document and where it ends."""
    (length,) = struct.unpack_from("<i", data, at)
    end, at, document = at + length, at + 4, {}
    while data[at] != 0:
        kind, stop = data[at], data.index(b"\x00", at + 1)
        name = data[at + 1:stop].decode()
        document[name], at = _value(kind, data, stop + 1)
    return document, end


def _value(kind, data, at):
    if kind in _FIXED:
        layout, meaning = _FIXED[kind]
        return meaning(*struct.unpack_from(layout, data, at)), at + struct.calcsize(layout)
    if kind in (0x03, 0x04):
        document, end = decode(data, at)
        return (document if kind == 0x03 else list(document.values())), end
    (length,) = struct.unpack_from("<i", data, at)
    if kind == 0x02:
        return data[at + 4:at + 3 + length].decode(), at + 4 + length
    if kind == 0x05:
        value = data[at + 5:at + 5 + length]
        return (str(uuid.UUID(bytes=value)) if data[at + 4] == 4 else f"<{length} sealed bytes>"), at + 5 + length
    raise Failure(f"MongoDB answered with a BSON type that is not known here: {kind:#x}")


def _instant(milliseconds):
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc).isoformat()


_FIXED = {
    0x01: ("<d", float),
    0x07: ("<12s", bytes.hex),
    0x08: ("<?", bool),
    0x09: ("<q", _instant),
    0x0A: ("<", lambda: None),
    0x10: ("<i", int),
    0x11: ("<Q", int),
    0x12: ("<q", int),
    0x13: ("<16s", bytes.hex),
}
