"""The configuration: every table and key, the one reader of file and environment, and its errors."""
