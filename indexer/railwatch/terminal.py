"""The console that people read. Rich never parses text as markup, and what reaches the screen is escaped once more.

Renderers pass outside text through `printable` so that columns have the width of what is shown. This here is the belt:
a renderer that forgot does no harm.
"""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook, RenderResult
from rich.control import Control
from rich.segment import Segment

from railwatch.rail.printable import escaped


class Escaped:
    """Anything that rich can render, with what is invisible in its texts escaped."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the segments of what is within."""
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text, keep="\n"), segment.style)


class _EscapeAll(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Wrap all but the cursor's movements, which a live view asks for."""
        return list(_wrapped(renderables))


def _wrapped(renderables: Iterable[ConsoleRenderable]) -> Iterable[ConsoleRenderable]:
    for each in renderables:
        yield each if isinstance(each, Control | Escaped) else Escaped(each)


def make_console(*, stderr: bool = False) -> Console:
    """Return a console on stdout or stderr. What a live view draws by itself must be `Escaped` by its caller."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    console.push_render_hook(_EscapeAll())
    return console
