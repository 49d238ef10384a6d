"""Data sets of latents in the forms that other programs read. `docs/exchange.md` describes them."""

from datasets_prep.exports.description import DESCRIPTION_NAME, ExportDescription, load_export
from datasets_prep.exports.export import FORMS, export_latents

__all__ = ["DESCRIPTION_NAME", "FORMS", "ExportDescription", "export_latents", "load_export"]
