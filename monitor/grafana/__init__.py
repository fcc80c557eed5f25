"""`monitor grafana`: data source and dashboards for Grafana 11, written from the configuration.

They are for the plugin `arpnetworking-kairosdb-datasource` 4.0.x, whose behaviour decides the form of targets:

* It divides no metric by another, and neither does KairosDB: ratios are Grafana's own transformations.
* A metric name may contain one variable with one value. With a second one before it, or with several values, the
  plugin inserts the values in the wrong place. So variations are written into the targets, and each experiment has
  its own dashboard.
* A tag filter that becomes empty or blank is left out. A variable without values would thus drop the filter on the data
  center and add up two copies: the values of `dc` are written out, and exactly one is always chosen. A blank is the
  value of "All" of a tag, which includes series without the tag.
* Of two variables that query metric names at the same time, one waits for ever: none queries them.
* A series is named by its alias, followed by its tags in braces if the alias has no variable: those are removed.
"""
