"""``spanpost preview``: draw the Slack messages for people without Slack."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from spanpost.model.checkpoints import Kind
from spanpost.model.errors import ConfigError
from spanpost.text.locales import Language, locale

if TYPE_CHECKING:
    from uuid import UUID

    from spanpost.demo.gallery import GalleryPiece
    from spanpost.model.tasks import Task
    from spanpost.sinks.slack.picture import ShownImage
    from spanpost.sinks.slack.style import SlackStyle

#: Names of the executables of Chromium and its relatives.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_WIDTH, _MOST_HEIGHT = 760, 16_000


def preview(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Recorded telemetry; without any, a gallery of every status."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Output file of the page.")] = None,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="Output file of a picture; needs an installed Chromium or Chrome."),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="As workspaces without rich blocks show it.")] = False,
    dark: Annotated[
        bool, typer.Option("--dark", help="Draw the picture in dark mode; the page follows its reader's system.")
    ] = False,
    width: Annotated[
        int, typer.Option("--width", help="Width of the picture in pixels: 380 is a telephone.", min=320, max=2000)
    ] = _WIDTH,
    buttons: Annotated[bool, typer.Option("--buttons/--no-buttons", help="Show the buttons for answers.")] = True,
    language: Annotated[
        Language | None, typer.Option("--language", help="Language of spanpost's text. Default: that of the settings.")
    ] = None,
) -> None:
    """Draw the Slack messages of recorded tasks, or of a sample task in each status. Nothing is posted."""
    from spanpost.sinks.slack.picture import page
    from spanpost.sinks.slack.render import Style

    style = Style.PLAIN if plain else Style.RICH
    slack_style = _slack_style(buttons, language)
    shown = _of_recordings(files, style, slack_style) if files else _of_gallery(style, slack_style)
    if not shown:
        raise ConfigError("no tasks: these files hold no agent's spans; `spanpost replay` shows what was read")
    if html is None and png is None:
        html = Path("spanpost-preview.html")
    drawn = page(shown)
    if html is not None:
        _write(html, drawn)
        print(f"{html}: {len(shown)} {'message' if len(shown) == 1 else 'messages'}; open it in a browser")
    if png is not None:
        _photograph(drawn, png, is_dark=dark, width=width)
        print(png)


#: Address of the board in a picture, where the settings have none.
EXAMPLE = "https://agents.example"


def _slack_style(has_buttons: bool, language: Language | None) -> SlackStyle:
    """Return the style of the messages, from the settings if there are any."""
    from spanpost.settings import load
    from spanpost.sinks.slack import slack_style_of
    from spanpost.sinks.slack.settings import SlackSettings

    settings = load()
    section = settings.sinks.get("slack")
    slack_style = slack_style_of(section if isinstance(section, SlackSettings) else SlackSettings())
    slack_style = msgspec.structs.replace(slack_style, public_url=settings.api.public_url or EXAMPLE)
    if language is not None:
        slack_style = msgspec.structs.replace(slack_style, locale=locale(language))
    return msgspec.structs.replace(slack_style, is_interactive=has_buttons)


def _of_gallery(style: object, slack_style: SlackStyle) -> list[ShownImage]:
    from spanpost.demo.gallery import gallery, summaries
    from spanpost.sinks.slack.picture import ShownImage
    from spanpost.sinks.slack.render import Style
    from spanpost.sinks.slack.summaries import draw

    many = [
        ShownImage(message=draw(one, key="", style=Style(str(style)), slack_style=slack_style), caption=caption)
        for caption, one in summaries()
    ]
    return [*(_shown(piece, style, slack_style) for piece in gallery()), *many]


def _of_recordings(files: Iterable[Path], style: object, slack_style: SlackStyle) -> list[ShownImage]:
    from spanpost.demo.gallery import GalleryPiece
    from spanpost.runtime.replay import replay

    files = list(files)
    for file in files:
        if not file.is_file():
            raise ConfigError(f"{file}: there is no such file; name recorded OTLP bodies")
    result = replay(files)
    tasks = {task.uid: task for task in result.tasks if task.is_announced}
    shown = []
    for task in tasks.values():
        if task.parent_uid in tasks:
            continue
        children = [child for child in tasks.values() if child.parent_uid == task.uid]
        family = {task.uid} | {child.uid for child in tasks.values() if child.root_uid == task.uid}
        checkpoints = [one for one in result.checkpoints if one.task_uid in family and one.kind is not Kind.START]
        shown.append(
            _shown(
                GalleryPiece(caption="", task=task, children=children, checkpoints=checkpoints),
                style,
                slack_style,
                tasks,
            )
        )
    return shown


def _shown(
    piece: GalleryPiece, style: object, slack_style: SlackStyle, family: Mapping[UUID, Task] = MappingProxyType({})
) -> ShownImage:
    from spanpost.sinks.slack.picture import ShownImage
    from spanpost.sinks.slack.render import Style, root
    from spanpost.sinks.slack.replies import reply

    drawn = Style(str(style))
    replies = []
    for one in piece.checkpoints:
        whose = family.get(one.task_uid, piece.task)
        figures = piece.figures if one.kind is Kind.END else ()
        count = piece.counts.get(one.id, 1)
        is_root = whose is piece.task
        replies.append(
            reply(
                whose, one, key="", is_root=is_root, style=drawn, slack_style=slack_style, count=count, figures=figures
            )
        )
    message = root(
        piece.task, piece.children, key="", style=drawn, slack_style=slack_style, moved_to=piece.continued_at
    )
    return ShownImage(message=message, replies=replies, caption=piece.caption)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; name another with --html") from None


def _photograph(drawn: str, png: Path, *, is_dark: bool, width: int) -> None:
    """Let a browser draw the page. It measures the page first, so that the picture is neither cut nor padded."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise ConfigError(f"--png needs a browser ({', '.join(BROWSERS[:3])}); install one, or take --html and open it")
    colour_scheme = (
        ["--blink-settings=preferredColorScheme=0"] if is_dark else ["--blink-settings=preferredColorScheme=1"]
    )
    with tempfile.TemporaryDirectory(prefix="spanpost-preview-") as directory:
        page = Path(directory) / "page.html"
        measured = drawn.replace(
            "</body>",
            "<script>document.title='h'+Math.ceil(document.documentElement.getBoundingClientRect().height)</script></body>",
        )
        page.write_text(measured, encoding="utf-8")
        base = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={directory}/profile",
            *colour_scheme,
        ]
        document = _run([*base, f"--window-size={width},600", "--dump-dom", page.as_uri()])
        _, _, rest = document.partition("<title>h")
        height = min(int(rest.partition("<")[0] or 600), _MOST_HEIGHT) if rest else _MOST_HEIGHT
        page.write_text(drawn, encoding="utf-8")
        _run([*base, f"--window-size={width},{height}", f"--screenshot={png.resolve()}", page.as_uri()])
    if not png.is_file():
        raise ConfigError(f"{browser} made no picture at {png}; take --html and open it")


def _run(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"{command[0]} failed ({type(error).__name__}); take --html and open it in a browser"
        ) from None
