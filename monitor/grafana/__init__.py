"""`monitor grafana`: data source and dashboards for Grafana 11, written from the configuration.

They are made for the plugin `arpnetworking-kairosdb-datasource` 4.0.x. What it does with a target decides how targets
are written here:

* It divides no metric by another, and neither does KairosDB: ratios are Grafana's own transformations.
* A metric name may hold one variable with one value. With a second one before it, or with several values, the plugin
  puts the values in the wrong place. So variations stand in the targets, and there is a dashboard for each experiment.
* A tag filter that becomes empty or blank is left out. A variable that finds nothing would so drop the filter for the
  data center and add up mirrors: the values of `dc` are written out, and always one of them is chosen. The blank is
  what "All" of a tag stands for: also series that lack the tag.
* Of two variables that ask for metric names at the same time one waits for ever: none does.
* A series is named by its alias, and by its tags in braces if the alias has no variable: those are cut off.
"""
