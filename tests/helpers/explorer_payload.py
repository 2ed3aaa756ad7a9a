"""Reads the data inside an explorer page as the page itself does."""

import base64
import gzip
import json

import numpy as np

from xtalgen.explorer.encoding import TYPES


def unpack(text):
    """Reads a payload as the page does."""
    content = gzip.decompress(base64.b85decode(text.replace(",", "<")))
    size = int.from_bytes(content[:4], "little")
    header, body = json.loads(content[4 : 4 + size]), content[4 + size :]
    blocks = {}
    for name, place in header["blocks"].items():
        width = np.dtype(TYPES[place["type"]]).itemsize
        part = body[place["offset"] : place["offset"] + width * place["length"]]
        planes = np.frombuffer(part, "u1").reshape(width, place["length"])
        blocks[name] = np.ascontiguousarray(planes.T).view(TYPES[place["type"]]).ravel()
    return header, blocks
