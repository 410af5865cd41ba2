"""Write TensorFlow Serving's models.config for a folder of exports.

    python examples/serving/write_models_config.py models/ > models.config

A model is a folder in it that holds versions, such as models/digits/1/saved_model.pb; the folder's name is the model's.
"""

import argparse
import json
import re
import sys
from pathlib import Path


def models_in(folder: Path) -> dict[str, list[int]]:
    """Names of the models in ``folder``, and their versions in order."""
    found: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*/*/saved_model.pb")):
        if file.parent.name.isdecimal():
            found.setdefault(file.parent.parent.name, []).append(int(file.parent.name))
    return {name: sorted(versions) for name, versions in found.items()}


def models_config(names: list[str], base: str, versions: int = 1) -> str:
    """The text of models.config: each model's ``versions`` highest versions are served, from ``base/NAME``."""
    entries = []
    for name in names:
        path = f"{base.rstrip('/')}/{name}"
        # JSON's quotes and escapes are understood by protobuf's text format.
        entries.append(
            "  config {\n"
            f"    name: {json.dumps(name)}\n"
            f"    base_path: {json.dumps(path, ensure_ascii=False)}\n"
            '    model_platform: "tensorflow"\n'
            f"    model_version_policy {{ latest {{ num_versions: {versions} }} }}\n"
            "  }\n"
        )
    return "model_config_list {\n" + "".join(entries) + "}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds NAME/VERSION/saved_model.pb")
    parser.add_argument("--base", default="/models", help="where the server sees that folder (default: /models)")
    parser.add_argument("--versions", type=int, default=1, metavar="N", help="how many to serve of each (default: 1)")
    args = parser.parse_args()
    if args.versions < 1:
        parser.error("--versions is 1 or more")
    found = models_in(args.folder)
    if not found:
        print(f"{args.folder} holds no NAME/VERSION/saved_model.pb; export models into it", file=sys.stderr)
        return 2
    # A slash or colon would end the name in a REST address.
    odd = [name for name in found if not re.fullmatch(r"[A-Za-z0-9._-]+", name)]
    if odd:
        print(f"{', '.join(odd)}: name models with letters, digits, '-', '_' and '.' only", file=sys.stderr)
        return 2
    print(models_config(list(found), args.base, args.versions), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
