"""The page: what `monitor serve` shows to people. Answers of the query service in, HTML and charts out.

Its state is in its address; all that is drawn is a function of that and of answers. `site.py` is the only module that
knows NiceGUI; the others are pure.
"""
