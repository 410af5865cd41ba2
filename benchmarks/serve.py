"""`zoo serve` under load: is every request answered rightly or refused properly, does memory grow, how fast is it?

    python benchmarks/serve.py --write

The shipped digits detector is exported, and served by a process of its own; the clients are threads of this one, on
the same cores. `--requests 300` is a quick look.
"""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np
import requests
import serve_load as load

SCENES = 48
SEED = 5


class Server:
    """`zoo serve` in a process."""

    def __init__(self, artifact: Path, port: int = 0, **options: object) -> None:
        flags = [str(word) for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        command = ["serve", str(artifact), "--name", load.NAME, "--port", str(port), *flags]
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zoo.cli.main", *command], stdout=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        if " on http://" not in line:
            raise SystemExit(f"the server did not start: {line}")
        self.seconds_to_start = time.perf_counter() - begin
        self.address = line.split(" on ")[1].strip()

    def metric(self, name: str, label: str = "") -> float:
        """What `/metrics` says, summed over labels, or over those that hold a text."""
        lines = requests.get(f"{self.address}metrics", timeout=60).text.splitlines()
        mine = [line for line in lines if line.startswith((f"{name} ", f"{name}{{")) and label in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in mine)

    def memory(self) -> float:
        """Resident, in MiB."""
        return self.metric("process_resident_memory_bytes") / 2**20

    def images_per_batch(self) -> float:
        """The mean since it started."""
        return self.metric("zoo_batch_images_sum") / max(1, self.metric("zoo_batch_images_count"))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        self.process.send_signal(how)
        status = self.process.wait(120)
        self.process.stdout.close()
        return status


def export(kind: str, folder: Path) -> Path:
    import zoo

    model = zoo.get("faster_rcnn_resnet18", weights="digits")
    targets = {"onnx": "digits.onnx", "tflite": "digits.tflite", "saved_model": "digits"}
    return getattr(zoo.export, kind)(model, folder / targets[kind]).path


def scenes(artifact: Path) -> list[load.Picture]:
    """Pictures of several sizes, half of them JPEG, with what the artifact says of each alone."""
    import zoo
    from zoo.datasets.digits import digit_scenes
    from zoo.datasets.images import read_image

    opened, data, found = zoo.export.open_artifact(artifact), digit_scenes("test", SCENES), []
    for number in range(SCENES):
        file = load.encode(data.image(number), "JPEG" if number % 2 else "PNG")
        pixels = read_image(file)
        expected = {name: value[0] for name, value in opened.predict_on_batch(pixels[None]).items()}
        found.append(load.Picture(pixels, file, expected))
    return found


def endurance(artifact: Path, pictures: list[load.Picture], count: int, clients: int) -> tuple[str, bool]:
    """The mixture; text for the README, and whether all went well."""
    from zoo.export.serving.limits import Limits

    server = Server(artifact)
    memory: dict[int, float] = {0: server.memory()}

    def make(number: int) -> load.Request:
        return load.draw_request(np.random.default_rng([SEED, number]), pictures, Limits().max_body)

    def look(done: int) -> None:
        memory[done] = server.memory()

    outcome = load.run_load(server.address, make, count, clients, max(1, count // 10), look)
    time.sleep(1)
    left, descriptors = server.metric("zoo_requests_in_progress"), server.metric("process_open_fds")
    gone, batch = server.metric("zoo_requests_total", 'status="499"'), server.images_per_batch()
    status = server.stop()
    rows = [[what, f"{number:,}", meaning(what)] for what, number in sorted(outcome.counts.items())]
    half = memory[min(memory, key=lambda done: abs(done - count / 2))]
    grown = memory[max(memory)] - half
    good = not outcome.wrong and left == 0 and status == 0
    text = [
        f"{count:,} requests, {clients} at a time, of {len({p.pixels.shape for p in pictures})} sizes, "
        f"{outcome.took:.0f} s:",
        "",
        common.table(("outcome", "requests", "meaning"), rows),
        "",
        f"Memory of the server: {', '.join(f'{value:,.0f} MiB after {done:,}' for done, value in memory.items())}; "
        f"{grown:+.0f} MiB in the second half. {descriptors:.0f} files open at the end, {left:.0f} requests left over. "
        f"{batch:.2f} images a batch; {gone:.0f} hang-ups noticed before the answer was sent. "
        f"Told to stop, it ended with status {status}.",
    ]
    text += [f"WRONG: {line}" for line in outcome.wrong[:20]]
    return "\n".join(text), good


def meaning(what: str) -> str:
    return {
        "right": "what the artifact gives for the picture alone",
        "refused 400": "corrupt: a sentence, no result",
        "refused 413": "too large: a sentence, no result",
        "hung up": "by the client, before, in the middle of or after its body",
    }.get(what, "**should not be**")


def killed(artifact: Path, pictures: list[load.Picture], clients: int) -> tuple[str, bool]:
    """Kill it under load, start it on the same port, ask again."""
    server = Server(artifact)

    def make(number: int) -> load.Request:
        return load.rows((pictures[number],))

    def kill(done: int) -> None:
        if done == 8:
            server.process.kill()

    during = load.run_load(server.address, make, len(pictures), clients, 8, kill)
    status = server.process.wait(60)
    port = int(server.address.rstrip("/").rsplit(":", 1)[1])
    again = Server(artifact, port)
    after = load.run_load(again.address, make, len(pictures), clients)
    ended = again.stop()
    good = status == -signal.SIGKILL and set(after.counts) == {"right"} and ended == 0
    text = (
        f"Killed with signal 9 under load (status {status}; {during.counts['right']} of {len(pictures)} answered "
        f"before), started again on the same port, it took requests after {again.seconds_to_start:.1f} s and answered "
        f"{after.counts['right']} of {len(pictures)} rightly."
    )
    return text, good


def throughput(artifact: Path, pictures: list[load.Picture], count: int, clients: int) -> tuple[str, bool]:
    """Good requests alone, with batches and without, of one size and of all."""
    rng, rows, good = np.random.default_rng(SEED), [], True
    shapes = [picture.pixels.shape for picture in pictures]
    common_shape = max(set(shapes), key=shapes.count)
    one_size = [picture for picture in pictures if picture.pixels.shape == common_shape]
    for kind, chosen in (("one size", one_size), ("mixed sizes", pictures)):
        todo = [load.rows((load.pick(rng, chosen),)) for _ in range(count)]
        make = todo.__getitem__
        for at_once in (clients, 1):
            for max_batch in (8, 1):
                server = Server(artifact, max_batch=max_batch)
                load.run_load(server.address, make, 2 * at_once, at_once)  # warm
                number = count if at_once > 1 else max(20, count // 4)
                outcome = load.run_load(server.address, make, number, at_once)
                good &= not outcome.wrong
                quantiles = [f"{1000 * np.quantile(outcome.seconds, q):.0f}" for q in (0.5, 0.95)]
                speed, batch = number / outcome.took, server.images_per_batch()
                rows.append([kind, at_once, max_batch, f"{batch:.2f}", f"{speed:.2f}", *quantiles])
                server.stop()
    head = ("pictures", "clients", "--max-batch", "images a batch", "images/s", "median, ms", "95%, ms")
    return f"{count:,} good requests of one picture each:\n\n{common.table(head, rows)}", good


def main() -> int:
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16, help="requests at a time")
    parser.add_argument("--format", choices=("onnx", "tflite", "saved_model"), default="onnx")
    parser.add_argument("--artifact", type=Path, help="of the digits detector; without it, one is exported")
    args = parser.parse_args()
    common.pin(args.cores)
    with tempfile.TemporaryDirectory() as folder:
        artifact = (args.artifact or export(args.format, Path(folder))).resolve()
        pictures = scenes(artifact)
        parts = [
            endurance(artifact, pictures, args.requests, args.clients),
            killed(artifact, pictures, args.clients),
            throughput(artifact, pictures, max(60, args.requests // 20), args.clients),
        ]
    software = common.versions("onnxruntime", "ai-edge-litert", "starlette", "uvicorn")
    common.publish("serve", "\n\n".join([f"{args.format}; {software}", *(text for text, _ in parts)]), args.write)
    return 0 if all(good for _, good in parts) else 1


if __name__ == "__main__":
    sys.exit(main())
