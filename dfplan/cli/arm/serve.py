"""`dfplan serve`."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Annotated

from dfplan.cli.common import CPU, FLAT, Compute, app
from dfplan.deploy.remote.gate import ServerLimits

LIMITS = ServerLimits()


@app.command(name="serve")
def serve(
    policy: str,
    host: str = "127.0.0.1",
    port: int = 8765,
    token_file: Path | None = None,
    tls: tuple[Path, Path] | None = None,
    compute: Annotated[Compute, FLAT] = CPU,
    limits: ServerLimits = LIMITS,
) -> None:
    """Run a policy here for robots elsewhere, which drive with `dfplan deploy --server`.

    DFPLAN_TOKEN=... dfplan serve --policy arm-pick --device cuda

    dfplan serve --policy runs/mine --host 0.0.0.0 --token-file token --tls cert.pem key.pem (on the network; see docs/server.md)

    Args:
        policy: shipped model, run folder or checkpoint folder.
        host: address to listen at; 0.0.0.0 for all of this computer's.
        port: to listen at; 0 for any that is free.
        token_file: holds the secret that robots must hold too; the environment variable DFPLAN_TOKEN if left out.
        tls: certificate and key (PEM), which encrypt the connections; robots then connect to wss://.
        compute: where the network runs.
        limits: what anyone may ask of it.
    """
    from dfplan.deploy import PolicyServer, read_token
    from dfplan.deploy.remote.tls import shown
    from dfplan.models import find
    from dfplan.train import checkpoint

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    token, shows = read_token(token_file), None if tls is None else shown(*tls)
    compute.use()
    server = PolicyServer(checkpoint.load(find(policy), compute.device), policy, token, limits, shows)
    gc.collect()
    gc.freeze()  # what is there stays; looking through it again would hold up robots for a tenth of a second
    where = f"{'wss' if tls else 'ws'}://{host}"
    server.run(
        host, port, lambda at: print(f"serving {policy} at {where}:{at}; stop with Ctrl-C", flush=True)
    )
