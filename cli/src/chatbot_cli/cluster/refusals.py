"""What kubectl says when it fails, in words, each with the next step."""

import re
from collections.abc import Callable
from enum import Enum

from chatbot_resource.model import KIND

from chatbot_cli.errors import CliError

CHART = "helm upgrade --install chatbot-operator charts/chatbot-operator --namespace chatbot-system --create-namespace"
MAX_LINES = 20


class Why(Enum):
    UNKNOWN_KIND = "the cluster does not know this kind"
    NOT_FOUND = "there is no such object"
    FORBIDDEN = "no rights"
    UNAUTHORIZED = "no credentials"
    UNREACHABLE = "no answer"
    CONFIGURATION = "kubectl is not set up for this"
    INVALID = "the API server refuses what was sent"
    OTHER = "anything else"


class Refused(CliError):
    """kubectl failed."""

    def __init__(
        self, why: Why, message: str, hint: str | None = None, details: list[str] | None = None, what: str = ""
    ) -> None:
        super().__init__(message, hint, details or [], 2 if why is Why.INVALID else 1)
        self.why = why
        self.what = what
        """The kind that is not known."""


Here = Callable[[str], str]
"""Makes a kubectl command with the flags that were given."""


def refusal(said: str, here: Here) -> Refused:
    """
    Args:
        said: the error stream of kubectl.
    """
    lines = [line for line in said.splitlines() if line.strip() and not re.match(r"[EIW]\d{4} |Warning: ", line)]
    text = "\n".join(lines) or said.strip() or "kubectl failed without a word"
    for pattern, explain in _RULES:
        if match := re.search(pattern, text, re.DOTALL | re.IGNORECASE):
            return explain(match, here)
    return Refused(Why.OTHER, "kubectl failed:", None, text.splitlines()[-MAX_LINES:])


def _unknown_kind(match: re.Match[str], here: Here) -> Refused:
    what = match[1]
    if KIND.lower() in what.lower():
        hint = f"Install the operator: {CHART}  (another cluster: --context NAME)"
        return Refused(Why.UNKNOWN_KIND, f"This cluster does not know {KIND}s.", hint, [], what)
    return Refused(Why.UNKNOWN_KIND, f"This cluster does not know {what}.", here("api-resources"), [], what)


def _no_namespace(match: re.Match[str], here: Here) -> Refused:
    name = match[1]
    return Refused(Why.NOT_FOUND, f"There is no namespace {name}.", f"Create it: {here(f'create namespace {name}')}")


def _not_found(match: re.Match[str], here: Here) -> Refused:
    what, name = match[1].partition(".")[0], match[2]
    return Refused(Why.NOT_FOUND, f"There is no {name} among the {what}.", here(f"get {what}"))


def _forbidden(match: re.Match[str], here: Here) -> Refused:
    hint = f"Ask whoever administers the cluster for that right; what you may do: {here('auth can-i --list')}"
    lacking = [_sentence(part) for part in re.split(r"Error from server \(Forbidden\): ", match[1])]
    return Refused(Why.FORBIDDEN, "You lack a right:" if len(lacking) == 1 else "You lack rights:", hint, lacking)


def _unauthorized(_: re.Match[str], here: Here) -> Refused:
    hint = f"Sign in the way this cluster wants it, and check with: {here('auth whoami')}"
    return Refused(Why.UNAUTHORIZED, "The API server does not accept kubectl's credentials.", hint)


def _unreachable(match: re.Match[str], here: Here) -> Refused:
    hint = f"Is it the right cluster? {here('cluster-info')} · kubectl config get-contexts · --context NAME"
    return Refused(Why.UNREACHABLE, "The API server does not answer.", hint, [_sentence(match[0])])


def _no_context(match: re.Match[str], _: Here) -> Refused:
    return Refused(Why.CONFIGURATION, f"kubectl knows no context {match[1]}.", "There are: kubectl config get-contexts")


def _no_file(match: re.Match[str], _: Here) -> Refused:
    return Refused(Why.CONFIGURATION, f"There is no kubeconfig {match[1]}.", "Name one with --kubeconfig FILE.")


def _unknown_field(match: re.Match[str], here: Here) -> Refused:
    hint = f"Is the operator's chart up to date? What it knows: {here('explain chatbotdeployment.spec --recursive')}"
    return Refused(Why.INVALID, "The API server knows no such field:", hint, match[1].strip().split(", "))


def _invalid(match: re.Match[str], _: Here) -> Refused:
    mistakes = [line.removeprefix("* ") for line in match[1].splitlines()]
    return Refused(Why.INVALID, "The API server refuses the resource:", None, [_mistake(line) for line in mistakes])


def _other_namespace(match: re.Match[str], _: Here) -> Refused:
    text = f"The file says namespace {match[1]}, the command {match[2]}."
    return Refused(Why.INVALID, text, f"Leave -n out, or say -n {match[1]}.")


def _mistake(line: str) -> str:
    """Without the value, which may be long and says `object` where it matters."""
    return re.sub(r': Invalid value: (".*?"|\S+): ', ": ", line)


def _sentence(text: str) -> str:
    return " ".join(text.split())


_RULES: tuple[tuple[str, Callable[[re.Match[str], Here], Refused]], ...] = (
    (r"the server doesn't have a resource type \"([^\"]+)\"", _unknown_kind),
    (r"no matches for kind \"([^\"]+)\"", _unknown_kind),
    (r"\(NotFound\)[^\n]*namespaces \"([^\"]+)\" not found", _no_namespace),
    (r"\(NotFound\): ([^ ]+) \"([^\"]+)\" not found", _not_found),
    (r"\(Forbidden\): (.+)", _forbidden),
    (r"\(Unauthorized\)|You must be logged in|provide credentials|asked for the client to provide", _unauthorized),
    (
        r"the namespace from the provided object \"([^\"]+)\" does not match the namespace \"([^\"]+)\"",
        _other_namespace,
    ),
    (r"strict decoding error: (.+)", _unknown_field),
    (r"is invalid: \n?(.+)", _invalid),
    (r"context was not found for specified context: (\S+)", _no_context),
    (r"context \"([^\"]+)\" does not exist", _no_context),
    (r"stat ([^\n:]+): no such file or directory", _no_file),
    (
        r"The connection to the server[^\n]*|Unable to connect to the server[^\n]*|[^\n]*(no such host|i/o timeout|"
        r"context deadline exceeded|TLS handshake timeout|connection refused|Client\.Timeout)[^\n]*",
        _unreachable,
    ),
)
