"""How far each partition's timestamps have come, where the producers set them: a part of the oracle."""

from collections import defaultdict
from collections.abc import Iterable


def highs(stamps: Iterable[tuple[int, int]]) -> list[int | None]:
    """For each (partition, timestamp) how far the partition had come before it, None if it had not yet.

    "The 101st largest of the newest 1,000 timestamps of the partition, less 20 seconds. It is worked out after every
    1,000th message, and after every 10th if most of the last ten are 40 seconds or more ahead of it, or there is none.
    It never falls."
    """
    seen_of: defaultdict[int, list[int]] = defaultdict(list)
    reached: dict[int, int] = {}
    found: list[int | None] = []
    for partition, timestamp in stamps:
        high = reached.get(partition)
        found.append(high)
        seen = seen_of[partition]
        seen.append(timestamp)
        if len(seen) > 100 and len(seen) % 10 == 0:
            ahead = [stamp for stamp in seen[-10:] if high is None or stamp - high >= 40_000]
            if len(ahead) > 5 or len(seen) % 1000 == 0:
                candidate = sorted(seen[-1000:])[-101] - 20_000
                reached[partition] = candidate if high is None else max(high, candidate)
    return found
