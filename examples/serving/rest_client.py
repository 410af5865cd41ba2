"""Ask TensorFlow Serving over REST what is in some pictures.

    pip install requests pillow
    python examples/serving/rest_client.py street.jpg yard.png --model digits --out found/

Files are sent as they are, in base64; the server decodes them, whatever their sizes. One that is no picture gets its
own error, and the others their detections. gRPC sends a third less, and no text: see grpc_client.py.
"""

import argparse
import base64
import json
import sys
from typing import Any

import requests
from results import add_options, groups, report


class Refused(RuntimeError):
    """The server's own words."""


def predict(session: requests.Session, url: str, signature: str, instances: list[Any], timeout: float) -> list[Any]:
    """Ask one of the model's signatures; for every instance its outputs by name."""
    body = {"signature_name": signature, "instances": instances}
    answer = session.post(url, json=body, timeout=timeout)
    if answer.status_code != 200:
        try:
            error = answer.json()["error"]
        except (ValueError, KeyError, TypeError):
            error = answer.reason
        raise Refused(f"HTTP {answer.status_code}: {error}")
    return answer.json()["predictions"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--server", default="http://localhost:8501", help="(default: http://localhost:8501)")
    args = parser.parse_args()
    url = f"{args.server.rstrip('/')}/v1/models/{args.model}:predict"
    good = True
    with requests.Session() as session:
        try:
            # A signature with one output gives its values bare.
            classes = json.loads(predict(session, url, "metadata", [""], args.timeout)[0])["classes"]
            for pairs in groups(args.pictures, args.out, args.batch):
                data = [{"b64": base64.b64encode(path.read_bytes()).decode()} for path, _ in pairs]
                rows = predict(session, url, "serve_encoded", data, args.timeout)
                for (path, target), row in zip(pairs, rows, strict=True):
                    good &= report(path, row, classes, args.score, target)
        except (requests.RequestException, Refused) as error:
            print(f"{url}: {error}", file=sys.stderr)
            return 2
        except OSError as error:
            print(error, file=sys.stderr)
            return 2
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
