"""``facehall report``: all results on one HTML page that opens from the disk and loads nothing."""
