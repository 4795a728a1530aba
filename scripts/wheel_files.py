"""Build hook of both distributions: add files to a wheel from a place other than its packages.

The table ``files`` of the hook's configuration maps a path, relative to the project, to a path in the wheel.
hatchling's own ``force-include`` also copies such files into an editable installation, where they would grow stale.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WheelFiles(BuildHookInterface[Any]):
    """Adds the configured files to a standard wheel, and nothing to an editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files to include. Raises FileNotFoundError, in the build, for one that does not exist."""
        if version != "editable":
            files = self.config["files"].items()
            build_data["force_include"].update({str(Path(self.root, source)): target for source, target in files})
