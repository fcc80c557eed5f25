"""The embedded store: the part of KairosDB's REST API that the sink, the page and Grafana use, over one SQLite file.

``serve`` runs it in the foreground, ``running`` in a thread. It takes the place of a KairosDB in development, in tests
and on one machine, and behaves like KairosDB 1.3.0-1: one set of contract tests runs against both.

Paths, below ``/api/v1``: ``datapoints``, ``datapoints/query``, ``datapoints/query/tags``, ``datapoints/delete``,
``metric/{name}``, ``metricnames``, ``version``, ``health/check``, ``health/status``. Aggregators: sum, avg, min, max,
count, first, last, percentile, dev, rate, diff, div, scale. Grouping: by tag. Anything else is refused with
KairosDB's message for an unknown name.

As in KairosDB: the key of a point is name, type, tags and timestamp, and a second write overwrites; valid metrics
around an invalid one are stored although the answer is 400; those before a syntax error (400) or a conversion error
(500) are stored; an untyped number is a double if its text has a ``.``, else a long.

Deliberate differences
----------------------
Refused with 400, because KairosDB would store another value than the client meant:

* a number with a fraction, or beyond 64 bits, for a long (so also an untyped ``1e-7``, which KairosDB stores as 0);
* NaN and infinities, after which KairosDB answers 500 to every query over them;
* a timestamp beyond 64 bits; a ttl below 0 or above 630720000 s; an array or object as a value of any type;
* text that is not UTF-8, half a surrogate pair, JSON that only a lenient parser takes (the request ends there);
* a gzip body that is cut off or damaged (nothing of it is stored). ``skip_validate`` is ignored.

Stricter than KairosDB:

* a write that cannot be stored is answered 500, not 204, and no point of its request is stored;
* ttl is kept (KairosDB's H2 store ignores it); an expired point is invisible at once and deleted soon after, the names
  and tags of its series with it;
* percentile uses all values of a range, not a random sample of 1,028 of them;
* groups are distinguished by the tuple of tag values, not by their concatenation.

Otherwise:

* a metric without points in the time range has ``"results": []``, as in KairosDB after 1.3.0; 1.3.0-1 has one result
  with empty tags and values there: clients must accept both;
* bounds: 64 MiB a body (413), 64 requests in progress (503 with Retry-After), 2 million points read by one query (500);
* the texts of Gson's and the JVM's own messages (``java.lang...``) are not copied, their status codes are;
* time zones are those of this machine; tag values that start with ``regex:`` are plain text; ``cache_time`` is ignored.
"""

from monitor.devstore.database import StoreError
from monitor.devstore.server import running, serve

__all__ = ["StoreError", "running", "serve"]
