import json
import subprocess
import sys


def test_bench_prints_what_the_contract_names() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamasr", "bench", "--json", "--minutes", "1"],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    figures = json.loads(done.stdout)
    assert figures["chunk_latency_ms"].keys() == {"p50", "p95", "p99"}
    assert figures["stage_seconds"].keys() == {"features", "network", "search"}
    assert all(seconds > 0 for seconds in figures["stage_seconds"].values())
    assert 0 < figures["rtf"] < 10
    assert figures["rss_mb"] > 10
    assert figures["startup_seconds"] > 0
    old = figures["long_stream"]
    assert old["minutes"] == 1
    assert 0 < old["first_minute_rtf"] == old["last_minute_rtf"] == old["median_rtf"]
    assert 10 < old["first_rss_mb"] <= old["last_rss_mb"] < 2 * figures["rss_mb"]
