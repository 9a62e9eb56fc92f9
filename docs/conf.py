"""How Sphinx builds these pages: `python -m sphinx -W docs build/docs`, with the extra `docs` installed."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from compare.known.catalogue import catalogue

project = "rnn-parity"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "rnn-parity"
exclude_patterns = ["build"]
myst_heading_anchors = 3


class KnownCauses(SphinxDirective):
    """The known differences between the frameworks: each by its name, what is said of it, and how it is proved."""

    def run(self) -> list[nodes.Node]:
        """Make a definition list of the catalogue."""
        entries = nodes.definition_list()
        for cause in catalogue().values():
            proof = f"Proved where {cause.proof}, and the difference falls to rounding." if cause.proof else ""
            texts = [cause.message, f"Recognised where {cause.recognised}.", *filter(None, [proof])]
            definition = nodes.definition("", *(nodes.paragraph("", text) for text in texts))
            term = nodes.term("", "", nodes.literal("", cause.name))
            entries += nodes.definition_list_item("", term, definition)
        return [entries]


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directive to the pages."""
    app.add_directive("known-causes", KnownCauses)
    return {"parallel_read_safe": True}
