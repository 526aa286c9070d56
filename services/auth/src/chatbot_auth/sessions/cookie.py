"""The refresh token of a browser: in a cookie no script can read, sent only to the routes that need it.

A browser is told by its `Origin` header, which every browser sends with a POST and no script can leave out.
"""

from fastapi import Request, Response

NAME = "chatbot_refresh"
PATH = "/api/v1/auth"


def is_browser(request: Request) -> bool:
    return "origin" in request.headers


def read(request: Request) -> str | None:
    return request.cookies.get(NAME) or None


def put(request: Request, response: Response, token: str, seconds: int) -> None:
    response.set_cookie(
        NAME, token, max_age=seconds, path=PATH, secure=_encrypted(request), httponly=True, samesite="strict"
    )


def remove(request: Request, response: Response) -> None:
    response.delete_cookie(NAME, path=PATH, secure=_encrypted(request), httponly=True, samesite="strict")


def _encrypted(request: Request) -> bool:
    """Encrypted as far as the browser is concerned; the gateway removes this header from what clients send."""
    return request.url.scheme == "https" or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
