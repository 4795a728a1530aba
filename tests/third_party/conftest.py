"""The project below is an outsider's: its tests run in a process of their own, without our configuration."""

collect_ignore = ["project"]
