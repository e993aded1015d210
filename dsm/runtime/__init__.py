"""What surrounds every stage: its processes, its run folder, its log and its loggers."""
