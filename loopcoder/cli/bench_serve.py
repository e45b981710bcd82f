"""`loopcoder bench serve`: the server under load, beside others."""

import json
import os
import sys
from typing import Annotated

import typer

from loopcoder.bench import settings
from loopcoder.bench.serving.plan import PEERS


def serve(
    model: Annotated[
        str | None, typer.Option(help="Bundled name, directory or hub id; loopcoder-nano if unset.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="Instead of --model: a shape; random weights are written.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="With --like: number of layers.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="With --like: change a field.")
    ] = None,
    loops: Annotated[
        str | None, typer.Option(help="Loop counts, a server each; the model's own if unset.")
    ] = None,
    clients: Annotated[str, typer.Option(help="Clients at once.")] = "1,4,16,64",
    stream: Annotated[str, typer.Option(help="Ask for streams: yes, no, or yes,no.")] = "yes,no",
    requests: Annotated[
        int | None, typer.Option(help="Of a measurement; 4 a client, 32 at least, if unset.")
    ] = None,
    prompt: Annotated[int, typer.Option(help="Tokens of each prompt.")] = 128,
    tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = 64,
    rounds: Annotated[int, typer.Option(help="Measurements of each case.")] = 3,
    threads: Annotated[
        int | None,
        typer.Option(help="Of an engine; if unset, a core is left for client and HTTP."),
    ] = None,
    peer: Annotated[
        str | None, typer.Option(help="Servers of a dense model: transformers,vllm.")
    ] = None,
    peer_python: Annotated[
        list[str] | None, typer.Option(help="Python in which a peer is installed: vllm=PATH.")
    ] = None,
    client: Annotated[str, typer.Option(help="Load generator: guidellm or vllm.")] = "guidellm",
    client_python: Annotated[
        str | None, typer.Option(help="Python in which it is installed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time to the first token and tokens a second of a server, by number of clients.

    Example: loopcoder bench serve --clients 1,16 --client-python peers/guidellm/bin/python
    """
    from loopcoder.bench.serving.clients import CLIENTS
    from loopcoder.bench.serving.plan import Plan
    from loopcoder.bench.serving.run import measure_serving
    from loopcoder.bench.target import find_target

    target = find_target(model, like, layers, set_ or ())
    counts = settings.numbers("--clients", clients)
    streams = settings.words("--stream", stream, ("yes", "no"))
    (client,) = settings.words("--client", client, tuple(CLIENTS))[:1]
    settings.positive(prompt=prompt, tokens=tokens, rounds=rounds)
    if requests is not None:
        settings.positive(requests=requests)
    if threads is None:
        threads = max(1, settings.thread_count(None) - 1)
    own = str(target.config.plt_num_loops)
    result = measure_serving(
        target,
        Plan(
            clients=counts,
            streams=tuple(word == "yes" for word in streams),
            requests=requests,
            prompt=prompt,
            tokens=tokens,
            rounds=rounds,
        ),
        loops=settings.numbers("--loops", loops or own),
        peers=settings.words("--peer", peer, PEERS) if peer else (),
        pythons=settings.peer_pythons(peer_python or []),
        client=CLIENTS[client],
        client_python=client_python or os.environ.get("LOOPCODER_CLIENT_PYTHON") or sys.executable,
        threads=settings.thread_count(threads),
        report=lambda line: print(line, file=sys.stderr),
    )
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    from loopcoder.bench.serving.tables import show

    show(result)
