"""The local cluster's command line: `.venv/bin/python k8s/local COMMAND`, or `make cluster-up` and its like."""

import argparse
import sys
from pathlib import Path

from chatbot_cli import screen
from chatbot_cli.errors import CliError, from_os
from localcluster import builds, cluster, images, paths, progress, status, unpacked
from localimages import make

EXAMPLES = """\
examples:
  .venv/bin/python k8s/local up                    start it; the first time this builds it
  eval "$(.venv/bin/python k8s/local env)"         let kubectl and helm of this shell talk to it
  .venv/bin/python k8s/local load-image my.tar     give it an image (docker save, buildah push ... docker-archive:)
  .venv/bin/python k8s/local build jaeger          build one program only
  .venv/bin/python k8s/local down                  stop it and remove its state; what was built stays

Everything lies in $CHATBOT_CLUSTER_HOME, else ~/.cache/chatbot-operator.
$CHATBOT_CLUSTER_API_PORT chooses another port than 6443.
"""


def main() -> int:
    options = _parser().parse_args()
    try:
        return _run(options)
    except CliError as error:
        screen.show_error(error)
        return error.code
    except OSError as error:
        screen.show_error(from_os(error))
        return 1
    except KeyboardInterrupt:
        screen.err.print("\nBroken off; the same command goes on from here.")
        return 130


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="k8s/local",
        description="A real single-node Kubernetes on this machine.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="build what is missing, or only what is named")
    every, usual = (", ".join((*names, unpacked.PACKAGE)) for names in (builds.NAMES, builds.USUAL))
    build.add_argument("names", nargs="*", metavar="NAME", help=f"one of {every}; default: {usual}")
    commands.add_parser("up", help="build what is missing, start the cluster, wait until it is usable")
    commands.add_parser("down", help="stop everything and remove its state")
    commands.add_parser("status", help="show each process, the node and the pods; exit code 1 unless all run")
    load = commands.add_parser("load-image", help="load an image from a docker-archive or OCI tar file")
    load.add_argument("file", type=Path, metavar="FILE")
    made = commands.add_parser(
        "images", help="build this checkout's images and load them; what has not changed is left"
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="such as chat or operator; default: all")
    commands.add_parser("env", help="print what a shell needs to talk to the cluster, for eval")
    return parser


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "build":
            cluster.build(options.names)
        case "up":
            _say_up(cluster.up())
        case "down":
            cleared = str(cluster.down(make.loaded()))
            screen.say("Stopped", f"and removed: {cleared}" if cleared else "nothing ran")
        case "status":
            return 0 if status.show(paths.this_machine()) else 1
        case "load-image":
            images.load(options.file)
            screen.say("Loaded", str(options.file))
        case "images":
            make.images(options.names)
        case "env":
            sys.stdout.write(status.environment(paths.this_machine()) + "\n")
    return 0


def _say_up(outcome: cluster.Outcome) -> None:
    took = f"usable {progress.clock(outcome.seconds)} after its first process" if outcome.seconds else "runs already"
    screen.say("Cluster", f"{took}; {outcome.layout.server}")
    screen.say("Kubeconfig", str(outcome.layout.kubeconfig))
    screen.say("Next", 'eval "$(make --silent cluster-env)" && kubectl get nodes')


if __name__ == "__main__":
    sys.exit(main())
