"""The same work done by other means: same configuration, same log, same totals."""
