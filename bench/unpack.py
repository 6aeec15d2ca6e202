"""How fast a layer is unpacked, beside `gunzip -c` alone on the same file: some 300 MB of this machine's own /usr in 5,000 files or more.
    python3 bench/unpack.py"""

import hashlib
import os
import pathlib
import resource
import statistics
import subprocess
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BENCH = ROOT / "build/release/bench/unpack_bench_main"
BYTES = 320_000_000
ROUNDS = 5


def make_layer(path):
    """The first files of /usr, none larger than 8 MB. Returns their number."""
    files = left = 0
    with tarfile.open(path, "w") as tar:
        left = BYTES
        for root, folders, names in os.walk("/usr"):
            folders.sort()
            tar.add(root, recursive=False)
            for name in sorted(names):
                file = os.path.join(root, name)
                size = os.lstat(file).st_size
                if size < 8_000_000 and size < left:
                    tar.add(file, recursive=False)
                    left, files = left - size, files + 1
            if left < 1_000_000:
                break
    return files


def digest(path):
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def gunzip(path):
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with open(os.devnull, "wb") as null:
        subprocess.run(["gunzip", "-c", path], stdout=null, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    subprocess.run(["ninja", "-C", ROOT / "build/release", "unpack_bench_main"], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory(prefix="tidemill-unpack-") as folder:
        folder = pathlib.Path(folder)
        tar, blob = folder / "layer.tar", folder / "layer.tar.gz"
        files = make_layer(tar)
        subprocess.run(["gzip", "-k", tar], check=True)
        digests = digest(blob), digest(tar)
        megabytes = tar.stat().st_size / 1e6
        print(f"  a layer of {megabytes:.0f} MB, {files} files, {blob.stat().st_size / 1e6:.0f} MB compressed; medians of {ROUNDS} rounds")
        rounds = []
        for number in range(ROUNDS):
            wall, processor = gunzip(blob)
            out = subprocess.run([BENCH, blob, *digests, folder / f"out{number}"], check=True, capture_output=True, text=True).stdout
            rounds.append((wall, processor, *map(float, out.split())))
        wall, processor, ours, ours_processor, synced = (statistics.median(column) for column in zip(*rounds))
        print(f"  gunzip alone    {megabytes / wall:8.0f} MB/s   {processor:.2f} s of processor time")
        print(f"  unpacking       {megabytes / ours:8.0f} MB/s   {ours_processor:.2f} s of processor time; {megabytes / synced:.0f} MB/s until all is on disk")
        print(f"  {'unpacking beside gunzip':<58} {wall / ours:14.2f}   target ≥ 0.90")


if __name__ == "__main__":
    main()
