"""The dataflow: the only room that knows Bytewax."""
