"""The load generators: GuideLLM, and vLLM's `bench serve`.

GuideLLM is the usual one: it can ask with and without a stream, and it can leave out the fields
that only some servers know. vLLM's reads a stream at a third of the processor time, which matters
where client and server share two cores, but knows streams only and always sends fields that
transformers' server refuses.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loopcoder.bench.serving.plan import Client, Load, Outcome
from loopcoder.errors import RequestError

_RESULT = "load.json"
_SCENARIO = "scenario.json"


class GuideLLM:
    """https://github.com/vllm-project/guidellm, one process that sends requests."""

    name = "guidellm"
    advice = (
        "install guidellm in an environment of its own (docs/performance.md) and give "
        "--client-python PATH or LOOPCODER_CLIENT_PYTHON"
    )

    def check(self, streams: Sequence[bool], peers: Sequence[str]) -> None:
        """It can do all."""

    def command(self, python: str, load: Load, scratch: Path) -> list[str]:
        """See `Client`."""
        scenario = scratch / _SCENARIO
        scenario.write_text(json.dumps({"spec": self._spec(load, scratch)}), encoding="utf-8")
        return [python, "-m", "guidellm", "run", "-c", str(scenario), "--disable-console"]

    def _spec(self, load: Load, scratch: Path) -> dict[str, Any]:
        fields: dict[str, Any] = {"temperature": 0}
        if load.strict:
            fields["ignore_eos"] = None  # what is None is not sent
        return {
            "backend": {
                "kind": "openai_http",
                "target": load.url,
                "model": load.model,
                "request_format": "/v1/completions",
                "http2": False,
                "stream": load.stream,
                "extras": {"body": fields},
            },
            "profile": {"kind": "concurrent", "streams": [load.clients]},
            "constraints": [{"kind": "max_requests", "count": load.requests}],
            "tokenizer": {"kind": "huggingface_auto", "model": str(load.tokenizer)},
            "data": [{"kind": "json_file", "path": str(load.prompts)}],
            "outputs": [{"kind": "json", "path": str(scratch / _RESULT)}],
            "metrics": {"kind": "generative", "sample_size": 0, "warnings": []},
        }

    def read(self, scratch: Path) -> Outcome:
        """See `Client`."""
        found = _result(scratch)["benchmarks"][0]
        metrics, totals = found["metrics"], found["metrics"]["request_totals"]
        first, between = metrics["time_to_first_token_ms"], metrics["inter_token_latency_ms"]
        streamed = found["config"]["backend"]["stream"]
        return Outcome(
            requests=totals["successful"],
            errors=totals["total"] - totals["successful"],
            tokens=round(metrics["output_token_count"]["successful"]["total_sum"]),
            seconds=found["duration"],
            ttft=_milliseconds(first["successful"]["median"]) if streamed else None,
            ttft_p90=_milliseconds(_p90(first["successful"])) if streamed else None,
            tpot=_milliseconds(between["successful"]["median"]) if streamed else None,
            latency=metrics["request_latency"]["successful"]["median"],
        )


class VllmBench:
    """`vllm bench serve` on vLLM's custom data set, which is our file of prompts.

    Called as a module: the `vllm` command of the CPU package looks for a version that only the
    GPU package has.
    """

    name = "vllm"
    advice = (
        "install vllm and pandas in an environment of their own (docs/performance.md) and give "
        "--client-python PATH or LOOPCODER_CLIENT_PYTHON"
    )
    _RUN = (
        "from vllm.benchmarks.serve import add_cli_args, main\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "parser = FlexibleArgumentParser()\n"
        "add_cli_args(parser)\n"
        "main(parser.parse_args())"
    )

    def check(self, streams: Sequence[bool], peers: Sequence[str]) -> None:
        """Streams only, and no strict server."""
        if False in streams:
            raise RequestError("--client vllm asks for streams only: give --stream yes")
        if "transformers" in peers:
            raise RequestError(
                "--client vllm sends fields that transformers' server refuses; give --client "
                "guidellm"
            )

    def command(self, python: str, load: Load, scratch: Path) -> list[str]:
        """See `Client`."""
        options = {
            "backend": "openai",
            "base-url": load.url,
            "model": load.model,
            "tokenizer": load.tokenizer,
            "dataset-name": "custom",
            "dataset-path": load.prompts,
            "custom-output-len": -1,  # as the file says
            "num-prompts": load.requests,
            "max-concurrency": load.clients,
            "percentile-metrics": "ttft,tpot,e2el",
            "metric-percentiles": "90",
            "temperature": 0,
            "ready-check-timeout-sec": 0,
            "result-filename": scratch / _RESULT,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        flags = ["skip-chat-template", "disable-shuffle", "disable-tqdm", "ignore-eos"]
        flags.append("save-result")
        return [python, "-c", self._RUN, *words, *(f"--{flag}" for flag in flags)]

    def read(self, scratch: Path) -> Outcome:
        """See `Client`."""
        found = _result(scratch)
        return Outcome(
            requests=found["completed"],
            errors=found["failed"],
            tokens=found["total_output_tokens"],
            seconds=found["duration"],
            ttft=_milliseconds(found["median_ttft_ms"]),
            ttft_p90=_milliseconds(found["p90_ttft_ms"]),
            tpot=_milliseconds(found["median_tpot_ms"]),
            latency=_milliseconds(found["median_e2el_ms"]),
        )


CLIENTS: Mapping[str, Client] = {each.name: each for each in (GuideLLM(), VllmBench())}


def forget(scratch: Path) -> None:
    """Remove the results of the last measurement, so that nobody takes them for the next one's."""
    (scratch / _RESULT).unlink(missing_ok=True)


def _result(scratch: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((scratch / _RESULT).read_text(encoding="utf-8"))
    return found


def _p90(metric: Mapping[str, Any]) -> float:
    value: float = metric["percentiles"]["p90"]
    return value


def _milliseconds(value: float) -> float:
    return value / 1e3
