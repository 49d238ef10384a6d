"""Export of data sets of latents to formats that other programs read. `docs/exchange.md` describes them."""

from datasets_prep.exports.description import DESCRIPTION_NAME, ExportDescription, load_export
from datasets_prep.exports.export import EXPORT_FORMATS, export_latents

__all__ = ["DESCRIPTION_NAME", "EXPORT_FORMATS", "ExportDescription", "export_latents", "load_export"]
