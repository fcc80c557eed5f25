"""The web page of `monitor serve`: HTML and charts, from answers of the query service.

Its state is in its address; all content is a function of that and of answers. Only `site.py`, `frame.py` and
`elements.py` know NiceGUI; the modules that make HTML and charts are pure.
"""
