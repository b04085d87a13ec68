"""The `dfplan` command."""

from __future__ import annotations

import os
import signal
import sys
import threading

import dfplan
from dfplan.cli.arm import deploy  # noqa: F401  each adds its commands
from dfplan.cli.common import app
from dfplan.tools.errors import one_of, told

try:
    from dfplan.cli import data, evaluate, hub, judge, lists, maze, plan, train  # noqa: F401
    from dfplan.cli.arm import check, export, home, monitor, record, replay, serve  # noqa: F401
    from dfplan.cli.many import sweep  # noqa: F401
    from dfplan.cli.settings import spelled_out
    from dfplan.train.config import TrainConfig
    from dfplan.train.imitate import Layout

    MISSING = ""
except ModuleNotFoundError as error:  # a robot that runs an exported policy has less
    MISSING = f"{error}; without what dfplan depends on there is `dfplan deploy` alone, see docs/runtime.md"

COMMANDS = "check data deploy eval export home hub judge list maze monitor plan plot record replay serve sweep train".split()
_ABOUT = "Plan, imitate and control with one Diffusion Forcing model. `dfplan --version` says which dfplan this is."


def main() -> None:
    """Run the command; a refusal is one line on stderr and exit code 2. SIGTERM stops it as Ctrl-C does."""
    words, mine = sys.argv[1:], threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if mine else None
    try:
        if words == ["--version"]:
            print(f"dfplan {dfplan.__version__}")
            return
        if words and not words[0].startswith("-"):
            one_of("command", words[0], COMMANDS)
            if MISSING and words[0] != "deploy":
                raise ImportError(MISSING)
        if words[:1] == ["train"]:
            words = spelled_out(words, TrainConfig, Layout)
        app.cli(prog="dfplan", description=_ABOUT, args=words)
    except BrokenPipeError:  # whoever read our output has seen enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print("dfplan:", told(error), file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("dfplan: stopped", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        if mine:
            signal.signal(signal.SIGTERM, before)
