"""A failure the user can do something about: what happened, what to do, and the lines that show it."""

import errno
from collections.abc import Sequence

INSTALL = "Install it with: pip install 'chatbot-cli[laptop]'"


class CliError(Exception):
    """Shown as one message, never as a traceback.

    Args:
        message: what is wrong, one sentence.
        hint: what to do about it.
        details: lines that show it, such as the end of a log.
        code: exit code of the command.
    """

    def __init__(self, message: str, hint: str | None = None, details: Sequence[str] = (), code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = list(details)
        self.code = code


_ADVICE = {
    errno.ENOSPC: ("The disk is full", "Free some space and run the same command again."),
    errno.EDQUOT: ("The disk quota is used up", "Free some space and run the same command again."),
    errno.EROFS: ("The file system is read-only", "Set CHATBOT_HOME to a folder that can be written."),
    errno.EACCES: ("No permission", "Set CHATBOT_HOME to a folder of your own, or mend the permissions."),
    errno.EPERM: ("Not permitted", "Set CHATBOT_HOME to a folder of your own, or mend the permissions."),
    errno.ENOTDIR: ("A file stands where a folder is needed", "Set CHATBOT_HOME to a folder of your own."),
    errno.EEXIST: ("A file stands where a folder is needed", "Set CHATBOT_HOME to a folder of your own."),
    errno.EFBIG: ("The file would grow beyond a limit", "Raise the limit with 'ulimit -f unlimited' and try again."),
    errno.EMFILE: ("Too many open files", "Raise the limit with 'ulimit -n 4096' and try again."),
}


def from_os(error: OSError) -> CliError:
    """The same failure in words, with a way out."""
    text, hint = _ADVICE.get(error.errno or 0, (error.strerror or str(error), None))
    return CliError(f"{text}: {error.filename}" if error.filename else f"{text}.", hint)
