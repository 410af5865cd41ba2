"""The web page: one file, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources

from zoo.drawing import PALETTE
from zoo.export.serving.served import Served


class Page:
    """The page of one model.

    Attributes:
        html: all of it.
        headers: a policy under which a browser runs this page's script and style and no others, and speaks to this
            server alone.
    """

    def __init__(self, served: Served) -> None:
        known = {
            "name": served.name,
            "task": served.task,
            "classes": list(served.classes),
            "colours": list(PALETTE),
            "format": served.artifact.format,
            "size": served.artifact.size,
            "proposals": {"method": served.method} if served.proposals else None,
        }
        # As JSON, of which no text can end the element that it stands in.
        data = json.dumps(known).replace("<", "\\u003c")
        self.html = resources.files(__package__).joinpath("page.html").read_text("utf-8").replace("{{MODEL}}", data)
        policy = (
            f"default-src 'none'; connect-src 'self'; img-src data: blob:; script-src {self._hash('script')}; "
            f"style-src {self._hash('style')}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self.headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}

    def _hash(self, element: str) -> str:
        (text,) = re.findall(rf"<{element}>(.*?)</{element}>", self.html, re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
