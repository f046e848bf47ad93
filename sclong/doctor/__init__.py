"""Is this machine, or this cluster, ready for what the configuration asks? ``sclong doctor``."""

from sclong.doctor.examine import as_text, diagnose
from sclong.doctor.findings import Finding, Tools

__all__ = ["Finding", "Tools", "as_text", "diagnose"]
