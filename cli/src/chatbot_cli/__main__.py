"""`chatbot`, also `python -m chatbot_cli`: run one command and turn what goes wrong into words and an exit code."""

import sys

import typer

from chatbot_cli.app import app
from chatbot_cli.errors import CliError, from_os


def main() -> None:
    """Exit codes: 0 done, 1 failed, 2 wrongly called or a wrong file, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str], program: typer.Typer = app, name: str | None = None) -> int:
    """Exit code of a command. `name` is what its help calls the program, if not what it was started as."""
    try:
        program(arguments, prog_name=name)
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except CliError as error:
        return _show(error)
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        return _show(from_os(error))


def _show(error: CliError) -> int:
    from chatbot_cli.screen import show_error

    show_error(error)
    return error.code


if __name__ == "__main__":
    main()
