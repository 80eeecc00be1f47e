"""A small picture in SVG, of frames, arrows and texts. It follows the reader's light or dark scheme."""

from __future__ import annotations

from html import escape

_STYLE = """
.card{fill:#fff;stroke:#d0d7de}text{font:13px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#1f2328}
.small{font-size:12px;fill:#59636e}.mono{font:12px ui-monospace,SFMono-Regular,Menlo,monospace}.strong{font-weight:600}
.plain{fill:#f6f8fa;stroke:#8c959f}.good{fill:#dafbe1;stroke:#1a7f37}.bad{fill:#ffebe9;stroke:#cf222e}
.soft{fill:none;stroke:#8c959f;stroke-dasharray:4 3}.line{stroke:#59636e;fill:none}.cross{stroke:#cf222e;stroke-width:2}
.tip{fill:#59636e}.red{fill:#cf222e}
@media(prefers-color-scheme:dark){.card{fill:#0d1117;stroke:#3d444d}text{fill:#e6edf3}.small{fill:#9198a1}
.plain{fill:#151b23;stroke:#656c76}.good{fill:#12261e;stroke:#3fb950}.bad{fill:#2d1517;stroke:#f85149}
.soft{stroke:#656c76}.line{stroke:#9198a1}.cross{stroke:#f85149}.tip{fill:#9198a1}.red{fill:#f85149}}
"""
WIDTH = 720


class Picture:
    """Collects shapes; `str()` is the SVG."""

    def __init__(self, title: str, height: int) -> None:
        self._title = title
        self._height = height
        self._shapes: list[str] = []

    def text(self, x: float, y: float, text: str, kind: str = "small", anchor: str = "start") -> None:
        """Write one line; its baseline is at `y`."""
        self._shapes.append(f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>')

    def frame(
        self, x: float, y: float, w: float, h: float, lines: str = "", kind: str = "plain", words: str = ""
    ) -> None:
        """Draw a frame with centred lines; `words` is the class of its text; without one the first is bold."""
        self._shapes.append(f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6" class="{kind}"/>')
        said = lines.split("\n") if lines else []
        top = y + h / 2 - 9 * (len(said) - 1) + 4.5
        for number, line in enumerate(said):
            self.text(x + w / 2, top + 18 * number, line, words or ("small" if number else "strong"), "middle")

    def arrow(self, *points: tuple[float, float], text: str = "", above: bool = True) -> None:
        """Draw an arrow along points, with a text at the middle of its first part."""
        (x, y), (to_x, to_y) = points[-2], points[-1]
        route = " ".join(f"{a:g},{b:g}" for a, b in points)
        self._shapes.append(f'<polyline points="{route}" class="line"/>')
        if abs(to_x - x) >= abs(to_y - y):
            back = 7 if to_x < x else -7
            tip = f"{to_x:g},{to_y:g} {to_x + back:g},{to_y - 4:g} {to_x + back:g},{to_y + 4:g}"
        else:
            back = 7 if to_y < y else -7
            tip = f"{to_x:g},{to_y:g} {to_x - 4:g},{to_y + back:g} {to_x + 4:g},{to_y + back:g}"
        self._shapes.append(f'<polygon points="{tip}" class="tip"/>')
        if text:
            (a, b), (c, d) = points[0], points[1]
            self.text((a + c) / 2, (b + d) / 2 + (-6 if above else 16), text, "small", "middle")

    def cross(self, x: float, y: float) -> None:
        """Mark a place where something is killed or cut."""
        self._shapes.append(f'<path d="M{x - 5:g} {y - 5:g}l10 10m0 -10l-10 10" class="cross"/>')

    def __str__(self) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self._height}" width="{WIDTH}" '
            f'height="{self._height}" role="img"><title>{escape(self._title)}</title><style>{_STYLE}</style>\n'
            f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{self._height - 1}" rx="8" class="card"/>\n'
            + "\n".join(self._shapes)
            + "\n</svg>\n"
        )
