"""Settings: dataclass fields with their default, check and help, from which options and recipes are derived."""

from walloc_cdl.settings.recipe import format_recipe, load_recipe, typed_values
from walloc_cdl.settings.setting import Setting, plain_values, setting, settings_of

__all__ = ["Setting", "format_recipe", "load_recipe", "plain_values", "setting", "settings_of", "typed_values"]
