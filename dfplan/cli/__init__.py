"""The `dfplan` command: data, record, train, plan, eval, deploy, home, monitor, serve, plot."""

from __future__ import annotations

import sys

from dfplan.cli import data, deploy, evaluate, home, monitor, plan, record, serve, train  # noqa: F401  each adds its commands, in the order of the help
from dfplan.cli.common import app


def main() -> None:
    """Run the command; a refusal is one line on stderr and exit code 2."""
    try:
        app.cli(prog="dfplan", description="Plan, imitate and control with one Diffusion Forcing model.")
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print("dfplan:", " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("dfplan: stopped", file=sys.stderr)
        raise SystemExit(130) from None
