"""`railwatch docs` and `railwatch config example`: the pages and the configuration that come with the program."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from railwatch.cli.errors import InvalidInput, NotFound
from railwatch.cli.output import say, write_document

if TYPE_CHECKING:
    from railwatch.ops.manual import Page

force_option = click.option("--force", is_flag=True, help="Overwrite files that exist and differ.")


@click.command()
@click.argument("topic", required=False)
@click.option("--write", "folder", type=click.Path(path_type=Path), metavar="DIR", help="Write files instead.")
@force_option
def docs(topic: str | None, folder: Path | None, force: bool) -> None:
    """List the documentation, or print the page of TOPIC.

    With --write, write that page, or all pages, below DIR.
    A file that exists and differs stays, unless --force is given.
    """
    from railwatch.ops.manual import PageNotFound, find_page, pages

    try:
        selected = pages() if topic is None else [find_page(topic)]
    except PageNotFound as error:
        raise NotFound(str(error)) from None
    if folder is not None:
        _write_pages(selected, folder, force=force)
    elif topic is None:
        _list_topics(selected)
    else:
        write_document(selected[0].text)


@click.group()
def config() -> None:
    """Start a configuration."""


@config.command()
@click.option("--write", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE instead.")
@force_option
def example(file: Path | None, force: bool) -> None:
    """Print the annotated configuration, which explains each key.

    With --write, write it to FILE. A file that exists and differs stays, unless --force is given.
    """
    from railwatch.ops.manual import FileDiffers, example_config, write_example

    if file is None:
        write_document(example_config())
        return
    try:
        write_example(file, force=force)
    except (FileDiffers, OSError) as error:
        raise _not_written(error) from None
    say(f"{file} is written. Edit it, then run: railwatch check --config {file}")


def _write_pages(selected: list["Page"], folder: Path, *, force: bool) -> None:
    from railwatch.ops.manual import FileDiffers, write_pages

    try:
        written = write_pages(selected, folder, force=force)
    except (FileDiffers, OSError) as error:
        raise _not_written(error) from None
    say(f"{len(written)} files are written below {folder}")


def _not_written(error: Exception) -> InvalidInput:
    if isinstance(error, OSError):
        return InvalidInput(f"{error.filename} cannot be written: {error.strerror}")
    return InvalidInput(f"{error}; nothing is written. Name another place, or add --force to overwrite it")


def _list_topics(selected: list["Page"]) -> None:
    width = max(len(page.topic) for page in selected)
    for page in selected:
        say(f"{page.topic:{width}}  {page.title}")
    say("")
    say("Print a page: railwatch docs TOPIC. Write all: railwatch docs --write DIR")
