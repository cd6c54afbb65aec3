"""The bundled Level 1 frame that `crmend demo` cleans."""
