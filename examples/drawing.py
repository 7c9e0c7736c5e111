"""Drawing: every workflow is a picture, for Graphviz or for Mermaid: `python -m examples.drawing | dot -Tsvg`."""

from __future__ import annotations

import sys

from examples.orders import OrderProcessing


def main(language: str = "dot") -> str:
    return OrderProcessing.to_mermaid() if language == "mermaid" else OrderProcessing.to_dot()


if __name__ == "__main__":
    print(main(*sys.argv[1:]), end="")
