"""The refresh token of a browser: in a cookie no script can read, sent only to the routes that need it.

Cookies ignore ports: bots on one machine share what the browser keeps, so the bot's name is part of the cookie's.

A browser is told by its `Origin` header, which every browser sends with a POST and no script can leave out.
"""

from fastapi import Request, Response

PATH = "/api/v1/auth"


def is_browser(request: Request) -> bool:
    return "origin" in request.headers


def name(bot: str) -> str:
    return f"chatbot_refresh_{bot}"


def read(request: Request, bot: str) -> str | None:
    return request.cookies.get(name(bot)) or None


def put(request: Request, response: Response, bot: str, token: str, seconds: int) -> None:
    response.set_cookie(
        name(bot), token, max_age=seconds, path=PATH, secure=_encrypted(request), httponly=True, samesite="strict"
    )


def remove(request: Request, response: Response, bot: str) -> None:
    response.delete_cookie(name(bot), path=PATH, secure=_encrypted(request), httponly=True, samesite="strict")


def _encrypted(request: Request) -> bool:
    """Encrypted as far as the browser is concerned.

    The gateway replaces this header in every request. Who reaches our own port without it can only harden or weaken a
    cookie of their own.
    """
    return request.headers.get("X-Forwarded-Proto") == "https"
