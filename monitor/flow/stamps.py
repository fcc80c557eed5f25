"""The newest timestamps of a partition as bytes, for snapshots: a few kilobytes at most."""

import struct
import zlib

from monitor.core.watermark import Stamps


def packed_stamps(stamps: Stamps) -> bytes:
    """The number of messages and the newest timestamps; empty if there are none."""
    count, newest = stamps.state()
    return zlib.compress(struct.pack(f"<{1 + len(newest)}q", count, *newest), 1) if count else b""


def unpacked_stamps(packed: bytes, high_ms: int) -> Stamps:
    """Takes back what `packed_stamps` gave, with the `high` of that moment."""
    if not packed:
        return Stamps(high_ms)
    count, *newest = (number for (number,) in struct.iter_unpack("<q", zlib.decompress(packed)))
    return Stamps(high_ms, count, newest)
