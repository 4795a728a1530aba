"""What mkdocs.yml cannot say: folders in the navigation, and diagrams without another host."""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from pymdownx.superfences import fence_code_format

SCRIPT = "assets/mermaid.min.js"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Expand folders of the navigation, and let blocks in the language ``mermaid`` become diagrams.

    Without the script that draws diagrams such a block stays text, so that a page never fetches it from another host.
    """
    pages = Path(config.docs_dir)
    config.nav = expanded(config.nav, pages)
    if (pages / SCRIPT).exists():
        fence = {"name": "mermaid", "class": "mermaid", "format": fence_code_format}
        config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
        config.extra_javascript.append(SCRIPT)
    return config


def expanded(item: Any, pages: Path) -> Any:
    """Return a part of the navigation, with a folder (``docs/adr/``) replaced by its pages, its README first."""
    if isinstance(item, dict):
        return {title: expanded(part, pages) for title, part in item.items()}
    if isinstance(item, list):
        return [expanded(part, pages) for part in item]
    if not item.endswith("/"):
        return item
    found = sorted((pages / item).glob("*.md"), key=lambda page: (page.name != "README.md", page.name))
    return [str(page.relative_to(pages)) for page in found]
