#!/usr/bin/env python3
"""The gateway's engine beside nginx: CPU microseconds per request, from /proc/PID/schedstat, which neighbours on the machine disturb little.

    bench/gateway.py [build/release/tidemill] [--seconds 5] [--rounds 3] [--json]

The proxy has CPU 0 for itself; wrk and a backend that costs next to nothing share CPU 1 (on a machine with one CPU all share it). Rounds of both are interleaved, medians printed.
"""
import argparse, json, os, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

NGINX = """daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  keepalive_requests 100000000; proxy_buffers 8 32k; proxy_buffer_size 32k; proxy_busy_buffers_size 64k;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 128; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=1024;
    location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-Id $request_id; }} }}
}}"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port, process):
    while True:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)


def pinned(cpu, argv):
    cpu = min(cpu, os.cpu_count() - 1)
    return subprocess.Popen(["taskset", "-c", str(cpu), *argv], stdout=subprocess.DEVNULL)


def cpu_ns(pid):
    with open(f"/proc/{pid}/schedstat") as f:
        return int(f.read().split()[0])


def rss_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M).group(1))


def measure(port, pid, seconds, connections, close=False):
    before = cpu_ns(pid)
    header = ["-H", "Connection: close"] if close else []
    cpu = str(min(1, os.cpu_count() - 1))
    out = subprocess.run(["taskset", "-c", cpu, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *header, f"http://127.0.0.1:{port}/"],
                         capture_output=True, text=True, check=True).stdout
    used = cpu_ns(pid) - before
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    errors = re.search(r"Non-2xx.*|Socket errors: (.*)", out)
    p99 = re.search(r"^\s+99%\s+(\S+)", out, re.M).group(1)
    return {"us": used / 1000 / requests, "rps": requests / seconds, "p99": p99, "errors": errors.group(0) if errors else ""}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tidemill", nargs="?", default="build/release/tidemill", help="the program: bench/proxy_bench_main is looked for, or built, beside it")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    build = os.path.dirname(os.path.abspath(options.tidemill))
    program = os.path.join(build, "bench", "proxy_bench_main")
    if not os.path.exists(program):
        subprocess.run(["ninja", "-C", build, "proxy_bench_main"], check=True, stdout=subprocess.DEVNULL)
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not nginx or not shutil.which("wrk"):
        sys.exit("needs the packages nginx and wrk")
    folder = tempfile.mkdtemp(prefix="tidemill-bench-")
    processes, results = [], {}
    try:
        for scenario, body, connections, close in [("keep-alive, 2 bytes, 64 connections", 2, 64, False), ("keep-alive, 64 KB, 64 connections", 65536, 64, False),
                                                   ("new connection per request, 64 at a time", 2, 64, True)]:
            backend, ours, theirs = free_port(), free_port(), free_port()
            with open(f"{folder}/nginx.conf", "w") as f:
                f.write(NGINX.format(dir=folder, backend=backend, port=theirs))
            started = {
                "backend": (pinned(1, [program, "backend", str(backend), str(body)]), backend),
                "tidemill": (pinned(0, [program, "proxy", str(ours), str(backend)]), ours),
                "nginx": (pinned(0, [nginx, "-e", f"{folder}/error.log", "-p", folder, "-c", f"{folder}/nginx.conf"]), theirs),
            }
            processes += [process for process, _ in started.values()]
            for process, port in started.values():
                wait_port(port, process)
            rounds = {"tidemill": [], "nginx": []}
            for _ in range(options.rounds):
                for name, collected in rounds.items():
                    process, port = started[name]
                    collected.append(measure(port, process.pid, options.seconds, connections, close))
            results[scenario] = {name: {"us": round(statistics.median(r["us"] for r in c), 1), "rps": round(statistics.median(r["rps"] for r in c)), "p99": c[-1]["p99"],
                                        "pss_kb": rss_kb(started[name][0].pid), "errors": next((r["errors"] for r in c if r["errors"]), "")} for name, c in rounds.items()}
            for process, _ in started.values():
                process.send_signal(signal.SIGTERM)
                process.wait()
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for scenario, row in results.items():
        print(scenario)
        for name, r in row.items():
            print(f"  {name:9} {r['us']:7.1f} us CPU/request  {r['rps']:7d} requests/s  p99 {r['p99']:>8}  {r['pss_kb'] / 1024:5.1f} MB  {r['errors']}")
        print(f"  ratio     {row['tidemill']['us'] / row['nginx']['us']:7.2f}")


if __name__ == "__main__":
    main()
