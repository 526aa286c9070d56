"""The words of a web page. Each step goes forward, so that no page, however it is made, takes long.

Python's own HTML parser (3.11) needs half a minute for 32 kB of `<a <a <a`.
"""

import re
from collections.abc import Iterator
from html import unescape

_TAG = re.compile(r"<(?:(/?)([a-zA-Z][a-zA-Z0-9]*)|[!?/])")
"""Where one begins, or a comment, or what browsers take for one; any other `<` is text."""
_UNSEEN = {
    name: re.compile(rf"</{name}\b", re.IGNORECASE) for name in ("script", "style", "noscript", "template", "svg")
}
"""Elements that a reader does not see, and how each ends."""
_INLINE = frozenset({"a", "abbr", "b", "cite", "code", "em", "i", "mark", "q", "s", "small", "span", "strong", "u"})


def text_of(html: str) -> str:
    """Title and text, one line for each block; nothing of what a reader does not see."""
    lines = (line.strip() for line in "".join(_pieces(html)).splitlines())
    return "\n".join(line for line in lines if line)


def _pieces(html: str) -> Iterator[str]:
    at = 0
    while tag := _TAG.search(html, at):
        yield _words(html[at : tag.start()])
        close = "-->" if html.startswith("<!--", tag.start()) else ">"
        end = html.find(close, tag.end())
        if end < 0:
            return
        at, name = end + len(close), (tag[2] or "").lower()
        if name in _UNSEEN and not tag[1]:
            after = _UNSEEN[name].search(html, at)
            if after is None:
                return
            at = after.start()
        if name and name not in _INLINE:
            yield "\n"
    yield _words(html[at:])


def _words(text: str) -> str:
    return re.sub(r"\s+", " ", unescape(text))
